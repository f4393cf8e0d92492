"""Replaying a plan: the reference executor.

It knows the operations of nsrun.plan.ops and nothing of mounts, namespaces or networks.

    prepare both tracks ── run the parent's track ─┬─ Clone: the child's track, in child.py
                                                   └─ on any end:
    take the first failure ── kill and collect the child ── sweep what it left ── undo ── close
                                                   (where nsrun is killed: its heir undoes, heir.py)
"""

from __future__ import annotations

import contextlib
import errno as errnos
import gc
import os
import signal
from collections.abc import Callable

from nsrun.plan.model import Plan, Track
from nsrun.replay import reap
from nsrun.replay.channel import Message
from nsrun.replay.heir import Heir
from nsrun.replay.outcome import (
    NSRUN_FAILED,
    SIGNALLED,
    Failure,
    Kind,
    Outcome,
    State,
    Trace,
    exec_status,
)
from nsrun.replay.parent import (
    ChildEndedError,
    ChildFailedError,
    InterruptedRunError,
    ParentTrack,
)
from nsrun.replay.program import PlanError, Program, Step, prepare
from nsrun.replay.step import Recorder, StepError
from nsrun.replay.track import TrackError
from nsrun.replay.undo import undo


def replay(plan: Plan, *, on_started: Callable[[Trace], None] | None = None) -> Outcome:
    """Run a plan to its end and take back what it made; never raises for what the plan does.

    ``on_started`` is called once, in this process, when the command's execve has succeeded (a
    plan that waits for EXEC), with the live records of both tracks. The process must have one
    thread, and is to be its main one. What the plan changes of the process itself (signal mask,
    subreaper) stays changed, and SIGCHLD is no longer ignored.
    """
    try:
        program = prepare(plan, os.uname().machine)
    except PlanError as error:
        failure = Failure(track=error.track, index=error.index, kind=Kind.INTERNAL, text=str(error))
        return Outcome(status=NSRUN_FAILED, failure=failure)
    recorder = Recorder(
        sum(1 for _ in program.steps(Track.PARENT)),
        sum(1 for _ in program.steps(Track.CHILD)),
        len(plan.actions),
    )
    _standard_descriptors()
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
        # The kernel would reap the children of a caller that ignores it, their statuses lost.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    collecting = gc.isenabled()
    gc.disable()
    try:
        return _Run(program, recorder, on_started).run()
    finally:
        gc.unfreeze()
        if collecting:
            gc.enable()


def _standard_descriptors() -> None:
    """Open /dev/null where 0, 1 or 2 is closed, or the plan's own descriptors would land there
    and be taken for the command's input and output."""
    for fd in range(3):
        try:
            os.get_inheritable(fd)
        except OSError:
            os.set_inheritable(os.open("/dev/null", os.O_RDWR | os.O_NOCTTY), True)


class _Run:
    """One replay, from the first step to the last undo."""

    def __init__(
        self,
        program: Program,
        recorder: Recorder,
        on_started: Callable[[Trace], None] | None,
    ) -> None:
        self._program = program
        self._recorder = recorder
        self._heir = Heir(program, recorder)
        self._track = ParentTrack(program, recorder, on_started, self._appoint, self._renew)
        self._failure: Failure | None = None
        self._interrupted: int | None = None
        # Children of another making are not ours to end.
        self._alone = not reap.has_children()

    def run(self) -> Outcome:
        try:
            self._track.run()
        except TrackError as failed:
            self._failure = self._first(failed.step, failed.error)
        except InterruptedRunError as interrupted:
            self._interrupted = interrupted.number
        except KeyboardInterrupt:
            self._interrupted = signal.SIGINT
        everything = signal.valid_signals()
        before: set[int | signal.Signals] = set(everything)
        # What is to be undone is undone with signals or without.
        with contextlib.suppress(OSError):
            before = signal.pthread_sigmask(signal.SIG_BLOCK, everything)
        try:
            return self._finish()
        finally:
            with contextlib.suppress(OSError):
                signal.pthread_sigmask(signal.SIG_UNBLOCK, everything - before)

    def _appoint(self) -> None:
        """Before the child can make anything on the host, someone is there to take it back."""
        self._heir.appoint(self._track)

    def _renew(self) -> None:
        """The one that there is knows too little to undo what comes now."""
        self._heir.renew(self._track)

    def _finish(self) -> Outcome:
        track = self._track
        track.drain()
        for pidfd in (*track.processes, *track.holders):
            reap.kill(pidfd)
        for pidfd in (*track.processes, *track.holders):
            reap.finish(pidfd)
        survivors = reap.sweep(self._heir.pid) if self._alone else ()
        failed = self._failure is not None or self._interrupted is not None
        undo_failures = undo(track, failed=failed and not track.started)
        self._heir.release()
        self._close()
        ended = track.ended
        return Outcome(
            status=self._status(),
            started=track.started,
            failure=self._failure,
            undo_failures=undo_failures,
            signal=ended.signal if ended is not None else self._interrupted,
            interrupted=self._interrupted is not None,
            timed_out=ended is not None and ended.timed_out,
            dropped_signal=ended.dropped_signal if ended is not None else None,
            survivors=survivors,
            trace=self._recorder.close(),
        )

    def _close(self) -> None:
        """Close every descriptor that a register still holds, and those of processes that were
        handed over after the launcher had failed, which no register has taken."""
        for holder in self._track.held:
            holder.release()
        held = self._track.registers.descriptors()
        open_ = {fd for name, fd in held.items() if name not in self._track.closed}
        for fd in open_.union(self._track.processes, self._track.holders):
            with contextlib.suppress(OSError):
                os.close(fd)

    def _status(self) -> int:
        if self._interrupted is not None:
            return SIGNALLED + self._interrupted
        if self._failure is not None:
            return self._failure_status(self._failure)
        return self._track.ended.status if self._track.ended is not None else 0

    def _failure_status(self, failure: Failure) -> int:
        step = self._step(failure)
        if step is not None and step.is_exec and failure.kind is Kind.ERRNO:
            return exec_status(failure.errno)
        return NSRUN_FAILED

    def _step(self, failure: Failure) -> Step | None:
        steps = (s for s in self._program.steps(failure.track) if s.index == failure.index)
        return next(steps, None)

    # --- the first failure wins --------------------------------------------------------------

    def _first(self, step: Step, error: StepError) -> Failure:
        """The failure to report: the child's own where there is one, for ours follows from it."""
        message = error.message if isinstance(error, ChildFailedError) else self._track.drain()
        if message is not None:
            return self._exec_cause(_reported(message))
        recorded = self._recorded()
        if recorded is not None:
            return self._exec_cause(recorded)
        if isinstance(error, ChildEndedError):
            return self._ended(error)
        return _failure(step.track, step.index, error)

    def _recorded(self) -> Failure | None:
        """A failure that the child recorded but could not send."""
        for step in self._program.steps(Track.CHILD):
            result = self._recorder.result(Track.CHILD, step.index)
            if result.state is State.FAILED:
                return Failure(
                    track=Track.CHILD,
                    index=step.index,
                    kind=Kind.ERRNO if result.errno else Kind.INTERNAL,
                    errno=result.errno,
                    value=result.result,
                    text="" if result.errno else "the child's report did not arrive",
                )
        return None

    def _ended(self, error: ChildEndedError) -> Failure:
        """The child is gone: the last step it had begun is where it ended."""
        index = -1
        for step in self._program.steps(Track.CHILD):
            state = self._recorder.result(Track.CHILD, step.index).state
            if state not in (State.NOT_REACHED, State.LEFT_OUT):
                index = step.index
        return _failure(Track.CHILD, index, error)

    def _exec_cause(self, failure: Failure) -> Failure:
        """Of several candidates for one execve, the one found but refused is the cause.

        As execvp(3) reports EACCES although it went on to look in the rest of PATH.
        """
        step = self._step(failure)
        if step is None or not step.is_exec or failure.errno not in (errnos.ENOENT, errnos.ENOTDIR):
            return failure
        for other in self._siblings(step):
            result = self._recorder.result(other.track, other.index)
            if result.state is State.ACCEPTED and result.errno == errnos.EACCES:
                return Failure(
                    track=other.track,
                    index=other.index,
                    kind=Kind.ERRNO,
                    errno=errnos.EACCES,
                    value=-1,
                )
        return failure

    def _siblings(self, step: Step) -> list[Step]:
        """The exec steps before ``step`` in its action."""
        for prepared in self._program.child:
            if step in prepared.steps:
                return [s for s in prepared.steps if s.is_exec and s.index < step.index]
        return []


def _failure(track: Track, index: int, error: StepError) -> Failure:
    return Failure(
        track=track,
        index=index,
        kind=error.kind,
        errno=error.errno,
        value=error.value,
        expect=error.expect,
        text=error.text.decode("utf-8", "backslashreplace"),
    )


def _reported(message: Message) -> Failure:
    return Failure(
        track=Track.CHILD,
        index=message.step,
        kind=message.kind,
        errno=message.errno,
        value=message.value,
        expect=message.expect,
        text=message.text.decode("utf-8", "backslashreplace"),
    )
