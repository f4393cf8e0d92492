"""What a picture of networks shows, whichever language it is drawn in.

A *place* is a network namespace (the host's, a container's, a named one); a *node* is an
interface in a place, a bridge, or what a container's ways lead to; an *edge* joins two nodes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import Literal, assert_never

from nsrun.plan.netnames import host_name
from nsrun.spec.model import (
    Interface,
    InterfaceAddress,
    LinkType,
    Namespace,
    NamespaceType,
    Network,
    Port,
    Spec,
)

HOST = "host"
Shape = Literal["interface", "bridge", "world", "port", "container", "note"]
_LINKS = ("interface", "bridge")


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """``lines``: its name, and what there is to say of it."""

    key: str
    place: str
    lines: tuple[str, ...]
    shape: Shape = "interface"


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """``directed``: packets are led this way; ``label`` says which."""

    one: str
    other: str
    label: str = ""
    directed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Bridge:
    """A bridge of the host that a stack makes for ``network``, with the host's addresses on it."""

    name: str
    network: str
    addresses: tuple[InterfaceAddress, ...] = ()
    masquerade: bool = False


@dataclass(slots=True, kw_only=True)
class Graph:
    """``places``: key to title, in order. ``pins``: the place that a file keeps, where a spec that
    is drawn makes it."""

    places: dict[str, str] = field(default_factory=dict)
    nodes: dict[str, Node] = field(default_factory=dict)
    edges: list[Edge] = field(default_factory=list)
    pins: dict[str, str] = field(default_factory=dict)

    def place(self, key: str, title: str) -> str:
        self.places.setdefault(key, title)
        return key

    def node(self, place: str, name: str, *more: str, shape: Shape = "interface") -> str:
        """A node of ``place`` by its name; what is said of it later is added.

        An interface and a bridge are one by their name; a note is no interface of that name.
        """
        key = f"{place}/{name}" if shape in _LINKS else f"{place}/{shape} {name}"
        known = self.nodes.get(key)
        lines = tuple(dict.fromkeys((*(known.lines if known else (name,)), *filter(None, more))))
        shape = known.shape if known and shape == "interface" else shape
        self.nodes[key] = Node(key=key, place=place, lines=lines, shape=shape)
        return key

    def edge(self, one: str, other: str, label: str = "", *, directed: bool = False) -> None:
        made = Edge(one=one, other=other, label=label, directed=directed)
        if made not in self.edges:
            self.edges.append(made)


def graph(specs: Iterable[Spec], bridges: Iterable[Bridge] = ()) -> Graph:
    """One picture of all ``specs``; the same one given twice is drawn once."""
    drawn = Graph()
    places: dict[str, Spec] = {}
    for spec in specs:
        if spec in places.values():
            continue
        key = f"c/{spec.name}"
        if key in places:
            key = f"c/{spec.name} of {spec.file}"
        places[key] = spec
        namespace = spec.namespace(NamespaceType.NETWORK)
        if namespace is not None and namespace.pin is not None:
            drawn.pins[_file(namespace.pin)] = key
    for key, spec in places.items():
        _container(drawn, spec, key)
    for bridge in bridges:
        lines = (f"network {bridge.network}", *map(str, bridge.addresses))
        made = drawn.node(_host(drawn), bridge.name, *lines, shape="bridge")
        if bridge.masquerade:
            _to_world(drawn, made, "masquerade")
    return drawn


def _container(drawn: Graph, spec: Spec, key: str) -> None:
    namespace = spec.namespace(NamespaceType.NETWORK)
    kinds = ", ".join(n.type.value for n in spec.namespaces) or "none"
    if namespace is None:
        place = _host(drawn)
        said = "shares the host's network"
        drawn.node(place, spec.name, said, f"namespaces: {kinds}", shape="container")
        return
    if namespace.joined:
        place = _joined(drawn, namespace)
        said = "is in this network"
        drawn.node(place, spec.name, said, f"namespaces: {kinds}", shape="container")
        return
    # A peer that was drawn before may have named the place, but knows no more than its name.
    drawn.places[key] = f"container {key.removeprefix('c/')}: {kinds}"
    network = spec.network or Network()
    if network.loopback:
        drawn.node(key, "lo", "127.0.0.1/8", "::1/128")
    number = 0
    for interface in network.interfaces:
        _interface(drawn, spec, key, interface, number)
        number += interface.type is LinkType.VETH
    _routes(drawn, key, network)
    if network.mode == "user":
        _user_mode(drawn, key, network)
    else:
        _translated(drawn, key, network)


def _host(drawn: Graph) -> str:
    return drawn.place(HOST, "the host")


def _joined(drawn: Graph, namespace: Namespace) -> str:
    if namespace.join_container is not None:
        return _of_container(drawn, namespace.join_container)
    if namespace.join_path is not None:
        return _named(drawn, namespace.join_path)
    return drawn.place(f"p/{namespace.join_pid}", f"process {namespace.join_pid}")


def _of_container(drawn: Graph, name: str) -> str:
    return drawn.place(f"c/{name}", f"container {name}")


def _named(drawn: Graph, path: str) -> str:
    file = _file(path)
    if file in drawn.pins:
        pinned = drawn.pins[file]
        return drawn.place(pinned, f"container {pinned.removeprefix('c/')}")
    return drawn.place(f"n/{file}", f"network namespace {file.removeprefix('/run/netns/')}")


def _file(path: str) -> str:
    """``/var/run`` is a link to ``/run`` (file-hierarchy(7))."""
    return f"/run/{path.removeprefix('/var/run/')}" if path.startswith("/var/run/") else path


def _interface(drawn: Graph, spec: Spec, place: str, interface: Interface, number: int) -> None:
    kind = interface.type.value
    shape: Shape = "bridge" if interface.type is LinkType.BRIDGE else "interface"
    own = drawn.node(
        place,
        interface.name,
        kind + (f" {interface.mode}" if interface.mode else ""),
        *(str(a) for a in interface.addresses),
        f"mac {interface.mac}" if interface.mac else "",
        f"mtu {interface.mtu}" if interface.mtu else "",
        "" if interface.up else "down",
        shape=shape,
    )
    peer = interface.peer
    match interface.type:
        case LinkType.VETH:
            name = peer.name or host_name(spec.name, number)
            outside = _outside(drawn, interface)
            other = drawn.node(outside, name, "veth", *(str(a) for a in peer.addresses))
            drawn.edge(own, other)
            if peer.bridge is not None:
                drawn.edge(other, drawn.node(_host(drawn), peer.bridge, shape="bridge"))
        case LinkType.MACVLAN | LinkType.IPVLAN | LinkType.VLAN:
            below = drawn.node(_host(drawn), interface.parent or "?")
            tag = f"{kind} {interface.id}" if interface.id is not None else kind
            drawn.edge(own, below, tag)
        case LinkType.PHYSICAL:
            drawn.node(place, interface.name, f"the host's {interface.parent or interface.name}")
        case LinkType.BRIDGE | LinkType.DUMMY:
            pass


def _outside(drawn: Graph, interface: Interface) -> str:
    peer = interface.peer
    if peer.netns is not None:
        return _named(drawn, peer.netns)
    if peer.container is not None:
        return _of_container(drawn, peer.container)
    return _host(drawn)


def _routes(drawn: Graph, place: str, network: Network) -> None:
    lines = []
    for route in network.routes:
        to = str(route.to) if route.to.prefixlen else f"default (IPv{route.to.version})"
        words = [to] if route.type == "unicast" else [route.type, to]
        words += ["via", str(route.via)] if route.via is not None else []
        words += ["dev", route.dev] if route.dev is not None else []
        words += ["metric", str(route.metric)] if route.metric is not None else []
        words += ["on-link"] if route.on_link else []
        lines.append(" ".join(words))
    if lines:
        drawn.node(place, "routes", *lines, shape="note")


def _translated(drawn: Graph, place: str, network: Network) -> None:
    ways = [i for i in network.interfaces if i.type is LinkType.VETH and i.peer.outside]
    if network.masquerade:
        for way in ways:
            if way.addresses:
                _to_world(drawn, drawn.node(place, way.name), "masquerade")
    for port in network.ports:
        for way in _ways_of(port, ways):
            drawn.edge(
                _published(drawn, port), drawn.node(place, way.name), _target(port), directed=True
            )


def _ways_of(port: Port, ways: list[Interface]) -> Iterator[Interface]:
    """Where the host's rules lead a port: the first address of each family it is published in."""
    for version in (4, 6):
        if port.address is None or port.address.version == version:
            yield from [w for w in ways if any(a.version == version for a in w.addresses)][:1]


def _user_mode(drawn: Graph, place: str, network: Network) -> None:
    tap = drawn.node(place, "tap0", "user mode", "by pasta or slirp4netns")
    _to_world(drawn, tap, "sockets of the caller")
    for port in network.ports:
        drawn.edge(_published(drawn, port), tap, _target(port), directed=True)


def _to_world(drawn: Graph, link: str, how: str) -> None:
    world = drawn.node(_host(drawn), "the world outside", shape="world")
    drawn.edge(link, world, how, directed=True)


def _published(drawn: Graph, port: Port) -> str:
    numbers = _numbers(port, port.host)
    match port.address:
        case None:
            place = numbers
        case IPv4Address():
            place = f"{port.address}:{numbers}"
        case IPv6Address():
            place = f"[{port.address}]:{numbers}"
        case never:
            assert_never(never)
    return drawn.node(_host(drawn), f"port {place}/{port.protocol}", shape="port")


def _target(port: Port) -> str:
    return f"to {_numbers(port, port.container)}"


def _numbers(port: Port, first: int) -> str:
    return str(first) if port.count == 1 else f"{first}-{first + port.count - 1}"
