"""What a spec expects to hold inside, looked at by steps in the command's place.

The plan of a copy of the container is the container's own up to the command: then come a few calls
that a payload could make (open a file, make a folder, connect), and an end. A replay's records
say how each call went (nsrun/runtime/verify.py judges them), so that the answer is the kernel's,
with every wall in place: root, mounts, masks, ids, capabilities, Landlock, system calls.

What only execve(2) changes is not seen: what a file's capabilities or its set-user-ID bit would
give is counted by the bounding set instead where no_new_privs does not forbid it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from nsrun.kernel import abi, calls, sockets
from nsrun.kernel.values import Expect, Int
from nsrun.plan.draft import Draft
from nsrun.plan.launch import PROC_NAMES
from nsrun.plan.ops import Op
from nsrun.spec.model import Endpoint, Expectations, Namespace, NamespaceType, Spec

# What a call answers that is refused, or finds nothing. Others (EINTR, ENOMEM, EMFILE) say nothing
# of what is permitted: they fail the run, for what was not looked at must not pass for a wall.
ANSWERS = (
    "EPERM", "ENOENT", "EIO", "ENXIO", "EAGAIN", "EACCES", "ENOTBLK", "EBUSY", "EEXIST", "EXDEV",
    "ENODEV", "ENOTDIR", "EISDIR", "EINVAL", "ENOTTY", "ETXTBSY", "EFBIG", "ENOSPC", "ESPIPE",
    "EROFS", "EMLINK", "ENAMETOOLONG", "ENOSYS", "ENOTEMPTY", "ELOOP", "EOVERFLOW", "ENOTSOCK",
    "EPROTOTYPE", "EPROTONOSUPPORT", "ESOCKTNOSUPPORT", "EOPNOTSUPP", "EPFNOSUPPORT",
    "EAFNOSUPPORT", "EADDRINUSE", "EADDRNOTAVAIL", "ENETDOWN", "ENETUNREACH", "ENETRESET",
    "ECONNABORTED", "ECONNRESET", "EISCONN", "ENOTCONN", "ETIMEDOUT", "ECONNREFUSED", "EHOSTDOWN",
    "EHOSTUNREACH", "EALREADY", "EINPROGRESS", "ESTALE", "EDQUOT", "ENOKEY", "EKEYEXPIRED",
    "EKEYREVOKED",
)  # fmt: skip
# Milliseconds a connection may take.
PATIENCE = 1000
_NAME = ".nsrun-verify"
_LOOK = abi.OpenFlag.O_NONBLOCK | abi.OpenFlag.O_NOCTTY | abi.OpenFlag.O_CLOEXEC


def copy_of(spec: Spec, name: str) -> Spec:
    """The spec of a container called ``name`` that can run beside the one of ``spec``, without its
    terminal, its published ports and its pins."""
    network = replace(spec.network, ports=()) if spec.network is not None else None
    return replace(
        spec,
        name=name,
        hostname=spec.hostname,
        network=network,
        tty=False,
        stdin="closed",
        timeout=0,
        namespaces=tuple(_unpinned(n) for n in spec.namespaces),
    )


def _unpinned(namespace: Namespace) -> Namespace:
    return replace(namespace, pin=None)


def count(expected: Expectations) -> int:
    """How many expectations there are."""
    lists = (
        expected.unreachable, expected.reachable, expected.unreadable, expected.readable,
        expected.read_only, expected.writable, expected.namespaces_new,
    )  # fmt: skip
    return sum(len(found) for found in lists) + (expected.capabilities is not None)


# --- the steps ---------------------------------------------------------------------------------


def look_at_namespaces(draft: Draft, callers: Mapping[NamespaceType, int]) -> None:
    """Compare with the caller's, ``callers`` their inode numbers, while /proc is the host's."""
    for number, kind in enumerate(draft.spec.expect.namespaces_new):
        fd = draft.reg("namespace")
        file = f"/proc/self/ns/{PROC_NAMES[kind]}"
        same = Expect(
            calls.STATX_INO_AT, 8, (1 << 64) - 1, callers.get(kind, 0), "the caller's", "skip"
        )
        draft.child(
            f"look whether the {kind.value} namespace is the caller's",
            calls.allow(
                calls.openat(calls.CWD, file, abi.OpenFlag.O_CLOEXEC, save=fd), skip=ANSWERS
            ),
            calls.statx(fd, same),
            at=f"expect.namespaces_new[{number}]",
        )


def look(draft: Draft) -> None:
    """Everything else, in the command's place, and the end: nothing follows."""
    expected = draft.spec.expect
    for key, paths in (("unreadable", expected.unreadable), ("readable", expected.readable)):
        for number, path in enumerate(paths):
            draft.child(f"read {path}", *_read(draft, path), at=f"expect.{key}[{number}]")
    for key, paths in (("read_only", expected.read_only), ("writable", expected.writable)):
        for number, path in enumerate(paths):
            draft.child(f"write {path}", *_write(path), at=f"expect.{key}[{number}]")
    for key, ends in (("unreachable", expected.unreachable), ("reachable", expected.reachable)):
        for number, end in enumerate(ends):
            steps = _connect(draft, end)
            draft.child(f"connect to {end}", *steps, at=f"expect.{key}[{number}]")
    if expected.capabilities is not None:
        _look_at_capabilities(draft)
    draft.child("end in the command's place", calls.exit_group(0), at="command")


def _read(draft: Draft, path: str) -> Iterator[Op]:
    fd = draft.reg("file")
    opened = calls.openat(calls.CWD, path, _LOOK, save=fd)
    yield calls.allow(opened, skip=ANSWERS)
    yield calls.allow(calls.read(fd, 1), accept=ANSWERS)
    yield calls.allow(calls.getdents64(fd, 4096), accept=ANSWERS)
    yield calls.close(fd)


def _write(path: str) -> Iterator[Op]:
    """Open a file; a folder takes a folder, which is removed again."""
    opened = calls.openat(calls.CWD, path, abi.OpenFlag.O_WRONLY | _LOOK, save=None)
    yield calls.allow(opened, accept=ANSWERS)
    inside = f"{path.rstrip('/')}/{_NAME}"
    yield calls.allow(calls.mkdirat(calls.CWD, inside, 0o700), skip=ANSWERS)
    yield calls.unlinkat(calls.CWD, inside, abi.AtFlag.AT_REMOVEDIR)


def _connect(draft: Draft, end: Endpoint) -> Iterator[Op]:
    fd = draft.reg("socket")
    if end.address is None:
        yield calls.allow(sockets.socket_unix(save=fd), skip=ANSWERS)
    else:
        yield calls.allow(sockets.socket_tcp(end.address.version, save=fd), skip=ANSWERS)
    yield sockets.send_timeout(fd, PATIENCE)
    if end.address is not None:
        connect = sockets.connect_tcp(fd, end.address, end.port)
    elif end.unix.startswith("@"):
        connect = sockets.connect_abstract(fd, end.unix[1:])
    else:
        connect = sockets.connect_unix(fd, end.unix)
    yield calls.allow(connect, accept=ANSWERS)
    yield calls.close(fd)


def _look_at_capabilities(draft: Draft) -> None:
    at = "expect.capabilities"
    draft.child(
        "ask whether execve can give more",
        calls.allow(calls.prctl(abi.Prctl.PR_GET_NO_NEW_PRIVS), accept=ANSWERS),
        at=at,
    )
    for capability in abi.Capability:
        number = Int(capability, capability.name)
        bounded = calls.prctl(abi.Prctl.PR_CAPBSET_READ, number)
        draft.child(
            f"look for {capability.name}",
            calls.allow(bounded, accept=ANSWERS),
            calls.allow(calls.capget_lacks(capability), accept=ANSWERS),
            at=at,
        )
