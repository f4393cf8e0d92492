"""Named network namespaces: what is there, and the plans that change it."""

from __future__ import annotations

import os
import socket
import struct
from dataclasses import dataclass

from nsrun.diag import Diagnostic, NsrunError
from nsrun.plan import netns
from nsrun.plan.model import Plan
from nsrun.spec.model import Spec

# linux/rtnetlink.h and linux/net_namespace.h
_RTM_GETNSID, _NLM_F_REQUEST, _NETNSA_NSID, _NETNSA_FD = 90, 1, 1, 3
_NLMSG_ERROR = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """``id``: the number by which the caller's namespace knows it, None where it has none."""

    name: str
    id: int | None


def add(name: str) -> Plan:
    """Raises NsrunError."""
    from nsrun.host.facts import gather
    from nsrun.kernel.facts import Query

    return netns.plan_add(_checked(name), gather(Query(paths=(netns.path_of(name),))))


def delete(name: str) -> Plan:
    """Raises NsrunError."""
    from nsrun.host.facts import gather
    from nsrun.kernel.facts import Query

    return netns.plan_delete(_checked(name), gather(Query(paths=(netns.path_of(name),))))


def exec_in(name: str, command: tuple[str, ...]) -> Spec:
    """Raises NsrunError (NS305) where there is no such namespace."""
    path = netns.path_of(_checked(name))
    if not os.path.lexists(path):
        raise NsrunError(
            Diagnostic(
                code="NS305",
                summary=f"there is no network namespace {name}",
                why=(f"{path} does not exist",),
                help=("`nsrun netns list` shows those that there are",),
            )
        )
    try:
        files = tuple(sorted(os.listdir(f"{netns.CONFIGURATION}/{name}")))
    except OSError:
        files = ()
    return netns.exec_spec(
        name,
        command,
        cwd=os.getcwd(),
        env=dict(os.environ),
        files=tuple(f for f in files if os.path.lexists(f"/etc/{f}")),
    )


def _checked(name: str) -> str:
    if not netns.is_name(name):
        raise NsrunError(
            Diagnostic(
                code="NS002",
                summary=f"{name!r} cannot be the name of a network namespace",
                help=(f"it is a file in {netns.FOLDER}: one word without `/`, at most 255 bytes",),
            )
        )
    return name


def named() -> list[Named]:
    """Those that there are, by name."""
    try:
        names = sorted(os.listdir(netns.FOLDER))
    except FileNotFoundError:
        return []
    return [Named(name=name, id=_id(netns.path_of(name))) for name in names]


def _id(path: str) -> int | None:
    """rtnetlink's RTM_GETNSID: -1 for a namespace that has no number here."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        # struct rtgenmsg, padded; one attribute of four bytes.
        body = struct.pack("=B3xHHI", 0, 8, _NETNSA_FD, fd)
        header = struct.pack("=IHHII", 16 + len(body), _RTM_GETNSID, _NLM_F_REQUEST, 1, 0)
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as rtnl:
            rtnl.sendto(header + body, (0, 0))
            answer = rtnl.recv(4096)
    except OSError:
        return None
    finally:
        os.close(fd)
    kind = struct.unpack_from("=IH", answer)[1]
    if kind == _NLMSG_ERROR or len(answer) < 28:
        return None
    _, attribute, number = struct.unpack_from("=HHi", answer, 20)
    return number if attribute == _NETNSA_NSID and number >= 0 else None
