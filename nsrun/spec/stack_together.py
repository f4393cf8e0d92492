"""What only shows when the containers of a stack are looked at together: two of one name, a port
of the host that two publish, a wait for one that is not there or never healthy.
"""

from __future__ import annotations

from collections.abc import Iterator

from nsrun.spec.model import IPAddress, Port
from nsrun.spec.path import key_path
from nsrun.spec.stack import Condition, Member
from nsrun.spec.stack_depends import shared
from nsrun.spec.stack_reading import Reading, Service
from nsrun.spec.words import quote

_REPLICAS = "with `replicas` a container is called NAME-1, NAME-2"


def check_together(
    reading: Reading, services: list[Service], chosen: list[Service], members: list[Member]
) -> None:
    _check_names(reading, members)
    _check_ports(reading, services, members)
    by_name = {service.name: service for service in services if not service.broken}
    up = {service.name for service in chosen}
    first = {member.service: member for member in reversed(members)}
    for service in chosen:
        member = first.get(service.name)
        for dependency in member.depends_on if member is not None else ():
            other = by_name.get(dependency.service)
            if other is None:
                continue
            if other.name not in up:
                _say_not_up(reading, other, dependency.path)
            elif dependency.condition is Condition.HEALTHY and "healthcheck" not in other.data:
                reading.problem(
                    "NS318",
                    dependency.path,
                    f"{quote(other.name)} has no healthcheck, which would say that it is healthy",
                    f"give it one, or wait until it is `{Condition.STARTED}`",
                    span=reading.place(dependency.path),
                )
            elif dependency.condition is Condition.COMPLETED and _goes_on(other):
                reading.problem(
                    "NS318",
                    dependency.path,
                    f"{quote(other.name)} is always started again, and never completed",
                    "give it `restart: on-failure`",
                    span=reading.place(dependency.path),
                )
        for name, path in shared(service):
            _check_one(reading, by_name.get(name), path)


def _goes_on(service: Service) -> bool:
    """Whether it is started again whatever its exit status was, without end."""
    restart = service.data.get("restart")
    if isinstance(restart, dict):
        return restart.get("policy") == "always" and restart.get("max") is None
    return bool(restart == "always")


def _say_not_up(reading: Reading, other: Service, path: str) -> None:
    profiles = [str(name) for name in other.data.get("profiles") or ()]
    of = "profile" if len(profiles) == 1 else "profiles"
    reading.problem(
        "NS318",
        path,
        f"{quote(other.name)} is not brought up: it is of the {of} {', '.join(profiles)}",
        f"nsrun up --profile {profiles[0]}, or remove its `profiles`",
        span=reading.place(path),
    )


def _check_one(reading: Reading, other: Service | None, path: str) -> None:
    """Namespaces are those of one container."""
    count = 1 if other is None else other.data.get("replicas", 1)
    if other is not None and count != 1:
        reading.problem(
            "NS318",
            path,
            f"{quote(other.name)} stands for {count} containers",
            "remove its `replicas`",
            span=reading.place(path),
        )


def _check_names(reading: Reading, members: list[Member]) -> None:
    known: dict[str, Member] = {}
    for member in members:
        other = known.setdefault(member.spec.name, member)
        if other is not member:
            reading.problem(
                "NS318",
                key_path("containers", member.service),
                f"a second container {quote(member.spec.name)}, beside that of "
                f"{quote(other.service)}",
                f"give one another name: {_REPLICAS}",
                key=True,
            )


def _check_ports(reading: Reading, services: list[Service], members: list[Member]) -> None:
    # Of several profiles that are alternatives only one is brought up.
    always = {s.name for s in services if reading.profiles is not None or "profiles" not in s.data}
    protocols: dict[str, list[tuple[Port, Member]]] = {}
    for member in members:
        network = member.spec.network
        for port in network.ports if network is not None and member.service in always else ():
            protocols.setdefault(port.protocol, []).append((port, member))
    for entries in protocols.values():
        for port, member, other in _twice(entries):
            at = f"{key_path('containers', member.service)}.{port.path}"
            alike = other.service == member.service
            reading.problem(
                "NS318",
                at,
                f"port {_words(port)} of the host is published by {other.spec.name}, too",
                "remove its `replicas`, or publish a container that passes on to them"
                if alike
                else "publish another port",
                span=member.spec.span(port.path),
            )


def _twice(entries: list[tuple[Port, Member]]) -> Iterator[tuple[Port, Member, Member]]:
    """Each that shares a port of the host with one before it, of another container."""
    # By the address, None for all, what reaches to the highest port so far.
    reach: dict[IPAddress | None, tuple[Port, Member]] = {}
    furthest: tuple[Port, Member] | None = None
    for port, member in sorted(entries, key=lambda entry: entry[0].host):
        others = [furthest] if port.address is None else [reach.get(port.address), reach.get(None)]
        for found in others:
            if found is not None and _end(found[0]) > port.host and found[1] is not member:
                yield port, member, found[1]
                break
        before = reach.get(port.address)
        if before is None or _end(before[0]) < _end(port):
            reach[port.address] = port, member
        if furthest is None or _end(furthest[0]) < _end(port):
            furthest = port, member


def _end(port: Port) -> int:
    return port.host + port.count


def _words(port: Port) -> str:
    numbers = str(port.host) if port.count == 1 else f"{port.host}-{_end(port) - 1}"
    return f"{numbers}/{port.protocol}"
