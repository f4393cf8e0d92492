"""The parent's track: it runs in the launcher, and watches the child while it waits."""

from __future__ import annotations

import gc
import os
import signal
import time
from collections.abc import Callable
from typing import assert_never

from nsrun.kernel.values import Call, Reg
from nsrun.plan.model import Track
from nsrun.plan.ops import (
    EXEC,
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
from nsrun.replay import reap, terminal
from nsrun.replay.channel import Message, Nothing, Tag
from nsrun.replay.child import ChildTrack
from nsrun.replay.hold import PreparedHold
from nsrun.replay.outcome import Kind, State, Trace
from nsrun.replay.program import Prepared, Program, Step
from nsrun.replay.step import DONE, Recorder, Registers, Result, StepError, internal
from nsrun.replay.supervise import ENDING, Ended, Received, Supervisor, read_signals
from nsrun.replay.syscalls import one_thread
from nsrun.replay.track import run_action
from nsrun.replay.watch import is_readable, wait_readable

# Nothing the command would want to know of once it runs.
_NOT_KEPT = frozenset({signal.SIGCHLD, signal.SIGWINCH})
# What a process needs between closing its last descriptor and being waitable.
_ENDING_NS = 10**9


class InterruptedRunError(BaseException):
    """A signal asked nsrun to end before the command ran. Not an Exception: it is no failure."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class ChildFailedError(StepError):
    """The child reported a failed step of its own; ``message`` is the report."""

    def __init__(self, message: Message) -> None:
        super().__init__(Kind.ENDED, value=-1)
        self.message = message


class ChildEndedError(StepError):
    """The child ended without a report; ``value`` is its exit status, -1 where not known."""


class ParentTrack:
    """Replays the parent's track in this process, and remembers what is to be undone.

    ``processes`` are the pidfds of the child's processes, the latest last, ``holders`` those of
    processes that only hold namespaces, with what they wait for in ``held``. ``done`` are the
    actions that ran to their end, or were ended early by a skip after a step had an effect.
    ``before_child`` is called before the child is cloned, ``renew_heir`` before an action that is
    undone by what came later; both may raise StepError.
    """

    def __init__(
        self,
        program: Program,
        recorder: Recorder,
        on_started: Callable[[Trace], None] | None,
        before_child: Callable[[], None] = lambda: None,
        renew_heir: Callable[[], None] = lambda: None,
    ) -> None:
        self.registers = Registers()
        self.processes: list[int] = []
        self.holders: list[int] = []
        self.held: list[PreparedHold] = []
        self.done: list[Prepared] = []
        self.closed: set[str] = set()
        self.started = False
        self.ended: Ended | None = None
        self._program = program
        self.recorder = recorder
        self._on_started = on_started
        self._before_child = before_child
        self._renew_heir = renew_heir
        self._started_at = 0
        self._early: list[Received] = []
        self._terminal_seen = False

    def run(self) -> None:
        """Run the track; raises TrackError and InterruptedRunError."""
        for prepared in self._program.parent:
            before = self._renew_heir if prepared.renews else None
            if run_action(prepared, self._execute, self.recorder, before):
                self.done.append(prepared)

    def _execute(self, step: Step) -> Result:
        op = step.op
        match op:
            case Call() | Netlink() | Signal() | SendFd():
                assert step.runnable is not None
                result = step.runnable.run(self.registers)
                self.note_close(op)
            case Spawn():
                assert step.runnable is not None
                try:
                    result = step.runnable.run(self.registers)
                finally:
                    self._look_at_signals()
            case Clone():
                result = self._clone(step, op)
            case Wait():
                result = self._wait(step, op)
            case ReceiveFd():
                result = self._receive_fd(step, op)
            case Await():
                result = self._await(op)
            case Init():
                raise internal(b"an operation of the child's track")
            case _:
                assert_never(op)
        self._size_terminal()
        return result

    def note_close(self, op: object) -> None:
        """Remember the register whose descriptor a step has just closed."""
        if isinstance(op, Call) and op.name == "close" and isinstance(op.args[0], Reg):
            reg = op.args[0]
            self.closed.add(reg.name)
            for pidfds in (self.processes, self.holders):
                pidfds[:] = [fd for fd in pidfds if fd != self.registers.get(reg)]

    def _size_terminal(self) -> None:
        """The pty has its size before the command can ask for it."""
        reg = self._program.terminal
        if reg is not None and not self._terminal_seen and reg in self.registers:
            self._terminal_seen = True
            terminal.copy_window_size(self.registers.get(reg))

    # --- the child ---------------------------------------------------------------------------

    def _clone(self, step: Step, op: Clone) -> Result:
        assert step.forker is not None
        if not one_thread():
            raise internal(b"the launcher has more than one thread")
        if step.hold is not None:
            return self._hold(step, op, step.hold)
        # A collection would write to every object's page, and have each copied.
        gc.freeze()
        self._before_child()
        pid, errno = step.forker.fork()
        if pid == 0:
            ChildTrack(self._program, self.registers, self.recorder).main()
        if pid < 0:
            raise StepError(Kind.ERRNO, errno=errno, value=-1)
        self.processes.append(step.forker.pidfd)
        self.registers.set(op.pid, pid)
        self.registers.set(op.pidfd, step.forker.pidfd)
        return Result(State.DONE, pid)

    def _hold(self, step: Step, op: Clone, held: PreparedHold) -> Result:
        assert step.forker is not None
        self.held.append(held)
        pid, errno = held.fork()
        if pid < 0:
            raise StepError(Kind.ERRNO, errno=errno, value=-1)
        self.holders.append(step.forker.pidfd)
        self.registers.set(op.pid, pid)
        self.registers.set(op.pidfd, step.forker.pidfd)
        return Result(State.DONE, pid)

    def _wait(self, step: Step, op: Wait) -> Result:
        message = self._receive(op.channel, op.signals)
        if op.sync == EXEC:
            if isinstance(message, Message):
                raise _unexpected(message, step.sync)
            if not self.entered_exec():
                raise self._child_ended()
            self._start()
            return DONE
        if isinstance(message, Nothing):
            raise self._child_ended()
        if (message.tag, message.name) != (Tag.SYNC, step.sync):
            raise _unexpected(message, step.sync)
        if op.save is not None:
            self.registers.set(op.save, message.value)
        return Result(State.DONE, message.value)

    def _receive_fd(self, step: Step, op: ReceiveFd) -> Result:
        message = self._receive(op.channel, op.signals)
        if isinstance(message, Nothing):
            raise self._child_ended()
        if (message.tag, message.name) != (Tag.FD, step.sync):
            raise _unexpected(message, step.sync)
        if message.name in self._program.hand_overs:
            self.processes.append(message.fd)
        self.registers.set(op.save, message.fd)
        if op.value is not None:
            self.registers.set(op.value, message.value)
        return Result(State.DONE, message.fd)

    def _receive(self, channel: Reg, signals: Reg | None) -> Message | Nothing:
        """The child's next message, or EOF; raises when it failed, ended, or we are to end."""
        fd = self.registers.argument(channel)
        signal_fd = self.registers.argument(signals) if signals is not None else -1
        child_gone = False
        while True:
            message = self._program.messages.receive(fd, block=False)
            if isinstance(message, Message) and message.tag is Tag.FAIL:
                raise ChildFailedError(message)
            if message is not Nothing.AGAIN:
                return message
            if child_gone:
                # It ended, and sent nothing before: some other process holds its end open.
                return Nothing.EOF
            ready = wait_readable(fd, signal_fd, *self.processes[-1:])
            child_gone = bool(ready & set(self.processes[-1:]))
            if signal_fd in ready and fd not in ready and not child_gone:
                self._interrupted(signal_fd)

    def _look_at_signals(self) -> None:
        """What came while a helper ran: the next step may let the child go on. A helper that
        failed may have got the signal too, as all of a job do from a terminal."""
        reg = self._program.signals
        if reg is not None and reg in self.registers:
            signal_fd = self.registers.get(reg)
            if is_readable(signal_fd):
                self._interrupted(signal_fd)

    def _interrupted(self, signal_fd: int) -> None:
        # An init that has not closed its end yet hides the command's execve: then the command
        # runs, and the signal is its to know.
        running = self.entered_exec()
        for received in read_signals(signal_fd):
            if received.number in ENDING and not running:
                raise InterruptedRunError(received.number)
            if received.number not in _NOT_KEPT:
                self._early.append(received)

    def _child_ended(self) -> StepError:
        """The failure of a child that is gone without a word."""
        if not self.processes:
            return internal(b"the plan waits for a child it has not cloned")
        pidfd = self.processes[-1]
        status = -1
        if reap.ended(pidfd, _ENDING_NS):
            status = reap.peek(pidfd)
        return ChildEndedError(Kind.ENDED, value=status)

    def entered_exec(self) -> bool:
        """Whether the child is in an execve that has not failed: the command runs, or ran."""
        return any(
            step.is_exec and self.recorder.result(Track.CHILD, step.index).state is State.ENTERED
            for step in self._program.steps(Track.CHILD)
        )

    def _start(self) -> None:
        self.started = True
        self._started_at = time.monotonic_ns()
        if self._on_started is not None:
            self._on_started(self.recorder.live())

    def _await(self, op: Await) -> Result:
        if not self._started_at:
            self._started_at = time.monotonic_ns()
        ended = Supervisor(
            op,
            self.registers,
            started=self._started_at,
            init=self._program.has_init,
            early=tuple(self._early),
        ).run()
        if not self.started:
            # The plan did not wait for the execve: only now is it known whether it came to one.
            report = self.drain()
            if report is not None:
                raise ChildFailedError(report)
            has_exec = any(step.is_exec for step in self._program.steps(Track.CHILD))
            if has_exec and not self.entered_exec():
                raise ChildEndedError(Kind.ENDED, value=ended.status)
            self.started = True
        self.ended = ended
        self.registers.set(op.status, ended.status)
        return Result(State.DONE, ended.status)

    def drain(self) -> Message | None:
        """The child's report, if one waits unread; processes it handed over are remembered."""
        channel = self._program.listens_on
        if channel is None or channel not in self.registers or channel.name in self.closed:
            return None
        fd = self.registers.get(channel)
        while True:
            try:
                message = self._program.messages.receive(fd, block=False)
            except StepError:
                return None
            if isinstance(message, Nothing):
                return None
            if message.tag is Tag.FAIL:
                return message
            if message.name in self._program.hand_overs:
                self.processes.append(message.fd)
            elif message.fd >= 0:
                os.close(message.fd)


def _unexpected(message: Message, sync: bytes) -> StepError:
    return internal(b"waited for %s, got %s" % (sync, message.name))
