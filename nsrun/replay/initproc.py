"""PID 1 of a container: the process that stays behind an ``Init`` operation.

    child track ── Init ──●── reap, forward ─────────── end with the command's status
                          └── rest of the track ── execve

Everything here was imported before the root changed; the loop opens no file while the command
runs.
"""

from __future__ import annotations

import contextlib
import os
import signal

from nsrun.replay import reap
from nsrun.replay.outcome import NSRUN_FAILED
from nsrun.replay.syscalls import CloseRange, Forker

# Terminal output of a background process, and a write by this process itself.
_NOT_FORWARDED = frozenset({signal.SIGTTIN, signal.SIGTTOU, signal.SIGPIPE})
_IGNORED = (signal.SIGTTIN, signal.SIGTTOU)


class PreparedInit:
    """One ``Init``: what its two processes need, made before the clone."""

    def __init__(self) -> None:
        self._forker = Forker(flags=0, exit_signal=signal.SIGCHLD, pidfd=False)
        self._close_range = CloseRange()
        self._signals = signal.valid_signals()

    def fork(self) -> tuple[int, int]:
        """(pid of the command, 0) in what becomes PID 1, (0, 0) in the new process."""
        return self._forker.fork()

    def settle(self) -> None:
        """Become PID 1, which answers signals and has no descriptor but 0 to 2; raises OSError."""
        signal.pthread_sigmask(signal.SIG_BLOCK, self._signals)
        # With SIGCHLD ignored the kernel would reap the command and keep its status (wait(2)).
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for ignored in _IGNORED:
            signal.signal(ignored, signal.SIG_IGN)
        # The parent reads the channel's end of file as the command's execve.
        self._close_range.close(3)

    def stay(self, command: int) -> int:
        """Be PID 1 until ``command`` ends; its exit status, 128+N for signal N."""
        status = _reap_until(command)
        while status is None:
            self._forward(command)
            status = _reap_until(command)
        if os.getpid() != 1:
            # Only with the init of a pid namespace does the kernel end all others.
            reap.sweep()
        return status

    def _forward(self, command: int) -> None:
        """Wait for a signal and pass it on, if it is the command's to know."""
        info = signal.sigwaitinfo(self._signals)
        number_ = info.si_signo
        if number_ == signal.SIGCHLD or number_ in _NOT_FORWARDED:
            return
        if number_ == signal.SIGTSTP:
            # The command's process group is orphaned, and there SIGTSTP does not stop
            # (setpgid(2)); SIGSTOP does.
            number_ = signal.SIGSTOP
        with contextlib.suppress(OSError):  # it has just ended
            os.kill(command, number_)


def _reap_until(command: int) -> int | None:
    """Collect all that have ended; the exit status of ``command`` if it is among them."""
    found = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            # Without any child left the command is gone, whoever collected it.
            return NSRUN_FAILED if found is None else found
        if pid == 0:
            return found
        if pid == command:
            code = os.waitstatus_to_exitcode(status)
            found = code if code >= 0 else 128 - code
