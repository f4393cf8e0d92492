"""What one control group tells, and what is done to all that is in it, in either version.

Sources: cgroups(7), the kernel's Documentation/admin-guide/cgroup-v2.rst and
cgroup-v1/{freezer-subsystem,memory,cpuacct,pids,blkio-controller}.rst.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from nsrun.host import procfs

T = TypeVar("T")

# What a group that is told to stop needs, in seconds: a process in the kernel stops on its way out.
_PATIENCE = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """What the groups of a container count; None where none of them does. ``memory`` and
    ``memory_limit`` in bytes, the memory without what of files has not been used for long;
    ``cpu`` in seconds; ``read`` and ``written`` in bytes, by block devices."""

    memory: int | None = None
    memory_limit: int | None = None
    cpu: float | None = None
    processes: int | None = None
    read: int | None = None
    written: int | None = None


# --- stopping ----------------------------------------------------------------------------------


def stops(folder: str) -> bool:
    """Whether all in it can be stopped by one of its files."""
    return _switch(folder) is not None


def is_stopped(folder: str) -> bool:
    """Whether all in it is stopped: by itself, or because a group above is."""
    if os.path.exists(f"{folder}/freezer.state"):
        return (procfs.read(f"{folder}/freezer.state") or "").strip() == "FROZEN"
    return "frozen 1" in (procfs.read(f"{folder}/cgroup.events") or "").split("\n")


def stop(folder: str) -> bool:
    """Stop all in it; False, and all goes on, where not all has stopped in time, in seconds.

    Raises OSError where the caller may not.
    """
    file, word, _ = _switch(folder) or ("", "", "")
    _write(file, word)
    deadline = time.monotonic() + _PATIENCE
    while not is_stopped(folder):
        if time.monotonic() > deadline:
            resume(folder)
            return False
        time.sleep(0.001)
        # Version 1 goes on with what it has not stopped when it is asked again.
        _write(file, word)
    return True


def resume(folder: str) -> None:
    """Let all in it go on. Raises OSError where the caller may not."""
    file, _, word = _switch(folder) or ("", "", "")
    _write(file, word)


def _switch(folder: str) -> tuple[str, str, str] | None:
    """The file, and what is written to it to stop and to go on."""
    if os.path.exists(f"{folder}/freezer.state"):
        return f"{folder}/freezer.state", "FROZEN", "THAWED"
    if os.path.exists(f"{folder}/cgroup.freeze"):
        return f"{folder}/cgroup.freeze", "1", "0"
    return None


def _write(file: str, text: str) -> None:
    with open(os.open(file, os.O_WRONLY | os.O_CLOEXEC), "wb", buffering=0) as opened:
        opened.write(text.encode())


# --- counting ----------------------------------------------------------------------------------


def use(folders: Sequence[str]) -> Use:
    """What the groups of one container count together."""
    read, written = _moved(folders)
    used = _first(folders, _memory)
    return Use(
        memory=used,
        memory_limit=None if used is None else _first(folders, _memory_limit),
        cpu=_first(folders, _cpu),
        processes=_first(folders, lambda folder: procfs.number(f"{folder}/pids.current")),
        read=read,
        written=written,
    )


def _first(folders: Sequence[str], look: Callable[[str], T | None]) -> T | None:
    return next((found for one in folders if (found := look(one)) is not None), None)


def _fields(path: str) -> dict[str, int]:
    """Lines "name number"."""
    words = (line.split() for line in (procfs.read(path) or "").splitlines())
    return {w[0]: int(w[1]) for w in words if len(w) == 2 and w[1].isdigit()}


def _memory(folder: str) -> int | None:
    """As Docker counts it: pages of files that have not been used for long are anybody's."""
    for file, idle in (
        ("memory.usage_in_bytes", "total_inactive_file"),
        ("memory.current", "inactive_file"),
    ):
        used = procfs.number(f"{folder}/{file}")
        if used is not None:
            return max(0, used - _fields(f"{folder}/memory.stat").get(idle, 0))
    return None


def _memory_limit(folder: str) -> int | None:
    for file in ("memory.limit_in_bytes", "memory.max"):
        # "max" is no number; version 1 has a very large one there, a multiple of a page.
        limit = procfs.number(f"{folder}/{file}")
        if limit is not None and limit < 1 << 62:
            return limit
    return None


def _cpu(folder: str) -> float | None:
    """Also of those that have ended."""
    nanoseconds = procfs.number(f"{folder}/cpuacct.usage")
    if nanoseconds is not None:
        return nanoseconds / 10**9
    microseconds = _fields(f"{folder}/cpu.stat").get("usage_usec")
    return None if microseconds is None else microseconds / 10**6


def _moved(folders: Sequence[str]) -> tuple[int | None, int | None]:
    for folder in folders:
        lines = procfs.read(f"{folder}/io.stat")
        if lines is not None:
            words = [w for line in lines.splitlines() for w in line.split()]
            return _named(words, "rbytes="), _named(words, "wbytes=")
        lines = procfs.read(f"{folder}/blkio.throttle.io_service_bytes_recursive")
        if lines is not None:
            rows = [line.split() for line in lines.splitlines()]
            return _sum(rows, "Read"), _sum(rows, "Write")
    return None, None


def _named(words: Sequence[str], prefix: str) -> int:
    return sum(int(word.removeprefix(prefix)) for word in words if word.startswith(prefix))


def _sum(rows: Sequence[Sequence[str]], kind: str) -> int:
    return sum(int(row[2]) for row in rows if len(row) == 3 and row[1] == kind)


# --- whose they are ----------------------------------------------------------------------------


def in_pid_namespace(process: int) -> Iterator[int]:
    """Those in the pid namespace of ``process``, where it is not the caller's own."""
    try:
        theirs, ours = (os.stat(f"/proc/{p}/ns/pid") for p in (process, "self"))
    except OSError:
        return
    if theirs.st_ino == ours.st_ino:
        return
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.stat(f"/proc/{name}/ns/pid").st_ino == theirs.st_ino:
                yield int(name)
        except OSError:
            continue
