"""The ``network`` block of a spec: interfaces, routes, ports, names."""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import (
    IPv4Interface,
    IPv4Network,
    IPv6Address,
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
from nsrun.spec.names import is_interface_name
from nsrun.spec.path import item_path, key_path
from nsrun.spec.reader import Reader, Value
from nsrun.spec.words import quote

T = TypeVar("T")

_NO_ADDRESS = ip_address("0.0.0.0")
_LIMITED_BROADCAST = ip_address("255.255.255.255")

_PORT = re.compile(
    r"(?:(?:\[(?P<long>[^\[\]]*)\]|(?P<address>[^:\[\]/]+)):)?"
    r"(?P<host>[0-9]{1,5}(?:-[0-9]{1,5})?):(?P<container>[0-9]{1,5}(?:-[0-9]{1,5})?)"
    r"(?:/(?P<protocol>[^/]*))?\Z"
)
_PORT_HELP = "write [ADDRESS:]HOST:CONTAINER[/tcp|/udp], as in `127.0.0.1:8080:80/tcp`"
_PORT_HELP_IPV6 = "write an IPv6 address in brackets, as in `[::1]:8080:80`"
# sysctl_dev_name_is_allowed() of linux/netdevice.h: they are folders of net.ipv4.conf.
_TAKEN = ("all", "default")
# What ends a word, begins a comment, or is no character that a terminal shows.
_NOT_IN_WORD = re.compile(r"[\s#;\x00-\x20\x7f-\x9f]")


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
    if "\0" in text:
        return text  # the reader has said so
    if text in _TAKEN:
        reader.problem(
            "NS316",
            path,
            f"{quote(text)} cannot be an interface's name",
            label=f"net.ipv4.conf.{text} is about every interface",
        )
    elif not is_interface_name(text):
        reader.problem(
            "NS316",
            path,
            f"{quote(text)} cannot be an interface's name",
            label="at most 15 letters, digits and signs, without spaces, `/` and `:`",
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
    nothing = IPv4Interface("0.0.0.0/0")
    text = reader.text(value, path)
    if "\0" in text:
        return nothing
    try:
        found = ip_interface(text)
    except ValueError:
        reader.problem(
            "NS203",
            path,
            f"{quote(text)} is no address with a prefix length",
            help=("write it as in `10.0.0.2/24` or `fd00::2/64`",),
        )
        return nothing
    if _scope(found) is not None:  # IPv6Interface.ip is without it
        _refuse_scope(reader, text, path)
        return nothing
    _, slash, length = text.partition("/")
    if not length.isdigit():
        usual = found.network.prefixlen if slash else 24 if found.version == 4 else 64
        reader.problem(
            "NS203",
            path,
            f"{quote(text)} has no prefix length",
            help=(f"write {quote(f'{found.ip}/{usual}')}, or the length that you mean",),
        )
    elif found.ip.is_multicast or found.ip.is_unspecified or found.ip == _LIMITED_BROADCAST:
        reader.problem("NS203", path, f"{quote(text)} is not the address of an interface")
    elif found.version == 6 and found.ip.is_loopback:
        # inet6_addr_add() of net/ipv6/addrconf.c: EADDRNOTAVAIL but on lo.
        reader.problem("NS203", path, f"{quote(text)} is the address of `lo`")
    return found


# --- routes ----------------------------------------------------------------------------------


def _route(reader: Reader, value: Value, path: str) -> Route:
    via = _next_hop(reader, value["via"], f"{path}.via") if "via" in value else None
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
    if text == "default" or "\0" in text:
        return whole
    try:
        meant = ip_network(text, strict=False)
    except ValueError:
        reader.problem(
            "NS203",
            path,
            f"{quote(text)} is no network",
            help=("write `default`, or a network as in `10.9.0.0/16`",),
        )
        return whole
    if _scope(meant.network_address) is not None:
        _refuse_scope(reader, text, path, help="name the interface with `dev`")
        return whole
    if ip_interface(text).ip != meant.network_address:
        reader.problem(
            "NS203",
            path,
            f"{quote(text)} is an address in a network",
            help=(f"write {quote(str(meant))}",),
        )
    return meant


def _next_hop(reader: Reader, value: Value, path: str) -> IPAddress:
    found = _checked(reader, value, path, help="name the interface with `dev`")
    if found is not None and (found.is_multicast or found.is_unspecified):
        # fib_check_nh() of net/ipv4/fib_semantics.c, ip6_validate_gw() of net/ipv6/route.c.
        reader.problem("NS203", path, f"{quote(str(value))} is not the address of a next hop")
    return _NO_ADDRESS if found is None else found


# --- addresses -------------------------------------------------------------------------------


def _address(reader: Reader, value: Value, path: str) -> IPAddress:
    found = _checked(reader, value, path)
    return _NO_ADDRESS if found is None else found


def _checked(reader: Reader, value: Value, path: str, *, help: str = "") -> IPAddress | None:
    """An address, None where it is none; ``help`` is for who names an interface with it."""
    text = reader.text(value, path)
    found = _parsed(reader, text, path)
    if found is not None and _scope(found) is not None:
        _refuse_scope(reader, text, path, help=help)
        return None
    return found


def _parsed(reader: Reader, text: str, path: str) -> IPAddress | None:
    if "\0" in text:
        return None
    try:
        return ip_address(text)
    except ValueError:
        reader.problem("NS203", path, f"{quote(text)} is no IP address")
        return None


def _scope(address: IPAddress) -> str | None:
    """The interface of ``fe80::1%eth0``: any text at all, as ipaddress reads it."""
    return address.scope_id if isinstance(address, IPv6Address) else None


def _refuse_scope(reader: Reader, text: str, path: str, *, help: str = "") -> None:
    reader.problem(
        "NS203", path, f"{quote(text)} names an interface", label="from `%` on", help=(help,)
    )


# --- ports and names -------------------------------------------------------------------------


def _port(reader: Reader, value: Value, path: str) -> Port:
    nothing = Port(path=path, host=1, container=1)
    text = reader.text(value, path)
    if "\0" in text:
        return nothing
    found = _PORT.match(text)
    if found is None:
        summary = f"{quote(text)} is no port of the host and one of the container"
        bare = text.count(":") > 3 and "[" not in text
        reader.problem("NS203", path, summary, help=(_PORT_HELP_IPV6 if bare else _PORT_HELP,))
        return nothing
    protocol = "tcp" if found["protocol"] is None else found["protocol"].lower()
    if protocol not in ("tcp", "udp"):
        reader.problem("NS203", path, f"{quote(found['protocol'])} is neither tcp nor udp")
        return nothing
    host, container = _range(found["host"]), _range(found["container"])
    wrong = _wrong_ports(host, container)
    if wrong:
        reader.problem("NS203", path, f"{quote(text)} {wrong}", help=(_PORT_HELP,))
        return nothing
    return Port(
        path=path,
        host=host[0],
        container=container[0],
        count=host[1] - host[0] + 1,
        address=_port_address(reader, found["address"], found["long"], path),
        protocol="udp" if protocol == "udp" else "tcp",
    )


def _wrong_ports(host: tuple[int, int], container: tuple[int, int]) -> str:
    if not all(0 < port < 65536 for port in (*host, *container)):
        return "has a port that is not in 1 to 65535"
    if host[1] < host[0] or container[1] < container[0]:
        return "has a range that ends before it begins"
    if host[1] - host[0] != container[1] - container[0]:
        return "has two ranges of different sizes"
    return ""


def _port_address(
    reader: Reader, short: str | None, long: str | None, path: str
) -> IPAddress | None:
    """The address in front of a port: as it is, or between brackets; None without one."""
    text = short if long is None else long
    if text is None:
        return None
    found = _checked(reader, text, path)
    if found is not None and found.is_multicast:
        reader.problem("NS203", path, f"{quote(text)} is not an address of the host")
    return found


def _range(text: str) -> tuple[int, int]:
    first, _, last = text.partition("-")
    return int(first), int(last or first)


def _dns(reader: Reader, value: Value, path: str) -> Dns:
    servers = f"{path}.nameservers"
    return Dns(
        nameservers=tuple(
            _name_server(reader, entry, item_path(servers, i))
            for i, entry in enumerate(value.get("nameservers", ()))
        ),
        search=_words(reader, value, path, "search"),
        options=_words(reader, value, path, "options"),
    )


def _name_server(reader: Reader, value: Value, path: str) -> IPAddress:
    """An address; one that is there on every link may name its interface (resolv.conf(5))."""
    text = reader.text(value, path)
    found = _parsed(reader, text, path)
    scope = None if found is None else _scope(found)
    if found is None or scope is None:
        return _NO_ADDRESS if found is None else found
    if not found.is_link_local:
        _refuse_scope(reader, text, path, help="only an address of fe80::/10 needs one")
    else:
        _name(reader, scope, path)
    return found


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
    said = "\0" in text and not key  # by the reader, of every value
    if not said and (not text or _NOT_IN_WORD.search(text)):
        reader.problem("NS203", path, f"{quote(text)} is not one word", key=key)
    return text
