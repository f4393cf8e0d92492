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
# A machine with a line for each of some ten thousand routes.
_LIMIT = 16 << 20
# The outer ends of containers: each is opened by its own container's plan.
_CONTAINERS = "ve-"
_ALL_IPV6 = "net/ipv6/conf/all/forwarding"


def look(bridges: tuple[str, ...], state: str | None) -> Forwarding:
    """The ways out as they are now; ``state``: the folder with the marks of running containers."""
    netns = os.stat("/proc/self/ns/net").st_ino
    ipv4, ipv6 = tuple(sorted(set(_ipv4()))), tuple(sorted(set(_ipv6())))
    keys = [
        *(f"net/ipv4/conf/{name}/forwarding" for name in (*ipv4, *bridges)),
        *(f"net/ipv4/conf/{name}/route_localnet" for name in bridges),
        *(f"net/ipv6/conf/{name}/force_forwarding" for name in ("lo", *ipv6, *bridges)),
        _ALL_IPV6,
    ]
    found = {key: _switch(key, switch_mark(state or "", netns, key)) for key in dict.fromkeys(keys)}
    return Forwarding(
        netns=netns,
        ipv4=ipv4,
        ipv6=ipv6,
        switches=MappingProxyType({k: s for k, s in found.items() if s is not None}),
    )


def _switch(key: str, marked: str) -> Switch | None:
    # Looked at twice: a container that comes or goes meanwhile is seen in one of them.
    before = os.path.lexists(marked)
    value = (paths.read_file(f"/proc/sys/{key}") or "").strip()
    if not value:
        return None
    return Switch(on=value != "0", ours=before or os.path.lexists(marked))


def _ipv4() -> Iterator[str]:
    for line in (paths.read_file("/proc/net/route", _LIMIT) or "").split("\n")[1:]:
        fields = line.split()
        if len(fields) > 3 and _leads_out(fields[0], fields[3]):
            yield fields[0]


def _ipv6() -> Iterator[str]:
    for line in (paths.read_file("/proc/net/ipv6_route", _LIMIT) or "").split("\n"):
        fields = line.split()
        # A link's own addresses and groups are on each of them (RFC 4291).
        beyond = len(fields) > 9 and not fields[0].startswith(("fe8", "ff"))
        if beyond and _leads_out(fields[9], fields[8]):
            yield fields[9]


def _leads_out(name: str, flags: str) -> bool:
    if name == "lo" or name.startswith(_CONTAINERS):
        return False
    return not int(flags, 16) & _REJECT
