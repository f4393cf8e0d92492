"""Makers for the calls about sockets and interfaces: socket(7), unix(7), netdevice(7), netlink(7).

Like those of :mod:`nsrun.kernel.calls` they only describe a call.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address

from nsrun.kernel import abi, calls
from nsrun.kernel.values import NULL, Bytes, Call, Hole, Int, Out, Pointer, Reg

# linux/if.h, IFNAMSIZ
NAME_MAX = 15
# linux/socket.h
_SCM_RIGHTS = 1


def socketpair(*, first: Reg, second: Reg) -> Call:
    """socketpair(2): the channel of the two tracks, one message a packet."""
    kind = abi.SocketType.SOCK_SEQPACKET | abi.SocketType.SOCK_CLOEXEC
    out = Out(8, saves=(Hole(0, 4, first), Hole(4, 4, second)), text="pair")
    return Call(
        name="socketpair",
        args=(calls.enum(abi.SocketFamily.AF_UNIX), calls.flags(kind, abi.SocketType), Int(0), out),
    )


def socket_unix(*, save: Reg) -> Call:
    """socket(2): a stream socket of this host (unix(7))."""
    kind = abi.SocketType.SOCK_STREAM | abi.SocketType.SOCK_CLOEXEC
    return Call(
        name="socket",
        args=(calls.enum(abi.SocketFamily.AF_UNIX), calls.flags(kind, abi.SocketType), Int(0)),
        save=save,
    )


def socket_tcp(version: int, *, save: Reg) -> Call:
    """socket(2): TCP over IP of ``version`` 4 or 6 (tcp(7))."""
    family = abi.SocketFamily.AF_INET if version == 4 else abi.SocketFamily.AF_INET6
    kind = abi.SocketType.SOCK_STREAM | abi.SocketType.SOCK_CLOEXEC
    return Call(
        name="socket",
        args=(calls.enum(family), calls.flags(kind, abi.SocketType), Int(0)),
        save=save,
    )


def socket_datagram(*, save: Reg) -> Call:
    """socket(2): a datagram socket of this host (unix(7))."""
    kind = abi.SocketType.SOCK_DGRAM | abi.SocketType.SOCK_CLOEXEC
    return Call(
        name="socket",
        args=(calls.enum(abi.SocketFamily.AF_UNIX), calls.flags(kind, abi.SocketType), Int(0)),
        save=save,
    )


def connect_unix(fd: Reg, path: str) -> Call:
    """connect(2) to a socket in the file system; ``path`` has room for 107 bytes (unix(7))."""
    address = struct.pack("=H", abi.SocketFamily.AF_UNIX) + calls.os_bytes(path) + b"\0"
    text = f'{{AF_UNIX, "{path}"}}'
    return Call(name="connect", args=(fd, Bytes(address, text), Int(len(address))))


def connect_abstract(fd: Reg, name: str) -> Call:
    """connect(2) to a name in the abstract namespace (unix(7))."""
    return Call(name="connect", args=(fd, *_abstract(name)))


def connect_tcp(fd: Reg, address: IPv4Address | IPv6Address, port: int) -> Call:
    """connect(2) to a TCP port (ip(7), ipv6(7))."""
    # Ports and addresses are in network byte order; before and after an IPv6 address stand
    # sin6_flowinfo and sin6_scope_id.
    if address.version == 4:
        given = struct.pack("=H", abi.SocketFamily.AF_INET) + struct.pack(">H", port)
        given += address.packed + bytes(8)
    else:
        given = struct.pack("=H", abi.SocketFamily.AF_INET6) + struct.pack(">HI", port, 0)
        given += address.packed + bytes(4)
    text = f"{{{address}, {port}}}"
    return Call(name="connect", args=(fd, Bytes(given, text), Int(len(given))))


def send_timeout(fd: Reg, milliseconds: int) -> Call:
    """socket(7) SO_SNDTIMEO: connect(2) ends with EINPROGRESS (EAGAIN for unix(7)) after it."""
    value = struct.pack("=qq", milliseconds // 1000, milliseconds % 1000 * 1000)
    return Call(
        name="setsockopt",
        args=(
            fd,
            calls.enum(abi.SocketLevel.SOL_SOCKET),
            calls.enum(abi.SocketOption.SO_SNDTIMEO),
            Bytes(value, f"{milliseconds} ms"),
            Int(len(value)),
        ),
    )


def send_descriptor(socket: Reg, text: bytes, holes: tuple[Hole, ...], fd: Reg) -> Call:
    """sendmsg(2) of a text, with ``holes`` in it, and a descriptor (unix(7), SCM_RIGHTS)."""
    # struct msghdr: name and its length, iov at 16 and their number, control at 32 and its
    # length, flags. struct cmsghdr: length, level, type, and the descriptor.
    shown = text.decode("utf-8", "backslashreplace")
    vector = Bytes(
        struct.pack("=QQ", 0, len(text)), shown, pointers=(Pointer(0, Bytes(text, shown, holes)),)
    )
    rights = struct.pack("=QIIi4x", 20, abi.SocketLevel.SOL_SOCKET, _SCM_RIGHTS, 0)
    control = Bytes(rights, f"SCM_RIGHTS %{fd.name}", holes=(Hole(16, 4, fd),))
    header = struct.pack("=QI4xQQQQi4x", 0, 0, 0, 1, 0, len(rights), 0)
    message = Bytes(
        header,
        f"{{{shown}, SCM_RIGHTS %{fd.name}}}",
        pointers=(Pointer(16, vector), Pointer(32, control)),
    )
    flags = calls.flags(abi.MsgFlag.MSG_NOSIGNAL, abi.MsgFlag)
    return Call(name="sendmsg", args=(socket, message, flags), result=len(text))


def bind_abstract(fd: Reg, name: str) -> Call:
    """bind(2) to a name in the abstract namespace, which goes with the socket (unix(7))."""
    return Call(name="bind", args=(fd, *_abstract(name)))


def _abstract(name: str) -> tuple[Bytes, Int]:
    address = struct.pack("=H", abi.SocketFamily.AF_UNIX) + b"\0" + calls.os_bytes(name)
    return Bytes(address, f'{{AF_UNIX, "@{name}"}}'), Int(len(address))


def listen(fd: Reg, backlog: int) -> Call:
    """listen(2): SO_PEERCRED of a connection names the process that made this call."""
    return Call(name="listen", args=(fd, Int(backlog)))


def socket_inet(*, save: Reg) -> Call:
    """socket(2): a handle for interface ioctls (netdevice(7))."""
    kind = abi.SocketType.SOCK_DGRAM | abi.SocketType.SOCK_CLOEXEC
    return Call(
        name="socket",
        args=(calls.enum(abi.SocketFamily.AF_INET), calls.flags(kind, abi.SocketType), Int(0)),
        save=save,
    )


def ioctl_interface_up(fd: Reg, interface: str) -> Call:
    """netdevice(7) SIOCSIFFLAGS: struct ifreq with IFF_UP."""
    request = interface.encode("ascii").ljust(16, b"\0")
    request += struct.pack("=h", abi.InterfaceFlag.IFF_UP).ljust(24, b"\0")
    text = f'{{"{interface}", IFF_UP}}'
    return Call(name="ioctl", args=(fd, calls.enum(abi.Ioctl.SIOCSIFFLAGS), Bytes(request, text)))


def peer_alive(channel: Reg) -> Call:
    """recv(2) that peeks: EAGAIN while the peer lives, 0 once its end is closed."""
    peek = abi.MsgFlag.MSG_PEEK | abi.MsgFlag.MSG_DONTWAIT
    return Call(
        name="recvfrom",
        args=(channel, Out(1, text="peek"), Int(1), calls.flags(peek, abi.MsgFlag), NULL, NULL),
        result=1,
        accept=("EAGAIN",),
    )


# --- interfaces and netlink ------------------------------------------------------------------


def socket_route(*, save: Reg) -> Call:
    """socket(2): rtnetlink(7) of the namespace the caller is in, and stays so when it leaves."""
    kind = abi.SocketType.SOCK_RAW | abi.SocketType.SOCK_CLOEXEC
    return Call(
        name="socket",
        args=(
            calls.enum(abi.SocketFamily.AF_NETLINK),
            calls.flags(kind, abi.SocketType),
            Int(0, "NETLINK_ROUTE"),
        ),
        save=save,
    )


def extended_errors(fd: Reg) -> Call:
    """netlink(7) NETLINK_EXT_ACK: a refusal comes with a text."""
    return _set(fd, abi.SocketLevel.SOL_NETLINK, abi.NetlinkOption.NETLINK_EXT_ACK)


def bind_to_interface(fd: Reg, name: str) -> Call:
    """socket(7) SO_BINDTODEVICE: ENODEV where there is no interface of this name."""
    value = calls.os_bytes(name) + b"\0"
    return Call(
        name="setsockopt",
        args=(
            fd,
            calls.enum(abi.SocketLevel.SOL_SOCKET),
            calls.enum(abi.SocketOption.SO_BINDTODEVICE),
            Bytes(value, f'"{name}"'),
            Int(len(value)),
        ),
    )


def bound_interface(fd: Reg, *, save: Reg) -> Call:
    """socket(7) SO_BINDTOIFINDEX: the index of the interface that the socket is bound to."""
    return Call(
        name="getsockopt",
        args=(
            fd,
            calls.enum(abi.SocketLevel.SOL_SOCKET),
            calls.enum(abi.SocketOption.SO_BINDTOIFINDEX),
            Out(4, saves=(Hole(0, 4, save),), text="ifindex"),
            Bytes(struct.pack("=I", 4), "[4]"),
        ),
    )


# --- ports -----------------------------------------------------------------------------------


def socket_port(version: int, protocol: str, *, save: Reg) -> Call:
    """socket(2): one that holds a port of tcp(7) or udp(7) by being bound to it."""
    family = abi.SocketFamily.AF_INET if version == 4 else abi.SocketFamily.AF_INET6
    kind = abi.SocketType.SOCK_STREAM if protocol == "tcp" else abi.SocketType.SOCK_DGRAM
    return Call(
        name="socket",
        args=(
            calls.enum(family),
            calls.flags(kind | abi.SocketType.SOCK_CLOEXEC, abi.SocketType),
            Int(0),
        ),
        save=save,
    )


def only_ipv6(fd: Reg) -> Call:
    """ipv6(7) IPV6_V6ONLY: the IPv4 port of the same number is another."""
    return _set(fd, abi.SocketLevel.SOL_IPV6, abi.Ipv6Option.IPV6_V6ONLY)


def reuse_address(fd: Reg) -> Call:
    """socket(7) SO_REUSEADDR: connections that have ended do not hold their port."""
    return _set(fd, abi.SocketLevel.SOL_SOCKET, abi.SocketOption.SO_REUSEADDR)


def bind_port(fd: Reg, address: IPv4Address | IPv6Address, port: int) -> Call:
    """bind(2): EADDRINUSE where somebody has the port, EADDRNOTAVAIL where no interface has the
    address."""
    if isinstance(address, IPv4Address):
        # struct sockaddr_in of linux/in.h
        value = struct.pack("=H", abi.SocketFamily.AF_INET) + struct.pack("!H", port)
        value += address.packed + bytes(8)
        text = f'{{AF_INET, port={port}, "{address}"}}'
    else:
        # struct sockaddr_in6 of linux/in6.h
        value = struct.pack("=H", abi.SocketFamily.AF_INET6) + struct.pack("!HI", port, 0)
        value += address.packed + bytes(4)
        text = f'{{AF_INET6, port={port}, "{address}"}}'
    return Call(name="bind", args=(fd, Bytes(value, text), Int(len(value))))


def _set(fd: Reg, level: abi.SocketLevel, option: IntEnum) -> Call:
    value = struct.pack("=i", 1)
    return Call(
        name="setsockopt",
        args=(fd, calls.enum(level), calls.enum(option), Bytes(value, "[1]"), Int(len(value))),
    )
