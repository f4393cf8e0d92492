"""What a replay came to: the exit status, the first failure, and a record of every step.

Data only. The engine fills it, the reporter reads it.
"""

from __future__ import annotations

import errno as errnos
import struct
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum

from nsrun.plan.model import Track

# Exit statuses a shell gives too (POSIX sh, 2.8.2): nsrun itself failed, the command cannot be
# executed, the command was not found, and the base to which a signal's number is added.
NSRUN_FAILED = 125
NOT_EXECUTABLE = 126
NOT_FOUND = 127
SIGNALLED = 128

_NOT_FOUND_ERRNOS = frozenset({errnos.ENOENT, errnos.ENOTDIR})
_NOT_EXECUTABLE_ERRNOS = frozenset(
    {
        errnos.EACCES,
        errnos.ENOEXEC,
        errnos.EPERM,
        errnos.EISDIR,
        errnos.ELOOP,
        errnos.ETXTBSY,
        errnos.ELIBBAD,
        errnos.EINVAL,
        errnos.E2BIG,
        errnos.ENAMETOOLONG,
    }
)


def exec_status(errno: int) -> int:
    """The exit status for a failed execve(2): 127 not found, 126 not executable, else 125."""
    if errno in _NOT_FOUND_ERRNOS:
        return NOT_FOUND
    return NOT_EXECUTABLE if errno in _NOT_EXECUTABLE_ERRNOS else NSRUN_FAILED


class State(IntEnum):
    """How far a step came.

    ENTERED: begun and not returned: an execve(2) that succeeded, or the step in which its
    process ended. ACCEPTED: it failed with an errno the plan counts as success. SKIPPED: its
    errno or expectation ended its action without failing it. LEFT_OUT: not run because of that.
    """

    NOT_REACHED = 0
    ENTERED = 1
    DONE = 2
    ACCEPTED = 3
    SKIPPED = 4
    LEFT_OUT = 5
    FAILED = 6


class Kind(StrEnum):
    """What made a step a failure.

    ERRNO: the call failed. RESULT: it gave another result than the only right one. EXPECT: what
    the kernel wrote is not what the plan expects. SPAWN: a helper failed. ENDED: the process of
    the track ended. INTERNAL: the plan or the executor is at fault, not the kernel.
    """

    ERRNO = "errno"
    RESULT = "result"
    EXPECT = "expect"
    SPAWN = "spawn"
    ENDED = "ended"
    INTERNAL = "internal"


def errno_name(errno: int) -> str:
    """``ENOENT``; the number where it has no name, "" for 0."""
    return errnos.errorcode.get(errno, str(errno)) if errno else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """One step's record. ``start`` and ``end`` are nanoseconds of CLOCK_REALTIME, 0 if not run.

    ``result`` is the call's result; for ENDED tracks and skipped steps it means nothing.
    """

    state: State = State.NOT_REACHED
    result: int = 0
    errno: int = 0
    start: int = 0
    end: int = 0

    @property
    def errno_name(self) -> str:
        return errno_name(self.errno)


# result, start, end, errno, state
RECORD = struct.Struct("=qqqii")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """The records of all steps of both tracks, as they are at the moment of reading.

    While a replay goes on ``records`` is memory that both processes write; afterwards a copy.
    """

    parent_steps: int = 0
    child_steps: int = 0
    records: bytes | memoryview = field(default=b"", repr=False)

    def result(self, track: Track, index: int) -> StepResult:
        """The record of step ``index`` of a track; raises IndexError for a step not there."""
        steps = self.parent_steps if track is Track.PARENT else self.child_steps
        if not 0 <= index < steps:
            raise IndexError(f"no step {index} in the {track.value}'s track")
        slot = index if track is Track.PARENT else self.parent_steps + index
        result, start, end, errno, state = RECORD.unpack_from(self.records, slot * RECORD.size)
        return StepResult(state=State(state), result=result, errno=errno, start=start, end=end)

    def results(self, track: Track) -> tuple[StepResult, ...]:
        """The records of a whole track, in its order."""
        steps = self.parent_steps if track is Track.PARENT else self.child_steps
        return tuple(self.result(track, index) for index in range(steps))


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """The step that ended the run, and how.

    ``index`` is the step's number in its track, -1 where no step had begun. ``value`` depends
    on the kind: RESULT the actual result, EXPECT the actual masked value, SPAWN and ENDED the
    exit status (128+N for signal N; -1 where it is not known). ``expect`` numbers the
    expectation within the call, in the order of its arguments. ``text``: the kernel's own words
    (fsopen(2)'s log, netlink's extended acknowledgement), a helper's stderr, or what an
    internal fault says.
    """

    track: Track
    index: int
    kind: Kind
    errno: int = 0
    value: int = 0
    expect: int = -1
    text: str = ""

    @property
    def address(self) -> str:
        """``c9``; "" where no step had begun."""
        return f"{self.track.value[0]}{self.index}" if self.index >= 0 else ""

    @property
    def errno_name(self) -> str:
        return errno_name(self.errno)


@dataclass(frozen=True, slots=True, kw_only=True)
class UndoFailure:
    """An undo step that failed; ``action`` numbers Plan.actions, ``step`` its undo steps."""

    action: int
    step: int
    what: str
    kind: Kind
    errno: int = 0
    value: int = 0
    text: str = ""

    @property
    def errno_name(self) -> str:
        return errno_name(self.errno)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a replay ended.

    ``status`` is nsrun's exit status: the command's own, 128+N, or 125, 126, 127.
    ``started``: the command's execve succeeded. ``signal``: the signal that ended the command,
    or with ``interrupted`` the one that ended nsrun's preparations. ``timed_out``: the command
    was stopped by its timeout. ``dropped_signal``: a signal the command, being PID 1 without a
    handler for it, would not have noticed (pid_namespaces(7)), so that it was killed.
    ``survivors``: processes that did not end when killed.
    """

    status: int
    started: bool = False
    failure: Failure | None = None
    undo_failures: tuple[UndoFailure, ...] = ()
    signal: int | None = None
    interrupted: bool = False
    timed_out: bool = False
    dropped_signal: int | None = None
    survivors: tuple[int, ...] = ()
    trace: Trace = field(default_factory=Trace)
