"""What a picture of networks shows, whichever language it is drawn in.

A *place* is a network namespace (the host's, a container's, a named one); a *node* is an
interface in a place, a bridge, or what a container's ways lead to; an *edge* joins two nodes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from nsrun.plan.netnames import host_name
from nsrun.spec.model import Interface, LinkType, NamespaceType, Network, Port, Spec

HOST = "host"
_WORLD = "world"


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """``lines``: its name, and what there is to say of it. ``shape``: interface, bridge, world or
    note."""

    key: str
    place: str
    lines: tuple[str, ...]
    shape: str = "interface"


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """``directed``: packets are led this way; ``label`` says which."""

    one: str
    other: str
    label: str = ""
    directed: bool = False


@dataclass(slots=True, kw_only=True)
class Graph:
    """``places``: key to title, in order."""

    places: dict[str, str] = field(default_factory=dict)
    nodes: dict[str, Node] = field(default_factory=dict)
    edges: list[Edge] = field(default_factory=list)

    def place(self, key: str, title: str) -> str:
        self.places.setdefault(key, title)
        return key

    def node(self, place: str, name: str, *more: str, shape: str = "interface") -> str:
        """A node of ``place`` by its name; what is said of it later is added."""
        key = f"{place}/{name}"
        known = self.nodes.get(key)
        lines = tuple(dict.fromkeys((*(known.lines if known else (name,)), *filter(None, more))))
        shape = known.shape if known and shape == "interface" else shape
        self.nodes[key] = Node(key=key, place=place, lines=lines, shape=shape)
        return key

    def edge(self, one: str, other: str, label: str = "", *, directed: bool = False) -> None:
        made = Edge(one=one, other=other, label=label, directed=directed)
        if made not in self.edges:
            self.edges.append(made)


def graph(specs: Iterable[Spec]) -> Graph:
    """One picture of all ``specs``."""
    drawn = Graph()
    for spec in specs:
        _container(drawn, spec)
    return drawn


def _container(drawn: Graph, spec: Spec) -> None:
    namespace = spec.namespace(NamespaceType.NETWORK)
    kinds = ", ".join(n.type.value for n in spec.namespaces) or "none"
    title = f"container {spec.name}"
    if namespace is None:
        place = drawn.place(HOST, "the host")
        drawn.node(place, spec.name, "shares the host's network", f"namespaces: {kinds}",
                   shape="note")  # fmt: skip
        return
    if namespace.joined:
        place = _joined(drawn, spec)
        drawn.node(place, spec.name, "is in this network", f"namespaces: {kinds}", shape="note")
        return
    place = drawn.place(f"c/{spec.name}", title)
    network = spec.network or Network()
    if network.loopback:
        drawn.node(place, "lo", "127.0.0.1/8", "::1/128")
    number = 0
    for interface in network.interfaces:
        _interface(drawn, spec, place, interface, number)
        number += interface.type is LinkType.VETH
    _routes(drawn, place, network)
    if network.mode == "user":
        _user_mode(drawn, place, network)
    else:
        _translated(drawn, spec, place, network)


def _joined(drawn: Graph, spec: Spec) -> str:
    namespace = spec.namespace(NamespaceType.NETWORK)
    assert namespace is not None
    if namespace.join_container is not None:
        name = namespace.join_container
        return drawn.place(f"c/{name}", f"container {name}")
    if namespace.join_path is not None:
        return _named(drawn, namespace.join_path)
    return drawn.place(f"p/{namespace.join_pid}", f"process {namespace.join_pid}")


def _named(drawn: Graph, path: str) -> str:
    return drawn.place(f"n/{path}", f"network namespace {path.removeprefix('/run/netns/')}")


def _interface(
    drawn: Graph, spec: Spec, place: str, interface: Interface, number: int
) -> None:
    kind = interface.type.value
    shape = "bridge" if interface.type is LinkType.BRIDGE else "interface"
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
                drawn.edge(other, drawn.node(HOST, peer.bridge, shape="bridge"))
        case LinkType.MACVLAN | LinkType.IPVLAN | LinkType.VLAN:
            below = drawn.node(drawn.place(HOST, "the host"), interface.parent or "?")
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
        return drawn.place(f"c/{peer.container}", f"container {peer.container}")
    return drawn.place(HOST, "the host")


def _routes(drawn: Graph, place: str, network: Network) -> None:
    lines = []
    for route in network.routes:
        to = str(route.to) if route.to.prefixlen else f"default (IPv{route.to.version})"
        words = [to] if route.type == "unicast" else [route.type, to]
        words += ["via", str(route.via)] if route.via is not None else []
        words += ["dev", route.dev] if route.dev is not None else []
        words += ["metric", str(route.metric)] if route.metric is not None else []
        lines.append(" ".join(words))
    if lines:
        drawn.node(place, "routes", *lines, shape="note")


def _translated(drawn: Graph, spec: Spec, place: str, network: Network) -> None:
    if not network.masquerade and not network.ports:
        return
    drawn.place(HOST, "the host")
    inner = next(
        (i for i in network.interfaces if i.type is LinkType.VETH and i.peer.outside), None
    )
    own = f"{place}/{inner.name}" if inner is not None else place
    if network.masquerade:
        world = drawn.node(HOST, "the world outside", shape="world")
        drawn.edge(own, world, "masquerade", directed=True)
    for port in network.ports:
        drawn.edge(_published(drawn, port), own, _target(port), directed=True)


def _published(drawn: Graph, port: Port) -> str:
    place = str(port.address) if port.address is not None else "*"
    host = drawn.place(HOST, "the host")
    return drawn.node(host, f"port {place}:{_numbers(port, port.host)}", shape="world")


def _target(port: Port) -> str:
    return f"{_numbers(port, port.container)}/{port.protocol}"


def _numbers(port: Port, first: int) -> str:
    return str(first) if port.count == 1 else f"{first}-{first + port.count - 1}"


def _user_mode(drawn: Graph, place: str, network: Network) -> None:
    tap = drawn.node(place, "tap", "user mode", "by pasta or slirp4netns")
    drawn.place(HOST, "the host")
    world = drawn.node(HOST, "the world outside", shape="world")
    drawn.edge(tap, world, "sockets of the caller", directed=True)
    for port in network.ports:
        drawn.edge(_published(drawn, port), tap, _target(port), directed=True)
