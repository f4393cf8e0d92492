"""The ``network`` block of a spec: interfaces, routes, ports, names."""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import (
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_interface,
    ip_network,
)
from types import MappingProxyType
from typing import TypeVar

from nsrun.spec.model import (
    Dns,
    Interface,
    InterfaceAddress,
    IPAddress,
    LinkType,
    Network,
    Peer,
    Port,
    Route,
)
from nsrun.spec.path import item_path, key_path
from nsrun.spec.reader import Reader, Value
from nsrun.spec.words import quote

T = TypeVar("T")

_PORT = re.compile(
    r"(?:(?P<address>\[[^\]]*\]|[^:\[\]/]+):)?"
    r"(?P<host>\d{1,5}(?:-\d{1,5})?):(?P<container>\d{1,5}(?:-\d{1,5})?)"
    r"(?:/(?P<protocol>[a-z]+))?\Z"
)
_PORT_HELP = "write [ADDRESS:]HOST:CONTAINER[/tcp|/udp], as in `127.0.0.1:8080:80/tcp`"
# dev_valid_name() of net/core/dev.c.
_BAD_IN_NAME = re.compile(r"[\s/:]|[^\x21-\x7e]")


def network(reader: Reader, value: Value, path: str) -> Network:
    hosts = value.get("hosts", {})
    return Network(
        loopback=value.get("loopback", True),
        interfaces=_each(reader, value, path, "interfaces", _interface),
        routes=_each(reader, value, path, "routes", _route),
        masquerade=value.get("masquerade", False),
        ports=_each(reader, value, path, "ports", _port),
        dns=_dns(reader, value["dns"], f"{path}.dns") if "dns" in value else None,
        hosts=MappingProxyType(
            {
                _host_name(reader, name, key_path(f"{path}.hosts", name)): _address(
                    reader, text, key_path(f"{path}.hosts", name)
                )
                for name, text in hosts.items()
            }
        ),
        mode=value.get("mode"),
    )


def _each(
    reader: Reader, value: Value, path: str, key: str, make: Callable[[Reader, Value, str], T]
) -> tuple[T, ...]:
    place = f"{path}.{key}"
    return tuple(
        make(reader, entry, item_path(place, i)) for i, entry in enumerate(value.get(key, ()))
    )


# --- interfaces ------------------------------------------------------------------------------


def _interface(reader: Reader, value: Value, path: str) -> Interface:
    peer = value.get("peer", {})
    return Interface(
        path=path,
        name=_name(reader, value["name"], f"{path}.name"),
        type=LinkType(value["type"]),
        addresses=_addresses(reader, value, path),
        mac=_mac(reader, value["mac"], f"{path}.mac") if "mac" in value else None,
        mtu=value.get("mtu"),
        up=value.get("up", True),
        peer=_peer(reader, peer, f"{path}.peer"),
        parent=_optional_name(reader, value, path, "parent"),
        mode=value.get("mode"),
        id=value.get("id"),
    )


def _peer(reader: Reader, value: Value, path: str) -> Peer:
    netns = value.get("netns")
    return Peer(
        name=_optional_name(reader, value, path, "name"),
        addresses=_addresses(reader, value, path),
        bridge=_optional_name(reader, value, path, "bridge"),
        netns=reader.host_path(netns, f"{path}.netns") if netns is not None else None,
        container=value.get("container"),
    )


def _optional_name(reader: Reader, value: Value, path: str, key: str) -> str | None:
    return _name(reader, value[key], f"{path}.{key}") if key in value else None


def _name(reader: Reader, value: Value, path: str) -> str:
    """A name the kernel takes: at most 15 bytes, no space, slash or colon, not . or .."""
    text = reader.text(value, path)
    if text in (".", "..") or _BAD_IN_NAME.search(text):
        reader.problem(
            "NS316",
            path,
            f"{quote(text)} cannot be an interface's name",
            label="letters, digits and signs without spaces, `/` and `:`",
        )
    elif "%" in text:
        # dev_alloc_name(): the kernel would put a number in its place.
        reader.problem("NS316", path, f"{quote(text)} is a pattern, not an interface's name")
    return text


def _mac(reader: Reader, value: Value, path: str) -> str:
    text = str(value).lower()
    # is_valid_ether_addr() of linux/etherdevice.h: neither a group's nor all zeros.
    if int(text[:2], 16) & 1 or text == "00:00:00:00:00:00":
        reader.problem(
            "NS203",
            path,
            f"{quote(value)} is not the address of one interface",
            label="the first byte is odd for a group" if text != "00:00:00:00:00:00" else "",
        )
    return text


def _addresses(reader: Reader, value: Value, path: str) -> tuple[InterfaceAddress, ...]:
    place = f"{path}.addresses"
    return tuple(
        _with_prefix(reader, entry, item_path(place, i))
        for i, entry in enumerate(value.get("addresses", ()))
    )


def _with_prefix(reader: Reader, value: Value, path: str) -> InterfaceAddress:
    text = reader.text(value, path)
    try:
        found = ip_interface(text)
    except ValueError:
        reader.problem(
            "NS203",
            path,
            f"{quote(text)} is no address with a prefix length",
            help=("write it as in `10.0.0.2/24` or `fd00::2/64`",),
        )
        return IPv4Interface("0.0.0.0/0")
    if "/" not in text or "." in text.partition("/")[2]:
        reader.problem(
            "NS203",
            path,
            f"{quote(text)} has no prefix length",
            help=(f"write {quote(f'{found.ip}/{_usual(found)}')}, or the length that you mean",),
        )
    elif found.ip.is_multicast or (found.ip.is_unspecified):
        reader.problem("NS203", path, f"{quote(text)} is not the address of an interface")
    return found


def _usual(address: IPv4Interface | IPv6Interface) -> int:
    if "." in address.with_netmask.partition("/")[2] and address.network.prefixlen < 32:
        return address.network.prefixlen
    return 24 if address.version == 4 else 64


# --- routes ----------------------------------------------------------------------------------


def _route(reader: Reader, value: Value, path: str) -> Route:
    via = _address(reader, value["via"], f"{path}.via") if "via" in value else None
    return Route(
        path=path,
        to=_destination(reader, value["to"], f"{path}.to", via),
        via=via,
        dev=_optional_name(reader, value, path, "dev"),
        metric=value.get("metric"),
        on_link=value.get("on_link", False),
        type=value.get("type", "unicast"),
    )


def _destination(
    reader: Reader, value: Value, path: str, via: IPAddress | None
) -> IPv4Network | IPv6Network:
    text = reader.text(value, path)
    whole = ip_network("::/0" if isinstance(via, IPv6Address) else "0.0.0.0/0")
    if text == "default":
        return whole
    try:
        return ip_network(text)
    except ValueError:
        pass
    try:
        meant = ip_network(text, strict=False)
    except ValueError:
        reader.problem(
            "NS203",
            path,
            f"{quote(text)} is no network",
            help=("write `default`, or a network as in `10.9.0.0/16`",),
        )
    else:
        reader.problem(
            "NS203",
            path,
            f"{quote(text)} is an address in a network",
            help=(f"write {quote(str(meant))}",),
        )
    return whole


def _address(reader: Reader, value: Value, path: str) -> IPAddress:
    text = reader.text(value, path)
    return reader.attempt(
        lambda: ip_address(text), ip_address("0.0.0.0"), path, f"{quote(text)} is no IP address"
    )


# --- ports and names -------------------------------------------------------------------------


def _port(reader: Reader, value: Value, path: str) -> Port:
    nothing = Port(path=path, host=1, container=1)
    text = reader.text(value, path)
    found = _PORT.match(text)
    if found is None:
        summary = f"{quote(text)} is no port of the host and one of the container"
        reader.problem("NS203", path, summary, help=(_PORT_HELP,))
        return nothing
    protocol = found["protocol"] or "tcp"
    if protocol not in ("tcp", "udp"):
        reader.problem("NS203", path, f"{quote(protocol)} is neither tcp nor udp")
        return nothing
    address = found["address"]
    given: IPAddress | None = None
    if address is not None:
        given = _address(reader, address.strip("[]"), path)
    host, container = _range(found["host"]), _range(found["container"])
    ports = (*host, *container)
    if not all(0 < port < 65536 for port in ports) or host[1] < host[0]:
        reader.problem("NS203", path, f"{quote(text)} has a port that is not in 1 to 65535")
        return nothing
    if host[1] - host[0] != container[1] - container[0]:
        summary = f"{quote(text)} has two ranges of different sizes"
        reader.problem("NS203", path, summary, help=(_PORT_HELP,))
        return nothing
    return Port(
        path=path,
        host=host[0],
        container=container[0],
        count=host[1] - host[0] + 1,
        address=given,
        protocol="udp" if protocol == "udp" else "tcp",
    )


def _range(text: str) -> tuple[int, int]:
    first, _, last = text.partition("-")
    return int(first), int(last or first)


def _dns(reader: Reader, value: Value, path: str) -> Dns:
    servers = f"{path}.nameservers"
    return Dns(
        nameservers=tuple(
            _address(reader, entry, item_path(servers, i))
            for i, entry in enumerate(value.get("nameservers", ()))
        ),
        search=_words(reader, value, path, "search"),
        options=_words(reader, value, path, "options"),
    )


def _words(reader: Reader, value: Value, path: str, key: str) -> tuple[str, ...]:
    words = []
    for index, entry in enumerate(value.get(key, ())):
        place = item_path(f"{path}.{key}", index)
        words.append(_word(reader, reader.text(entry, place), place))
    return tuple(words)


def _host_name(reader: Reader, name: str, path: str) -> str:
    return _word(reader, name, path, key=True)


def _word(reader: Reader, text: str, path: str, *, key: bool = False) -> str:
    """A word of a line of resolv.conf(5) or hosts(5), which must not begin another line."""
    if not text or re.search(r"[\s#;\x00-\x20\x7f]", text):
        reader.problem("NS203", path, f"{quote(text)} is not one word", key=key)
    return text
