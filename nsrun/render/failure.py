"""What went wrong in a replay, told in the words of the spec and of the plan.

The executor knows a step and an errno; the plan knows which action the step belongs to and
which line asked for it; an explainer, handed in, may look at the live system for the cause.
"""

from __future__ import annotations

import dataclasses
import errno
import os
import signal
from collections.abc import Callable, Iterator
from typing import assert_never

from nsrun.diag import Diagnostic, Severity
from nsrun.kernel.abi import signal_name
from nsrun.kernel.values import Call, Expect, Out, Str
from nsrun.plan.model import MEMORY_LIMIT, Action, Placed, Plan
from nsrun.plan.ops import Op, Spawn
from nsrun.render.asked import call_name, call_values
from nsrun.render.filtered import filtered
from nsrun.render.steps import format_text, step_text
from nsrun.render.text import duration
from nsrun.replay.outcome import (
    NOT_EXECUTABLE,
    NOT_FOUND,
    SIGNALLED,
    Failure,
    Kind,
    Outcome,
    UndoFailure,
    errno_name,
)

# (call, errno's name, arguments) -> (why, help); both empty where the cause is not known.
Explain = Callable[[str, str, tuple[str | int, ...]], tuple[tuple[str, ...], tuple[str, ...]]]

Fault = Failure | UndoFailure
# grep(1): no line is as asked for.
_NOT_FOUND = 1


def no_explanation(
    _call: str, _errno: str, _args: tuple[str | int, ...]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The explainer that knows nothing: it never guesses."""
    return (), ()


def outcome_diagnostics(
    plan: Plan, outcome: Outcome, explain: Explain = no_explanation
) -> tuple[Diagnostic, ...]:
    """Everything a user must be told of a replay, the failure first; empty when all went well."""
    return tuple(_diagnostics(plan, outcome, explain))


def _diagnostics(plan: Plan, outcome: Outcome, explain: Explain) -> Iterator[Diagnostic]:
    if outcome.failure is not None or outcome.interrupted:
        yield failure_diagnostic(plan, outcome, explain)
    if outcome.timed_out:
        yield Diagnostic(code="NS603", summary="the command ran out of time and was stopped")
    if outcome.dropped_signal is not None:
        yield _dropped(signal_name(outcome.dropped_signal))
    if (ended := filtered(plan, outcome)) is not None:
        action, said = ended
        at = _located(action)
        yield dataclasses.replace(
            said, span=at.span, path=at.path, label=at.label, notes=at.notes
        )
    for undo in outcome.undo_failures:
        yield _out_of_memory(plan, undo, outcome, explain) or undo_diagnostic(plan, undo)
    if outcome.survivors:
        pids = ", ".join(map(str, outcome.survivors))
        yield Diagnostic(code="NS504", summary=f"processes did not end when killed: {pids}")


def failure_diagnostic(
    plan: Plan, outcome: Outcome, explain: Explain = no_explanation
) -> Diagnostic:
    """The failure of ``outcome`` (or its interruption) with its place in the spec and the plan.

    Raises ValueError where the outcome has neither.
    """
    failure = outcome.failure
    if outcome.interrupted:
        return _interrupted(plan, outcome)
    if failure is None:
        raise ValueError("the replay did not fail")
    number, placed = _find(plan, failure)
    if placed is None:
        return Diagnostic(
            code=_code(None, failure, outcome),
            summary=_reason("the replay", None, failure),
            errno=failure.errno_name,
            notes=_said(None, failure),
        )
    why, tips = explain(call_name(placed.op), failure.errno_name, call_values(placed.op))
    found = _located(placed.action)
    return dataclasses.replace(
        found,
        code=_code(placed.op, failure, outcome),
        summary=_summary(placed, failure),
        step=_step(plan, number, placed),
        errno=failure.errno_name,
        why=why,
        help=tips,
        notes=(*_said(placed.op, failure), *found.notes),
    )


def undo_diagnostic(plan: Plan, undo: UndoFailure) -> Diagnostic:
    """NS504: a step that takes something back has failed, and the thing is still there."""
    found = Diagnostic(code="NS504", summary="")
    op: Op | None = None
    if 0 <= undo.action < len(plan.actions):
        action = plan.actions[undo.action]
        found = _located(action)
        op = action.undo[undo.step] if 0 <= undo.step < len(action.undo) else None
    return dataclasses.replace(
        found,
        code="NS504",
        summary=_reason(f"cannot undo: {undo.what}", op, undo),
        step=f"undo: {step_text(op, full=True)}" if op else "",
        errno=undo.errno_name,
        notes=(*_said(op, undo), *found.notes),
    )


def _out_of_memory(
    plan: Plan, undo: UndoFailure, outcome: Outcome, explain: Explain
) -> Diagnostic | None:
    """NS610 where the kernel's count of processes ended for want of memory is not 0.

    The count alone says so, not the exit status: that is 137 for anybody's SIGKILL.
    """
    counted = undo.kind is Kind.EXPECT or (undo.kind is Kind.SPAWN and undo.value == _NOT_FOUND)
    if not counted or not 0 <= undo.action < len(plan.actions):
        return None
    action = plan.actions[undo.action]
    if not action.what.startswith(MEMORY_LIMIT):
        return None
    limit = action.what.removeprefix(MEMORY_LIMIT)
    killed = outcome.signal == signal.SIGKILL
    why, tips = explain("oom_kill", "", ())
    return dataclasses.replace(
        _located(action),
        code="NS610",
        severity=Severity.ERROR if outcome.status else Severity.WARNING,
        summary=f"memory limit{limit} reached: the kernel ended "
        + ("the command" if killed else "a process of the container"),
        why=("there was no memory left in its control group that could be taken back", *why),
        help=tips or ("raise `memory` under resources, or look at what the command needs",),
        notes=(),
    )


def _interrupted(plan: Plan, outcome: Outcome) -> Diagnostic:
    name = f" by {signal_name(outcome.signal)}" if outcome.signal else ""
    number, placed = _find(plan, outcome.failure) if outcome.failure else (0, None)
    return Diagnostic(
        code="NS505",
        summary=f"interrupted{name} before the command ran",
        step=_step(plan, number, placed) if placed else "",
        notes=("what had been made is undone",) if not outcome.undo_failures else (),
    )


def _dropped(name: str) -> Diagnostic:
    """pid_namespaces(7): PID 1 gets only the signals it has a handler for."""
    return Diagnostic(
        code="NS604",
        severity=Severity.WARNING,
        summary=f"the command does not handle {name} and was killed",
        why=(f"as PID 1 of its pid namespace it gets no {name} without a handler for it",),
        help=("`init: true` runs the command under a small PID 1", "or name another stop_signal"),
    )


# --- where -------------------------------------------------------------------------------------


def _find(plan: Plan, failure: Failure) -> tuple[int, Placed | None]:
    """The failed step and its number in the whole plan, from 1."""
    for number, placed in enumerate(plan.steps(), start=1):
        if placed.track is failure.track and placed.index == failure.index:
            return number, placed
    return 0, None


def _located(action: Action) -> Diagnostic:
    """A diagnostic that points at what asked for ``action``; the rest is still to be filled."""
    origin = action.origin
    return Diagnostic(
        code="NS501",
        summary="",
        span=origin.span,
        path=origin.path,
        label="implied here" if origin.rule else "asked for here",
        notes=(f"implied: {origin.rule}",) if origin.rule else (),
    )


def _step(plan: Plan, number: int, placed: Placed) -> str:
    total = sum(len(action.steps) for action in plan.actions)
    text = step_text(placed.op, full=True)
    return f"step {number} of {total} ({placed.address}), {placed.track}: {text}"


# --- what --------------------------------------------------------------------------------------


_CODES = {Kind.ENDED: "NS502", Kind.SPAWN: "NS503", Kind.INTERNAL: "NS003"}


def _code(op: Op | None, failure: Failure, outcome: Outcome) -> str:
    if failure.kind in _CODES:
        return _CODES[failure.kind]
    if op is not None and _is_exec(op):
        return {NOT_FOUND: "NS601", NOT_EXECUTABLE: "NS602"}.get(outcome.status, "NS501")
    return "NS501"


def _is_exec(op: Op) -> bool:
    return isinstance(op, Call) and op.name in ("execve", "execveat")


def _summary(placed: Placed, failure: Failure) -> str:
    op = placed.op
    if failure.kind is Kind.ENDED:
        return _reason(f"the {placed.track}", op, failure)
    if _is_exec(op) and isinstance(op, Call):
        if failure.errno == errno.ENOENT:
            # The last folder of PATH has it no more than the others: name what was asked for.
            return _reason(f"cannot {placed.action.what}", op, failure)
        program = next((a.value for a in op.args if isinstance(a, Str)), "the command")
        return _reason(f"cannot run {program}", op, failure)
    return _reason(f"cannot {placed.action.what}", op, failure)


def _reason(subject: str, op: Op | None, failure: Fault) -> str:
    """``subject`` and, after it, what happened to it."""
    match failure.kind:
        case Kind.ENDED:
            return f"{subject} ended before the command ran: {exit_text(failure.value)}"
        case Kind.ERRNO:
            return f"{subject}: {errno_text(failure.errno)}"
        case Kind.RESULT:
            wanted = f", not {op.result}" if isinstance(op, Call) else ""
            return f"{subject}: the result is {failure.value}{wanted}"
        case Kind.EXPECT:
            return f"{subject}: the kernel's answer is not what the plan expects"
        case Kind.SPAWN:
            if failure.errno == errno.ETIMEDOUT and isinstance(op, Spawn) and op.timeout:
                return f"{subject}: {_helper(op)} ran longer than {duration(op.timeout)}"
            if failure.errno:
                return f"{subject}: {_helper(op)}: {errno_text(failure.errno)}"
            return f"{subject}: {_helper(op)} ended with {exit_text(failure.value)}"
        case Kind.INTERNAL:
            return f"{subject}: {failure.text or 'internal fault'}"
        case _:
            assert_never(failure.kind)


def _said(op: Op | None, failure: Fault) -> tuple[str, ...]:
    """What the kernel or a helper itself had to say, and what was seen instead of the expected."""
    notes: list[str] = []
    if failure.kind is Kind.EXPECT:
        expect = _expectation(op, failure.expect) if isinstance(failure, Failure) else None
        wanted = f"expected: {expect.text}; " if expect else ""
        notes.append(f"{wanted}found: {failure.value:#x}")
    text = failure.text.strip()
    if text and failure.kind is not Kind.INTERNAL:
        speaker = _helper(op) if failure.kind is Kind.SPAWN else "the kernel"
        notes.append(f"{speaker} says: {text.removeprefix(f'{speaker}: ')}")
    return tuple(notes)


def _expectation(op: Op | None, number: int) -> Expect | None:
    if not isinstance(op, Call):
        return None
    expects = [expect for arg in op.args if isinstance(arg, Out) for expect in arg.expects]
    return expects[number] if 0 <= number < len(expects) else None


def _helper(op: Op | None) -> str:
    """The name of the program that a spawn runs, without its folder."""
    if not isinstance(op, Spawn) or not op.argv:
        return "the helper"
    word = op.argv[0]
    return os.path.basename(word.value if isinstance(word, Str) else format_text(word))


def errno_text(errno: int) -> str:
    """``Invalid argument (EINVAL)``"""
    return f"{os.strerror(errno)} ({errno_name(errno)})" if errno else "no reason given"


def exit_text(status: int) -> str:
    """An exit status in words: ``exit status 3``, ``signal SIGKILL`` for 137."""
    if status < 0:
        return "an unknown status"
    if status > SIGNALLED:
        return f"signal {signal_name(status - SIGNALLED)}"
    return f"exit status {status}"
