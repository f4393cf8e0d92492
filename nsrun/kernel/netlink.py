"""rtnetlink(7) requests as bytes, encoded by pyroute2, with holes where a register goes.

The text of a message is what ip(8) would be told. Sources: linux/if_link.h, linux/if_addr.h,
linux/rtnetlink.h, and linux/if_macvlan's documentation in ip-link(8).
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from typing import Any

from pyroute2.netlink import nlmsg
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from nsrun.kernel.values import Bytes, Hole, Reg

Attribute = tuple[str, Any]
Link = Reg | str

# linux/netlink.h, linux/rtnetlink.h
_NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_EXCL, _NLM_F_CREATE = 0x1, 0x4, 0x200, 0x400
_RTM_NEWLINK, _RTM_DELLINK, _RTM_SETLINK = 16, 17, 19
_RTM_NEWADDR, _RTM_NEWROUTE = 20, 24
# linux/socket.h; linux/netlink.h
_AF_BRIDGE, _NLA_F_NESTED = 7, 0x8000
_RT_TABLE_MAIN, _RTPROT_STATIC = 254, 4
_RT_SCOPE_UNIVERSE, _RT_SCOPE_LINK = 0, 253
_RTNH_F_ONLINK = 4
_IFF_UP = 1
# linux/if_addr.h: an address that others may have too would be held back for a second or more.
_IFA_F_NODAD = 2
# The kernel compares requests and answers by it; a socket has one request at a time.
_SEQUENCE = 1
# What stands in an encoded message where a register goes: a positive number of 32 bits.
_SENTINEL = 0x5EED0000

ROUTE_TYPES = {"unicast": 1, "blackhole": 6, "unreachable": 7, "prohibit": 8}
_MACVLAN_MODES = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8}
_IPVLAN_MODES = {"l2": 0, "l3": 1, "l3s": 2}


class _Message:
    """A message in the making; every register has a number of its own in its place."""

    def __init__(self) -> None:
        self._registers: list[Reg] = []

    def hole(self, reg: Reg) -> int:
        self._registers.append(reg)
        return _SENTINEL + len(self._registers)

    def bytes(self, message: nlmsg, kind: int, flags: int, text: str) -> Bytes:
        message["header"]["type"] = kind
        message["header"]["flags"] = _NLM_F_REQUEST | _NLM_F_ACK | flags
        message["header"]["sequence_number"] = _SEQUENCE
        message.encode()
        data = bytearray(message.data)
        holes: list[Hole] = []
        for number, reg in enumerate(self._registers, start=1):
            mark = struct.pack("=I", _SENTINEL + number)
            if data.count(mark) != 1:
                raise ValueError(f"the place of %{reg.name} in {text!r} is not clear")
            offset = data.index(mark)
            data[offset : offset + 4] = bytes(4)
            holes.append(Hole(offset, 4, reg))
        holes.sort(key=lambda hole: hole.offset)
        return Bytes(bytes(data), f"rtnl {text}", tuple(holes))


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """One interface as it is to be: ``pid`` and ``netns`` (a descriptor) say in whose network
    namespace, None for the sender's. ``mtu`` is in bytes; ``master`` an interface's index."""

    name: str
    mac: str | None = None
    mtu: int | None = None
    up: bool = False
    pid: Reg | None = None
    netns: Reg | None = None
    master: Reg | None = None

    def words(self) -> str:
        """As ip-link(8) has them, after the name."""
        words = [
            ("netns", self.pid or self.netns),
            ("master", self.master),
            ("address", self.mac),
            ("mtu", self.mtu),
        ]
        text = "".join(
            f" {word} " + (f"%{value.name}" if isinstance(value, Reg) else str(value))
            for word, value in words
            if value is not None
        )
        return text + (" up" if self.up else "")

    def fill(self, body: dict[str, Any], message: _Message) -> list[Attribute]:
        """The flags go into ``body``, a struct ifinfomsg; the attributes are returned."""
        if self.up:
            body["flags"] = body["change"] = _IFF_UP
        attributes: list[Attribute] = [("IFLA_IFNAME", self.name)]
        if self.mac is not None:
            attributes.append(("IFLA_ADDRESS", self.mac))
        if self.mtu is not None:
            attributes.append(("IFLA_MTU", self.mtu))
        if self.master is not None:
            attributes.append(("IFLA_MASTER", message.hole(self.master)))
        if self.pid is not None:
            attributes.append(("IFLA_NET_NS_PID", message.hole(self.pid)))
        if self.netns is not None:
            attributes.append(("IFLA_NET_NS_FD", message.hole(self.netns)))
        return attributes


# --- links -----------------------------------------------------------------------------------


def veth_add(end: End, peer: End) -> Bytes:
    """RTM_NEWLINK: a pair, each end in its place (veth(4))."""
    message = _Message()
    other: dict[str, Any] = {}
    other["attrs"] = peer.fill(other, message)
    info = {"attrs": [("VETH_INFO_PEER", other)]}
    text = f"link add {end.name}{end.words()} type veth peer {peer.name}{peer.words()}"
    return _link_add(message, end, "veth", info, [], text)


def link_add(
    end: End,
    kind: str,
    *,
    parent: Reg | None = None,
    mode: str | None = None,
    tag: int | None = None,
) -> Bytes:
    """RTM_NEWLINK of a macvlan, ipvlan, vlan, bridge or dummy.

    ``parent``: the index of the interface below, in the sender's namespace; ``tag`` a vlan's.
    """
    message = _Message()
    data: list[Attribute] = []
    shown = ""
    if kind == "macvlan":
        mode = mode or "bridge"
        data.append(("IFLA_MACVLAN_MODE", _MACVLAN_MODES[mode]))
        shown = f" mode {mode}"
    elif kind == "ipvlan":
        mode = mode or "l2"
        data.append(("IFLA_IPVLAN_MODE", _IPVLAN_MODES[mode]))
        shown = f" mode {mode}"
    elif kind == "vlan":
        data.append(("IFLA_VLAN_ID", tag))
        shown = f" id {tag}"
    below: list[Attribute] = []
    link = ""
    if parent is not None:
        below.append(("IFLA_LINK", message.hole(parent)))
        link = f" link %{parent.name}"
    text = f"link add {end.name}{link}{end.words()} type {kind}{shown}"
    return _link_add(message, end, kind, {"attrs": data} if data else None, below, text)


def _link_add(
    message: _Message,
    end: End,
    kind: str,
    data: dict[str, Any] | None,
    more: list[Attribute],
    text: str,
) -> Bytes:
    made = ifinfmsg()
    info: list[Attribute] = [("IFLA_INFO_KIND", kind)]
    if data is not None:
        info.append(("IFLA_INFO_DATA", data))
    attributes = end.fill(made, message)
    made["attrs"] = [*attributes, *more, ("IFLA_LINKINFO", {"attrs": info})]
    return message.bytes(made, _RTM_NEWLINK, _NLM_F_CREATE | _NLM_F_EXCL, text)


def link_move(index: Reg | int, end: End, *, new_index: Reg | int | None = None) -> Bytes:
    """RTM_NEWLINK: an interface that is there goes into another namespace by ``end``'s name.

    ``new_index``: its number there (EBUSY where another has it); None keeps the old one where it
    is free. An ``index`` that is a number was asked for in this way.
    """
    message = _Message()
    moved = ifinfmsg()
    moved["index"] = message.hole(index) if isinstance(index, Reg) else index
    attributes = end.fill(moved, message)
    text = f"link set {_shown(index)} name {end.name}{end.words()}"
    if new_index is not None:
        number = message.hole(new_index) if isinstance(new_index, Reg) else new_index
        attributes.append(("IFLA_NEW_IFINDEX", number))
        text += f" index {_shown(new_index)}"
    moved["attrs"] = attributes
    return message.bytes(moved, _RTM_NEWLINK, 0, text)


def _shown(index: Reg | int) -> str:
    return f"%{index.name}" if isinstance(index, Reg) else str(index)


def link_join(index: Reg, master: Reg) -> Bytes:
    """RTM_NEWLINK: the interface becomes a port of ``master``."""
    message = _Message()
    changed = ifinfmsg()
    changed["index"] = message.hole(index)
    changed["attrs"] = [("IFLA_MASTER", message.hole(master))]
    text = f"link set %{index.name} master %{master.name}"
    return message.bytes(changed, _RTM_NEWLINK, 0, text)


def link_up(index: Reg) -> Bytes:
    """RTM_NEWLINK: IFF_UP."""
    message = _Message()
    changed = ifinfmsg()
    changed["index"] = message.hole(index)
    changed["flags"] = changed["change"] = _IFF_UP
    return message.bytes(changed, _RTM_NEWLINK, 0, f"link set %{index.name} up")


def port_hairpin(index: Reg, name: str) -> Bytes:
    """RTM_SETLINK of a bridge's port: it gets back what it sends; ``name`` is only shown."""
    message = _Message()
    changed = ifinfmsg()
    changed["family"] = _AF_BRIDGE
    changed["index"] = message.hole(index)
    changed["attrs"] = [("IFLA_PROTINFO", {"attrs": [("IFLA_BRPORT_MODE", 1)]}, _NLA_F_NESTED)]
    return message.bytes(
        changed, _RTM_SETLINK, 0, f"bridge link set dev {name} hairpin on %{index.name}"
    )


def link_delete(index: Reg, name: str) -> Bytes:
    """RTM_DELLINK of exactly this interface; ``name`` is only shown."""
    message = _Message()
    gone = ifinfmsg()
    gone["index"] = message.hole(index)
    return message.bytes(gone, _RTM_DELLINK, 0, f"link del {name} %{index.name}")


def link_delete_named(name: str) -> Bytes:
    """RTM_DELLINK of the interface of this name: for one that nobody else names so."""
    message = _Message()
    gone = ifinfmsg()
    gone["attrs"] = [("IFLA_IFNAME", name)]
    return message.bytes(gone, _RTM_DELLINK, 0, f"link del {name}")


# --- addresses and routes ----------------------------------------------------------------------


def address_add(index: Reg, address: IPv4Interface | IPv6Interface, name: str) -> Bytes:
    """RTM_NEWADDR; an IPv4 address brings the broadcast address of its network (RFC 919)."""
    message = _Message()
    added = ifaddrmsg()
    network = address.network
    added["family"] = 2 if address.version == 4 else 10
    added["prefixlen"] = network.prefixlen
    added["index"] = message.hole(index)
    text = str(address.ip)
    attributes: list[Attribute] = [("IFA_LOCAL", text), ("IFA_ADDRESS", text)]
    shown = f"addr add {address}"
    if isinstance(network, IPv4Network):
        # A network of one or two addresses has none (RFC 3021).
        if network.prefixlen < 31:
            attributes.append(("IFA_BROADCAST", str(network.broadcast_address)))
            shown += " brd +"
    else:
        added["flags"] = _IFA_F_NODAD
        attributes = attributes[1:]
        shown += " nodad"
    added["attrs"] = attributes
    return message.bytes(
        added, _RTM_NEWADDR, _NLM_F_CREATE | _NLM_F_EXCL, f"{shown} dev {name} %{index.name}"
    )


def route_add(
    to: IPv4Network | IPv6Network,
    *,
    via: str | None = None,
    index: Reg | None = None,
    dev: str = "",
    metric: int | None = None,
    on_link: bool = False,
    kind: str = "unicast",
) -> Bytes:
    """RTM_NEWROUTE in the main table; ``dev`` is only shown."""
    message = _Message()
    added = rtmsg()
    added["family"] = 2 if to.version == 4 else 10
    added["dst_len"] = to.prefixlen
    added["table"] = _RT_TABLE_MAIN
    added["proto"] = _RTPROT_STATIC
    direct = kind == "unicast" and via is None and to.version == 4
    added["scope"] = _RT_SCOPE_LINK if direct else _RT_SCOPE_UNIVERSE
    added["type"] = ROUTE_TYPES[kind]
    shown = "default" if not to.prefixlen else str(to)
    text = f"route add {shown if kind == 'unicast' else f'{kind} {shown}'}"
    attributes: list[Attribute] = []
    if to.prefixlen:
        attributes.append(("RTA_DST", str(to.network_address)))
    if via is not None:
        attributes.append(("RTA_GATEWAY", via))
        text += f" via {via}"
    if index is not None:
        attributes.append(("RTA_OIF", message.hole(index)))
        text += f" dev {dev} %{index.name}"
    if metric is not None:
        attributes.append(("RTA_PRIORITY", metric))
        text += f" metric {metric}"
    if on_link:
        added["flags"] = _RTNH_F_ONLINK
        text += " onlink"
    added["attrs"] = attributes
    if to.version == 6 and not to.prefixlen:
        text = text.replace("route add", "-6 route add", 1)
    return message.bytes(added, _RTM_NEWROUTE, _NLM_F_CREATE | _NLM_F_EXCL, text)


# --- what was there, put back ------------------------------------------------------------------
#
# A body as the kernel tells it is a request to make the same, as `ip address restore` and `ip route
# restore` use it. Only the index may be another, and not every flag that is told can be asked for.

_IFADDRMSG = struct.Struct("=BBBBI")
_RTMSG = struct.Struct("=BBBBBBBBI")
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY = 1, 4, 5, 6
# RTNH_F_PERVASIVE and RTNH_F_ONLINK: the others are states.
_RTNH_ASKED = 2 | _RTNH_F_ONLINK


def address_again(index: Reg, body: bytes, name: str) -> Bytes:
    """RTM_NEWADDR of an address that RTM_GETADDR has told; ``name`` is only shown."""
    family, prefix, *_ = _IFADDRMSG.unpack_from(body)
    attributes = {kind: body[at : at + size] for kind, at, size in _walk(body, _IFADDRMSG.size)}
    local = attributes.get(_IFA_LOCAL) or attributes[_IFA_ADDRESS]
    text = f"addr add {_address(family, local)}/{prefix} dev {name} %{index.name}"
    return _again(_RTM_NEWADDR, body, _IFADDRMSG.size - 4, index, text)


def route_again(index: Reg, body: bytes, name: str) -> Bytes:
    """RTM_NEWROUTE of a route that RTM_GETROUTE has told; ``name`` is only shown."""
    family, prefix, *middle, flags = _RTMSG.unpack_from(body)
    body = _RTMSG.pack(family, prefix, *middle, flags & _RTNH_ASKED) + body[_RTMSG.size :]
    places = {kind: (at, size) for kind, at, size in _walk(body, _RTMSG.size)}

    def value(kind: int) -> bytes:
        at, size = places.get(kind, (0, 0))
        return body[at : at + size]

    text = "-6 route add " if family != 2 and not prefix else "route add "
    text += f"{_address(family, value(_RTA_DST))}/{prefix}" if prefix else "default"
    if _RTA_GATEWAY in places:
        text += f" via {_address(family, value(_RTA_GATEWAY))}"
    text += f" dev {name} %{index.name}"
    if _RTA_PRIORITY in places:
        text += f" metric {int.from_bytes(value(_RTA_PRIORITY), sys.byteorder)}"
    return _again(_RTM_NEWROUTE, body, places[_RTA_OIF][0], index, text)


def _again(kind: int, body: bytes, place: int, index: Reg, text: str) -> Bytes:
    """The request, with a hole for the index at ``place`` of its body."""
    flags = _NLM_F_REQUEST | _NLM_F_ACK | _NLM_F_CREATE | _NLM_F_EXCL
    header = struct.pack("=IHHII", 16 + len(body), kind, flags, _SEQUENCE, 0)
    data = bytearray(header + body)
    place += len(header)
    data[place : place + 4] = bytes(4)
    return Bytes(bytes(data), f"rtnl {text}", (Hole(place, 4, index),))


def _walk(body: bytes, offset: int) -> Iterator[tuple[int, int, int]]:
    """(kind, place of the value, its size) of each attribute."""
    while offset + 4 <= len(body):
        length, kind = struct.unpack_from("=HH", body, offset)
        if length < 4:
            return
        yield kind & 0x3FFF, offset + 4, length - 4
        offset += (length + 3) & ~3


def _address(family: int, value: bytes) -> str:
    return str(IPv4Address(value) if family == 2 else IPv6Address(value))
