"""Checks about the ``network`` block, held against itself."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Address, IPv6Network

from nsrun.diag import Diagnostic
from nsrun.spec.checking import Problems, looks_at, problem
from nsrun.spec.model import (
    Interface,
    IPAddress,
    LinkType,
    NamespaceType,
    Network,
    Peer,
    Port,
    Route,
    Spec,
)
from nsrun.spec.names import CONTAINER_NAME
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


@looks_at("network", "namespaces")
def network_is_set_up_in_a_new_namespace(spec: Spec) -> Problems:
    network, namespace = spec.network, spec.namespace(NamespaceType.NETWORK)
    if network is None or namespace is None or not namespace.joined:
        return
    said = network.loopback and "network.loopback" in spec.spans
    for key in (
        *(key for key in _SET_UP if getattr(network, key)),
        *(["loopback"] if said else []),
    ):
        yield problem(
            spec,
            "NS301",
            f"network.{key}",
            f"`network.{key}` needs a new network namespace",
            label="the one that is joined belongs to others",
            help=("list `network` alone in `namespaces`, or remove this",),
            key=True,
        )


@looks_at("network", "namespaces", each=("files", "mounts"))
def names_need_a_place_for_their_files(spec: Spec) -> Problems:
    if spec.network is None:
        return
    files = {entry.target for entry in spec.files}
    mounts = {mount.target for mount in spec.mounts if mount.type != "umount"}
    for key, file in FILES.items():
        path = f"network.{key}"
        if not getattr(spec.network, key):
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
        elif file in files or file in mounts:
            yield problem(
                spec,
                "NS318",
                path,
                f"{file} is given by `{'files' if file in files else 'mounts'}` too",
                help=("keep one of them",),
                key=True,
            )


@looks_at("network")
def interfaces_have_their_own_name(spec: Spec) -> Problems:
    inside = {"lo": "the loopback interface, which is there already"}
    # The other ends, by the place that each is in.
    outside: dict[tuple[str | None, str | None], dict[str, str]] = {}
    moved: dict[str, str] = {}
    for interface in _interfaces(spec):
        name, peer = f"{interface.path}.name", interface.peer
        yield from _once(spec, inside, interface.name, name)
        if peer.name is not None:
            seen = outside.setdefault((peer.netns, peer.container), {})
            yield from _once(spec, seen, peer.name, f"{interface.path}.peer.name")
        if interface.type is LinkType.PHYSICAL:
            path = name if interface.parent is None else f"{interface.path}.parent"
            host = interface.parent or interface.name
            if host in moved:
                summary = f"the host's interface {quote(host)} is moved in twice"
                yield problem(spec, "NS318", path, summary, label=moved[host])
            moved.setdefault(host, f"also at {spec.span(path)}")


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
            said = getattr(interface, key) not in (None, Peer()) or place in spec.spans
            if said and key not in _KEYS[kind]:
                summary = f"`type: {kind}` has no `{key}`"
                yield problem(spec, "NS318", place, summary, help=(f"remove `{key}`",), key=True)
        for key in _NEEDED.get(kind, ()):
            if getattr(interface, key) is None:
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
    # Of both ends: a host takes what is sent to its own address, none of it reaches the other.
    seen = set()
    for place, addresses in (
        (f"{interface.path}.addresses", interface.addresses),
        (f"{interface.path}.peer.addresses", interface.peer.addresses),
    ):
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
                    f"an MTU of {interface.mtu} bytes is too small for IPv6, which needs 1280",
                )


@looks_at("network")
def a_peer_is_in_one_place(spec: Spec) -> Problems:
    for interface in _interfaces(spec):
        path, peer = f"{interface.path}.peer", interface.peer
        given = [key for key in ("bridge", "netns", "container") if getattr(peer, key) is not None]
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
        if not peer.outside and peer.name is None:
            yield problem(
                spec,
                "NS204",
                f"{path}.{given[-1]}",
                "a peer in another namespace needs a name there",
                help=("add `name: eth1`, a name that is free there",),
            )
        if peer.container is not None and not CONTAINER_NAME.fullmatch(peer.container):
            summary = f"{quote(peer.container)} cannot be a container's name"
            yield problem(spec, "NS316", f"{path}.container", summary)


@looks_at("network")
def routes_are_sound(spec: Spec) -> Problems:
    network = spec.network
    if network is None or network.mode is not None:
        return
    up = {"lo": network.loopback, **{i.name: i.up for i in network.interfaces}}
    for route in network.routes:
        yield from _route(spec, route, up)
    yield from _routes_once(spec, network)


def _route(spec: Spec, route: Route, up: dict[str, bool]) -> Problems:
    path = route.path
    if route.type != "unicast":
        for key in ("via", "dev", "on_link"):
            if getattr(route, key):
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
    if route.dev is not None and not up.get(route.dev):
        down = route.dev in up
        yield problem(
            spec,
            "NS318",
            f"{path}.dev",
            f"{quote(route.dev)} is not up"
            if down
            else f"there is no interface {quote(route.dev)}",
            # ENETDOWN of fib_check_nh() and ip6_route_info_create().
            label="a route leads through an interface that is up" if down else "",
            help=() if down else ("name one of `network.interfaces`",),
        )
    if route.on_link and (route.dev is None or route.via is None):
        yield problem(
            spec,
            "NS318",
            f"{path}.on_link",
            "`on_link` is about a next hop: it needs `via` and `dev`",
            key=True,
        )


def _routes_once(spec: Spec, network: Network) -> Problems:
    """The kernel keeps one route to a network with the same metric (EEXIST)."""
    seen: dict[tuple[object, int], str] = {}
    for interface in network.interfaces:
        for index, address in enumerate(interface.addresses):
            # fib_add_ifaddr() of net/ipv4/fib_frontend.c; IPv6 gives its own the metric 256.
            if interface.up and address.version == 4 and 0 < address.network.prefixlen < 32:
                path = item_path(f"{interface.path}.addresses", index)
                seen[address.network, 0] = f"the address at {spec.span(path)} brings it"
    for route in network.routes:
        # IP6_RT_PRIO_USER of linux/ipv6_route.h is what IPv6 takes for none.
        metric = route.metric or (1024 if route.to.version == 6 else 0)
        before = seen.get((route.to, metric))
        if before is not None:
            yield problem(
                spec,
                "NS318",
                route.path,
                f"the route to {route.to} is there already",
                label=before,
                help=("give them different values of `metric`, or keep one of them",),
            )
        seen.setdefault((route.to, metric), f"also at {spec.span(route.path)}")


@looks_at("network")
def a_next_hop_can_be_reached(spec: Spec) -> Problems:
    """The kernel takes a next hop only if a route to it is there already (ENETUNREACH)."""
    network = spec.network
    if network is None or network.mode is not None:
        return
    names = {i.name for i in network.interfaces}
    known: list[tuple[IPv4Network | IPv6Network, str]] = []
    for interface in network.interfaces:
        if interface.up:
            known += ((address.network, interface.name) for address in interface.addresses)
    for route in network.routes:
        if route.via is None:
            if route.type == "unicast" and route.dev is not None:
                known.append((route.to, route.dev))
        elif (
            route.type == "unicast"
            and route.via.version == route.to.version
            and (route.dev is None or route.dev in names)
        ):
            yield from _next_hop(spec, network, route, route.via, known)


def _next_hop(
    spec: Spec,
    network: Network,
    route: Route,
    via: IPAddress,
    known: list[tuple[IPv4Network | IPv6Network, str]],
) -> Problems:
    path, dev = f"{route.path}.via", route.dev
    near = [n for n, d in known if n.version == via.version and via in n and dev in (None, d)]
    if any(via == address.ip for i in network.interfaces for address in i.addresses):
        yield problem(
            spec,
            "NS318",
            path,
            f"{via} is an address of the container itself",
            help=("write that of the next hop, such as the peer's",),
        )
    elif isinstance(via, IPv6Address) and via.is_link_local:
        if dev is None:
            yield problem(spec, "NS204", path, f"{via} is there on every link", help=("add `dev`",))
    elif not near and not route.on_link:
        yield problem(
            spec,
            "NS318",
            path,
            f"no interface has a network that {via} is in"
            if dev is None
            else f"{quote(dev)} has no network that {via} is in",
            label="the next hop cannot be reached",
            help=("add `on_link: true` and `dev`, if it is on that link all the same",),
        )


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
                spec,
                "NS318",
                path,
                f"`{key}` needs an address of the veth",
                help=("add `addresses` to it",),
                key=True,
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
                first = max(port.host, other.host)
                yield problem(
                    spec,
                    "NS318",
                    port.path,
                    f"port {first}/{port.protocol} of the host is given twice",
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
