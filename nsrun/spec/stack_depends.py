"""The order of a stack's containers: what each waits for, and circles of that."""

from __future__ import annotations

from collections.abc import Iterable

from nsrun.spec.path import item_path, key_path
from nsrun.spec.stack import Condition, Dependency, Member
from nsrun.spec.stack_reading import Reading, Service, close_match
from nsrun.spec.words import quote


def depends_on(reading: Reading, service: Service, known: set[str]) -> tuple[Dependency, ...]:
    given = service.data.get("depends_on") or {}
    pairs: Iterable[tuple[str, str, str]]
    place = f"{service.path}.depends_on"
    if isinstance(given, list):
        pairs = [(n, "started", item_path(place, i)) for i, n in enumerate(given)]
    else:
        pairs = [
            (n, (v or {}).get("condition", "started"), key_path(place, n)) for n, v in given.items()
        ]
    found = []
    for name, condition, path in pairs:
        if name not in known:
            reading.problem(
                "NS318", path, f"there is no container {quote(name)} in this stack",
                close_match(name, known), span=reading.place(path),
            )  # fmt: skip
            continue
        found.append(Dependency(service=name, condition=Condition(condition), path=path))
    for index, entry in enumerate(service.data.get("namespaces") or ()):
        joined = entry.get("container") if isinstance(entry, dict) else None
        if joined in known and joined not in [d.service for d in found]:
            path = item_path(f"{service.path}.namespaces", index)
            found.append(Dependency(service=joined, condition=Condition.STARTED, path=path))
    return tuple(found)


def ordered(reading: Reading, members: list[Member]) -> list[Member]:
    """Each after what it depends on, otherwise as in the file; a circle is an error."""
    order: list[str] = []
    state: dict[str, int] = {}
    depends = {m.service: m.depends_on for m in members}

    def visit(name: str, trail: tuple[str, ...]) -> None:
        if state.get(name) == 2 or name not in depends:
            return
        state[name] = 1
        for dependency in depends[name]:
            if state.get(dependency.service) == 1:
                circle = " -> ".join((*trail, name, dependency.service))
                reading.problem(
                    "NS318",
                    dependency.path,
                    f"the containers wait for each other: {circle}",
                    "remove one of the dependencies",
                    span=reading.place(dependency.path),
                )
                continue
            visit(dependency.service, (*trail, name))
        state[name] = 2
        order.append(name)

    for member in members:
        visit(member.service, ())
    return sorted(members, key=lambda m: order.index(m.service))
