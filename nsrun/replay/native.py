"""The native executor, from Python's side: starting it, and reading what a replay came to.

The program is generic: it replays a plan in its binary form. A launcher that has made a plan
becomes it (execve), so that no interpreter stays in memory while a container runs; when there is
something to tell it executes Python again with plan and outcome.
"""

from __future__ import annotations

import os
import signal
import struct
from typing import NoReturn

from nsrun.plan.binary import encode
from nsrun.plan.model import Plan, Track
from nsrun.replay.outcome import RECORD, Failure, Kind, Outcome, Trace, UndoFailure

# What the program takes as its name when it is to replay a descriptor's plan.
NAME = "nsrun-replay"

# native/run.h: struct outcome, with struct failure and struct undo_failure within it
_MAGIC = b"nsrunout"
_TEXT_MAX, _UNDO_TEXT_MAX = 4096, 256
_UNDO_FAILURES_MAX, _SURVIVORS_MAX = 64, 64
_HEAD = struct.Struct("<8sIiIIIiiIIIII")
_FAILURE = struct.Struct(f"<IIqiIiiII{_TEXT_MAX}s")
_UNDO = struct.Struct(f"<IIqIiII{_UNDO_TEXT_MAX}s")
_PIDS = struct.Struct(f"<{_SURVIVORS_MAX}i")
_SIZE = _HEAD.size + _PIDS.size + _FAILURE.size + _UNDO_FAILURES_MAX * _UNDO.size

_KINDS = tuple(Kind)
_TRACKS = (Track.PARENT, Track.CHILD)


class OutcomeError(Exception):
    """What is no outcome as the native executor writes it."""


def become(
    program: str | int, plan: Plan, *, trace: bool = False, by_signal: bool = False
) -> NoReturn:
    """Replay ``plan`` in this process's place; ``program``: a path or a descriptor.

    ``by_signal``: the process ends by the signal that has ended the command, not with 128+N.
    Raises OSError where the program cannot be executed.

    The plan goes along in a sealed-off file of its own (memfd_create(2)).
    """
    fd = memory_file("plan", encode(plan))
    # What Python changed of the caller's dispositions is not the command's to inherit.
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    options = ("t" if trace else "") + ("k" if by_signal else "")
    os.execve(program, [NAME, str(fd), options or "-"], os.environ)


def replay(program: str, plan: Plan, *, trace: bool = True) -> Outcome:
    """Replay ``plan`` in a process of its own and wait for it."""
    plan_fd = memory_file("plan", encode(plan))
    outcome_fd = memory_file("outcome", b"")
    try:
        argv = [NAME, str(plan_fd), "t" if trace else "-", str(outcome_fd)]
        pid = os.posix_spawn(program, argv, os.environ, setsigdef=[signal.SIGPIPE, signal.SIGXFSZ])
        os.waitpid(pid, 0)
        os.lseek(outcome_fd, 0, os.SEEK_SET)
        return read_outcome(outcome_fd, plan)
    finally:
        os.close(plan_fd)
        os.close(outcome_fd)


def memory_file(name: str, content: bytes) -> int:
    """A descriptor of a new file in memory, at its start and not close-on-exec."""
    fd = os.memfd_create(name, 0)
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def read_outcome(fd: int, plan: Plan) -> Outcome:
    """The outcome of ``plan`` in a file, from its start; raises OutcomeError."""
    data = b""
    offset = 0
    while piece := os.pread(fd, 1 << 20, offset):
        data += piece
        offset += len(piece)
    return decode_outcome(data, plan)


def decode_outcome(data: bytes, plan: Plan) -> Outcome:
    """The outcome of ``plan`` in ``data``, as native/replay.c wrote it; raises OutcomeError."""
    if len(data) < _SIZE:
        raise OutcomeError(f"an outcome of {len(data)} bytes is cut")
    (
        magic,
        size,
        status,
        started,
        interrupted,
        timed_out,
        ended_by,
        dropped,
        undone,
        survivors,
        parent_steps,
        child_steps,
        _,
    ) = _HEAD.unpack_from(data)
    records = data[_SIZE:]
    if magic != _MAGIC or size != _SIZE:
        raise OutcomeError("this is no outcome, or one of another version")
    if len(records) != (parent_steps + child_steps) * RECORD.size:
        raise OutcomeError("the records of an outcome are cut")
    pids = _PIDS.unpack_from(data, _HEAD.size)
    return Outcome(
        status=status,
        started=bool(started),
        failure=_failure(data, _HEAD.size + _PIDS.size),
        undo_failures=_undo_failures(data, min(undone, _UNDO_FAILURES_MAX), plan),
        signal=ended_by or None,
        interrupted=bool(interrupted),
        timed_out=bool(timed_out),
        dropped_signal=dropped or None,
        survivors=pids[: min(survivors, _SURVIVORS_MAX)],
        trace=Trace(parent_steps=parent_steps, child_steps=child_steps, records=records),
    )


def _failure(data: bytes, offset: int) -> Failure | None:
    is_set, track, value, index, kind, errno, expect, size, _, text = _FAILURE.unpack_from(
        data, offset
    )
    if not is_set:
        return None
    return Failure(
        track=_TRACKS[track],
        index=index,
        kind=_KINDS[kind],
        errno=errno,
        value=value,
        expect=expect,
        text=_text(text, size),
    )


def _undo_failures(data: bytes, count: int, plan: Plan) -> tuple[UndoFailure, ...]:
    start = _HEAD.size + _PIDS.size + _FAILURE.size
    found = []
    for number in range(count):
        action, step, value, kind, errno, size, _, text = _UNDO.unpack_from(
            data, start + number * _UNDO.size
        )
        found.append(
            UndoFailure(
                action=action,
                step=step,
                what=plan.actions[action].what,
                kind=_KINDS[kind],
                errno=errno,
                value=value,
                text=_text(text, size),
            )
        )
    return tuple(found)


def _text(field: bytes, size: int) -> str:
    return field[: min(size, len(field))].decode("utf-8", "backslashreplace")
