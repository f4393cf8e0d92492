"""Running containers by name: the state folder's locks, and the names foreground runs hold."""

from __future__ import annotations

import fcntl
import os
import socket
import stat
import struct
from collections.abc import Iterable, Mapping

from nsrun.host import paths, procfs

# asm-generic/socket.h; since Linux 6.5.
_SO_PEERPIDFD = 77
_UCRED = struct.Struct("=iII")


def state_folder(uid: int, environment: Mapping[str, str]) -> str | None:
    """Where running containers of ``uid`` are kept, whether or not it exists yet.

    /run/nsrun for root; else nsrun in $XDG_RUNTIME_DIR, or in /run/user/UID. None where the
    caller could not make it, or where somebody else has.
    """
    if uid == 0:
        return _usable("/run", uid)
    for folder in (environment.get("XDG_RUNTIME_DIR", ""), f"/run/user/{uid}"):
        if os.path.isabs(folder) and _is_owner(folder, uid):
            found = _usable(folder, uid)
            if found is not None:
                return found
    return None


def writable_by_others(uid: int, environment: Mapping[str, str]) -> str | None:
    """A state folder of ``uid`` that is not used because others may write there; None without."""
    own = (environment.get("XDG_RUNTIME_DIR", ""), f"/run/user/{uid}")
    for parent in ("/run",) if uid == 0 else own:
        path = os.path.join(parent, "nsrun")
        try:
            status = os.lstat(path)
        except (OSError, ValueError):
            continue
        is_own = os.path.isabs(path) and stat.S_ISDIR(status.st_mode) and status.st_uid == uid
        if is_own and status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return path
    return None


def make_private(path: str) -> None:
    """Make a folder, and those above it that are missing, each its owner's alone, whatever the
    umask; one that is there stays as it is. Raises OSError.

    os.makedirs has its mode for the last one only: with a umask of 0 all could put other plans
    into the folder of root's containers.
    """
    try:
        os.mkdir(path, 0o700)
    except FileNotFoundError:
        make_private(os.path.dirname(path))
        make_private(path)
    except FileExistsError:
        pass


def _is_owner(folder: str, uid: int) -> bool:
    try:
        status = os.stat(folder)
    except (OSError, ValueError):
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == uid


def _usable(parent: str, uid: int) -> str | None:
    path = os.path.join(parent, "nsrun")
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return path if os.path.isdir(parent) and os.access(parent, os.W_OK | os.X_OK) else None
    except OSError:
        return None
    own = stat.S_ISDIR(status.st_mode) and status.st_uid == uid
    # Who may write there may put another folder in the place of each in it.
    own = own and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return path if own and os.access(path, os.W_OK | os.X_OK) else None


def running(names: Iterable[str], state: str | None, uid: int) -> dict[str, int]:
    """The pid of the container's process for each name that runs, as this pid namespace sees it.

    A container with a folder runs if and only if the folder's lock is held; a run without one
    holds the abstract socket of its name.
    """
    found: dict[str, int] = {}
    for name in names:
        pid = _by_lock(name, state, uid) or _by_socket(name, uid)
        if pid:
            found[name] = pid
    return found


# --- the state folder --------------------------------------------------------------------------


def _by_lock(name: str, state: str | None, uid: int) -> int:
    """The pid that the monitor has written down, while it holds the lock."""
    if state is None or "/" in name:
        return 0
    opened = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        folder = os.open(os.path.join(state, "containers", name), opened)
    except (OSError, ValueError):
        return 0
    try:
        if os.fstat(folder).st_uid != uid or not _is_locked(folder):
            return 0
        pid = _pid(folder)
    finally:
        os.close(folder)
    return pid if pid and procfs.runs(pid) else 0


def _is_locked(folder: int) -> bool:
    opened = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        lock = os.open("lock", opened, dir_fd=folder)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        # Closing the only descriptor of this open file lets go of the lock again.
        os.close(lock)
    return False


def _pid(folder: int) -> int:
    try:
        handle = os.open("pid", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    except OSError:
        return 0
    try:
        word = (paths.read_regular(handle) or b"").strip()
    finally:
        os.close(handle)
    return int(word) if word.isdigit() else 0


# --- the abstract socket -----------------------------------------------------------------------


def address(uid: int, name: str) -> str:
    """The abstract socket (unix(7)) that a foreground run of ``name`` listens on."""
    return f"nsrun/{uid}/{name}"


def _by_socket(name: str, uid: int) -> int:
    """The process that listens, by SO_PEERCRED: its ids at the moment of listen(2)."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        # A queue that is full answers EAGAIN instead of making us wait.
        client.setblocking(False)
        try:
            client.connect(b"\0" + os.fsencode(address(uid, name)))
            size = _UCRED.size
            ucred = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        except (OSError, ValueError):
            return 0
        pid: int
        pid, owner, _ = _UCRED.unpack(ucred)
        # Whoever comes first may bind a name: another user's is not ours. A process out of
        # sight of our pid namespace has pid 0.
        if owner != uid or pid <= 0 or not _lives(client, pid):
            return 0
        return pid


def _lives(client: socket.socket, pid: int) -> bool:
    """Whether the process itself still lives: its number may be another's by now."""
    import select

    try:
        raw = client.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD, 4)
    except OSError:
        return procfs.runs(pid)
    (pidfd,) = struct.unpack("=i", raw)
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        return not poll.poll(0)
    finally:
        os.close(pidfd)
