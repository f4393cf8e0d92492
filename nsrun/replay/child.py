"""The child's track: from the clone to execve, and nothing else.

What runs here may share its file system with an image that is not trusted: a module found
there would run with our rights. So nothing is imported, no text is decoded by a codec that is
loaded on use, no file is read; the process ends in execve(2) or _exit(2), never by unwinding
into what the caller's process would do at its end.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import NoReturn, assert_never

from nsrun.kernel.values import Call, Reg
from nsrun.plan.ops import (
    Await,
    Clone,
    Init,
    Netlink,
    ReceiveFd,
    SendFd,
    Signal,
    Spawn,
    Wait,
)
from nsrun.replay import reap
from nsrun.replay.channel import Message, Nothing, Tag
from nsrun.replay.outcome import NSRUN_FAILED, Kind, State
from nsrun.replay.program import Program, Step
from nsrun.replay.step import (
    GOES_ON,
    Recorder,
    Registers,
    Result,
    StepError,
    describe,
    from_os_error,
    internal,
)
from nsrun.replay.track import TrackError, run_action


class ParentGoneError(BaseException):
    """The parent's end of the channel is closed: there is nobody to report to.

    Not an Exception: no handler of a step's failure may take it for one.
    """


class ChildTrack:
    """Replays the child's track in this process, which a clone has just made."""

    def __init__(self, program: Program, registers: Registers, recorder: Recorder) -> None:
        self._program = program
        self._registers = registers
        self._recorder = recorder
        self._index = 0

    def main(self) -> NoReturn:
        """Run the track. Does not return."""
        try:
            _forget_imports()
            for prepared in self._program.child:
                run_action(prepared, self._execute, self._recorder)
            os._exit(0)
        except TrackError as failed:
            self._report(failed.step.index, failed.error)
        except ParentGoneError:
            pass
        except BaseException as error:
            self._report(self._index, internal(describe(error)))
        finally:
            os._exit(NSRUN_FAILED)

    def _report(self, index: int, error: StepError) -> None:
        """Send the failure up; the shared record holds its errno if this does not arrive."""
        channel = self._program.reports_to
        if channel is None or channel not in self._registers:
            return
        message = Message(
            tag=Tag.FAIL,
            step=index,
            kind=error.kind,
            errno=error.errno,
            value=error.value,
            expect=error.expect,
            text=error.text,
        )
        with contextlib.suppress(StepError):
            self._program.messages.send(self._registers.get(channel), message)

    def _execute(self, step: Step) -> Result:
        self._index = step.index
        op = step.op
        match op:
            case Call() | Netlink() | Signal() | SendFd():
                assert step.runnable is not None
                return step.runnable.run(self._registers)
            case Wait():
                return self._wait(step, op)
            case ReceiveFd():
                return self._receive_fd(step, op)
            case Clone():
                return self._hand_over(step, op)
            case Init():
                return self._init(step)
            case Spawn() | Await():
                raise internal(b"an operation of the parent's track")
            case _:
                assert_never(op)

    # --- messages ----------------------------------------------------------------------------

    def _wait(self, step: Step, op: Wait) -> Result:
        message = self._message(op.channel, Tag.SYNC, step.sync)
        if op.save is not None:
            self._registers.set(op.save, message.value)
        return Result(State.DONE, message.value)

    def _receive_fd(self, step: Step, op: ReceiveFd) -> Result:
        message = self._message(op.channel, Tag.FD, step.sync)
        self._registers.set(op.save, message.fd)
        if op.value is not None:
            self._registers.set(op.value, message.value)
        return Result(State.DONE, message.fd)

    def _message(self, channel: Reg, tag: Tag, name: bytes) -> Message:
        message = self._program.messages.receive(self._registers.get(channel), block=True)
        if isinstance(message, Nothing):
            raise ParentGoneError
        if (message.tag, message.name) != (tag, name):
            raise internal(b"waited for %s, got %s" % (name, message.name))
        return message

    # --- new processes -----------------------------------------------------------------------

    def _hand_over(self, step: Step, op: Clone) -> Result:
        """The new process goes on; this one says who it is, and ends."""
        assert step.forker is not None and op.channel is not None
        pid, errno = step.forker.fork()
        if pid < 0:
            raise StepError(Kind.ERRNO, errno=errno, value=-1)
        if pid == 0:
            return GOES_ON
        pidfd = step.forker.pidfd
        message = Message(tag=Tag.FD, name=step.sync, value=pid, fd=pidfd)
        try:
            self._program.messages.send(self._registers.get(op.channel), message)
        except BaseException:
            # Nobody knows of the new process: it may not outlive this one.
            reap.kill(pidfd)
            raise
        self._recorder.leave(step.track, step.index, Result(State.DONE, pid))
        os._exit(0)

    def _init(self, step: Step) -> Result:
        """The new process goes on; this one is PID 1 until that has ended."""
        assert step.init is not None
        pid, errno = step.init.fork()
        if pid < 0:
            raise StepError(Kind.ERRNO, errno=errno, value=-1)
        if pid == 0:
            return GOES_ON
        self._recorder.leave(step.track, step.index, Result(State.DONE, pid))
        try:
            step.init.settle()
        except OSError as error:
            self._report(step.index, from_os_error(error))
            os._exit(NSRUN_FAILED)
        # From here on a failure of PID 1 itself is not reported: its channel is closed, and the
        # command, whose end follows from its own, is the one to tell.
        status = NSRUN_FAILED
        try:
            status = step.init.stay(pid)
        finally:
            os._exit(status)


def _forget_imports() -> None:
    """From here on an import fails instead of looking into the file system."""
    sys.meta_path.clear()
    sys.path_hooks.clear()
    sys.path.clear()
    sys.path_importer_cache.clear()
