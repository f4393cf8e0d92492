"""The order in which a stack comes up: who may start now, and who waits for what never comes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection

from nsrun.diag import Diagnostic
from nsrun.runtime import store
from nsrun.runtime.stack_member import BACKOFF, Kept, State
from nsrun.spec.stack import Condition, Stack

_LINES_SHOWN = 10
# A container that is to be healthy may end at its start, and five times be started again.
_PATIENCE = BACKOFF * 2**5


def may_start(kept: Kept, everyone: Collection[Kept]) -> bool:
    """Whether all that ``kept`` depends on is as it should be."""
    return all(
        _holds(other, dependency.condition)
        for dependency in kept.member.depends_on
        for other in everyone
        if other.member.service == dependency.service
    )


def _holds(kept: Kept, condition: Condition) -> bool:
    match condition:
        case Condition.STARTED:
            return kept.state in (State.RUNNING, State.RESTARTING, State.EXITED)
        case Condition.HEALTHY:
            healthy = kept.healthy if kept.member.healthcheck is not None else True
            return kept.runs and healthy is True
        case Condition.COMPLETED:
            return kept.state is State.EXITED and kept.status == 0


def never(kept: Kept, everyone: Collection[Kept], stack: Stack) -> Diagnostic | None:
    """NS609 where ``kept`` waits for what will never be, with the last lines of whom it waits for;
    None where there is hope."""
    for dependency in kept.member.depends_on:
        for other in everyone:
            if other.member.service != dependency.service:
                continue
            reason = _hopeless(other, dependency.condition)
            if reason:
                return _why(kept, other, reason, dependency.path, stack)
    return None


def _hopeless(kept: Kept, condition: Condition) -> str:
    """Why a condition will never hold, "" where it may."""
    if kept.state is State.FAILED:
        return "did not start"
    if condition is Condition.COMPLETED and kept.state is State.EXITED and kept.status != 0:
        return f"ended with exit status {kept.status}"
    if condition is Condition.HEALTHY:
        if kept.healthy is False:
            return "is not healthy"
        if kept.state is State.EXITED:
            return f"ended with exit status {kept.status}"
        if kept.state is State.RESTARTING and kept.backoff > _PATIENCE:
            return f"ends again and again, the last time with exit status {kept.status}"
    return ""


def unwell(kept: Kept, stack: Stack) -> Diagnostic | None:
    """NS609 where a container that is to be healthy is not."""
    if not kept.runs:
        reason = f"ended with exit status {kept.status}" if kept.state is State.EXITED else ""
    else:
        reason = "is not healthy" if kept.healthy is False else ""
    path = f"{kept.member.path}.healthcheck"
    return _diagnostic(f"{kept.name} {reason}", kept, path, stack) if reason else None


def _why(kept: Kept, other: Kept, reason: str, path: str, stack: Stack) -> Diagnostic:
    waits = kept.state is State.WAITING
    what = "cannot start" if waits else "runs without what it depends on"
    return _diagnostic(f"{kept.name} {what}: {other.name} {reason}", other, path, stack)


def _diagnostic(summary: str, other: Kept, path: str, stack: Stack) -> Diagnostic:
    last = tuple(_last_lines(os.path.join(store.folder(), other.name)))
    return Diagnostic(
        code="NS609",
        summary=summary,
        span=stack.spans.get(path),
        path=path,
        notes=(f"the last lines of {other.name}:", *last) if last else (),
        help=(f"nsrun logs {other.name}", "or keep what runs: nsrun up --keep"),
    )


def _last_lines(folder: str) -> list[str]:
    lines: list[str] = []
    for file in store.log_files(folder):
        with contextlib.suppress(OSError), open(file, encoding="utf-8", errors="replace") as text:
            lines += [store.line_of(line.rstrip("\n")).text for line in text]
    return lines[-_LINES_SHOWN:]
