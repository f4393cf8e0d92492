"""The end of a control group with all that is below it: who is in it is killed, then it is removed.

Run as a program where the steps of a plan find one in use (nsrun.plan.cgroup_end):

    python -I -m nsrun.host.subgroups FOLDER

Root of a container without a user namespace makes groups below its own, with names and in numbers
that it chooses, and stops them by their freezer; who was started by `nsrun exec` outlives the first
process where the container has no pid namespace.

Sources: cgroups(7), the kernel's Documentation/admin-guide/cgroup-v2.rst and
cgroup-v1/freezer-subsystem.rst.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence

from nsrun.host.syscalls import file_system
from nsrun.kernel.abi import Magic
from nsrun.kernel.facts import GROUP_PREFIX

# Seconds after which what is still there stays: its processes wait in the kernel.
_PATIENCE = 10.0
_PAUSE = 0.002
# Who forks while it is killed is killed the next time around.
_ROUNDS = 5
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Descriptors of processes that are open at once: RLIMIT_NOFILE is 1024 at the least.
_BATCH = 256
_SHOWN = 3
# Seconds that a start may take from making its group to entering it.
_STARTING = 60.0
_MAGIC = (Magic.CGROUP_SUPER_MAGIC, Magic.CGROUP2_SUPER_MAGIC)


class InUseError(Exception):
    """Groups are still there; the text says which, and who is in them."""


def end(path: str, patience: float = _PATIENCE) -> None:
    """Kill all in the group at ``path`` and in those below it, and remove them.

    Raises OSError, and InUseError where that has not been done after ``patience`` seconds.
    """
    with _opened(path) as (above, name, group):
        deadline = time.monotonic() + patience
        while True:
            kill(group)
            left = _remove_below(group)
            if _rmdir(name, above):
                return
            if time.monotonic() > deadline:
                raise InUseError(_words(left or name, group))
            time.sleep(_PAUSE)


def remove_unused(path: str) -> bool:
    """Remove the group at ``path`` with those below it where no start holds it and no process is
    in any of them; whether it is gone. Raises OSError."""
    with _opened(path) as (above, name, group):
        if _is_held(group) or not _holds_none(group):
            return False
        _remove_below(group)
        return _rmdir(name, above)


def is_unused(path: str) -> bool:
    """Whether no start holds the group at ``path``, and no process is in it, nor in those below it;
    not where that cannot be seen: it goes just now, or is no group of nsrun's."""
    try:
        with _opened(path) as (_, _, group):
            return not _is_held(group) and _holds_none(group)
    except (OSError, ValueError):
        return False


def age(group: str | int) -> float:
    """Seconds since a group, by path or descriptor, was made, or the kernel last looked it up."""
    return time.time() - os.stat(group).st_ctime


def _is_held(group: int) -> bool:
    """Whether a start holds it by a lock (nsrun.plan.cgroup); else the lock is ours.

    Whoever can read a group can lock it: of one that has been empty for a while, no lock counts.
    """
    try:
        fcntl.flock(group, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return age(group) < _STARTING
    return False


def members(path: str) -> set[int]:
    """The processes in the group at ``path`` and in those below it; none where it is gone."""
    try:
        with _opened(path) as (_, _, group):
            return {pid for _, place in walk(group) for pid in processes(place)}
    except FileNotFoundError:
        return set()


def kill_in(path: str) -> None:
    """:func:`kill` in the group at ``path``."""
    with _opened(path) as (_, _, group):
        kill(group)


def _holds_none(group: int) -> bool:
    return all(_text(place, "cgroup.procs") == "" for _, place in walk(group))


@contextlib.contextmanager
def _opened(path: str) -> Iterator[tuple[int, str, int]]:
    """The folder above, the name in it, and the group itself, which is one of nsrun's."""
    folder, name = os.path.split(path)
    if not name.startswith(GROUP_PREFIX) or name == GROUP_PREFIX:
        raise ValueError(f"{path} is no control group of nsrun's")
    above = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        group = os.open(name, _FOLDER, dir_fd=above)
        try:
            if file_system(group) not in _MAGIC:
                raise ValueError(f"{path} is no control group")
            yield above, name, group
        finally:
            os.close(group)
    finally:
        os.close(above)


# --- walking -----------------------------------------------------------------------------------


def walk(group: int) -> Iterator[tuple[str, int]]:
    """Each group below ``group``, with its name in the one above, those below before it; ``group``
    itself comes last, without a name. The descriptor is the walk's, which comes on with it.

    Two descriptors whatever the depth, which is the container's choice, as are the names. Kernel:
    no group is ever moved below another, so that ".." is where the walk came from.
    """
    here = os.open(".", _FOLDER, dir_fd=group)
    waiting = [_below(here)]
    trail: list[str] = []
    try:
        while True:
            if waiting[-1]:
                name = waiting[-1].pop()
                with contextlib.suppress(FileNotFoundError):
                    here = _stepped(here, name)
                    trail.append(name)
                    waiting.append(_below(here))
                continue
            yield (trail[-1] if trail else ""), here
            if not trail:
                return
            here = _stepped(here, "..")
            waiting.pop()
            trail.pop()
    finally:
        os.close(here)


def _stepped(here: int, name: str) -> int:
    new = os.open(name, _FOLDER, dir_fd=here)
    os.close(here)
    return new


def _below(group: int) -> list[str]:
    with os.scandir(group) as entries:
        return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]


def _remove_below(group: int) -> str:
    """Remove what is below; the name of one that is still there, "" where none is."""
    left = ""
    for name, place in walk(group):
        if not name:
            break
        if not _rmdir(f"../{name}", place):
            left = name
    return left


def _rmdir(name: str, above: int) -> bool:
    try:
        os.rmdir(name, dir_fd=above)
    except FileNotFoundError:
        return True
    except OSError as error:
        # Kernel: EBUSY where processes or other groups are in it.
        if error.errno != errno.EBUSY:
            raise
        return False
    return True


# --- killing -----------------------------------------------------------------------------------


def kill(group: int) -> None:
    """SIGKILL for all in it and below. Raises OSError where the caller may not.

    Kernel, version 1: who is stopped by the freezer dies when it goes on, and a group below may
    have been stopped by itself. Stopped all together they fork no more while they are told.
    """
    if _write(group, "cgroup.kill", "1"):
        return
    for _ in range(_ROUNDS):
        whole = _freeze(group)
        told = [_kill_in(place) for _, place in walk(group)]
        for _, place in walk(group):
            _write(place, "freezer.state", "THAWED")
        if whole or not any(told):
            return


def _freeze(group: int) -> bool:
    """Whether all in it is stopped; not where the hierarchy is another, nor where it takes long."""
    deadline = time.monotonic() + _PATIENCE / _ROUNDS / _ROUNDS
    # Version 1 goes on with what it has not stopped when it is asked again.
    while _write(group, "freezer.state", "FROZEN"):
        if (_text(group, "freezer.state") or "").strip() == "FROZEN":
            return True
        if time.monotonic() > deadline:
            break
        time.sleep(_PAUSE)
    return False


def _kill_in(group: int) -> bool:
    """Whether anybody was in it. By descriptors of processes that are in the group when they are
    open already: a number alone may be a stranger's by now."""
    listed = processes(group)
    for start in range(0, len(listed), _BATCH):
        opened = {}
        try:
            for pid in listed[start : start + _BATCH]:
                with contextlib.suppress(OSError):
                    opened[pid] = os.pidfd_open(pid)
            for pid in opened.keys() & set(processes(group)):
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(opened[pid], signal.SIGKILL)
        finally:
            for fd in opened.values():
                os.close(fd)
    return bool(listed)


def processes(group: int) -> list[int]:
    # 0 is a process of a pid namespace that the caller cannot see.
    return [pid for pid in map(int, (_text(group, "cgroup.procs") or "").split()) if pid]


def _text(group: int, file: str) -> str | None:
    """The text of a file of a group; None where it cannot be read, as that of a threaded one."""
    try:
        fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC, dir_fd=group)
        with open(fd, encoding="ascii") as opened:
            return opened.read()
    except OSError:
        return None


def _write(group: int, file: str, text: str) -> bool:
    """Whether it was taken; not where the group has no such file, or is gone."""
    try:
        fd = os.open(file, os.O_WRONLY | os.O_CLOEXEC, dir_fd=group)
    except OSError:
        return False
    try:
        os.write(fd, text.encode())
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def _words(left: str, group: int) -> str:
    pids = [str(pid) for _, place in walk(group) for pid in processes(place)]
    if not pids:
        return f"{left} is in use"
    more = f" and {len(pids) - _SHOWN} more" if len(pids) > _SHOWN else ""
    return f"processes do not end when killed: {', '.join(pids[:_SHOWN])}{more}"


def main(arguments: Sequence[str]) -> int:
    """The exit status: 0 where the group is gone."""
    (path,) = arguments
    try:
        end(path)
    except FileNotFoundError:
        return 0
    except (OSError, ValueError, InUseError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
