"""Which interfaces lead out of the caller's network namespace, and what forwards through them.

Sources: proc_net(5) for the tables, the kernel's Documentation/networking/ip-sysctl.rst.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from types import MappingProxyType

from nsrun.host import paths
from nsrun.kernel.facts import Forwarding, Switch, switch_mark

# linux/route.h, RTF_REJECT: the route leads nowhere.
_REJECT = 0x0200
# net/ipv6.h, IPV6_ADDR_LOOPBACK and IPV6_ADDR_LINKLOCAL
_SCOPE_HOST, _SCOPE_LINK = 0x10, 0x20
# A machine with a line for each of some ten thousand routes.
_LIMIT = 16 << 20
# The outer ends of containers and the bridges of stacks: each is opened by its own plan.
_OWN = ("ve-", "nsb-")
_ALL_IPV6 = "net/ipv6/conf/all/forwarding"


# What the ways out are read from; each is the same as long as they are.
TABLES = ("/proc/net/route", "/proc/net/if_inet6")


def look(bridges: tuple[str, ...], state: str | None) -> Forwarding:
    """The ways out as they are now; ``state``: the folder with the marks of running containers."""
    ipv4, ipv6 = _ways()
    own = netns()
    found = {
        key: _switch(key, switch_mark(state or "", own, key)) for key in _keys(ipv4, ipv6, bridges)
    }
    return Forwarding(
        netns=own,
        ipv4=ipv4,
        ipv6=ipv6,
        switches=MappingProxyType({k: s for k, s in found.items() if s is not None}),
    )


def files(bridges: tuple[str, ...], state: str | None) -> tuple[list[str], list[str]]:
    """The files that the answer of :func:`look` was in, and the marks, whether there or not."""
    keys = _keys(*_ways(), bridges)
    marks = [switch_mark(state or "", netns(), key) for key in keys]
    return [*TABLES, *(f"/proc/sys/{key}" for key in keys)], marks


def netns() -> int:
    """The inode of the caller's network namespace."""
    return os.stat("/proc/self/ns/net").st_ino


def _keys(ipv4: tuple[str, ...], ipv6: tuple[str, ...], bridges: tuple[str, ...]) -> list[str]:
    keys = [
        *(f"net/ipv4/conf/{name}/forwarding" for name in (*ipv4, *bridges)),
        *(f"net/ipv4/conf/{name}/route_localnet" for name in bridges),
        *(f"net/ipv6/conf/{name}/force_forwarding" for name in ("lo", *ipv6, *bridges)),
        _ALL_IPV6,
    ]
    return list(dict.fromkeys(keys))


def _switch(key: str, marked: str) -> Switch | None:
    # Looked at twice: a container that comes or goes meanwhile is seen in one of them.
    before = os.path.lexists(marked)
    value = (paths.read_file(f"/proc/sys/{key}") or "").strip()
    if not value:
        return None
    return Switch(on=value != "0", ours=before or os.path.lexists(marked))


def _ways() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The interfaces that lead out by IPv4 and by IPv6, in an order of their own."""
    return tuple(sorted(set(_ipv4()))), tuple(sorted(set(_ipv6())))


def _ipv4() -> Iterator[str]:
    for line in (paths.read_file("/proc/net/route", _LIMIT) or "").split("\n")[1:]:
        fields = line.split()
        if len(fields) > 3 and not _is_own(fields[0]) and not int(fields[3], 16) & _REJECT:
            yield fields[0]


def _ipv6() -> Iterator[str]:
    """Interfaces with an address that reaches further than the link (RFC 4007)."""
    for line in (paths.read_file("/proc/net/if_inet6", _LIMIT) or "").split("\n"):
        fields = line.split()
        wide = len(fields) > 5 and int(fields[3], 16) not in (_SCOPE_HOST, _SCOPE_LINK)
        if wide and not _is_own(fields[5]):
            yield fields[5]


def _is_own(name: str) -> bool:
    return name == "lo" or name.startswith(_OWN)
