"""Named network namespaces: what is there, and the plans that change it."""

from __future__ import annotations

import os
import socket
import struct
from dataclasses import dataclass

from nsrun.diag import Diagnostic, NsrunError, Severity
from nsrun.kernel.facts import Facts
from nsrun.plan import netns
from nsrun.plan.model import Plan

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
    facts = _facts(name)
    return netns.plan_add(name, facts, private=_is_private_mount(netns.FOLDER))


def delete(name: str) -> Plan:
    """Raises NsrunError."""
    return netns.plan_delete(name, _facts(name))


def exec_in(name: str, command: tuple[str, ...]) -> tuple[Plan, tuple[Diagnostic, ...]]:
    """The plan, and warnings about files of /etc/netns/NAME that are left out.

    Raises NsrunError.
    """
    facts = _facts(name)
    files, warnings = _configuration(name)
    made = netns.plan_exec(
        name,
        command,
        facts,
        env=dict(os.environ),
        files=files,
        read_only_sys=_is_read_only("/sys"),
    )
    return made, warnings


def _facts(name: str) -> Facts:
    """Raises NsrunError (NS002) for what is no name."""
    from nsrun.host.facts import gather
    from nsrun.kernel.facts import Query

    return gather(Query(paths=(netns.path_of(_checked(name)),)))


def _is_private_mount(path: str) -> bool:
    """Whether the last mount on ``path`` is one that is not shared."""
    from nsrun.host import procfs

    there = [mount for mount in procfs.mounts() if mount.target == path]
    return bool(there) and not there[-1].shared


def _is_read_only(path: str) -> bool:
    try:
        return bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    except OSError:
        return False


def _configuration(name: str) -> tuple[tuple[str, ...], tuple[Diagnostic, ...]]:
    """Names in /etc/netns/NAME that are in /etc too, and a warning for each that is not."""
    folder = f"{netns.CONFIGURATION}/{name}"
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return (), ()
    reasons = {file: _not_laid(f"{folder}/{file}", f"/etc/{file}") for file in names}
    warnings = tuple(
        Diagnostic(
            code="NS305",
            severity=Severity.WARNING,
            summary=f"{folder}/{file} takes no place in /etc",
            why=(reason,),
        )
        for file, reason in reasons.items()
        if reason
    )
    return tuple(file for file, reason in reasons.items() if not reason), warnings


def _not_laid(source: str, target: str) -> str:
    """Why ``source`` cannot be bound over ``target``; empty where it can (mount(2))."""
    for path in (source, target):
        if not os.path.exists(path):
            return f"{path} does not exist"
    if os.path.isdir(source) != os.path.isdir(target):
        return f"one of {source} and {target} is a folder, the other is not"
    return ""


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
    """Those that there are, by name. Raises NsrunError (NS001)."""
    try:
        names = sorted(os.listdir(netns.FOLDER))
    except FileNotFoundError:
        return []
    except OSError as error:
        summary = f"cannot read {netns.FOLDER}: {error.strerror}"
        raise NsrunError(Diagnostic(code="NS001", summary=summary)) from None
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
