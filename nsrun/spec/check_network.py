"""Checks about the ``network`` block, held against itself."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv6Address

from nsrun.diag import Diagnostic
from nsrun.spec.checking import Problems, looks_at, problem
from nsrun.spec.model import (
    Interface,
    LinkType,
    NamespaceType,
    Network,
    Port,
    Route,
    Spec,
)
from nsrun.spec.path import item_path
from nsrun.spec.words import quote

# What each kind is said with; `name`, `type`, `addresses` and `up` fit all.
_KEYS: dict[LinkType, tuple[str, ...]] = {
    LinkType.VETH: ("mac", "mtu", "peer"),
    LinkType.MACVLAN: ("mac", "mtu", "parent", "mode"),
    # An ipvlan has the hardware address of its parent.
    LinkType.IPVLAN: ("mtu", "parent", "mode"),
    LinkType.VLAN: ("mac", "mtu", "parent", "id"),
    LinkType.DUMMY: ("mac", "mtu"),
    LinkType.BRIDGE: ("mac", "mtu"),
    # What is changed on one that is handed back would stay changed.
    LinkType.PHYSICAL: ("parent",),
}
_NEEDED: dict[LinkType, tuple[str, ...]] = {
    LinkType.MACVLAN: ("parent",),
    LinkType.IPVLAN: ("parent",),
    LinkType.VLAN: ("parent", "id"),
}
_MODES: dict[LinkType, tuple[str, ...]] = {
    LinkType.MACVLAN: ("bridge", "private", "vepa", "passthru"),
    LinkType.IPVLAN: ("l2", "l3", "l3s"),
}
_SET_UP = ("interfaces", "routes", "masquerade", "ports", "mode")
FILES = {"dns": "/etc/resolv.conf", "hosts": "/etc/hosts"}


def _given(spec: Spec, path: str) -> bool:
    return path in spec.spans


@looks_at("network", "namespaces")
def network_is_set_up_in_a_new_namespace(spec: Spec) -> Problems:
    namespace = spec.namespace(NamespaceType.NETWORK)
    if spec.network is None or namespace is None or not namespace.joined:
        return
    for key in _SET_UP:
        if _given(spec, f"network.{key}"):
            yield problem(
                spec,
                "NS301",
                f"network.{key}",
                f"`network.{key}` needs a new network namespace",
                label="the one that is joined belongs to others",
                help=("list `network` alone in `namespaces`, or remove this",),
                key=True,
            )


@looks_at("network", "namespaces", "files")
def names_need_a_place_for_their_files(spec: Spec) -> Problems:
    if spec.network is None:
        return
    targets = {entry.target for entry in spec.files}
    for key, file in FILES.items():
        path = f"network.{key}"
        if not _given(spec, path):
            continue
        if not spec.new(NamespaceType.MOUNT):
            yield problem(
                spec,
                "NS301",
                path,
                f"`{path}` needs a new mount namespace",
                label=f"it is written to {file}, which would be the caller's own",
                help=("add `mount` to `namespaces`",),
                key=True,
            )
        elif file in targets:
            yield problem(
                spec,
                "NS318",
                path,
                f"{file} is given by `files` too",
                help=("keep one of them",),
                key=True,
            )


@looks_at("network")
def interfaces_have_their_own_name(spec: Spec) -> Problems:
    seen: dict[str, str] = {"lo": "the loopback interface, which is there already"}
    peers: dict[str, str] = {}
    for interface in _interfaces(spec):
        yield from _once(spec, seen, interface.name, f"{interface.path}.name")
        peer = interface.peer
        if peer.name is not None and peer.outside:
            yield from _once(spec, peers, peer.name, f"{interface.path}.peer.name")


def _once(spec: Spec, seen: dict[str, str], name: str, path: str) -> Problems:
    if name in seen:
        summary = f"the name {quote(name)} is taken"
        yield problem(spec, "NS316", path, summary, label=seen[name])
    else:
        seen[name] = f"by the interface at {spec.span(path)}"


@looks_at("network")
def an_interface_has_what_its_type_needs(spec: Spec) -> Problems:
    for interface in _interfaces(spec):
        kind, path = interface.type, interface.path
        for key in ("mac", "mtu", "peer", "parent", "mode", "id"):
            place = f"{path}.{key}"
            if _given(spec, place) and key not in _KEYS[kind]:
                summary = f"`type: {kind}` has no `{key}`"
                yield problem(
                    spec, "NS318", place, summary, help=(f"remove `{key}`",), key=True
                )
        for key in _NEEDED.get(kind, ()):
            if not _given(spec, f"{path}.{key}"):
                yield problem(
                    spec,
                    "NS204",
                    path,
                    f"`type: {kind}` needs `{key}`",
                    help=(f"add `{key}: {'100' if key == 'id' else 'eth0'}`",),
                )
        modes = _MODES.get(kind)
        if modes is not None and interface.mode is not None and interface.mode not in modes:
            yield problem(
                spec,
                "NS203",
                f"{path}.mode",
                f"{quote(interface.mode)} is no mode of `type: {kind}`",
                help=("write one of " + ", ".join(f"`{mode}`" for mode in modes),),
            )
        yield from _addresses_once(spec, interface)


def _addresses_once(spec: Spec, interface: Interface) -> Problems:
    for place, addresses in (
        (f"{interface.path}.addresses", interface.addresses),
        (f"{interface.path}.peer.addresses", interface.peer.addresses),
    ):
        seen = set()
        for index, address in enumerate(addresses):
            path = item_path(place, index)
            if address.ip in seen:
                yield problem(spec, "NS318", path, f"{address.ip} is given twice")
            seen.add(address.ip)
            # RFC 8200, section 5: the least that IPv6 can do with.
            if address.version == 6 and interface.mtu is not None and interface.mtu < 1280:
                yield problem(
                    spec,
                    "NS318",
                    path,
                    f"IPv6 needs an MTU of 1280 bytes, this interface has {interface.mtu}",
                )


@looks_at("network")
def a_peer_is_in_one_place(spec: Spec) -> Problems:
    for interface in _interfaces(spec):
        path = f"{interface.path}.peer"
        given = [key for key in ("bridge", "netns", "container") if _given(spec, f"{path}.{key}")]
        for key in given[1:]:
            yield problem(
                spec,
                "NS318",
                f"{path}.{key}",
                f"a peer with `{given[0]}` and `{key}`",
                label="it is in one place",
                help=("keep one of them",),
                key=True,
            )
        if not interface.peer.outside and interface.peer.name is None and given:
            yield problem(
                spec,
                "NS204",
                f"{path}.{given[0]}",
                "a peer in another namespace needs a name there",
                help=("add `name: eth1`, a name that is free there",),
            )


@looks_at("network")
def routes_are_sound(spec: Spec) -> Problems:
    if spec.network is None:
        return
    names = {"lo", *(i.name for i in spec.network.interfaces)}
    for route in spec.network.routes:
        yield from _route(spec, route, names)


def _route(spec: Spec, route: Route, names: set[str]) -> Problems:
    path = route.path
    if route.type != "unicast":
        for key in ("via", "dev", "on_link"):
            if _given(spec, f"{path}.{key}"):
                summary = f"a route of `type: {route.type}` leads nowhere"
                yield problem(
                    spec,
                    "NS318",
                    f"{path}.{key}",
                    summary,
                    help=(f"remove `{key}`",),
                    key=True,
                )
        return
    if route.via is None and route.dev is None:
        yield problem(
            spec, "NS204", path, "a route needs `via` or `dev`", help=("add `via: ADDRESS`",)
        )
    if route.via is not None and route.via.version != route.to.version:
        yield problem(
            spec,
            "NS318",
            f"{path}.via",
            f"{route.to} is IPv{route.to.version}, {route.via} is not",
        )
    if route.dev is not None and route.dev not in names:
        yield problem(
            spec,
            "NS318",
            f"{path}.dev",
            f"there is no interface {quote(route.dev)}",
            help=("name one of `network.interfaces`",),
        )
    if route.on_link and (route.dev is None or route.via is None):
        yield problem(
            spec,
            "NS318",
            f"{path}.on_link",
            "`on_link` is about a next hop: it needs `via` and `dev`",
            key=True,
        )


@looks_at("network")
def a_next_hop_can_be_reached(spec: Spec) -> Problems:
    """The kernel takes a next hop only if a route to it is there already (ENETUNREACH)."""
    network = spec.network
    if network is None or network.mode is not None:
        return
    known = [a.network for i in network.interfaces for a in i.addresses if i.up]
    for route in network.routes:
        via = route.via
        if via is not None and not route.on_link and via.version == route.to.version:
            local = isinstance(via, IPv6Address) and via.is_link_local
            if local and route.dev is None:
                yield problem(
                    spec,
                    "NS204",
                    f"{route.path}.via",
                    f"{via} is there on every link",
                    help=("add `dev`",),
                )
            elif not local and not any(via in net for net in known if net.version == via.version):
                yield problem(
                    spec,
                    "NS318",
                    f"{route.path}.via",
                    f"no interface has a network that {via} is in",
                    label="the next hop cannot be reached",
                    help=("add `on_link: true` and `dev`, if it is on that link all the same",),
                )
        if route.via is None and route.type == "unicast":
            known.append(route.to)


@looks_at("network")
def what_is_translated_has_a_peer(spec: Spec) -> Problems:
    network = spec.network
    if network is None or network.mode is not None:
        return
    outside = outside_veths(network)
    for key in ("masquerade", "ports"):
        path = f"network.{key}"
        if getattr(network, key) and not outside:
            yield problem(
                spec,
                "NS318",
                path,
                f"`{key}` needs a veth whose peer is outside",
                label="nothing leads from the host to the container",
                help=("add {name: eth0, type: veth, ...} to `network.interfaces`",),
                key=True,
            )
        elif getattr(network, key) and not any(i.addresses for i in outside):
            yield problem(
                spec, "NS318", path, f"`{key}` needs an address of the veth", key=True
            )
    versions = {a.version for i in outside for a in i.addresses}
    for port in network.ports:
        if versions and port.address is not None and port.address.version not in versions:
            yield problem(
                spec,
                "NS318",
                port.path,
                f"the veth has no IPv{port.address.version} address to lead this port to",
            )


def outside_veths(network: Network) -> list[Interface]:
    """The veths whose other end is in the caller's network namespace."""
    return [i for i in network.interfaces if i.type is LinkType.VETH and i.peer.outside]


@looks_at("network")
def ports_are_given_once(spec: Spec) -> Problems:
    ports = spec.network.ports if spec.network is not None else ()
    for index, port in enumerate(ports):
        for other in ports[:index]:
            if _overlap(port, other):
                yield problem(
                    spec,
                    "NS318",
                    port.path,
                    f"port {port.host}/{port.protocol} of the host is given twice",
                    label=f"also at {spec.span(other.path)}",
                )
                break


def _overlap(one: Port, other: Port) -> bool:
    if one.protocol != other.protocol:
        return False
    if one.host + one.count <= other.host or other.host + other.count <= one.host:
        return False
    return _same_place(one, other)


def _same_place(one: Port, other: Port) -> bool:
    if one.address is None or other.address is None:
        return True
    if one.address.version != other.address.version:
        return False
    everywhere = one.address.is_unspecified or other.address.is_unspecified
    return everywhere or one.address == other.address


@looks_at("network")
def user_mode_stands_alone(spec: Spec) -> Problems:
    network = spec.network
    if network is None or network.mode != "user":
        return
    for key in ("interfaces", "routes", "masquerade"):
        if getattr(network, key):
            yield _beside_user_mode(spec, key)
    if not network.loopback:
        yield _beside_user_mode(spec, "loopback")


def _beside_user_mode(spec: Spec, key: str) -> Diagnostic:
    return problem(
        spec,
        "NS318",
        f"network.{key}",
        f"`{key}` beside `mode: user`",
        label="the network in user mode brings its own interface, addresses and routes",
        help=(f"remove `{key}`, or `mode`",),
        key=True,
    )


def _interfaces(spec: Spec) -> Iterator[Interface]:
    return iter(spec.network.interfaces if spec.network is not None else ())
