"""What a running container is asked about, and what it answers: plain data, as Facts are.

Sources: rtnetlink(7), proc_pid_mountinfo(5), proc_pid_status(5), linux/if_link.h,
linux/if_addr.h, linux/rtnetlink.h.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

from nsrun.kernel.rtattr import attributes

# struct ifinfomsg, ifaddrmsg and rtmsg
LINK = struct.Struct("=BxHiII")
ADDRESS = struct.Struct("=BBBBI")
ROUTE = struct.Struct("=BBBBBBBBI")
_IFF_UP = 1
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_MASTER, _IFLA_LINKINFO = 1, 3, 4, 10, 18
_IFLA_INFO_KIND = 1
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS = 1, 2, 8
_IFA_F_PERMANENT = 0x80
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_TABLE = 1, 4, 5, 6, 15
_RT_TABLE_MAIN = 254


# Files of /proc/PID that are written once, and that nobody can write to a second time
# (user_namespaces(7), time_namespaces(7)).
ONCE = ("uid_map", "gid_map", "setgroups", "timens_offsets")


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """An interface; ``mtu`` in bytes, 0 and "" where nothing is said; ``master`` an index."""

    name: str
    kind: str = ""
    index: int = 0
    up: bool = False
    mtu: int = 0
    mac: str = ""
    master: int = 0
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """``to`` as ``192.0.2.0/24``; ``protocol``, ``kind`` as linux/rtnetlink.h; ``index`` 0 and
    ``metric`` 0 where nothing is said."""

    to: str
    via: str = ""
    index: int = 0
    kind: int = 1
    protocol: int = 0
    metric: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenMount:
    """A line of the mount table: ``options`` are the mount's own words, ``super_options`` those of
    the file system, ``root`` the part of it that is mounted."""

    ident: int
    target: str
    fstype: str
    root: str = "/"
    source: str = ""
    options: frozenset[str] = frozenset()
    super_options: frozenset[str] = frozenset()
    propagation: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What a path of the host is a part of: the type of its file system, and where in it."""

    fstype: str
    root: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is to be looked at: ``targets`` are the container's paths, ``sources`` and ``files``
    the host's, ``sysctls`` paths below /proc/sys as the container has them; ``namespaces`` files
    of namespaces; ``tables`` pairs of nft's path and a table of the family inet; ``programs``
    folders of control groups of version 2. ``forked``: it is about the first child of the
    container's first process, which is an init."""

    targets: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    sysctls: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    tables: tuple[tuple[str, str], ...] = ()
    programs: tuple[str, ...] = ()
    forked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """The answer; what could not be looked at is missing in it, or None.

    ``namespaces``: inodes by the names of /proc/PID/ns, ``callers`` those of the process that
    started it, ``joined`` by path. ``places``: by target the number of the mount whose root it is
    (0: of none), None where there is no such path. ``limits``: by RLIMIT_ number the hard ones,
    None for unlimited. ``tables``: by name how many rules it has, None where it is not there.
    ``groups``: the folders of its control groups; ``programs``: by a group's folder how many for
    devices are attached. ``once``: uid_map and its like, as the reader's user namespace has them,
    missing where that is not the one the container was started from; ``labels`` by module.
    """

    namespaces: Mapping[str, int] = field(default_factory=dict)
    callers: Mapping[str, int] = field(default_factory=dict)
    joined: Mapping[str, int] = field(default_factory=dict)
    mounts: tuple[SeenMount, ...] = ()
    places: Mapping[str, int | None] = field(default_factory=dict)
    sources: Mapping[str, Source] = field(default_factory=dict)
    hostname: str | None = None
    domainname: str | None = None
    links: tuple[Link, ...] | None = None
    routes: tuple[Route, ...] = ()
    host_links: tuple[Link, ...] | None = None
    sysctls: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    status: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[int, int | None] = field(default_factory=dict)
    oom_score_adj: str | None = None
    tables: Mapping[str, int | None] = field(default_factory=dict)
    groups: tuple[str, ...] = ()
    programs: Mapping[str, int] = field(default_factory=dict)
    once: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)


def nft_rules(text: str) -> int:
    """How many rules a text has that nft(8) reads or prints: one a line, in chains."""
    count, inside = 0, False
    for line in text.splitlines():
        words = line.split()
        if words[:1] == ["chain"]:
            inside = True
        elif words == ["}"]:
            inside = False
        elif inside and words and words[0] not in ("type", "comment"):
            count += 1
    return count


# --- bodies of rtnetlink's messages ------------------------------------------------------------


def link_of(body: bytes) -> Link:
    """A struct ifinfomsg and its attributes."""
    _, _, index, flags, _ = LINK.unpack_from(body)
    found = dict(attributes(body, LINK.size))
    info = dict(attributes(found.get(_IFLA_LINKINFO, b""), 0))
    return Link(
        name=_text(found.get(_IFLA_IFNAME, b"")),
        kind=_text(info.get(_IFLA_INFO_KIND, b"")),
        index=index,
        up=bool(flags & _IFF_UP),
        mtu=_number(found.get(_IFLA_MTU, b"")),
        mac=found.get(_IFLA_ADDRESS, b"").hex(":"),
        master=_number(found.get(_IFLA_MASTER, b"")),
    )


def address_of(body: bytes) -> tuple[int, str, bool]:
    """The interface's index, ``192.0.2.1/24``, and whether it is there for good: what routers
    announce and DHCP gives is not."""
    family, prefix, flags, _, index = ADDRESS.unpack_from(body)
    found = dict(attributes(body, ADDRESS.size))
    value = found.get(_IFA_LOCAL) or found.get(_IFA_ADDRESS, b"")
    flags = _number(found.get(_IFA_FLAGS, b"")) or flags
    return index, f"{_address(family, value)}/{prefix}", bool(flags & _IFA_F_PERMANENT)


def route_of(body: bytes) -> Route | None:
    """None for one of another table than main."""
    family, prefix, _, _, table, protocol, _, kind, _ = ROUTE.unpack_from(body)
    found = dict(attributes(body, ROUTE.size))
    if (_number(found.get(_RTA_TABLE, b"")) or table) != _RT_TABLE_MAIN:
        return None
    gateway = found.get(_RTA_GATEWAY, b"")
    nothing = bytes(4 if family == 2 else 16)
    return Route(
        to=f"{_address(family, found.get(_RTA_DST, nothing))}/{prefix}",
        via=_address(family, gateway) if gateway else "",
        index=_number(found.get(_RTA_OIF, b"")),
        kind=kind,
        protocol=protocol,
        metric=_number(found.get(_RTA_PRIORITY, b"")),
    )


def _number(value: bytes) -> int:
    return int.from_bytes(value, sys.byteorder)


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode("utf-8", "surrogateescape")


def _address(family: int, value: bytes) -> str:
    if len(value) not in (4, 16):
        return value.hex()
    return str(IPv4Address(value) if family == 2 else IPv6Address(value))
