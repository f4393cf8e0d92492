"""Whether a goal is reached is decided from the figures of a run, and a page says it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench import memory, mounts, peers, subject
from bench.goals import Goal, Results, Verdict, goals, rounded
from bench.hyper import Contestant, Timing
from bench.machine import Machine
from bench.memory import Use
from bench.mounts import Growth
from bench.report import Run, page, table
from bench.starts import Starts
from bench.storm import Storm

MACHINE = Machine(
    system="Linux",
    kernel="6.1",
    processor="a processor",
    cpus=2,
    memory_gb=4.0,
    cgroups="version 2",
    versions={"nsrun": "nsrun 1"},
)


def starts(seconds: dict[str, float], unneeded: tuple[str, ...] | None = ()) -> Starts:
    """Timings of the names of subject and peers that are given, by their constants."""
    names = {
        "warm": subject.WARM,
        "cold": subject.COLD,
        "bwrap": peers.BWRAP,
        "crun": peers.CRUN,
        "runc": peers.RUNC,
        "unshare": peers.UNSHARE,
        "handwritten": peers.HANDWRITTEN,
    }
    timings = tuple(
        Timing(name=name, times=(seconds[key],))
        if key in seconds
        else Timing(name=name, missing=f"no {key} here")
        for key, name in names.items()
    )
    contestants = tuple(Contestant(name=t.name, argv=("/area/x", t.name)) for t in timings)
    return Starts(contestants=contestants, timings=timings, calls={}, unneeded=unneeded, cached=1)


def growth(name: str, *times: float) -> Growth:
    return Growth(name=name, timings=tuple(Timing(name=name, times=(t,)) for t in times))


def found(results: Results, beginning: str) -> Goal:
    (goal,) = (g for g in goals(results) if g.what.startswith(beginning))
    return goal


def test_what_was_not_measured_is_not_reached_either() -> None:
    assert {g.verdict for g in goals(Results())} == {Verdict.UNKNOWN}


@pytest.mark.parametrize(
    ("peer", "key", "limit"),
    [
        ("bubblewrap", "bwrap", 0.75),
        ("crun", "crun", 0.35),
        ("runc", "runc", 0.15),
        ("unshare", "unshare", 1.25),
        ("hand-written C", "handwritten", 1.35),
    ],
)
def test_a_warm_start_is_held_against_each_peer(peer: str, key: str, limit: float) -> None:
    what = f"warm start beside {peer}"
    good = Results(starts=starts({"warm": 1.0, key: 1.0 / (limit - 0.01)}))
    bad = Results(starts=starts({"warm": 1.0, key: 1.0 / (limit + 0.01)}))
    assert found(good, what).verdict is Verdict.REACHED
    assert found(bad, what).verdict is Verdict.MISSED
    assert found(Results(starts=starts({"warm": 1.0})), what).verdict is Verdict.UNKNOWN
    assert found(Results(starts=starts({key: 1.0})), what).verdict is Verdict.UNKNOWN


def test_a_cold_start_and_its_imports() -> None:
    good = Results(starts=starts({"cold": 0.199}))
    bad = Results(starts=starts({"cold": 0.2049}, ("pyroute2",)))
    assert found(good, "cold start").verdict is Verdict.REACHED
    assert found(good, "imports").verdict is Verdict.REACHED
    assert found(bad, "cold start") == Goal(
        what="cold start", wanted="at most 200 ms", found="205 ms", verdict=Verdict.MISSED
    )
    assert found(bad, "imports").found == "pyroute2"
    assert found(bad, "imports").verdict is Verdict.MISSED
    assert found(Results(starts=starts({}, None)), "imports").verdict is Verdict.UNKNOWN


def test_the_supervisor_is_nsruns_own_not_a_peers() -> None:
    def use(name: str, pss: int) -> Use:
        return Use(name=name, processes=1, pss=pss, rss=pss, peak=pss)

    small, large = use(memory.NSRUN, 1024), use(memory.NSRUN, 1025)
    assert found(Results(memory=[small]), "supervisor").verdict is Verdict.REACHED
    assert found(Results(memory=[large]), "supervisor").verdict is Verdict.MISSED
    assert found(Results(memory=[use("bubblewrap", 9)]), "supervisor").verdict is Verdict.UNKNOWN


def test_a_thousand_starts() -> None:
    def verdict(**changes: object) -> Verdict:
        values = {"name": subject.WARM, "total": 1000, "at_once": 32, "seconds": 1.0, **changes}
        return found(Results(storms=[Storm(**values)]), "1000 starts").verdict  # type: ignore[arg-type]

    assert verdict() is Verdict.REACHED
    assert verdict(failed={125: 1}) is Verdict.MISSED
    assert verdict(left=("mount x",)) is Verdict.MISSED
    assert verdict(outlived=1) is Verdict.MISSED
    # A hundred clean ones are no thousand, a hundred unclean ones are enough.
    assert verdict(total=100) is Verdict.UNKNOWN
    assert verdict(total=100, failed={-9: 1}) is Verdict.MISSED
    assert verdict(name="bubblewrap") is Verdict.UNKNOWN


def test_growth_of_planning_and_of_replaying_are_apart() -> None:
    results = Results(
        growths=[growth(mounts.PLAN, 1, 10, 100), growth(mounts.REPLAY, 0.01, 1, 100)]
    )
    assert found(results, "planning").verdict is Verdict.REACHED
    assert found(results, "replaying").verdict is Verdict.MISSED


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0421, "0.042"), (1.26, "1.3"), (21.4, "21"), (344, "340"), (20123, "20000"), (0, "0")],
)
def test_figures_are_rounded_without_exponents(value: float, text: str) -> None:
    assert rounded(value) == text
    assert rounded(float("inf")) == "inf"


def test_a_bar_does_not_end_a_cell() -> None:
    assert table(["a", "b"], [["x|y", "z"]]) == "| a | b |\n|---|---|\n| x\\|y | z |\n"


def run_of(results: Results, busy: float = 0.0, quick: bool = False, native: bool = True) -> str:
    return page(
        Run(
            machine=MACHINE,
            date="2026-01-01",
            minutes=3.21,
            busy=[0.0, busy],
            quick=quick,
            native=native,
            area="/area",
            results=results,
        )
    )


def test_a_page_begins_with_the_goals_and_names_no_folder_of_the_bench() -> None:
    text = run_of(Results(starts=starts({"warm": 0.002, "bwrap": 0.004})))
    assert text.index("## Must reach") < text.index("## Start") < text.index("## Machine")
    assert "| bubblewrap | 2 | 4 | 4 to 4 | 1 | - |" in text
    assert "- crun is not measured: no crun here" in text
    assert "$AREA/x" in text
    assert "/area" not in text
    assert "## Memory" not in text


def test_a_page_says_what_lessens_its_worth() -> None:
    assert "**" not in run_of(Results())
    assert "up to 25 % busy" in run_of(Results(), busy=0.25)
    assert "quick run" in run_of(Results(), quick=True)
    assert "Python program" in run_of(Results(), native=False)
    text = run_of(Results(starts=replace(starts({}), unlike=("nsrun alone: Seccomp: 2",))))
    assert "another container" in text
    assert "- unlike: nsrun alone: Seccomp: 2" in text


def test_every_subject_has_its_part_of_the_page() -> None:
    text = run_of(
        Results(
            starts=starts({}),
            memory=[Use(name="nsrun", pss=10), Use(name="x", missing="gone")],
            storms=[
                Storm(
                    name="x",
                    total=4,
                    at_once=2,
                    seconds=2.0,
                    failed={125: 3},
                    said="error",
                    left=("mount y",),
                    outlived=7,
                )
            ],
            growths=[growth("nsrun plan --json", 1, 10, 100)],
        )
    )
    assert "- x is not measured: gone" in text
    assert "| x | 4 | 2 | 2 | 3 with 125 | 1 | 7 |" in text
    assert "- x, 2 at a time, left: mount y" in text
    assert "- x, 2 at a time, said: error" in text
    assert "| nsrun plan --json | 1 |" in text
