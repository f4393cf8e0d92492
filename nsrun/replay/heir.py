"""A process that takes back what a killed launcher has made on the host.

A launcher that is killed cannot undo anything: mount points it made in a rootfs and files of a
start that failed would stay. The heir reads a pipe whose other end the launcher has open, and the
child up to its execve; at the end of file it runs the undo steps in the launcher's place. It is
there only for plans that have any, and in a session of its own, out of reach of what a terminal
or a shell sends to the launcher's process group.

It knows what the launcher knew when it was forked: before an action that is undone by a register
set since then, another takes its place, at the same pipe.
"""

from __future__ import annotations

import os
import signal
from typing import NoReturn

from nsrun.plan.model import Track
from nsrun.plan.ops import Clone
from nsrun.replay import reap
from nsrun.replay.outcome import NSRUN_FAILED, Kind, State
from nsrun.replay.parent import ParentTrack
from nsrun.replay.program import Prepared, Program
from nsrun.replay.step import Recorder, StepError, from_os_error
from nsrun.replay.syscalls import Forker
from nsrun.replay.undo import undo

# Nanoseconds between two looks.
_MOMENT = 10**6


class Heir:
    """The heir of one run; ``pid`` is -1 while there is none."""

    def __init__(self, program: Program, recorder: Recorder) -> None:
        self.pid = -1
        self._program = program
        self._recorder = recorder
        self._forker = Forker(flags=0, exit_signal=signal.SIGCHLD, pidfd=False)
        self._number = 0
        self._pidfd = -1
        self._pipe: tuple[int, int] | None = None

    def appoint(self, track: ParentTrack) -> None:
        """Start it, where the plan has something to undo; raises StepError."""
        if self.pid >= 0 or not any(map(_leaves_something, self._program.parent)):
            return
        try:
            self._pipe = os.pipe2(os.O_CLOEXEC)
        except OSError as error:
            raise from_os_error(error) from error
        self._recorder.heir = 1
        self._start(track)

    def renew(self, track: ParentTrack) -> None:
        """Start another in its place, where there is one; raises StepError."""
        if self.pid < 0:
            return
        before = self._pidfd
        self._start(track)
        _end(before)

    def release(self) -> None:
        """End it: the launcher has undone everything itself."""
        if self.pid >= 0:
            _end(self._pidfd)
        for end in self._pipe or ():
            os.close(end)
        self.pid, self._pidfd, self._pipe = -1, -1, None

    def _start(self, track: ParentTrack) -> None:
        assert self._pipe is not None
        pid, errno = self._forker.fork()
        if pid == 0:
            self._succeed(self._pipe, self._number + 1, track)
        if pid < 0:
            raise StepError(Kind.ERRNO, errno=errno, value=-1)
        try:
            pidfd = os.pidfd_open(pid)
        except OSError as error:
            os.kill(pid, signal.SIGKILL)
            raise from_os_error(error) from error
        # Until then a kill of the launcher's process group would reach it as well.
        while self._recorder.settled != self._number + 1 and not reap.ended(pidfd, _MOMENT):
            pass
        self.pid, self._pidfd = pid, pidfd
        self._number += 1
        # From here on the one before is it no more: nothing is undone twice.
        self._recorder.heir = self._number

    # --- in the heir ---------------------------------------------------------------------------

    def _succeed(self, pipe: tuple[int, int], number: int, track: ParentTrack) -> NoReturn:
        try:
            os.setsid()
            self._recorder.settled = number
            theirs, ours = pipe
            os.close(ours)
            # An end of the channel held open here would hide an end of file from the others.
            for end in (self._program.listens_on, self._program.reports_to):
                if end is not None and end in track.registers and end.name not in track.closed:
                    os.close(track.registers.get(end))
            if os.read(theirs, 1) == b"" and self._recorder.heir == number:
                track.done[:] = filter(self._is_begun, self._program.parent)
                undo(track, failed=not track.entered_exec())
        finally:
            os._exit(NSRUN_FAILED)

    def _is_begun(self, prepared: Prepared) -> bool:
        results = (self._recorder.result(Track.PARENT, s.index) for s in prepared.steps)
        return any(result.state is not State.NOT_REACHED for result in results)


def _end(pidfd: int) -> None:
    reap.kill(pidfd)
    reap.finish(pidfd)
    os.close(pidfd)


def _leaves_something(prepared: Prepared) -> bool:
    """The processes of clones end with the launcher by themselves."""
    return bool(prepared.undo) and not any(isinstance(step.op, Clone) for step in prepared.steps)
