"""A trace is the listing's own lines, each with what came of it."""

from __future__ import annotations

import re

import pytest

from nsrun.plan.model import Track
from nsrun.render.listing import listing
from nsrun.render.trace import microseconds, trace_listing
from nsrun.replay.outcome import RECORD, State, Trace
from tests.support import plans

PLAN = plans.everything()
START = 1_700_000_000_000_000_000


def record(state: State, result: int = 0, errno: int = 0, took: int = 12_345) -> bytes:
    ran = state not in (State.NOT_REACHED, State.LEFT_OUT)
    end = START + took if ran and state is not State.ENTERED else 0
    return RECORD.pack(result, START if ran else 0, end, errno, state)


def traced(parent: list[bytes], child: list[bytes]) -> Trace:
    sizes = {track: len(PLAN.track(track)) for track in Track}
    rest = record(State.NOT_REACHED)
    parent = parent + [rest] * (sizes[Track.PARENT] - len(parent))
    child = child + [rest] * (sizes[Track.CHILD] - len(child))
    return Trace(parent_steps=len(parent), child_steps=len(child), records=b"".join(parent + child))


TRACE = traced(
    [record(State.DONE), record(State.DONE, 4242, took=2_400_000), record(State.DONE, 7)],
    [
        record(State.DONE),
        record(State.ACCEPTED, -1, 17),
        record(State.SKIPPED, -1, 2),
        record(State.LEFT_OUT),
        record(State.FAILED, -1, 22, took=1_500_000_000),
        record(State.ENTERED),
        record(State.SKIPPED, 3),
    ],
)


def outcomes(text: str) -> dict[str, str]:
    """What stands behind the listing's line, by the step's address."""
    plain = {m[1]: line for line in listing(PLAN).splitlines() if (m := address(line))}
    found = {}
    for line in text.splitlines():
        if m := address(line):
            assert line.startswith(plain[m[1]])
            found[m[1]] = line.removeprefix(plain[m[1]]).strip()
    return found


def address(line: str) -> re.Match[str] | None:
    return re.match(r" .{3}  +([pc]\d+)  ", line)


def test_each_line_is_the_listings_with_its_result() -> None:
    found = outcomes(trace_listing(PLAN, TRACE))
    assert len(found) == 27
    assert {key: found[key] for key in ("p0", "p1", "p2", "p3")} == {
        "p0": "= 0  12 µs",
        "p1": "= 4242  2.4 ms",
        "p2": "= 7  12 µs",
        "p3": "not reached",
    }
    assert {key: found[key] for key in ("c1", "c2", "c3", "c4", "c5", "c6", "c7")} == {
        "c1": "= -1 EEXIST (foreseen)  12 µs",
        "c2": "= -1 ENOENT (skips the rest)  12 µs",
        "c3": "left out",
        "c4": "= -1 EINVAL FAILED  1.50 s",
        "c5": "= ?",
        "c6": "= 3 (skips the rest)  12 µs",
        "c7": "not reached",
    }


def test_the_head_is_the_listings_and_the_end_counts() -> None:
    lines = trace_listing(PLAN, TRACE).splitlines()
    assert lines[:3] == listing(PLAN).splitlines()[:3]
    assert lines[-1] == "9 of 27 steps ran in 1.50 s"


def test_results_stand_below_each_other() -> None:
    lines = [line for line in trace_listing(PLAN, TRACE).splitlines() if "not reached" in line]
    assert len({line.index("not reached") for line in lines}) == 1


def test_an_empty_trace_reached_nothing() -> None:
    text = trace_listing(PLAN, Trace())
    assert set(outcomes(text).values()) == {"not reached"}
    assert text.endswith("\n0 of 27 steps ran\n")
    assert trace_listing(plans.make_plan(), Trace()).endswith("0 of 0 steps ran\n")


@pytest.mark.parametrize(
    ("waited", "shown"), [(State.DONE, "= 0"), (State.ENTERED, "= ?"), (State.FAILED, "= ?")]
)
def test_an_execve_that_succeeded_does_not_return(waited: State, shown: str) -> None:
    before = [record(State.DONE)]
    trace = traced([*before * 11, record(waited, 0)], [*before * 13, record(State.ENTERED)])
    assert outcomes(trace_listing(PLAN, trace))["c13"] == shown


def test_color_and_ascii() -> None:
    painted = trace_listing(PLAN, TRACE, color=True)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", painted)
    assert painted != plain
    assert plain == trace_listing(PLAN, TRACE)
    text = trace_listing(PLAN, TRACE, ascii=True)
    assert text.isascii() and "12 us" in text


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (-5, "0 µs"),
        (999, "0 µs"),
        (12_999, "12 µs"),
        (3_400_000, "3.4 ms"),
        (1_200_000_000, "1.20 s"),
    ],
)
def test_times(nanoseconds: int, text: str) -> None:
    assert microseconds(nanoseconds) == text
