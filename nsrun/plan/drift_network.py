"""Interfaces, addresses, routes and tables that are no longer as planned."""

from __future__ import annotations

from collections.abc import Iterator

from nsrun.kernel.observed import Link, Observed, Route
from nsrun.plan.difference import NOTHING, Difference, differ
from nsrun.plan.expected import Expected
from nsrun.plan.expected_network import Wanted

# What the kernel makes in every new network namespace where its module is loaded
# (net.core.fb_tunnels_only_for_init_net of ip-sysctl.rst).
_FALLBACKS = frozenset(
    ("lo", "tunl0", "gre0", "gretap0", "erspan0", "ip_vti0", "ip6_vti0", "sit0", "ip6tnl0",
     "ip6gre0", "ip6erspan0")
)  # fmt: skip
# linux/rtnetlink.h: RTPROT_BOOT and RTPROT_STATIC, which people and programs like ip(8) give.
_BY_PEOPLE = (3, 4)


def links(wanted: Expected, seen: Observed) -> Iterator[Difference]:
    if seen.links is None:
        return
    found = {link.name: link for link in seen.links}
    for name, entry in wanted.networks.inside.items():
        yield from _link("", entry, found.get(name), {})
    lo = found.get("lo")
    lifted = wanted.networks.lo
    if lifted is not None and lo is not None:
        yield from differ("link lo", "up", _up(lo), lifted)
    if "net" not in wanted.made or wanted.others:
        return
    for name, link in found.items():
        if name not in _FALLBACKS and name not in wanted.networks.inside:
            yield from differ(f"link {name}", NOTHING, link.kind or "a device", None)


def _up(link: Link) -> str:
    return "up" if link.up else "down"


def _link(
    where: str, entry: Wanted, link: Link | None, names: dict[int, str]
) -> Iterator[Difference]:
    wanted = entry.link
    what = f"{where}link {wanted.name}"
    if link is None:
        yield from differ(what, wanted.kind or "a device", NOTHING, entry.action)
        return
    if wanted.kind:
        yield from differ(what, wanted.kind, link.kind or "a device", entry.action)
    is_up = wanted.up or entry.lifted is not None
    yield from differ(what, "up" if is_up else "down", _up(link), entry.lifted or entry.action)
    if wanted.mtu:
        yield from differ(what, f"mtu {wanted.mtu}", f"mtu {link.mtu}", entry.action)
    if wanted.mac:
        yield from differ(what, wanted.mac, link.mac, entry.action)
    if entry.master:
        master = names.get(link.master, NOTHING)
        yield from differ(what, f"port of {entry.master}", f"port of {master}", entry.action)
    for address, action in entry.addresses.items():
        there = address if address in link.addresses else NOTHING
        yield from differ(f"{where}address of {wanted.name}", address, there, action)
    for address in link.addresses:
        if address not in entry.addresses:
            yield from differ(f"{where}address of {wanted.name}", NOTHING, address, None)


def routes(wanted: Expected, seen: Observed) -> Iterator[Difference]:
    if seen.links is None:
        return
    names = {link.index: link.name for link in seen.links}
    left = list(seen.routes)
    for entry in wanted.networks.routes:
        route = next((r for r in left if _is_route(entry.route, entry.dev, r, names)), None)
        if route is not None:
            left.remove(route)
            continue
        yield from differ("route", _route(entry.route, entry.dev), NOTHING, entry.action)
    if "net" in wanted.made and not wanted.others:
        for route in left:
            if route.protocol in _BY_PEOPLE:
                yield from differ("route", NOTHING, _route(route, names.get(route.index, "")), None)


def _is_route(wanted: Route, dev: str, route: Route, names: dict[int, str]) -> bool:
    return (
        (wanted.to, wanted.via, wanted.kind) == (route.to, route.via, route.kind)
        and (not dev or names.get(route.index) == dev)
        and (not wanted.metric or wanted.metric == route.metric)
    )


_KINDS = {6: "blackhole ", 7: "unreachable ", 8: "prohibit "}


def _route(route: Route, dev: str) -> str:
    text = _KINDS.get(route.kind, "") + ("default" if route.to.endswith("/0") else route.to)
    text += f" via {route.via}" if route.via else ""
    text += f" dev {dev}" if dev and route.kind == 1 else ""
    return text + (f" metric {route.metric}" if route.metric else "")


def host(wanted: Expected, seen: Observed) -> Iterator[Difference]:
    """The host's part: outer ends, bridges, tables."""
    if seen.host_links is not None:
        found = {link.name: link for link in seen.host_links}
        names = {link.index: link.name for link in seen.host_links}
        for name, entry in wanted.networks.host.items():
            yield from _link("host: ", entry, found.get(name), names)
    for table in wanted.tables:
        if table.name not in seen.tables:
            continue
        rules = seen.tables[table.name]
        shown = NOTHING if rules is None else _count(rules)
        yield from differ(
            f"host: table inet {table.name}", _count(table.rules), shown, table.action
        )


def _count(rules: int) -> str:
    return "1 rule" if rules == 1 else f"{rules} rules"
