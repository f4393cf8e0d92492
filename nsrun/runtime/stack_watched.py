"""What a process has to know of a stack that it keeps, and is never to plan."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from nsrun.runtime import stack_store
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
    """The stack as far as :func:`write_watched` has it."""
    data = stack_store.read(name, "watched.json") or []
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
                healthcheck=_healthcheck(one["healthcheck"]),
            )
            for one in data
        ),
    )


def kept_otherwise(stack: Stack) -> dict[str, tuple[str, ...]]:
    """By a container's name what a process that keeps the stack does otherwise than it does now:
    keys of the spec, of which no plan knows."""
    try:
        known = {m.spec.name: m for m in watched(stack.name).members}
    except (KeyError, TypeError, AttributeError):
        # Damaged: `up` writes it anew.
        return {}
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
    data = stack_store.read(name, "watched.json") or []
    return {one["name"]: frozenset(one.get("joins", ())) for one in data}


def _healthcheck(data: dict[str, Any] | None) -> Healthcheck | None:
    return None if data is None else Healthcheck(**{**data, "command": tuple(data["command"])})
