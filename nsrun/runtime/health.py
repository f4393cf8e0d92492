"""Asking a container whether it is well: a command in it, by the clock."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import time
from collections.abc import Iterable
from typing import NoReturn

from nsrun.spec.stack import Healthcheck

_SECOND = 10**9
# Seconds for a check to end in good order when it is told to.
_PATIENCE = 2.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)


class Check:
    """The checks of one container. ``next_at``: when to come again, in monotonic seconds."""

    def __init__(self, wanted: Healthcheck, container: str) -> None:
        self._wanted = wanted
        self._container = container
        self._begun = time.monotonic()
        self._pid = 0
        self._deadline = 0.0
        self._failures = 0
        self._verdict: bool | None = None
        # The first at once where a start is waited for, as systemd does; Docker waits.
        self.next_at = self._begun

    def turn(self) -> bool | None:
        """Begin or end a check whose time has come; the verdict, None while there is none."""
        now = time.monotonic()
        if self._pid:
            if now >= self._deadline:
                self._kill()
        elif now >= self.next_at:
            self._begin(now)
        return self._verdict

    def _begin(self, now: float) -> None:
        # Python's handler writes into the pipe that wakes this process, which the child has as
        # well until it lets go of it: ended before that, it would tell this one to end.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        self._pid = os.fork()
        if self._pid == 0:
            _ask(self._container, self._wanted.command, before)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self._deadline = self.next_at = now + self._wanted.timeout / _SECOND

    def ended(self, pid: int, code: int) -> None:
        """A child of this process has ended; perhaps it was a check."""
        if pid != self._pid or not pid:
            return
        self._pid = 0
        now = time.monotonic()
        self.next_at = now + self._wanted.interval / _SECOND
        if code == 0:
            self._failures, self._verdict = 0, True
            return
        if self._verdict is None and now - self._begun < self._wanted.start_period / _SECOND:
            self.next_at = min(self.next_at, now + 1.0)
            return
        self._failures += 1
        if self._failures >= self._wanted.retries:
            self._verdict = False

    def _kill(self) -> None:
        # Not SIGKILL: the check's launcher kills its command and collects it. A zombie that nobody
        # collects keeps its pid namespace, and the container's end, waiting (pid_namespaces(7)).
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGTERM)
        self._deadline = self.next_at = float("inf")

    def stop(self) -> None:
        """End the check that is under way."""
        if not self._pid:
            return
        self._kill()
        deadline = time.monotonic() + _PATIENCE
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(self._pid, os.WNOHANG) == (0, 0):
                if time.monotonic() > deadline:
                    os.kill(self._pid, signal.SIGKILL)
                    deadline = float("inf")
                time.sleep(0.005)
        self._pid = 0


def _ask(name: str, command: tuple[str, ...], mask: Iterable[int]) -> NoReturn:
    """In a process of its own: replay the plan of an exec, say nothing."""
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        null = os.open("/dev/null", os.O_RDWR)
        for fd in range(3):
            os.dup2(null, fd)
        from nsrun.host import native
        from nsrun.runtime import inside, launch, store

        container = store.find(name)
        spec = inside.spec_for(container, inside.Wanted(command=command))
        # What ends a check ends its command at once.
        spec = dataclasses.replace(spec, stop_signal="SIGKILL")
        plan = launch.plan_for(spec)
        program = native.chosen(os.environ)
        launch.become_sealed(plan, program)
    finally:
        os._exit(status)
