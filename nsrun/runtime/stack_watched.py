"""What a process has to know of a stack that it keeps, and is never to plan."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

from nsrun.runtime import stack_store, store
from nsrun.runtime.stack_changes import joined
from nsrun.spec.model import Spec
from nsrun.spec.stack import Healthcheck, Member, Restart, Stack


def write_watched(stack: Stack) -> None:
    """What a process has to know that keeps the stack, and is never to plan it."""
    wanted = {m.spec.name: m for m in stack.members}
    data = [
        {
            "name": m.spec.name,
            "service": m.service,
            "restart": asdict(m.restart),
            "healthcheck": asdict(m.healthcheck) if m.healthcheck is not None else None,
            "joins": sorted(joined(m, wanted)),
        }
        for m in stack.members
    ]
    stack_store.write(stack.name, "watched.json", data)


def watched(name: str) -> Stack:
    """The stack as far as :func:`write_watched` has it, and it can be read."""
    data = _read(name)
    return Stack(
        name=name,
        file="",
        sha256="",
        members=tuple(
            Member(
                service=one["service"],
                number=0,
                spec=Spec(name=one["name"], file="", sha256=""),
                restart=Restart(**one["restart"]),
                healthcheck=_healthcheck(one.get("healthcheck")),
            )
            for one in data
        ),
    )


def kept_otherwise(stack: Stack) -> dict[str, tuple[str, ...]]:
    """By a container's name what a process that keeps the stack does otherwise than it does now:
    keys of the spec, of which no plan knows."""
    known = {m.spec.name: m for m in watched(stack.name).members}
    found: dict[str, tuple[str, ...]] = {}
    for member in stack.members:
        last = known.get(member.spec.name)
        if last is not None:
            pairs = (
                ("healthcheck", member.healthcheck != last.healthcheck),
                ("restart", member.restart != last.restart),
            )
            found[member.spec.name] = tuple(key for key, differs in pairs if differs)
    return found


def joins(name: str) -> dict[str, frozenset[str]]:
    """By a container's name those whose namespaces it shares, as :func:`write_watched` has it."""
    # An older nsrun wrote none.
    data = _read(name)
    return {one["name"]: frozenset(one.get("joins", ())) for one in data}


def _read(name: str) -> list[dict[str, Any]]:
    """The members of watched.json, without those that are not of its form."""
    data = stack_store.read(name, "watched.json")
    return [one for one in data if _is_sound(one)] if isinstance(data, list) else []


def _is_sound(one: object) -> bool:
    if not isinstance(one, dict):
        return False
    name, joined_by, restart = one.get("name"), one.get("joins", []), one.get("restart")
    check = one.get("healthcheck")
    if not (store.is_text(name) and store.is_text(one.get("service"))):
        return False
    # It is made into a path.
    if "/" in str(name) or name in ("", ".", ".."):
        return False
    if not isinstance(joined_by, list) or not all(map(store.is_text, joined_by)):
        return False
    if not isinstance(restart, dict) or not restart.keys() <= {"policy", "max"}:
        return False
    if restart.get("policy") not in ("no", "on-failure", "always"):
        return False
    most = restart.get("max")
    return (most is None or _is_count(most)) and (check is None or _is_check(check))


def _is_check(check: object) -> bool:
    known = {f.name for f in fields(Healthcheck)}
    if not isinstance(check, dict) or check.keys() != known:
        return False
    command = check["command"]
    words = isinstance(command, list) and bool(command) and all(map(store.is_text, command))
    return words and all(_is_count(check[key]) for key in known - {"command"})


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 1 << 63


def _healthcheck(data: dict[str, Any] | None) -> Healthcheck | None:
    return None if data is None else Healthcheck(**{**data, "command": tuple(data["command"])})
