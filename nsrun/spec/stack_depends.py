"""The order of a stack's containers: what each waits for, and circles of that."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

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
    for joined, path in shared(service):
        if joined in known and joined not in [d.service for d in found]:
            found.append(Dependency(service=joined, condition=Condition.STARTED, path=path))
    return tuple(found)


def shared(service: Service) -> Iterator[tuple[str, str]]:
    """The containers whose namespaces it has to do with, each with the place that says it."""
    yield from _joined(service)
    yield from _peers(service)


def _joined(service: Service) -> Iterator[tuple[str, str]]:
    """The containers whose namespaces it joins, each with its place."""
    for index, entry in enumerate(service.data.get("namespaces") or ()):
        if isinstance(entry, dict) and isinstance(entry.get("container"), str):
            yield entry["container"], item_path(f"{service.path}.namespaces", index)


def _peers(service: Service) -> Iterator[tuple[str, str]]:
    """The containers that get the other end of a pair, each with its place: their network
    namespaces are there before it is made."""
    network = service.data.get("network")
    given = network.get("interfaces") if isinstance(network, dict) else None
    for index, entry in enumerate(given if isinstance(given, list) else ()):
        peer = entry.get("peer") if isinstance(entry, dict) else None
        if isinstance(peer, dict) and isinstance(peer.get("container"), str):
            yield peer["container"], item_path(f"{service.path}.network.interfaces", index)


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
