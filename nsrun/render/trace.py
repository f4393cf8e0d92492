"""A plan with what came of each step: the listing's lines, each with result and time."""

from __future__ import annotations

from nsrun.plan.model import Placed, Plan, Track
from nsrun.plan.ops import EXEC
from nsrun.render.lanes import awaited_sync, sent_sync
from nsrun.render.listing import aligned, header, step_rows
from nsrun.render.style import Role, Style
from nsrun.render.text import cells, in_ascii, pad
from nsrun.replay.outcome import State, StepResult, Trace

# How far right results start at most; a longer line pushes its own result out.
RESULT_COLUMN = 132
# What strace(1) prints for a call that did not return.
UNRETURNED = "= ?"


def trace_listing(plan: Plan, trace: Trace, *, ascii: bool = False, color: bool = False) -> str:
    """The listing of ``plan`` without its footer, `` = result  time`` behind each step.

    Up to the result a line is the listing's own, so that the two compare line by line.
    """
    plain, style = Style(), Style(color)
    rows = list(step_rows(plan, ascii=ascii))
    bare = [line.rstrip() for line in aligned(rows, plain)]
    painted = [line.rstrip() for line in aligned(rows, style)]
    column = min(RESULT_COLUMN, max(map(cells, bare), default=0))
    executed = _executed(plan, trace)
    lines = [*header(plan, style), ""]
    for row, text, shown in zip(rows, bare, painted, strict=True):
        outcome, role = _outcome(_result(trace, row.placed))
        if executed and sent_sync(row.placed) == EXEC and outcome == UNRETURNED:
            outcome, role = "= 0", Role.ADDED
        lines.append(f"{shown}{pad('', column - cells(text))}  {style.paint(outcome, role)}")
    lines += ["", _summary(trace, plan)]
    text = "\n".join(lines) + "\n"
    return in_ascii(text) if ascii else text


def _result(trace: Trace, placed: Placed) -> StepResult:
    steps = trace.parent_steps if placed.track is Track.PARENT else trace.child_steps
    return trace.result(placed.track, placed.index) if placed.index < steps else StepResult()


def _executed(plan: Plan, trace: Trace) -> bool:
    """Whether the command's execve succeeded: a call that did never returns to tell."""
    waits = [p for p in plan.track(Track.PARENT) if awaited_sync(p) == EXEC]
    return any(_result(trace, placed).state is State.DONE for placed in waits)


def _outcome(result: StepResult) -> tuple[str, Role]:
    """What came of one step, and how it is painted."""
    time = microseconds(result.end - result.start) if result.end and result.start else ""
    error = f"= -1 {result.errno_name}" if result.errno else f"= {result.result}"
    match result.state:
        case State.NOT_REACHED:
            return "not reached", Role.ASIDE
        case State.LEFT_OUT:
            return "left out", Role.ASIDE
        case State.ENTERED:
            return UNRETURNED, Role.CHANGED
        case State.DONE:
            return f"= {result.result}  {time}".rstrip(), Role.ADDED
        case State.ACCEPTED:
            return f"{error} (foreseen)  {time}".rstrip(), Role.ADDED
        case State.SKIPPED:
            return f"{error} (skips the rest)  {time}".rstrip(), Role.CHANGED
        case State.FAILED:
            return f"{error} FAILED  {time}".rstrip(), Role.REMOVED


def microseconds(nanoseconds: int) -> str:
    """A time of a step: ``12 µs``, ``3.4 ms``, ``1.20 s``."""
    if nanoseconds < 1_000_000:
        return f"{max(0, nanoseconds) // 1000} µs"
    if nanoseconds < 1_000_000_000:
        return f"{nanoseconds / 1_000_000:.1f} ms"
    return f"{nanoseconds / 1_000_000_000:.2f} s"


def _summary(trace: Trace, plan: Plan) -> str:
    results = [_result(trace, placed) for placed in plan.steps()]
    ran = [r for r in results if r.state not in (State.NOT_REACHED, State.LEFT_OUT)]
    starts = [r.start for r in ran if r.start]
    ends = [r.end for r in ran if r.end]
    whole = f" in {microseconds(max(ends) - min(starts))}" if starts and ends else ""
    return f"{len(ran)} of {len(results)} steps ran{whole}"
