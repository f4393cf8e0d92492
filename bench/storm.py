"""A thousand starts, one after the other and 32 at a time, and what they leave behind."""

from __future__ import annotations

import os
import subprocess
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from bench.area import CGROUPS, Area
from bench.hyper import Contestant
from bench.processes import descendants

TOTAL, AT_ONCE = 1000, 32
# Longer starts than this make the thousand too many for one sitting.
_TOO_SLOW, _FEWER = 0.05, 100
_GRACE = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Storm:
    """``failed``: exit statuses other than 0 (-N: signal N), and how many of each.
    ``outlived``: processes that ended after their launcher. ``left``: what was not there
    before, a line each."""

    name: str
    total: int = 0
    at_once: int = 0
    seconds: float = 0.0
    failed: dict[int, int] = field(default_factory=dict)
    said: str = ""
    outlived: int = 0
    left: tuple[str, ...] = ()
    missing: str = ""

    @property
    def rate(self) -> float:
        return self.total / self.seconds

    @property
    def clean(self) -> bool:
        return not (self.failed or self.outlived or self.left or self.missing)


def run(area: Area, contestants: Iterable[Contestant], total: int) -> list[Storm]:
    storms = []
    for contestant in contestants:
        if contestant.missing:
            storms.append(Storm(name=contestant.name, missing=contestant.missing))
            continue
        # The first fills the cache; the second tells how long one takes.
        for _ in range(2):
            once = storm(area, contestant, 1, 1)
        count = min(total, _FEWER) if once.seconds > _TOO_SLOW else total
        storms += [storm(area, contestant, count, at_once) for at_once in (1, AT_ONCE)]
    return storms


def storm(area: Area, contestant: Contestant, total: int, at_once: int) -> Storm:
    argv = [*contestant.wrapper, *contestant.argv]
    before = snapshot(area)
    said = area.folder / "storm.err"
    statuses: Counter[int] = Counter()
    running: set[int] = set()
    outlived = started = 0
    with open(said, "wb") as errors, open(os.devnull, "r+b") as null:
        actions = [
            (os.POSIX_SPAWN_DUP2, null.fileno(), 0),
            (os.POSIX_SPAWN_DUP2, null.fileno(), 1),
            (os.POSIX_SPAWN_DUP2, errors.fileno(), 2),
        ]
        begun = time.monotonic()
        while started < total or running:
            while started < total and len(running) < at_once:
                running.add(
                    os.posix_spawnp(argv[0], argv, contestant.environment(), file_actions=actions)
                )
                started += 1
            pid, status = os.wait()
            if pid in running:
                running.discard(pid)
                statuses[os.waitstatus_to_exitcode(status)] += 1
            else:
                # Adopted from a launcher that ended before it.
                outlived += 1
        seconds = time.monotonic() - begun
    left = _left(before, area)
    lines = said.read_text(errors="replace").strip().splitlines()
    return Storm(
        name=contestant.name,
        total=total,
        at_once=at_once,
        seconds=seconds,
        failed={code: n for code, n in sorted(statuses.items()) if code != 0},
        said=lines[0] if lines else "",
        outlived=outlived,
        left=left,
    )


def _left(before: frozenset[str], area: Area) -> tuple[str, ...]:
    """What is there now and was not before. The end of a process is seen before the last of
    it is gone, so a moment is given."""
    deadline = time.monotonic() + _GRACE
    while (left := snapshot(area) - before) and time.monotonic() < deadline:
        time.sleep(0.05)
    return tuple(sorted(left))


def snapshot(area: Area) -> frozenset[str]:
    """Mounts, processes below this one and their namespaces, files, cgroups and sockets."""
    own = descendants()
    pids = {process.pid for process in own} | {os.getpid()}
    return frozenset(
        (
            *(f"mount {line}" for line in Path("/proc/self/mountinfo").read_text().splitlines()),
            *(f"process {process.pid} {process.name}" for process in own),
            *namespaces(_lsns(), pids),
            *(f"file {path}" for path in _files(area)),
            *(f"cgroup {path}" for path in _cgroups()),
            *sockets(Path("/proc/net/unix").read_text()),
        )
    )


def _lsns() -> str:
    argv = ["lsns", "--raw", "--noheadings", "--output", "NS,TYPE,PID"]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def namespaces(lsns: str, pids: set[int]) -> list[str]:
    """Those of lsns(8) that a process of ``pids``, or none, keeps: others' are not ours."""
    found = []
    for line in lsns.splitlines():
        number, kind, *pid = line.split()
        if not pid or int(pid[0]) in pids:
            found.append(f"namespace {kind} {number}")
    return found


def sockets(table: str) -> list[str]:
    """The abstract sockets of nsrun for this container (/proc/net/unix)."""
    return [f"socket {word}" for word in table.split() if word.startswith("@nsrun/0/hardened")]


def _files(area: Area) -> list[Path]:
    """Files of the area but its caches, and of the places where runs keep their state."""
    places = (area.rootfs, area.folder / "specs", Path("/run/nsrun"), Path("/dev/shm"))
    return [path for place in places if place.exists() for path in place.rglob("*")]


def _cgroups() -> list[str]:
    return [folder for folder, _, _ in os.walk(CGROUPS) if "nsrun" in os.path.basename(folder)]
