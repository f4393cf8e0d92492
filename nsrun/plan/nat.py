"""``masquerade`` and ``ports``: a table of nftables for the container, and ports held by sockets.

A table a container, which its owner's name is written on, and which goes as a whole
(nft(8), the netfilter hooks). Packets to a published port are translated where they come in and
where the host sends them itself; those to 127.0.0.1 only there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, collapse_addresses

from nsrun.kernel import sockets
from nsrun.kernel.facts import Facts
from nsrun.kernel.values import Bytes, Str
from nsrun.plan.draft import Draft
from nsrun.plan.forwarding import Switches
from nsrun.plan.ops import Op, Spawn
from nsrun.spec.model import (
    Interface,
    InterfaceAddress,
    IPAddress,
    LinkType,
    NamespaceType,
    Network,
    Port,
    Spec,
)

# Each port is held by a socket, and so many descriptors a process usually has.
PORTS_MAX = 512
# nft(8): a comment has at most 128 bytes.
_COMMENT_MAX = 120
_BAD_IN_NAME = frozenset('"\\*')
# Set on a packet in the forward hook alone, for as long as tables of several containers on one
# bridge look at it: what one drops no other can let through.
_OURS = 0x0800_0000
# What belongs to a connection that was let through, and what goes to a published port.
KNOWN = ("ct state established,related accept", "ct status dnat accept")


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One address of the container that the host reaches through ``link``; ``others`` are those
    of the same family on the same interface.

    ``link`` is the interface that the host's routes lead to: the pair's outer end, or the
    bridge it is attached to, which the host keeps (``shared``).
    """

    address: InterfaceAddress
    others: tuple[InterfaceAddress, ...]
    link: str
    shared: bool

    @property
    def version(self) -> int:
        return self.address.version

    @property
    def family(self) -> str:
        """As nft(8) calls it in a rule."""
        return "ip" if self.version == 4 else "ip6"


def is_wanted(spec: Spec) -> bool:
    """Whether a spec has addresses or ports translated by the host."""
    network = spec.network
    if network is None or network.mode is not None or not spec.new(NamespaceType.NETWORK):
        return False
    return network.masquerade or bool(network.ports)


def translate(draft: Draft, facts: Facts, network: Network) -> None:
    """The launcher's steps for ``masquerade`` and ``ports``."""
    if not is_wanted(draft.spec):
        return
    at = "network.masquerade" if network.masquerade else "network.ports"
    ways = _ways(draft, network)
    nft = facts.helpers.get("nft")
    if nft is None:
        draft.refuse(
            "NS410",
            "nft is not installed",
            at,
            "apt install nftables",
            why="it was looked for on PATH, in /usr/bin and in /usr/sbin",
        )
        return
    if facts.forwarding is None or not ways:
        return
    guarded = (*facts.forwarding.ipv4, *facts.forwarding.ipv6)
    for name in (*(way.link for way in ways), *guarded):
        if is_misread(name):
            draft.refuse("NS316", f"nft cannot be told of an interface {name!r}", at)
            return
    for port in network.ports:
        if port.address == IPv6Address("::1"):
            draft.refuse(
                "NS401",
                "no kernel leads packets from ::1 to another interface",
                port.path,
                f"publish it on 127.0.0.1: {port.host}",
            )
    _hold_ports(draft, network, ways)
    switches = Switches(draft, facts, facts.forwarding, at)
    table = table_name(draft.spec.name)
    rules = _ruleset(draft.spec.name, network, ways, switches)
    make, undo = nft_steps(Str(nft), table, rules)
    # Before the first packet is let through, and until none is.
    draft.parent(f"translate addresses by the table {table}", make, at=at, undo=(undo,))
    for way in ways:
        switches.open(way.version, way.link, shared=way.shared)
    for way in ways:
        if way.version == 4 and any(_from_loopback(port, way) for port in network.ports):
            switches.own_loopback(way.link, shared=way.shared)


def table_name(container: str) -> str:
    return f"nsrun-{container}"


def is_misread(interface: str) -> bool:
    """Whether nft(8) would take the name for something else: a pattern, or the end of a string."""
    return bool(_BAD_IN_NAME & set(interface))


def nft_steps(nft: Str, table: str, text: str) -> tuple[Spawn, Spawn]:
    """What makes a table, and what takes it away."""
    gone = f"table inet {table}\ndelete table inet {table}\n"
    return _nft(nft.value, text), _nft(nft.value, gone)


def _nft(nft: str, text: str) -> Spawn:
    return Spawn(argv=(Str(nft), Str("-f"), Str("-")), stdin=Bytes(text.encode(), text))


def _ways(draft: Draft, network: Network) -> list[Way]:
    """The addresses of the pairs that lead to the host, the first of each family on each."""
    from nsrun.plan.links import outer_names

    names = outer_names(draft.spec.name, network)
    return [
        Way(
            address=first,
            others=tuple(more),
            link=interface.peer.bridge or names[interface.path],
            shared=interface.peer.bridge is not None,
        )
        for interface in network.interfaces
        if interface.type is LinkType.VETH and interface.peer.outside
        for first, *more in _by_family(interface)
    ]


def _by_family(interface: Interface) -> Iterator[list[InterfaceAddress]]:
    """The addresses of each family, in the order of the first."""
    found: dict[int, list[InterfaceAddress]] = {}
    for address in interface.addresses:
        found.setdefault(address.version, []).append(address)
    yield from found.values()


def _way(ways: list[Way], version: int) -> Way | None:
    return next((way for way in ways if way.version == version), None)


# --- ports -----------------------------------------------------------------------------------


def _places(port: Port, ways: list[Way]) -> Iterator[tuple[Way, IPAddress | None]]:
    """Where a port is published: the way it leads, and the host's address (None: all)."""
    for version in (4, 6):
        way = _way(ways, version)
        if way is None or (port.address is not None and port.address.version != version):
            continue
        everywhere = port.address is None or port.address.is_unspecified
        yield way, None if everywhere else port.address


def _from_loopback(port: Port, way: Way) -> bool:
    return any(
        found == way and (address is None or address.is_loopback)
        for found, address in _places(port, [way])
    )


def _hold_ports(draft: Draft, network: Network, ways: list[Way]) -> None:
    """A socket bound to each port: who else wants it is told so (EADDRINUSE), and so are we."""
    total = sum(port.count for port in network.ports)
    if total > PORTS_MAX:
        draft.refuse(
            "NS316",
            f"{total} ports are more than the {PORTS_MAX} that can be held",
            "network.ports",
            "give the container an address of its own: macvlan, or a bridge",
        )
        return
    for port in network.ports:
        for way, address in _places(port, ways):
            for number in range(port.host, port.host + port.count):
                _hold(draft, port, way.version, address, number)


def _hold(draft: Draft, port: Port, version: int, address: IPAddress | None, number: int) -> None:
    anywhere = IPv4Address(0) if version == 4 else IPv6Address(0)
    fd = draft.reg(f"{port.protocol}{number}")
    steps: list[Op] = [sockets.socket_port(version, port.protocol, save=fd)]
    if version == 6:
        steps.append(sockets.only_ipv6(fd))
    steps.append(sockets.bind_port(fd, address or anywhere, number))
    where = f" of {address}" if address is not None else f" of every IPv{version} address"
    draft.parent(f"hold port {number}/{port.protocol}{where}", *steps, at=port.path)


# --- rules -----------------------------------------------------------------------------------


def _ruleset(container: str, network: Network, ways: list[Way], switches: Switches) -> str:
    table = table_name(container)
    chains = {
        # Before connections are tracked: what claims to come from, or go to, the loopback.
        "spoofed": ("filter", "prerouting", "raw", list(_spoofed(network, ways))),
        "incoming": ("nat", "prerouting", "dstnat", list(_published(network, ways, "incoming"))),
        "outgoing": ("nat", "output", "-100", list(_published(network, ways, "outgoing"))),
        "marked": ("filter", "forward", "filter - 1", list(_marked(ways))),
        "forwarded": ("filter", "forward", "filter", list(_guard(network, ways, switches))),
        "unmarked": ("filter", "forward", "filter + 1", list(_unmarked(ways))),
        "leaving": ("nat", "postrouting", "srcnat", list(_leaving(network, ways))),
    }
    comment = f"nsrun: container {container}"[:_COMMENT_MAX]
    lines = [f'create table inet {table} {{ comment "{comment}"; }}', f"table inet {table} {{"]
    for name, (kind, hook, priority, rules) in chains.items():
        if rules:
            lines.append(f"\tchain {name} {{")
            lines.append(f"\t\ttype {kind} hook {hook} priority {priority}; policy accept;")
            lines += [f"\t\t{rule}" for rule in rules]
            lines.append("\t}")
    return "\n".join([*lines, "}", ""])


def _spoofed(network: Network, ways: list[Way]) -> Iterator[str]:
    """With route_localnet the host would take packets to 127.0.0.1 from the container too, and
    those that say they come from 127.0.0.2."""
    for way in ways:
        if way.version == 4 and any(_from_loopback(port, way) for port in network.ports):
            yield f'iifname "{way.link}" ip daddr 127.0.0.0/8 drop'
            yield f'iifname "{way.link}" ip saddr 127.0.0.0/8 drop'


def _published(network: Network, ways: list[Way], chain: str) -> Iterator[str]:
    for port in network.ports:
        for way, address in _places(port, ways):
            if address is not None and address.is_loopback and chain == "incoming":
                continue
            place = f"{way.family} daddr {address}"
            if address is None and way.version == 4:
                place = "meta nfproto ipv4 fib daddr type local"
            elif address is None:
                # Nothing comes back to ::1 from another interface; refused, a client goes on to
                # 127.0.0.1 at once.
                place = "ip6 daddr != ::1 fib daddr type local"
            yield f'{place} {port.protocol} dport {_target(port, way)} comment "{_shown(port)}"'


def _target(port: Port, way: Way) -> str:
    first, last = port.host, port.host + port.count - 1
    ports = str(first) if first == last else f"{first}-{last}"
    inner = str(way.address.ip) if way.version == 4 else f"[{way.address.ip}]"
    if port.host == port.container:
        return f"{ports} dnat {way.family} to {way.address.ip}"
    if port.count == 1:
        return f"{ports} dnat {way.family} to {inner}:{port.container}"
    pairs = ", ".join(f"{first + n} : {port.container + n}" for n in range(port.count))
    return (
        f"{ports} dnat {way.family} to {way.address.ip} : {port.protocol} dport map {{ {pairs} }}"
    )


def _shown(port: Port) -> str:
    def numbers(first: int) -> str:
        return str(first) if port.count == 1 else f"{first}-{first + port.count - 1}"

    return f"{numbers(port.host)}:{numbers(port.container)}/{port.protocol}"


def _marked(ways: list[Way]) -> Iterator[str]:
    """What this container sends by a bridge that others are on."""
    for way in ways:
        if way.shared:
            yield f'{_from(way)}iifname "{way.link}" meta mark set meta mark | {_OURS:#x}'


def _unmarked(ways: list[Way]) -> Iterator[str]:
    if any(way.shared for way in ways):
        yield f"meta mark set meta mark & {0xFFFF_FFFF ^ _OURS:#x}"


def strangers(version: int, names: Iterable[str]) -> Iterator[str]:
    """By what nsrun alone has opened come no packets of others.

    What stays on a bridge is seen in the forward hook too, where br_netfilter is loaded.
    """
    others = f"meta nfproto ipv{version} meta mark & {_OURS:#x} == 0"
    yield from (f'{others} iifname "{n}" oifname != "{n}" drop' for n in names)


def _guard(network: Network, ways: list[Way], switches: Switches) -> Iterator[str]:
    """What may be forwarded: what is known, and what the container sends.

    An accepted packet still meets the chains of other tables.
    """
    yield from KNOWN
    for version in (4, 6):
        links = [way.link for way in ways if way.version == version]
        if links:
            yield from strangers(version, switches.guarded(version, links))
    for way in ways:
        # From elsewhere only published ports are reached, also by who knows the address.
        yield f'{_to(way)}oifname "{way.link}" iifname != "{way.link}" drop'
        if network.masquerade:
            # No address is translated of what belongs to no connection.
            yield f'{_from(way)}iifname "{way.link}" ct state invalid drop'


def _leaving(network: Network, ways: list[Way]) -> Iterator[str]:
    for way in ways:
        if network.masquerade:
            yield f'{_from(way)}iifname "{way.link}" oifname != "{way.link}" masquerade'
        if network.ports:
            # Whose answer would not come back here: a neighbour's, the container's own, and the
            # host's from its loopback.
            loopback = "127.0.0.0/8" if way.version == 4 else "::1"
            inward = f'{_to(way)}oifname "{way.link}" {way.family} saddr'
            yield f"{inward} {_near(way)} ct status dnat masquerade"
            yield f"{inward} {loopback} masquerade"


def _from(way: Way) -> str:
    """Who sends, where others are on the link too."""
    return f"{way.family} saddr {_all_of(way)} " if way.shared else _any_of(way)


def _to(way: Way) -> str:
    return f"{way.family} daddr {_all_of(way)} " if way.shared else _any_of(way)


def _any_of(way: Way) -> str:
    return f"meta nfproto ipv{way.version} "


def _all_of(way: Way) -> str:
    """The interface's addresses of this family."""
    return _set(dict.fromkeys(address.ip for address in (way.address, *way.others)))


def _near(way: Way) -> str:
    """The networks of these; nft(8) takes none that overlap."""
    networks = (address.network for address in (way.address, *way.others))
    return _set(collapse_addresses(networks))  # type: ignore[type-var]


def _set(values: Iterable[object]) -> str:
    found = [str(value) for value in values]
    return found[0] if len(found) == 1 else f"{{ {', '.join(found)} }}"
