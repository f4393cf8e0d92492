"""Processes as /proc shows them (proc_pid_stat(5), proc_pid_status(5))."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from nsrun.host import paths, procfs

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """``inside``: its pid in its own pid namespace. ``cpu`` in seconds, ``rss`` in bytes."""

    pid: int
    inside: int
    parent: int
    uid: int
    state: str
    cpu: float
    rss: int
    command: str

    def as_data(self) -> dict[str, object]:
        return asdict(self)

    def cells(self) -> tuple[str, ...]:
        minutes, seconds = divmod(int(self.cpu), 60)
        numbers = (self.pid, self.inside, self.parent, self.uid)
        return (
            *map(str, numbers),
            self.state,
            f"{minutes}:{seconds:02}",
            f"{self.rss >> 10}k",
            self.command,
        )


def look(pid: int) -> Process | None:
    """The process, None where there is none (any more)."""
    line = paths.read_file(f"/proc/{pid}/stat")
    if not line:
        return None
    status = procfs.status(str(pid))
    after = line.rpartition(")")[2].split()
    if len(after) < 14:
        return None
    words = (paths.read_file(f"/proc/{pid}/cmdline") or "").replace("\0", " ").strip()
    return Process(
        pid=pid,
        inside=int(status.get("NSpid", str(pid)).split()[-1]),
        parent=int(after[1]),
        uid=int(status.get("Uid", "0").split()[0]),
        state=after[0],
        cpu=(int(after[11]) + int(after[12])) / _TICKS,
        rss=int(status.get("VmRSS", "0").split()[0]) << 10,
        command=words or f"[{status.get('Name', '')}]",
    )


def writers_of(device: int, inode: int) -> Iterator[tuple[int, str]]:
    """The pids and names of those who have a file open for writing, as far as the caller may see
    (proc_pid_fdinfo(5))."""
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            numbers = os.listdir(f"/proc/{name}/fd")
        except OSError:
            continue
        if any(_writes(f"/proc/{name}", fd, device, inode) for fd in numbers):
            yield int(name), procfs.status(name).get("Name", "")


def _writes(process: str, fd: str, device: int, inode: int) -> bool:
    try:
        status = os.stat(f"{process}/fd/{fd}")
    except OSError:
        return False
    if (status.st_dev, status.st_ino) != (device, inode):
        return False
    flags = re.search(r"^flags:\s*([0-7]+)", procfs.read(f"{process}/fdinfo/{fd}") or "", re.M)
    return flags is not None and int(flags[1], 8) & os.O_ACCMODE != os.O_RDONLY
