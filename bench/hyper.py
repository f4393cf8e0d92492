"""hyperfine, in rounds: every contestant some runs, then all over again.

A machine that is slow for some seconds so is slow for all of them, and a ratio of medians stays.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """One command line to time.

    ``prepare``: a command before each run, not in the time. ``wrapper``: what hyperfine itself
    runs in. ``runs``: of one round. ``missing``: why it cannot be measured, if so.
    """

    name: str
    argv: tuple[str, ...] = ()
    prepare: tuple[str, ...] = ()
    wrapper: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    runs: int = 30
    warmup: int = 3
    missing: str = ""

    def environment(self) -> dict[str, str]:
        return {**os.environ, **self.env}


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """``times`` in seconds; none where ``missing`` says why."""

    name: str
    times: tuple[float, ...] = ()
    missing: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.times)

    @property
    def middle_half(self) -> tuple[float, float]:
        if len(self.times) < 2:
            return self.times[0], self.times[0]
        first, _, third = statistics.quantiles(self.times, n=4, method="inclusive")
        return first, third


def trial(contestant: Contestant) -> str:
    """Run the contestant once; "" or why it cannot be measured."""
    if contestant.missing:
        return contestant.missing
    argv = [*contestant.wrapper, *contestant.argv]
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=contestant.environment(),
            timeout=60,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"it does not run: {error}"
    if done.returncode == 0:
        return ""
    return f"it ends with {done.returncode}: {the_point(done.stderr.decode(errors='replace'))}"


def the_point(said: str) -> str:
    """The first line that speaks of an error, else the last."""
    lines = said.strip().splitlines() or ["nothing is said"]
    return next((line for line in lines if "error" in line.lower()), lines[-1])


def hyperfine(contestant: Contestant, export: Path) -> list[str]:
    """The command line of one round of one contestant."""
    prepare = ["--prepare", shlex.join(contestant.prepare)] if contestant.prepare else []
    return [
        *contestant.wrapper,
        # A contestant's PATH is its own.
        shutil.which("hyperfine") or "hyperfine",
        "-N",
        "--style=none",
        f"--warmup={contestant.warmup}",
        f"--runs={contestant.runs}",
        *prepare,
        "--export-json",
        str(export),
        shlex.join(contestant.argv),
    ]


def times_of(text: str) -> tuple[float, ...]:
    """The times in what --export-json has written about one command."""
    (result,) = json.loads(text)["results"]
    return tuple(float(t) for t in result["times"])


def measure(contestants: Sequence[Contestant], rounds: int, export: Path) -> list[Timing]:
    """The timings in the order of the contestants."""
    missing = {c.name: why for c in contestants if (why := trial(c))}
    times: dict[str, list[float]] = {c.name: [] for c in contestants}
    for turn in range(rounds):
        # Nobody always comes after the same neighbour.
        start = turn % len(contestants)
        for contestant in (*contestants[start:], *contestants[:start]):
            if contestant.name in missing:
                continue
            done = subprocess.run(
                hyperfine(contestant, export),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                env=contestant.environment(),
            )
            if done.returncode:
                missing[contestant.name] = f"hyperfine ended: {the_point(done.stderr)}"
                continue
            times[contestant.name] += times_of(export.read_text())
    return [
        Timing(name=c.name, missing=missing[c.name])
        if c.name in missing
        else Timing(name=c.name, times=tuple(times[c.name]))
        for c in contestants
    ]
