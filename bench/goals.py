"""What nsrun must reach, decided from the figures of one run alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

from bench import memory, mounts, network, peers, storm, subject
from bench.memory import Use
from bench.mounts import Growth
from bench.network import Cost
from bench.stacks import Stacks
from bench.starts import Starts
from bench.storm import Storm

# A warm start as a share of a peer's, medians of one run.
RATIOS = (
    (peers.BWRAP, 0.75),
    (peers.CRUN, 0.35),
    (peers.RUNC, 0.15),
    (peers.UNSHARE, 1.25),
    (peers.HANDWRITTEN, 1.35),
)
COLD_MS = 200
SUPERVISOR_KB = 1024
# Timings scatter: a line counts as straight up to this ratio of its slopes.
STRAIGHT = 1.5
# What a pair adds to a start, as a share of the ip commands that make one.
PAIR_RATIO = 0.25
# Twenty containers by `up -d`, as a share of podman's one by one; listing two hundred, in
# milliseconds; the process that keeps a stack, and all that keeps one container, in kB.
UP_RATIO, PS_MS, KEEPER_KB, EACH_KB = 0.3, 150, 25 * 1024, 1536


class Verdict(Enum):
    REACHED = "reached"
    MISSED = "not reached"
    UNKNOWN = "not measured"


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    what: str
    wanted: str
    found: str = ""
    verdict: Verdict = Verdict.UNKNOWN


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """None where a subject was not part of the run."""

    starts: Starts | None = None
    memory: Sequence[Use] | None = None
    storms: Sequence[Storm] | None = None
    growths: Sequence[Growth] | None = None
    network: Cost | None = None
    stacks: Stacks | None = None


def goals(results: Results) -> list[Goal]:
    return [
        *(_ratio(results.starts, name, limit) for name, limit in RATIOS),
        _cold(results.starts),
        _imports(results.starts),
        _supervisor(results.memory),
        _storms(results.storms),
        _growth(results.growths, mounts.PLAN, "planning grows linearly with the mounts"),
        _growth(results.growths, mounts.REPLAY, "replaying grows linearly with the mounts"),
        _network(results.network),
        *_stacks(results.stacks),
    ]


def _verdict(reached: bool) -> Verdict:
    return Verdict.REACHED if reached else Verdict.MISSED


def rounded(value: float, digits: int = 2) -> str:
    """So many digits that count: 0.042, 0.35, 1.2, 21, 340."""
    if not math.isfinite(value):
        return str(value)
    text = f"{value:.{digits}g}"
    # From a thousand on the general form has an exponent.
    return f"{float(text):.0f}" if "e+" in text else text


def _ratio(starts: Starts | None, name: str, limit: float) -> Goal:
    goal = Goal(what=f"warm start beside {name}", wanted=f"at most {limit} times")
    if starts is None:
        return goal
    ours, theirs = starts.timing(subject.WARM), starts.timing(name)
    if ours.missing or theirs.missing:
        return goal
    ratio = ours.median / theirs.median
    return Goal(
        what=goal.what,
        wanted=goal.wanted,
        found=f"{rounded(ratio, 3)} times",
        verdict=_verdict(ratio <= limit),
    )


def _cold(starts: Starts | None) -> Goal:
    goal = Goal(what="cold start", wanted=f"at most {COLD_MS} ms")
    if starts is None or starts.timing(subject.COLD).missing:
        return goal
    found = starts.timing(subject.COLD).median * 1000
    return Goal(
        what=goal.what,
        wanted=goal.wanted,
        found=f"{rounded(found, 3)} ms",
        verdict=_verdict(found <= COLD_MS),
    )


def _imports(starts: Starts | None) -> Goal:
    goal = Goal(what="imports of a cold start", wanted="none that its spec does not need")
    if starts is None or starts.unneeded is None:
        return goal
    found = ", ".join(starts.unneeded) or "none"
    return Goal(
        what=goal.what, wanted=goal.wanted, found=found, verdict=_verdict(not starts.unneeded)
    )


def _supervisor(uses: Sequence[Use] | None) -> Goal:
    goal = Goal(what="supervisor of an idle container", wanted=f"at most {SUPERVISOR_KB} kB PSS")
    own = next((u for u in uses or () if u.name == memory.NSRUN and not u.missing), None)
    if own is None:
        return goal
    return Goal(
        what=goal.what,
        wanted=goal.wanted,
        found=f"{rounded(own.pss, 3)} kB",
        verdict=_verdict(own.pss <= SUPERVISOR_KB),
    )


def _storms(storms: Sequence[Storm] | None) -> Goal:
    goal = Goal(what=f"{storm.TOTAL} starts", wanted="none fails, nothing is left")
    own = [s for s in storms or () if s.name == subject.WARM and not s.missing]
    if not own:
        return goal
    failed = sum(sum(s.failed.values()) for s in own)
    left = sum(len(s.left) for s in own)
    outlived = sum(s.outlived for s in own)
    found = f"{failed} failed, {left} things left, {outlived} processes outlived nsrun"
    clean = all(s.clean for s in own)
    fewest = min(s.total for s in own)
    if clean and fewest < storm.TOTAL:
        return Goal(what=goal.what, wanted=goal.wanted, found=f"{found}, of {fewest} only")
    return Goal(what=goal.what, wanted=goal.wanted, found=found, verdict=_verdict(clean))


def _growth(growths: Sequence[Growth] | None, name: str, what: str) -> Goal:
    wanted = f"a mount among {mounts.SIZES[-1]} at most {STRAIGHT} times one among few"
    own = next((g for g in growths or () if g.name == name and not g.missing), None)
    if own is None:
        return Goal(what=what, wanted=wanted)
    return Goal(
        what=what,
        wanted=wanted,
        found=f"{rounded(own.ratio, 3)} times",
        verdict=_verdict(own.ratio <= STRAIGHT),
    )


def _network(cost: Cost | None) -> Goal:
    goal = Goal(what="a pair with addresses and routes", wanted=f"at most {PAIR_RATIO} times ip")
    names = (network.PLAIN, network.PAIR, network.IP)
    if cost is None or any(cost.start(name).missing for name in names):
        return goal
    ratio = cost.added / cost.start(network.IP).median
    return Goal(
        what=goal.what,
        wanted=goal.wanted,
        found=f"{rounded(ratio, 3)} times",
        verdict=_verdict(ratio <= PAIR_RATIO),
    )


def _stacks(found: Stacks | None) -> list[Goal]:
    up = Goal(what="up of 20 containers beside podman", wanted=f"at most {UP_RATIO} times")
    growth = Goal(what="up grows linearly to 200", wanted=f"at most {STRAIGHT} times a container")
    listing = Goal(what="ps of 200 containers", wanted=f"at most {PS_MS} ms")
    keeper = Goal(what="the process that keeps a stack", wanted=f"at most {KEEPER_KB} kB PSS")
    each = Goal(what="what keeps one container of it", wanted=f"at most {EACH_KB} kB PSS")
    if found is None:
        return [up, growth, listing, keeper, each]
    few, many = found.rises
    slope = (many.up / many.size) / (few.up / few.size)
    goals = [
        _found(growth, f"{rounded(slope, 3)} times", slope <= STRAIGHT),
        _found(listing, f"{rounded(many.ps * 1000, 3)} ms", many.ps * 1000 <= PS_MS),
        _found(keeper, f"{few.keeper} kB", few.keeper <= KEEPER_KB),
        _found(each, f"{rounded(few.each, 3)} kB", few.each <= EACH_KB),
    ]
    if found.podman is None:
        return [up, *goals]
    ratio = few.up / found.podman
    return [_found(up, f"{rounded(ratio, 3)} times", ratio <= UP_RATIO), *goals]


def _found(goal: Goal, found: str, reached: bool) -> Goal:
    return replace(goal, found=found, verdict=_verdict(reached))
