"""What a mount costs: planning and replaying specs of 10, 100 and 1,000 of them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

from bench.hyper import Contestant, Timing, measure
from bench.peers import Peers
from bench.subject import Nsrun

SIZES = (10, 100, 1000)
PLAN, REPLAY, BWRAP = "nsrun plan --json", "nsrun, warm", "bubblewrap"


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """``timings``: one for each of SIZES."""

    name: str
    timings: tuple[Timing, ...]

    @property
    def missing(self) -> str:
        return next((t.missing for t in self.timings if t.missing), "")

    @property
    def per_mount(self) -> tuple[float, ...]:
        """Seconds for one more mount, between each size and the next.

        Of the fastest runs: a difference of two medians is as large as their scatter.
        """
        return slopes(SIZES, [min(t.times) for t in self.timings])

    @property
    def ratio(self) -> float:
        """How much dearer a mount is among many than among few: 1 is a straight line."""
        few, many = self.per_mount
        return many / few if few > 0 else float("inf")


def slopes(sizes: tuple[int, ...], times: list[float]) -> tuple[float, ...]:
    pairs = list(zip(sizes, times, strict=True))
    return tuple((t1 - t0) / (n1 - n0) for (n0, t0), (n1, t1) in itertools.pairwise(pairs))


def run(nsrun: Nsrun, peers: Peers, rounds: int) -> list[Growth]:
    contestants = {
        name: [_contestant(name, nsrun, peers, size) for size in SIZES]
        for name in (PLAN, REPLAY, BWRAP)
    }
    for size in SIZES:
        _write_spec(nsrun, size)
    everyone = [c for row in contestants.values() for c in row]
    timings = {t.name: t for t in measure(everyone, rounds, nsrun.area.folder / "mounts.json")}
    return [
        Growth(name=name, timings=tuple(timings[c.name] for c in row))
        for name, row in contestants.items()
    ]


def _contestant(name: str, nsrun: Nsrun, peers: Peers, size: int) -> Contestant:
    program, spec = str(nsrun.program), str(_spec(nsrun, size))
    label = f"{name}, {size} mounts"
    many = size == SIZES[-1]
    if name == PLAN:
        argv = (program, "plan", "--json", spec)
        return Contestant(name=label, argv=argv, env=nsrun.env, runs=3 if many else 8, warmup=1)
    if name == REPLAY:
        runs = (5 if many else 15) if nsrun.native else (3 if many else 8)
        return Contestant(name=label, argv=(program, spec), env=nsrun.env, runs=runs, warmup=1)
    extra = tuple(word for target in _targets(size) for word in ("--tmpfs", target))
    other = peers.bwrap(extra)
    return Contestant(name=label, argv=other.argv, missing=other.missing, runs=10, warmup=1)


def _targets(size: int) -> list[str]:
    return [f"/srv/{number:04}" for number in range(size)]


def _spec(nsrun: Nsrun, size: int) -> Path:
    return nsrun.area.spec.with_name(f"mounts{size}.yaml")


def _write_spec(nsrun: Nsrun, size: int) -> None:
    """The hardened spec and so many tmpfs, each on a folder that is there."""
    lines = [nsrun.area.spec.read_text(), "mounts:\n"]
    for target in _targets(size):
        (nsrun.area.rootfs / target[1:]).mkdir(exist_ok=True)
        lines.append(f"  - {{type: tmpfs, target: {target}, options: [nosuid, nodev]}}\n")
    _spec(nsrun, size).write_text("".join(lines))
