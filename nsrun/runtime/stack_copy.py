"""A stack's throw-away copy: what of it cannot be had twice, and where its networks are.

The copy comes from the same file under another name: with it containers, bridges, control groups
and secrets have names of their own, and its volumes are empty folders. Its networks keep their
subnets where nobody on the host has them; else they are moved, each address by as much.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_interface, ip_network
from types import MappingProxyType

from nsrun.diag import Diagnostic, NsrunError, Span
from nsrun.plan import assertions
from nsrun.spec.model import (
    Endpoint,
    Expectations,
    InterfaceAddress,
    IPAddress,
    LinkType,
    Network,
    Overlay,
    Port,
    Route,
    Spec,
)
from nsrun.spec.stack import Member, Stack, StackNetwork

Subnet = IPv4Network | IPv6Network
# Where a subnet was, and where it is.
Pairs = list[tuple[Subnet, Subnet]]
Move = Callable[[IPAddress], IPAddress]
# Interfaces that have no end on the host.
_INSIDE = (LinkType.DUMMY, LinkType.BRIDGE)
# Where the copy's networks are looked for: few private ones are numbered there.
_POOLS: dict[int, Subnet] = {4: IPv4Network("10.128.0.0/9"), 6: IPv6Network("fd00::/8")}
_TRIES = 1000
_NAME_MAX = 16


def new_name(stack: str) -> str:
    """The name of a copy, which no stack has."""
    return f"{stack[:_NAME_MAX]}-v{secrets.token_hex(3)}"


# --- what cannot be had twice --------------------------------------------------------------------


def refusals(stack: Stack, copy: Stack, volumes: str) -> Iterator[Diagnostic]:
    """NS622 for each thing in the stack that a copy beside it would share with it, or has not.

    ``copy``: the same file, read under another name; ``volumes``: the folder of its volumes.
    """
    for network in stack.networks:
        if network.external:
            yield _refusal(
                stack, network.path, f"the network {network.name} is external",
                "containers of the copy would be on the same bridge, with the same addresses",
            )  # fmt: skip
    kept = {secret.copy for secret in copy.secrets}
    for member in _each_once(copy):
        yield from _shared_folders(member, volumes, kept)
    for member in _each_once(stack):
        yield from _shared_links(member, stack)
        yield from _shared_ports(member, stack)


def _refusal(stack: Stack, path: str, summary: str, why: str) -> Diagnostic:
    return _diagnostic(summary, path, why, (), stack.spans.get(path))


def _diagnostic(
    summary: str, path: str, why: str, help: tuple[str, ...], span: Span | None
) -> Diagnostic:
    return Diagnostic(
        code="NS622",
        summary=f"the stack cannot be copied: {summary}",
        span=span,
        path=path,
        why=(why,),
        help=help,
    )


def _each_once(stack: Stack) -> Iterator[Member]:
    return (member for member in stack.members if member.number < 2)


def _shared_folders(member: Member, volumes: str, kept: set[str]) -> Iterator[Diagnostic]:
    for mount in member.spec.mounts:
        shared = mount.type == "bind" and not mount.readonly
        own = mount.source in kept or mount.source.startswith(f"{volumes}/")
        if shared and not own and _holds_data(mount.source):
            yield _diagnostic(
                f"{member.service} may write to the host's {mount.source}",
                mount.path,
                "what its command does in the copy would be done to the same files",
                ("bind it read-only (`options: [ro]`), or make it a volume",),
                member.spec.span(mount.path),
            )


def _holds_data(path: str) -> bool:
    """A folder or file; a device or a socket is for many."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return stat.S_ISDIR(mode) or stat.S_ISREG(mode)


def _shared_links(member: Member, stack: Stack) -> Iterator[Diagnostic]:
    bridges = {network.bridge for network in stack.networks}
    for link in (member.spec.network or Network()).interfaces:
        if link.type not in _INSIDE and link.peer.bridge not in bridges:
            yield _diagnostic(
                f"the interface {link.name} of {member.service} has an end outside",
                link.path,
                "two containers would have it, with the same addresses",
                ("put it on a network of the stack",),
                member.spec.span(link.path),
            )


def _shared_ports(member: Member, stack: Stack) -> Iterator[Diagnostic]:
    """A copy publishes no ports, so that what is behind them is no answer."""
    members = {a.ip for m in stack.members for given in m.addresses.values() for a in given}
    ports = [p for m in stack.members for p in (m.spec.network or Network()).ports]
    for key in ("unreachable", "reachable"):
        for number, end in enumerate(getattr(member.spec.expect, key)):
            inside = end.address is None or end.address.is_loopback or end.address in members
            if not inside and any(_publishes(port, end.port) for port in ports):
                path = f"expect.{key}[{number}]"
                yield _diagnostic(
                    f"{end} is a published port",
                    path,
                    "the ports of the host are there once, and the copy publishes none",
                    ("say what is expected of the container's own address and port",),
                    member.spec.span(path),
                )


def _publishes(port: Port, number: int) -> bool:
    return port.protocol == "tcp" and port.host <= number < port.host + port.count


# --- where its networks are ----------------------------------------------------------------------


def placed(original: Stack, copy: Stack, used: Iterable[Subnet]) -> tuple[Stack, list[Diagnostic]]:
    """``copy`` on subnets that are in none of ``used``, the original's where they are free; and
    NS622 for what names an address that the copy has not."""
    taken = list(used)
    to_copy: Pairs = []
    to_original: Pairs = []
    for old, new in zip(original.networks, copy.networks, strict=True):
        for before, after in zip(old.gateways, new.gateways, strict=True):
            try:
                place = _free(before.network, taken)
            except LookupError:
                why = "its own is in use on the host"
                what = f"no other network as large as {before.network} is free"
                return copy, [_refusal(original, old.path, what, why)]
            taken.append(place)
            to_original.append((before.network, place))
            to_copy.append((after.network, place))
    # What the file has by its numbers is the stack's own, what the names gave is the copy's.
    move = _mover(to_original)
    moved = _moved(copy, to_copy + to_original, move)
    known = {*_addresses(original), *(old.network_address for old, _ in to_original)}
    gone = {address for address in known if move(address) != address}
    return moved, list(_literal(original, gone)) if gone else []


def _free(wanted: Subnet, taken: list[Subnet]) -> Subnet:
    """``wanted``, or another of its size. Raises LookupError."""
    pool = _POOLS[wanted.version]
    for number in range(_TRIES):
        if number == 0:
            one = wanted
        elif wanted.prefixlen < pool.prefixlen:
            break
        else:
            host = secrets.randbits(wanted.prefixlen - pool.prefixlen or 1)
            base = int(pool.network_address) | host << (wanted.max_prefixlen - wanted.prefixlen)
            one = type(wanted)((base, wanted.prefixlen))
        if not any(o.version == one.version and o.overlaps(one) for o in taken):
            return one
    raise LookupError(str(wanted))


def _mover(pairs: Pairs) -> Move:
    def move(address: IPAddress) -> IPAddress:
        for old, new in pairs:
            if old.version == address.version and address in old:
                offset = int(address) - int(old.network_address)
                moved = int(new.network_address) + offset
                return IPv4Address(moved) if old.version == 4 else IPv6Address(moved)
        return address

    return move


def _moved(copy: Stack, pairs: Pairs, expected: Move) -> Stack:
    move = _mover(pairs)

    def interface(address: InterfaceAddress) -> InterfaceAddress:
        return ip_interface(f"{move(address.ip)}/{address.network.prefixlen}")

    def spec(one: Spec) -> Spec:
        own = one.network
        if own is not None:
            links = tuple(
                replace(i, addresses=tuple(map(interface, i.addresses))) for i in own.interfaces
            )
            there = {a.network for link in links for a in link.addresses}
            routes = _routes(own.routes, pairs, there)
            hosts = {name: move(address) for name, address in own.hosts.items()}
            dns = own.dns
            if dns is not None:
                dns = replace(dns, nameservers=tuple(map(move, dns.nameservers)))
            own = replace(
                own,
                interfaces=links,
                routes=routes,
                hosts=MappingProxyType(hosts),
                dns=dns,
            )
        return replace(one, network=own, expect=_expected(one.expect, expected))

    return replace(
        copy,
        networks=tuple(
            replace(n, gateways=tuple(map(interface, n.gateways))) for n in copy.networks
        ),
        members=tuple(
            replace(
                m,
                spec=spec(m.spec),
                addresses=MappingProxyType(
                    {n: tuple(map(interface, given)) for n, given in m.addresses.items()}
                ),
            )
            for m in copy.members
        ),
    )


def _routes(routes: tuple[Route, ...], pairs: Pairs, there: set[Subnet]) -> tuple[Route, ...]:
    """As they lead to the same subnets; one to several at once leads to each of them as well.
    ``there``: those that the container is on."""
    move = _mover(pairs)
    found: list[Route] = []
    for route in routes:
        via = move(route.via) if route.via is not None else None
        to = route.to
        if to.prefixlen:
            # The whole family's holds every subnet, wherever it is.
            to = ip_network((move(to.network_address), to.prefixlen), strict=False)
            inner = {new for old, new in pairs if old != new and _is_above(route.to, old)}
            if inner:
                to = route.to
            for one in sorted(inner - there - {r.to for r in routes}, key=str):
                found.append(replace(route, to=one, via=via))
        found.append(replace(route, to=to, via=via))
    return tuple(found)


def _is_above(wide: Subnet, one: Subnet) -> bool:
    return (
        wide.version == one.version
        and wide.prefixlen < one.prefixlen
        and one.network_address in wide
    )


def _expected(expect: Expectations, move: Move) -> Expectations:
    def ends(given: tuple[Endpoint, ...]) -> tuple[Endpoint, ...]:
        return tuple(
            replace(end, address=move(end.address)) if end.address is not None else end
            for end in given
        )

    return replace(expect, reachable=ends(expect.reachable), unreachable=ends(expect.unreachable))


def _addresses(stack: Stack) -> Iterator[IPAddress]:
    for member in stack.members:
        for given in member.addresses.values():
            yield from (address.ip for address in given)
    for network in stack.networks:
        yield from (gateway.ip for gateway in network.gateways)


def _literal(stack: Stack, gone: set[IPAddress]) -> Iterator[Diagnostic]:
    """Containers that are told an address of the stack by its number, which the copy has not."""
    for member in _each_once(stack):
        spec, check = member.spec, member.healthcheck
        texts = {
            "command": " ".join(spec.command),
            "env": " ".join(value for value in spec.env.values() if value is not None),
            "healthcheck": " ".join(check.command) if check is not None else "",
        }
        for entry in spec.files:
            texts[entry.path] = (entry.content or b"").decode("utf-8", "replace")
        for path, text in texts.items():
            found = next((a for a in sorted(map(str, gone)) if _names(text, a)), None)
            if found is not None:
                yield _diagnostic(
                    f"{member.service} is told the address {found}",
                    path,
                    "it is in use on the host, so that the copy has other addresses",
                    ("use the container's name instead", f"nsrun down {stack.name}, and again"),
                    spec.span(path) or stack.spans.get(f"containers.{member.service}.{path}"),
                )


def _names(text: str, address: str) -> bool:
    at = text.find(address)
    while at >= 0:
        after = text[at + len(address) : at + len(address) + 1]
        before = text[at - 1 : at]
        if not (after.isalnum() or before.isalnum() or before in (".", ":")):
            return True
        at = text.find(address, at + 1)
    return False


# --- its containers ------------------------------------------------------------------------------


def running(spec: Spec) -> Spec:
    """As it runs in the copy: it publishes and pins nothing, and writes to no folder of the
    host's that is its root. Nobody needs what it would do at its end."""
    made = replace(assertions.copy_of(spec, spec.name), stop_timeout=0)
    root = made.rootfs
    if root is None or (root.readonly and root.overlay is None):
        return made
    return replace(made, rootfs=replace(root, overlay=Overlay()))


def looking(stack: Stack, member: Member) -> Spec:
    """The container that looks in a member's place: beside it on its networks, by addresses that
    nobody there has. Raises NsrunError (NS622) where there is none."""
    spec = assertions.copy_of(member.spec, f"{member.spec.name}-look")
    if spec.network is None:
        return spec
    taken = set(_addresses(stack))
    networks = {f"networks.{n.name}": n for n in stack.networks}

    def spare(address: InterfaceAddress, network: StackNetwork) -> InterfaceAddress:
        subnet = address.network
        # From the end: containers have the first ones. The last of all is the broadcast's.
        for number in range(int(subnet.broadcast_address) - 1, int(subnet.network_address), -1):
            one = type(address.ip)(number)
            if one not in taken:
                taken.add(one)
                return ip_interface(f"{one}/{subnet.prefixlen}")
        what = f"the network {network.name} has no address left"
        why = "who looks in a container's place is on its networks too"
        raise NsrunError(_refusal(stack, network.path, what, why))

    links = (
        replace(link, addresses=tuple(spare(a, networks[link.path]) for a in link.addresses))
        if link.path in networks
        else link
        for link in spec.network.interfaces
    )
    return replace(spec, network=replace(spec.network, interfaces=tuple(links)))
