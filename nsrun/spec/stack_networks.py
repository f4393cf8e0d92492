"""The networks of a stack: their subnets, the addresses that containers get, and what each
container gets of them: interfaces, routes, the names of the others.
"""

from __future__ import annotations

import dataclasses
import hashlib
from ipaddress import ip_address, ip_network
from types import MappingProxyType
from typing import Any

from nsrun.spec.ipam import Full, Pool, bridge_name, default_subnet, subnet_of, unfit
from nsrun.spec.model import (
    Interface,
    InterfaceAddress,
    IPAddress,
    LinkType,
    NamespaceType,
    Network,
    Peer,
    Route,
    Spec,
)
from nsrun.spec.names import is_interface_name
from nsrun.spec.path import item_path, key_path
from nsrun.spec.stack import Member, StackNetwork
from nsrun.spec.stack_reading import Reading, Service, close_match
from nsrun.spec.words import quote


def networks_of(
    reading: Reading, stack: str, given: dict[str, Any]
) -> tuple[dict[str, StackNetwork], dict[str, list[Pool]]]:
    networks: dict[str, StackNetwork] = {}
    pools: dict[str, list[Pool]] = {}
    for name, value in given.items():
        if name.startswith("x-"):
            continue
        path, value = key_path("networks", name), value or {}
        pools[name] = _pools(reading, stack, name, path, value)
        external = value.get("external")
        if isinstance(external, str) and not is_interface_name(external):
            reading.problem(
                "NS316", f"{path}.external", f"{quote(external)} cannot be an interface's name"
            )
        networks[name] = StackNetwork(
            name=name,
            path=path,
            bridge=external if isinstance(external, str) else bridge_name(stack, name),
            gateways=tuple(p.gateway for p in pools[name]),
            masquerade=value.get("masquerade", False),
            internal=value.get("internal", False),
            external=external is not None and external is not False,
            mtu=value.get("mtu"),
        )
        if networks[name].internal and networks[name].masquerade:
            reading.problem(
                "NS318",
                f"{path}.masquerade",
                "an internal network has no way out to translate addresses on",
                "remove `masquerade` or `internal`",
                key=True,
            )
    _apart(reading, networks, pools)
    return networks, pools


def _pools(reading: Reading, stack: str, name: str, path: str, value: dict[str, Any]) -> list[Pool]:
    given = value.get("subnet")
    if given is None:
        return [Pool(default_subnet(stack, name))]
    words = given if isinstance(given, list) else [given]
    found: list[Pool] = []
    for index, word in enumerate(words):
        place = f"{path}.subnet"
        place = item_path(place, index) if isinstance(given, list) else place
        try:
            subnet = subnet_of(str(word))
            why = unfit(subnet)
        except ValueError as error:
            why = "bits behind the prefix are set" if "host bits" in str(error) else "no network"
        if why:
            reading.problem(
                "NS203",
                place,
                f"{quote(str(word))} is no network for containers",
                "write it as in `10.10.0.0/24`, or `fd00:10::/64`",
                label=why,
            )
            continue
        if any(p.subnet.version == subnet.version for p in found):
            reading.problem("NS318", place, f"a second IPv{subnet.version} network")
            continue
        found.append(Pool(subnet))
    return found


def _apart(
    reading: Reading, networks: dict[str, StackNetwork], pools: dict[str, list[Pool]]
) -> None:
    known: list[tuple[str, Pool]] = []
    for name in networks:
        for pool in pools[name]:
            for other, one in known:
                if one.subnet.version == pool.subnet.version and one.subnet.overlaps(pool.subnet):
                    reading.problem(
                        "NS318",
                        f"{networks[name].path}.subnet",
                        f"{pool.subnet} has addresses of the network {quote(other)}",
                        "give each network a `subnet` of its own",
                        span=reading.document.spans.get(f"{networks[name].path}.subnet")
                        or reading.document.key_spans.get(networks[name].path),
                    )
            known.append((name, pool))


def on_networks(
    reading: Reading,
    members: list[Member],
    services: list[Service],
    networks: dict[str, StackNetwork],
    pools: dict[str, list[Pool]],
) -> list[Member]:
    """Addresses first: everybody's hosts file has everybody else's."""
    by_name = {s.name: s for s in services}
    wanted = {s.name: _wanted(reading, s, networks, pools) for s in services}
    addressed = []
    for member in members:
        addresses = {}
        service = by_name[member.service]
        for name, fixed in wanted[member.service].items():
            try:
                addresses[name] = tuple(
                    p.take(f) if (f := _of(fixed, p)) is not None else p.next() for p in pools[name]
                )
            except Full:
                reading.problem(
                    "NS318",
                    f"{service.path}.networks",
                    f"the network {quote(name)} has no address left",
                    "give it a larger `subnet`",
                    key=True,
                )
            if fixed and member.number > 1:
                reading.problem(
                    "NS318",
                    f"{service.path}.networks",
                    "several containers cannot have one address",
                    "remove `address` or `replicas`",
                    key=True,
                )
        addressed.append(dataclasses.replace(member, addresses=MappingProxyType(addresses)))
    return [
        dataclasses.replace(m, spec=_connected(reading, m, by_name[m.service], networks, addressed))
        for m in addressed
    ]


def _wanted(
    reading: Reading,
    service: Service,
    networks: dict[str, StackNetwork],
    pools: dict[str, list[Pool]],
) -> dict[str, list[IPAddress]]:
    given = service.data.get("networks") or {}
    names = dict.fromkeys(given) if isinstance(given, list) else given
    found: dict[str, list[IPAddress]] = {}
    for index, (name, value) in enumerate(names.items()):
        place = f"{service.path}.networks"
        place = item_path(place, index) if isinstance(given, list) else key_path(place, name)
        if name not in networks:
            reading.problem(
                "NS318",
                place,
                f"there is no network {quote(name)} in this stack",
                close_match(name, set(networks)) or f"add `{name}: {{}}` to `networks`",
                key=not isinstance(given, list),
            )
            continue
        found[name] = []
        word = (value or {}).get("address")
        for text in [word] if isinstance(word, str) else word or []:
            _fixed(reading, found[name], text, f"{place}.address", pools[name])
    return found


def _fixed(
    reading: Reading, found: list[IPAddress], text: str, place: str, pools: list[Pool]
) -> None:
    try:
        address: IPAddress = ip_address(text)
    except ValueError:
        reading.problem("NS203", place, f"{quote(text)} is no IP address")
        return
    pool = next((p for p in pools if p.is_usable(address)), None)
    if pool is None:
        subnets = ", ".join(str(p.subnet) for p in pools)
        reading.problem("NS318", place, f"{address} is no address for a container in {subnets}")
    elif any(other.version == address.version for other in found):
        reading.problem("NS318", place, f"a second IPv{address.version} address on one network")
    elif not pool.is_free(address):
        reading.problem("NS318", place, f"{address} is taken", label="by the bridge, or another")
    else:
        pool.take(address)
        found.append(address)


def _connected(
    reading: Reading,
    member: Member,
    service: Service,
    networks: dict[str, StackNetwork],
    everybody: list[Member],
) -> Spec:
    """The container's spec with an interface on each of its networks."""
    spec = member.spec
    if not member.addresses:
        return spec
    if not spec.new(NamespaceType.NETWORK):
        reading.problem(
            "NS301",
            f"{service.path}.networks",
            "`networks` needs a new network namespace",
            "add `network` to `namespaces`",
            key=True,
        )
        return spec
    own = spec.network or Network()
    taken = {i.name for i in own.interfaces}
    interfaces, routes = list(own.interfaces), list(own.routes)
    spans = dict(spec.spans)
    number = 0
    for name, addresses in member.addresses.items():
        network = networks[name]
        while f"eth{number}" in taken:
            number += 1
        interface, path = f"eth{number}", f"networks.{name}"
        taken.add(interface)
        span = reading.document.spans.get(f"{service.path}.networks")
        if span is not None:
            spans[path] = span
        interfaces.append(
            Interface(
                path=path,
                name=interface,
                type=LinkType.VETH,
                addresses=addresses,
                mac=_mac(addresses),
                mtu=network.mtu,
                peer=Peer(bridge=network.bridge),
            )
        )
        if not network.internal:
            routes += _defaults(network, addresses, routes, path)
    hosts = {**own.hosts, **_hosts(member, everybody)}
    return dataclasses.replace(
        spec,
        network=dataclasses.replace(
            own,
            interfaces=tuple(interfaces),
            routes=tuple(routes),
            hosts=MappingProxyType(hosts) if spec.new(NamespaceType.MOUNT) else own.hosts,
        ),
        spans=MappingProxyType(spans),
    )


def _mac(addresses: tuple[InterfaceAddress, ...]) -> str | None:
    """A locally administered one, the same for the same address: after a restart with another one
    the neighbours would go on sending to the old for up to a minute (arp(7))."""
    if not addresses:
        return None
    packed = addresses[0].ip.packed
    ending = packed if len(packed) == 4 else hashlib.sha256(packed).digest()[:4]
    return (b"\x02\x42" + ending).hex(":")


def _defaults(
    network: StackNetwork,
    addresses: tuple[InterfaceAddress, ...],
    routes: list[Route],
    path: str,
) -> list[Route]:
    """A default route of each family, by the first network that has one."""
    known = {r.to.version for r in routes if not r.to.prefixlen}
    return [
        Route(
            path=path,
            to=ip_network("0.0.0.0/0" if gateway.version == 4 else "::/0"),
            via=gateway.ip,
        )
        for gateway in network.gateways
        if gateway.version not in known and gateway.version in {a.version for a in addresses}
    ]


def _hosts(member: Member, everybody: list[Member]) -> dict[str, IPAddress]:
    """The names that a container finds: of everybody on one of its networks, by service and, of
    several, by number."""
    found: dict[str, IPAddress] = {}
    for other in everybody:
        for network, addresses in other.addresses.items():
            if network not in member.addresses or not addresses:
                continue
            names = [other.service]
            if other.number:
                names.append(f"{other.service}-{other.number}")
            for name in names:
                if other is not member or other.number:
                    found.setdefault(name, addresses[0].ip)
            break
    if member.spec.hostname is not None:
        found.pop(member.spec.hostname, None)
    return found


def _of(addresses: list[IPAddress], pool: Pool) -> IPAddress | None:
    return next((a for a in addresses if a.version == pool.subnet.version), None)
