"""What rtnetlink tells of interfaces of the caller's network namespace.

Sources: netlink(7), rtnetlink(7), linux/rtnetlink.h, linux/if_addr.h, linux/if_link.h.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network, ip_network

from nsrun.host import paths, trial
from nsrun.host.syscalls import syscall
from nsrun.kernel.abi import CloneFlag
from nsrun.kernel.facts import LinkFact
from nsrun.kernel.observed import ADDRESS, LINK, ROUTE, address_of
from nsrun.kernel.rtattr import attributes as attributes_of

Network = IPv4Network | IPv6Network

_NETLINK_ROUTE = 0
_RTM_GETLINK, _RTM_GETADDR, _RTM_GETROUTE = 18, 22, 26
_NLM_F_REQUEST, _NLM_F_DUMP = 0x1, 0x300
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_HEADER = struct.Struct("=IHHII")
_IFF_UP = 1
_IFLA_MASTER, _IFLA_LINKINFO, _IFLA_INFO_KIND = 10, 18, 1
_RTA_OIF, _RTA_GATEWAY, _RTA_VIA, _RTA_NH_ID = 4, 5, 18, 30
_AF_INET6 = 10
_IFA_F_TEMPORARY = 1
# The kernel's own: it makes them with the addresses. And what routers announce.
_BY_ITSELF = (1, 2, 9)
_RT_TABLE_LOCAL = 255
# A dump comes in pieces of at most this size (net/netlink/af_netlink.c).
_PIECE = 1 << 16


def look(name: str) -> LinkFact | None:
    """The interface called ``name`` as it is, None where there is none.

    Routes by several interfaces, or by objects of ``ip nexthop``, are left out: they are not this
    interface's alone.
    """
    index = _index(name)
    if index is None:
        return None
    body = next(_links(index), None)
    if body is None:
        return None
    flags = LINK.unpack_from(body)[3]
    master = dict(attributes_of(body, LINK.size)).get(_IFLA_MASTER)
    return LinkFact(
        up=bool(flags & _IFF_UP),
        master=_name(struct.unpack("=I", master)[0]) if master is not None else "",
        addresses=tuple(_addresses(index)),
        routes=tuple(_routes(index)),
        sysctls=tuple(_sysctls(name)),
    )


def kind(name: str) -> str:
    """The kind of an interface as ip-link(8) has it; "" for one without, as hardware is."""
    index = _index(name)
    body = next(_links(index), b"") if index is not None else b""
    info = dict(attributes_of(body, LINK.size)).get(_IFLA_LINKINFO, b"")
    return dict(attributes_of(info, 0)).get(_IFLA_INFO_KIND, b"").rstrip(b"\0").decode()


def is_there(name: str, netns: str | None = None) -> bool:
    """Whether an interface is called ``name``; ``netns``: the file of the network namespace to
    look in, by a process that goes there, None for the caller's own."""
    if netns is None:
        return any(name == known for _, known in socket.if_nameindex())

    def look() -> None:
        syscall("setns", os.open(netns, os.O_RDONLY | os.O_CLOEXEC), CloneFlag.CLONE_NEWNET)
        socket.if_nametoindex(name)

    return trial.errno_of(look) == 0


def networks() -> Iterator[tuple[str, Network]]:
    """The network of each address, with the name of its interface. Raises OSError."""
    for body in dump(_RTM_GETADDR, bytes(ADDRESS.size)):
        index, address, _ = address_of(body)
        # One without an address, of a kind that is not IP's.
        if not address.startswith("/"):
            yield _name(index), ip_network(address, strict=False)


def _index(name: str) -> int | None:
    try:
        return socket.if_nametoindex(name)
    except (OSError, ValueError):
        return None


def _name(index: int) -> str:
    try:
        return socket.if_indextoname(index)
    except OSError:
        return ""


def _links(index: int) -> Iterator[bytes]:
    for body in dump(_RTM_GETLINK, LINK.pack(0, 0, 0, 0, 0)):
        if LINK.unpack_from(body)[2] == index:
            yield body


def _addresses(index: int) -> Iterator[bytes]:
    for body in dump(_RTM_GETADDR, ADDRESS.pack(0, 0, 0, 0, 0)):
        family, _, flags, _, own = ADDRESS.unpack_from(body)
        made = family == _AF_INET6 and flags & _IFA_F_TEMPORARY
        if own == index and not made:
            yield body


def _routes(index: int) -> Iterator[bytes]:
    """Those without a next hop first: the others are reached through them."""
    found = []
    for body in dump(_RTM_GETROUTE, bytes(ROUTE.size)):
        table, protocol = ROUTE.unpack_from(body)[4:6]
        attributes = dict(attributes_of(body, ROUTE.size))
        out = attributes.get(_RTA_OIF)
        if out is None or struct.unpack("=I", out)[0] != index:
            continue
        if table != _RT_TABLE_LOCAL and protocol not in _BY_ITSELF and _RTA_NH_ID not in attributes:
            found.append((_RTA_GATEWAY in attributes or _RTA_VIA in attributes, body))
    yield from (body for _, body in sorted(found, key=lambda item: item[0]))


def _sysctls(name: str) -> Iterator[tuple[str, str]]:
    """A new interface has the values of ``default`` (ip-sysctl.rst)."""
    for family in ("ipv4", "ipv6"):
        conf = f"net/{family}/conf"
        try:
            keys = sorted(os.listdir(f"/proc/sys/{conf}/{name}"))
        except OSError:  # a kernel without IPv6
            continue
        for key in keys:
            own, new = (paths.read_file(f"/proc/sys/{conf}/{n}/{key}") for n in (name, "default"))
            # The MTU for IPv6 follows the interface's.
            if own and own != new and key != "mtu":
                yield f"{conf}/{name}/{key}", own.strip()


def dump(request: int, body: bytes) -> Iterator[bytes]:
    """The messages of a dump, less their headers. Raises OSError."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC,
                       _NETLINK_ROUTE) as rtnl:  # fmt: skip
        flags = _NLM_F_REQUEST | _NLM_F_DUMP
        rtnl.sendto(_HEADER.pack(_HEADER.size + len(body), request, flags, 1, 0) + body, (0, 0))
        while True:
            data = rtnl.recv(_PIECE)
            offset = 0
            while offset + _HEADER.size <= len(data):
                length, type_, *_ = _HEADER.unpack_from(data, offset)
                if type_ == _NLMSG_DONE:
                    return
                if type_ == _NLMSG_ERROR:
                    (error,) = struct.unpack_from("=i", data, offset + _HEADER.size)
                    raise OSError(-error, "rtnetlink")
                yield data[offset + _HEADER.size : offset + length]
                offset += (length + 3) & ~3
