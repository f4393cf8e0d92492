"""What a stack is: containers with their order, and the networks and volumes between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Literal

from nsrun.diag import Span
from nsrun.spec.model import InterfaceAddress, Spec

SECOND = 10**9


class Condition(StrEnum):
    """What is waited for before a container starts."""

    STARTED = "started"
    HEALTHY = "healthy"
    COMPLETED = "completed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependency:
    """``service`` is a name of the file, which may stand for several containers."""

    service: str
    condition: Condition
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Healthcheck:
    """Times in nanoseconds. ``retries`` failures in a row make a container unhealthy; those within
    ``start_period`` of its start do not count."""

    command: tuple[str, ...]
    interval: int = 30 * SECOND
    timeout: int = 30 * SECOND
    retries: int = 3
    start_period: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Restart:
    """``max``: how often at most, None without end."""

    policy: Literal["no", "on-failure", "always"] = "no"
    max: int | None = None


# How the bridges of all stacks are called.
BRIDGE_PREFIX = "nsb-"


@dataclass(frozen=True, slots=True, kw_only=True)
class StackNetwork:
    """A bridge of the host. ``gateways``: its own addresses, one of each family. ``external``:
    it is there already, and not the stack's to make or remove."""

    name: str
    path: str
    bridge: str
    gateways: tuple[InterfaceAddress, ...]
    masquerade: bool = False
    internal: bool = False
    external: bool = False
    mtu: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """``folder``: where it is on the host. ``named``: nsrun's own, which `down --volumes`
    removes."""

    name: str
    folder: str
    named: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """A secret as one container has it. What it holds is not here: it is copied to ``copy``, a
    file of the state folder, from ``file`` or the variable ``environment`` when the stack comes up.

    ``path``: the place that asks for it; ``service``: the container that does; ``uid`` and
    ``gid``: None for who runs nsrun. ``given_away``: the container's start makes the copy another
    one's, as its ids are not the host's.
    """

    path: str
    service: str
    name: str
    copy: str
    target: str
    file: str | None = None
    environment: str | None = None
    mode: int = 0o444
    uid: int | None = None
    gid: int | None = None
    given_away: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One container. ``service``: the name in the file, ``path``: its place there; ``spec.name`` is
    that of the container."""

    service: str
    path: str = ""
    number: int
    spec: Spec
    depends_on: tuple[Dependency, ...] = ()
    healthcheck: Healthcheck | None = None
    restart: Restart = Restart()
    addresses: Mapping[str, tuple[InterfaceAddress, ...]] = field(
        default_factory=lambda: MappingProxyType({})
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """``members`` in an order in which each comes after what it depends on."""

    name: str
    file: str
    sha256: str
    networks: tuple[StackNetwork, ...] = ()
    volumes: tuple[Volume, ...] = ()
    secrets: tuple[Secret, ...] = ()
    members: tuple[Member, ...] = ()
    spans: Mapping[str, Span] = field(default_factory=lambda: MappingProxyType({}), compare=False)

    def of(self, service: str) -> tuple[Member, ...]:
        """The containers of a name in the file."""
        return tuple(m for m in self.members if m.service == service)
