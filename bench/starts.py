"""The start of one hardened container: nsrun in every way it has, and its peers."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bench.alike import differences
from bench.hyper import Contestant, Timing, measure
from bench.peers import HANDWRITTEN, Peers
from bench.subject import WARM, Nsrun, starts

# What the spec of the measured container does not ask for; the cold start is without it.
UNNEEDED = ("jinja2", "pyroute2", "rich", "shtab")
_IMPORT = re.compile(r"^import time: .*\| +(\w+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Starts:
    """``calls``: system calls of a whole start by name. ``unneeded``: packages that a cold
    start imports without need; None where that was not seen. ``unlike``: see bench.alike."""

    contestants: tuple[Contestant, ...]
    timings: tuple[Timing, ...]
    calls: dict[str, int]
    unneeded: tuple[str, ...] | None
    cached: int
    unlike: tuple[str, ...] = ()

    def timing(self, name: str) -> Timing:
        return next(t for t in self.timings if t.name == name)


def run(nsrun: Nsrun, peers: Peers, rounds: int) -> Starts:
    area = nsrun.area
    contestants = [*starts(nsrun, area.spec), *peers.all()]
    timings = measure(contestants, rounds, area.folder / "hyperfine.json")
    subprocess.run(nsrun.forget(), check=True)
    unneeded = _imports(nsrun)
    nsrun.run(str(area.spec))
    cached = nsrun.entries()
    measured = {t.name for t in timings if not t.missing}
    calls = {
        c.name: count
        for c in contestants
        if c.name in measured and (count := count_calls(c, area.folder / "strace"))
    }
    return Starts(
        contestants=tuple(contestants),
        timings=tuple(timings),
        calls=calls,
        unneeded=unneeded,
        cached=cached,
        unlike=differences(nsrun, peers) if {WARM, HANDWRITTEN} <= measured else (),
    )


def count_calls(contestant: Contestant, report: Path) -> int | None:
    """The system calls of one start and of all its processes, as strace counts them."""
    if contestant.prepare:
        subprocess.run(contestant.prepare, check=True)
    # A contestant's PATH is its own.
    strace = shutil.which("strace") or "strace"
    argv = [strace, "--follow-forks", "--summary-only", "--output", str(report)]
    try:
        done = subprocess.run(
            [*contestant.wrapper, *argv, *contestant.argv],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=contestant.environment(),
            timeout=60,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return total_calls(report.read_text()) if done.returncode == 0 else None


def total_calls(summary: str) -> int | None:
    """The number of calls in the last line of `strace -c`."""
    lines = [line.split() for line in summary.splitlines() if line.endswith(" total")]
    return int(lines[-1][3]) if lines else None


def _imports(nsrun: Nsrun) -> tuple[str, ...] | None:
    """Of UNNEEDED what Python imports when there is no cache entry."""
    python = nsrun.program.parent / "python"
    done = subprocess.run(
        [str(python), "-P", "-X", "importtime", "-m", "nsrun", str(nsrun.area.spec)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=nsrun.environment(),
    )
    return unneeded_imports(done.stderr) if done.returncode == 0 else None


def unneeded_imports(trace: str) -> tuple[str, ...] | None:
    """What of UNNEEDED stands in the output of `-X importtime`; None where there is none."""
    names = set(_IMPORT.findall(trace))
    return tuple(name for name in UNNEEDED if name in names) if names else None
