"""Which kinds of interfaces this kernel has, each tried in a network namespace of its own."""

from __future__ import annotations

import errno as errnos
import socket
import struct
from functools import lru_cache

from nsrun.host import procfs, trial
from nsrun.kernel.abi import CloneFlag

# Every kind that a spec can name, but `physical`, which is none of the kernel's.
KINDS = ("veth", "bridge", "macvlan", "ipvlan", "vlan", "dummy")
_NETLINK_ROUTE = 0
_CAP_NET_ADMIN, _CAP_SYS_ADMIN = 12, 21


@lru_cache(maxsize=len(KINDS))
def has(kind: str) -> bool | None:
    """Whether the kernel makes interfaces of ``kind``; None where that cannot be tried.

    rtnetlink(7) answers EOPNOTSUPP to a kind it does not know, and has no module for; anything
    else that is wrong with the message comes later.
    """
    flags = int(CloneFlag.CLONE_NEWNET)
    if not {_CAP_NET_ADMIN, _CAP_SYS_ADMIN} <= procfs.capabilities():
        flags |= int(CloneFlag.CLONE_NEWUSER)
    # pyroute2 is imported before the fork: the trial only sends.
    message = _message(kind)
    found = trial.errno_of(lambda: _send(message), flags)
    return None if found is None else found != errnos.EOPNOTSUPP


def _message(kind: str) -> bytes:
    from nsrun.kernel import netlink

    end = netlink.End(name="try0")
    if kind == "veth":
        return netlink.veth_add(end, netlink.End(name="try1")).value
    return netlink.link_add(end, kind, tag=1).value


def _send(message: bytes) -> None:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_ROUTE) as rtnl:
        rtnl.sendto(message, (0, 0))
        answer = rtnl.recv(1 << 16)
    # struct nlmsgerr behind struct nlmsghdr (netlink(7)): minus the errno, 0 for success.
    (error,) = struct.unpack_from("=i", answer, 16)
    if error:
        raise OSError(-error, "")
