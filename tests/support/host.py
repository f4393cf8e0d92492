"""What the host looks like, and that a run has left it as it was."""

from __future__ import annotations

import ctypes
import os
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
# How long the kernel may take to let go of what ended (lazy unmounts, netns on a work queue).
PATIENCE = 2.0


def adopt_orphans() -> None:
    """Make this process the parent of whatever a run leaves behind (prctl(2)), so that
    :func:`children` finds it."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def children() -> tuple[str, ...]:
    """The living children of this process as ``PID COMMAND``; dead ones that nobody waits
    for are reaped. Not to be called while a test still talks to one."""
    found = []
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            name, rest = Path(entry.path, "stat").read_text().rsplit(") ", 1)
        except OSError:
            continue
        state, parent = rest.split()[:2]
        if int(parent) != os.getpid():
            continue
        if state == "Z":
            os.waitpid(int(entry.name), os.WNOHANG)
        else:
            found.append(f"{entry.name} {name.partition('(')[2]}")
    return tuple(sorted(found))


def files(folder: Path) -> Mapping[str, tuple[int, int, int]]:
    """Every path below ``folder``: its mode, size and modification time in nanoseconds.

    A folder's size and time are left out: they change when a file comes and goes again.
    """
    found: dict[str, tuple[int, int, int]] = {}
    for path in (folder, *folder.rglob("*")) if folder.exists() else ():
        status = path.lstat()
        folder_like = stat.S_ISDIR(status.st_mode)
        found[str(path)] = (
            status.st_mode,
            0 if folder_like else status.st_size,
            0 if folder_like else status.st_mtime_ns,
        )
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """``mounts`` are the lines of /proc/self/mountinfo, ``links`` the names of /sys/class/net;
    ``network`` lines about a lab."""

    mounts: tuple[str, ...]
    links: tuple[str, ...]
    children: tuple[str, ...]
    hostname: str
    descriptors: tuple[str, ...]
    files: Mapping[str, Mapping[str, tuple[int, int, int]]]
    network: tuple[str, ...] = ()

    def differences(self, other: Snapshot) -> list[str]:
        """What ``other`` has or lacks, in words."""
        found = []
        for what in ("mounts", "links", "children", "descriptors", "network"):
            before, after = set(getattr(self, what)), set(getattr(other, what))
            if what == "children":
                # One that was there before may execute another program meanwhile.
                known = {line.split()[0] for line in before} & {line.split()[0] for line in after}
                before, after = (
                    {line for line in lines if line.split()[0] not in known}
                    for lines in (before, after)
                )
            found += [f"{what}: new {line}" for line in sorted(after - before)]
            # What another test has left to this process may end at any time.
            if what != "children":
                found += [f"{what}: gone {line}" for line in sorted(before - after)]
        if self.hostname != other.hostname:
            found.append(f"hostname: {self.hostname} became {other.hostname}")
        for folder, before_files in self.files.items():
            after_files = other.files.get(folder, {})
            for path in sorted(before_files.keys() | after_files.keys()):
                if before_files.get(path) != after_files.get(path):
                    found.append(f"file {path}: {before_files.get(path)} {after_files.get(path)}")
        return found


def snapshot(*folders: Path, network: tuple[str, ...] = ()) -> Snapshot:
    """The host as it is now, with the files below ``folders`` and nsrun's state folder;
    ``network``: what a lab looks like."""
    watched = (*folders, Path("/run/nsrun"))
    return Snapshot(
        mounts=tuple(Path("/proc/self/mountinfo").read_text().splitlines()),
        links=tuple(sorted(os.listdir("/sys/class/net"))),
        children=children(),
        hostname=os.uname().nodename,
        descriptors=tuple(_descriptors()),
        files={str(folder): files(folder) for folder in watched},
        network=network,
    )


def _descriptors() -> Iterator[str]:
    for name in os.listdir("/proc/self/fd"):
        try:
            yield f"{name} {os.readlink(f'/proc/self/fd/{name}')}"
        except OSError:  # the descriptor that listed them
            continue


@contextmanager
def unchanged(*folders: Path) -> Iterator[None]:
    """Fail where mounts, links, processes, the host name, our descriptors, nsrun's state or
    the files below ``folders`` are not as before, two seconds after the end."""
    before = snapshot(*folders)
    yield
    deadline = time.monotonic() + PATIENCE
    while differences := before.differences(snapshot(*folders)):
        assert time.monotonic() < deadline, "left behind:\n" + "\n".join(differences)
        time.sleep(0.02)
