"""Trying things in a process of their own, which ends at once: nothing of the host is touched."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Mapping
from types import MappingProxyType

from nsrun.host.syscalls import syscall
from nsrun.kernel.abi import AT_FDCWD, AtFlag, CloneFlag, MountAttr, OpenTreeFlag

# A FIFO in the place of a namespace must not hang us.
_OPENED = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
# Exit statuses above every errno of the kernel (133 at most on x86_64 and aarch64).
_UNTRIED, _FAULT = 254, 255


def errno_of(trial: Callable[[], object], namespaces: int = 0) -> int | None:
    """0 where ``trial`` works in new ``namespaces`` (CLONE_NEW flags), else its errno.

    None where the namespaces cannot be made, or the trial fails otherwise than by an errno. It
    runs without id maps, as the first process of a new pid namespace.
    """
    status = _in_child(lambda: _unshare_and(trial, namespaces))
    return status if 0 <= status < _UNTRIED else None


def _unshare_and(trial: Callable[[], object], namespaces: int) -> None:
    if namespaces:
        try:
            syscall("unshare", namespaces)
        except OSError:
            os._exit(_UNTRIED)
    if namespaces & CloneFlag.CLONE_NEWPID:
        # unshare(2): the children are in the new pid namespace, the caller is not.
        os._exit(_in_child(trial))
    trial()


def _in_child(trial: Callable[[], object]) -> int:
    pid = os.fork()
    if pid == 0:
        status = _FAULT
        try:
            trial()
            status = 0
        except OSError as error:
            status = min(error.errno or _FAULT, _FAULT)
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return status if status >= 0 else _FAULT


# --- trials that several places need --------------------------------------------------------------


def make_namespaces(flags: int) -> Callable[[], object]:
    """unshare(2), the user namespace first: it gives the right to make the others."""
    user = flags & CloneFlag.CLONE_NEWUSER

    def trial() -> None:
        for part in (user, flags & ~user):
            if part:
                syscall("unshare", int(part))

    return trial


def make_filesystem(
    fstype: str, options: Mapping[str, str] = MappingProxyType({})
) -> Callable[[], object]:
    """fsopen(2) and the creation of a superblock of type ``fstype``; an option without a value
    has ""."""

    def trial() -> None:
        fd = syscall("fsopen", os.fsencode(fstype), 1)
        for key, value in options.items():
            # FSCONFIG_SET_STRING, FSCONFIG_SET_FLAG
            name = os.fsencode(key)
            if value:
                syscall("fsconfig", fd, 1, name, os.fsencode(value), 0)
            else:
                syscall("fsconfig", fd, 0, name, 0, 0)
        syscall("fsconfig", fd, 6, 0, 0, 0)

    return trial


def mount_filesystem(fstype: str) -> Callable[[], object]:
    """As :func:`make_filesystem`, and a mount of it that is attached nowhere (fsmount(2))."""

    def trial() -> None:
        fd = syscall("fsopen", os.fsencode(fstype), 1)
        syscall("fsconfig", fd, 6, 0, 0, 0)
        syscall("fsmount", fd, 1, 0)

    return trial


def look_at(path: str) -> Callable[[], object]:
    """open(2) with O_PATH: every folder on the way can be searched."""
    return lambda: os.open(path, os.O_PATH | os.O_CLOEXEC)


def join(paths: list[tuple[str, int]]) -> Callable[[], object]:
    """open(2) and setns(2) of each (file, CLONE_NEW flag), all opened first."""

    def trial() -> None:
        opened = [(os.open(path, _OPENED), flag) for path, flag in paths]
        for fd, flag in opened:
            syscall("setns", fd, flag)

    return trial


def map_ids_of(path: str) -> int | None:
    """Whether a mount of what ``path`` lies on can have its ids mapped: 0, or the errno of
    mount_setattr(2) with MOUNT_ATTR_IDMAP; None where the caller may not try."""
    made, tell = os.pipe2(os.O_CLOEXEC)
    wait, end = os.pipe2(os.O_CLOEXEC)
    holder = os.fork()
    if holder == 0:
        try:
            os.close(end)
            syscall("unshare", int(CloneFlag.CLONE_NEWUSER))
            os.write(tell, b"1")
            os.read(wait, 1)
        finally:
            os._exit(0)
    os.close(tell)
    os.close(wait)
    try:
        if os.read(made, 1) != b"1":
            return None
        for kind in ("uid", "gid"):
            _write(f"/proc/{holder}/{kind}_map", b"0 0 1")
        return errno_of(lambda: _map_ids(path, f"/proc/{holder}/ns/user"))
    except OSError:
        return None
    finally:
        # The holder reads the end of the pipe and goes.
        os.close(end)
        os.close(made)
        os.waitpid(holder, 0)


def _write(path: str, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)


def _map_ids(path: str, owner: str) -> None:
    userns = os.open(owner, os.O_RDONLY | os.O_CLOEXEC)
    flags = OpenTreeFlag.OPEN_TREE_CLONE | OpenTreeFlag.OPEN_TREE_CLOEXEC
    tree = syscall("open_tree", AT_FDCWD, os.fsencode(path), int(flags))
    # struct mount_attr of linux/mount.h
    attr = struct.pack("=QQQQ", int(MountAttr.MOUNT_ATTR_IDMAP), 0, 0, userns)
    syscall("mount_setattr", tree, b"", int(AtFlag.AT_EMPTY_PATH), attr, len(attr))
