"""What every step shares: registers, a result or a failure, and the record of it."""

from __future__ import annotations

import mmap
import struct
import time
from typing import NamedTuple, Protocol

from nsrun.kernel.values import Reg, RegKind
from nsrun.plan.model import Track
from nsrun.replay.outcome import RECORD, Kind, State, StepResult, Trace

# As much of the kernel's or an exception's words as goes into one message on the channel.
TEXT_MAX = 4096


class StepError(Exception):
    """A step failed; the fields are those of :class:`nsrun.replay.outcome.Failure`."""

    def __init__(
        self, kind: Kind, *, errno: int = 0, value: int = 0, expect: int = -1, text: bytes = b""
    ) -> None:
        super().__init__(kind)
        self.kind = kind
        self.errno = errno
        self.value = value
        self.expect = expect
        self.text = text


class UnsetRegisterError(StepError):
    """A step reads a register that no step has written."""


def internal(text: bytes) -> StepError:
    """The failure of a plan or of the executor itself."""
    return StepError(Kind.INTERNAL, text=text[:TEXT_MAX])


def from_os_error(error: OSError) -> StepError:
    """The failure of a call that the executor itself makes for a step."""
    return StepError(Kind.ERRNO, errno=error.errno or 0, value=-1)


def describe(error: BaseException) -> bytes:
    """An exception as ``Type: words (function:line)``, without reading any source file."""
    where = error.__traceback__
    while where is not None and where.tb_next is not None:
        where = where.tb_next
    text = f"{type(error).__name__}: {error}"
    if where is not None:
        text += f" ({where.tb_frame.f_code.co_name}:{where.tb_lineno})"
    return text.encode("utf-8", "backslashreplace")[:TEXT_MAX]


class Result(NamedTuple):
    """How a step that did not fail ended; SKIPPED ends its action."""

    state: State
    value: int = 0
    errno: int = 0


DONE = Result(State.DONE)
# The step forked, and this is the new process: the old one, which knows the pid, records it.
GOES_ON = Result(State.ENTERED)


class Runnable(Protocol):
    """A prepared step that needs nothing but registers."""

    def run(self, registers: Registers) -> Result:
        """Do it; raises StepError."""


class Registers:
    """The values known only while replaying. Written once each; a clone copies them."""

    __slots__ = ("_kinds", "_values")

    def __init__(self) -> None:
        self._values: dict[str, int] = {}
        self._kinds: dict[str, RegKind] = {}

    def __contains__(self, reg: Reg) -> bool:
        return reg.name in self._values

    def get(self, reg: Reg) -> int:
        """The value; one that no step has written is the plan's fault."""
        value = self._values.get(reg.name)
        if value is None:
            text = b"register %%%s was never set" % reg.name.encode()
            raise UnsetRegisterError(Kind.INTERNAL, text=text)
        return value

    def argument(self, reg: Reg) -> int:
        """The value for a system call's argument.

        To kill(2) and its like -1 and 0 are no process but all of them, so a pid that an
        accepted errno left at -1 is not passed on.
        """
        value = self.get(reg)
        if reg.kind is RegKind.PID and value <= 0:
            raise internal(b"register %%%s holds no process: %d" % (reg.name.encode(), value))
        return value

    def set(self, reg: Reg, value: int) -> None:
        if reg.name in self._values:
            raise internal(b"register %%%s is set twice" % reg.name.encode())
        self._values[reg.name] = value
        self._kinds[reg.name] = reg.kind

    def descriptors(self) -> dict[str, int]:
        """The registers that hold descriptors."""
        return {
            name: value
            for name, value in self._values.items()
            if self._kinds[name] is RegKind.FD and value >= 0
        }


_NUMBER = struct.Struct("=I")


class _Shared:
    """An attribute that is one of the recorder's numbers."""

    def __init__(self, place: int) -> None:
        self._place = place

    def __get__(self, recorder: Recorder, _owner: object) -> int:
        return recorder._number(self._place)

    def __set__(self, recorder: Recorder, number: int) -> None:
        recorder._set_number(self._place, number)


class Recorder:
    """The shared memory in which both tracks record their steps.

    Made before the clone and anonymous: writing needs no system call, and what a killed process
    wrote stays readable. Times are of CLOCK_REALTIME, because CLOCK_MONOTONIC is another clock
    in each time namespace (time_namespaces(7)).

    ``heir``: the number of the process that undoes where the launcher is killed, 0 for none;
    ``settled``: that of the last of them that is out of reach of the launcher's process group.
    """

    heir, settled = _Shared(0), _Shared(1)

    def __init__(self, parent_steps: int, child_steps: int, actions: int = 0) -> None:
        self.parent_steps = parent_steps
        self.child_steps = child_steps
        self._steps_size = (parent_steps + child_steps) * RECORD.size
        self._memory = mmap.mmap(-1, self._steps_size + (2 + actions) * _NUMBER.size)

    def _offset(self, track: Track, index: int) -> int:
        slot = index if track is Track.PARENT else self.parent_steps + index
        return slot * RECORD.size

    def enter(self, track: Track, index: int) -> None:
        offset = self._offset(track, index)
        RECORD.pack_into(self._memory, offset, 0, time.time_ns(), 0, 0, State.ENTERED)

    def leave(self, track: Track, index: int, result: Result) -> None:
        offset = self._offset(track, index)
        start = RECORD.unpack_from(self._memory, offset)[1]
        RECORD.pack_into(
            self._memory, offset, result.value, start, time.time_ns(), result.errno, result.state
        )

    def left_out(self, track: Track, index: int) -> None:
        RECORD.pack_into(self._memory, self._offset(track, index), 0, 0, 0, 0, State.LEFT_OUT)

    def undone(self, action: int) -> int:
        """How many undo steps of an action are through."""
        return self._number(2 + action)

    def note_undone(self, action: int, steps: int) -> None:
        self._set_number(2 + action, max(steps, self.undone(action)))

    def _number(self, place: int) -> int:
        found = _NUMBER.unpack_from(self._memory, self._steps_size + place * _NUMBER.size)
        return int(found[0])

    def _set_number(self, place: int, number: int) -> None:
        _NUMBER.pack_into(self._memory, self._steps_size + place * _NUMBER.size, number)

    def result(self, track: Track, index: int) -> StepResult:
        return self.live().result(track, index)

    def live(self) -> Trace:
        """The records as both processes write them."""
        return self._trace(memoryview(self._memory)[: self._steps_size])

    def close(self) -> Trace:
        """A copy of the records; the memory stays for whoever still reads it."""
        return self._trace(bytes(self._memory[: self._steps_size]))

    def _trace(self, records: bytes | memoryview) -> Trace:
        return Trace(parent_steps=self.parent_steps, child_steps=self.child_steps, records=records)
