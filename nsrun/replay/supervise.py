"""``Await``: stay with the command until it ends, and be its face to the caller.

SIGTERM, the timeout   the stop signal, then SIGKILL after stop_timeout
SIGINT, SIGHUP, ...    forwarded as they are
SIGTSTP, SIGCONT       stop and continue, the command and ourselves
SIGWINCH               the pty's window size
SIGCHLD                collect orphans; the command's own end shows on its pidfd
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import struct
import time
from dataclasses import dataclass
from typing import NamedTuple

from nsrun.plan.ops import Await
from nsrun.replay import reap
from nsrun.replay.outcome import Kind
from nsrun.replay.step import Registers, StepError
from nsrun.replay.terminal import RawMode, Relay, copy_window_size
from nsrun.replay.watch import POLL_MAX

# Signals whose default action ends a process and that a person sends to end it.
ENDING = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP})
# SIGTTIN and SIGTTOU: ours, not the command's: its terminal is another.
_OURS = frozenset({signal.SIGTTIN, signal.SIGTTOU})
# asm-generic/siginfo.h: sent by the kernel, as by a terminal's line discipline
_SI_KERNEL = 0x80
# struct signalfd_siginfo of linux/signalfd.h: signo, errno, code, pid; 128 bytes in all
_SIGINFO = struct.Struct("=IiiI112x")
_SIGINFO_BATCH = 32
# rt_sigtimedwait's number in asm/unistd_64.h and asm-generic/unistd.h
_SIGTIMEDWAIT = {"x86_64": 128, "aarch64": 137}
# How soon a command that goes on after the end of its input is told again, and the longest wait.
_END_AGAIN_NS, _END_AGAIN_MAX_NS = 1_000_000_000, 8_000_000_000
# While no process has the slave open the master always polls as hung up: look at times.
_HANGUP_RECHECK_NS = 200 * 10**6
# The kernel hands what was written to a slave over from a work queue: after the command's end
# the last bytes may still be on their way.
_QUIET_NS = 100 * 10**6


class Received(NamedTuple):
    """A signal as read from a signalfd: its number, si_code and sender."""

    number: int
    code: int = 0
    sender: int = 0


def read_signals(fd: int) -> list[Received]:
    """The signals that wait in a signalfd, [] where there is none."""
    try:
        data = os.read(fd, _SIGINFO.size * _SIGINFO_BATCH)
    except BlockingIOError:
        return []
    return [Received(number, code, pid) for number, _, code, pid in _SIGINFO.iter_unpack(data)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How the command ended: its exit status or 128+N, and what was done to it."""

    status: int
    signal: int | None
    timed_out: bool
    dropped_signal: int | None


class Supervisor:
    """One ``Await``. ``started`` is CLOCK_MONOTONIC in nanoseconds; ``early`` came before it.

    ``init``: the process is nsrun's own PID 1, which passes on what it gets.
    """

    def __init__(
        self,
        op: Await,
        registers: Registers,
        *,
        started: int,
        init: bool,
        early: tuple[Received, ...] = (),
    ) -> None:
        self._op = op
        self._pidfd = registers.argument(op.pidfd)
        self._signals = registers.argument(op.signals)
        self._child = registers.get(op.child) if op.child in registers else -1
        self._init = init
        self._early = early
        self._deadline = started + op.timeout if op.timeout else None
        self._kill_at: int | None = None
        self._stopping = False
        self._killed = False
        self._timed_out = False
        self._dropped: int | None = None
        self._ended = False
        self._abandoned = False
        self._quiet_until = 0
        self._recheck_at: int | None = None
        self._end_again_at: int | None = None
        self._end_again_after = _END_AGAIN_NS
        self._raw = RawMode()
        self._master = registers.argument(op.terminal) if op.terminal is not None else -1
        self._relay = Relay(self._master) if self._master >= 0 else None

    def run(self) -> Ended:
        """Returns when the command has ended and its output is out; raises StepError."""
        try:
            if self._relay is not None:
                self._raw.enter()
            for received in self._early:
                self._handle(received)
            while not self._finished():
                self._turn()
        finally:
            self._raw.leave()
        collected = reap.collect(self._pidfd)
        if collected is None:
            raise StepError(Kind.ENDED, value=-1, text=b"the command is not a child of nsrun")
        status, by_signal = collected
        return Ended(
            status=status,
            signal=by_signal or None,
            timed_out=self._timed_out,
            # The command may have come to its own end before it could be killed for that.
            dropped_signal=self._dropped if by_signal == signal.SIGKILL else None,
        )

    def _finished(self) -> bool:
        if not self._ended:
            return False
        if self._relay is None or self._abandoned:
            return True
        quiet = self._relay.hung_up or time.monotonic_ns() >= self._quiet_until
        return quiet and self._relay.empty

    # --- one turn of the loop ----------------------------------------------------------------

    def _turn(self) -> None:
        poll = select.poll()
        if not self._ended:
            poll.register(self._pidfd, select.POLLIN)
        poll.register(self._signals, select.POLLIN)
        if self._relay is not None:
            for fd, events in self._relay.wanted().items():
                poll.register(fd, events)
        for fd, events in poll.poll(self._patience()):
            if fd == self._pidfd:
                self._on_end()
            elif fd == self._signals:
                for received in read_signals(fd):
                    self._handle(received)
            elif self._relay is not None:
                self._move(self._relay, fd, events)
        self._on_time()

    def _patience(self) -> int | None:
        """Milliseconds until something is due, None for never."""
        now = time.monotonic_ns()
        due: list[int] = []
        if not self._ended:
            times = (self._deadline, self._kill_at, self._recheck_at, self._end_again_at)
            due += [at for at in times if at is not None]
        elif self._relay is not None and not self._relay.hung_up:
            due.append(self._quiet_until)
        if not due:
            return None
        # Rounded up, or the last millisecond would be polled in a spin; never below 1, so that
        # a full buffer does not spin either.
        return min(max(1, -(-(min(due) - now) // 10**6)), POLL_MAX)

    def _on_time(self) -> None:
        if self._ended:
            return
        now = time.monotonic_ns()
        if self._deadline is not None and now >= self._deadline:
            self._deadline = None
            self._timed_out = True
            self._stop()
        if self._kill_at is not None and now >= self._kill_at:
            self._kill()
        if self._relay is not None and self._relay.hung_up:
            self._recheck(self._relay, now)
        if self._relay is not None and self._relay.at_end:
            self._end_again(self._relay, now)

    def _end_again(self, relay: Relay, now: int) -> None:
        """The end of the input, told again at growing intervals while the command goes on."""
        if self._end_again_at is None:
            self._end_again_at = now + self._end_again_after
        elif now >= self._end_again_at:
            self._end_again_after = min(2 * self._end_again_after, _END_AGAIN_MAX_NS)
            self._end_again_at = now + self._end_again_after
            relay.repeat_end()

    def _recheck(self, relay: Relay, now: int) -> None:
        if self._recheck_at is None:
            self._recheck_at = now + _HANGUP_RECHECK_NS
        elif now >= self._recheck_at:
            self._recheck_at = None
            relay.resume()

    def _on_end(self) -> None:
        self._ended = True
        self._quiet_until = time.monotonic_ns() + _QUIET_NS
        if self._relay is not None:
            self._relay.stop_input()

    def _move(self, relay: Relay, fd: int, events: int) -> None:
        relay.handle(fd, events)
        if fd == self._master:
            self._quiet_until = time.monotonic_ns() + _QUIET_NS
        if relay.output_lost:
            relay.output_lost = False
            # As when a terminal's window is closed.
            self._deliver(signal.SIGHUP)

    # --- signals -----------------------------------------------------------------------------

    def _handle(self, received: Received) -> None:
        number = received.number
        if number == signal.SIGCHLD:
            reap.collect_orphans(self._child)
        elif number in _OURS or (number == signal.SIGPIPE and received.sender == os.getpid()):
            return
        elif self._ended:
            self._abandoned = self._abandoned or number in ENDING
        elif number == signal.SIGWINCH and self._relay is not None:
            copy_window_size(self._master)
        elif number == signal.SIGTSTP:
            self._suspend()
        elif number == signal.SIGCONT:
            self._resume()
        elif number == signal.SIGTERM or (number == signal.SIGINT and self._stopping):
            self._stop()
        else:
            self._deliver(number, already=self._reached_child(received))

    def _reached_child(self, received: Received) -> bool:
        """Whether a terminal sent the signal to the command too, being of our process group."""
        if received.code != _SI_KERNEL or self._child <= 0:
            return False
        try:
            return os.getpgid(self._child) == os.getpgrp()
        except OSError:
            return False

    def _stop(self) -> None:
        """Begin to stop the command; the second time, kill it."""
        if self._stopping:
            self._kill()
            return
        self._stopping = True
        self._kill_at = time.monotonic_ns() + self._op.stop_timeout
        self._deliver(self._op.stop_signal.value)

    def _deliver(self, number: int, *, already: bool = False) -> None:
        """Send a signal to the command, or SIGKILL where the kernel would drop it."""
        ends = number in ENDING or (self._stopping and number == self._op.stop_signal.value)
        if ends and not self._init and drops(self._child, number):
            self._dropped = number
            self._kill()
        elif not already:
            self._send(number)

    def _kill(self) -> None:
        self._kill_at = None
        if not self._killed:
            self._killed = True
            reap.kill(self._pidfd)

    def _send(self, number: int) -> None:
        # It may have just ended, or have ids we may not signal.
        with contextlib.suppress(OSError):
            signal.pidfd_send_signal(self._pidfd, number)

    def _suspend(self) -> None:
        """Ctrl-Z: stop the command, then ourselves; go on when the shell says so."""
        if self._relay is None:
            # nsrun's PID 1 would stop alone; it turns SIGTSTP into the command's SIGSTOP.
            self._send(signal.SIGTSTP if self._init else signal.SIGSTOP)
        self._raw.leave()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._resume()

    def _resume(self) -> None:
        if self._relay is not None:
            self._raw.enter()
            copy_window_size(self._master)
            self._relay.resume()
        self._send(signal.SIGCONT)


def drops(pid: int, number: int) -> bool:
    """Whether a process never sees this signal: PID 1 of its pid namespace, without a handler.

    pid_namespaces(7): such a process gets only the signals it has a handler for. One that it
    ignores by its own choice or blocks for later is not counted as dropped, and neither is one
    that it waits for: sigwaitinfo(2) is how tini and dumb-init take theirs. SIGKILL and SIGSTOP
    come through to it from here, an ancestor namespace. False where procfs does not say enough
    to be sure.
    """
    if number in (signal.SIGKILL, signal.SIGSTOP):
        return False
    if pid <= 0 or _waits_for_signals(pid):
        return False
    fields = _status(pid)
    numbers = fields.get(b"NSpid", b"").split()
    if len(numbers) < 2 or numbers[-1] != b"1":
        return False
    handled = 0
    for name in (b"SigCgt", b"SigBlk", b"SigIgn"):
        handled |= int(fields.get(name, b"0"), 16)
    # Blocked signals show as unblocked while they are waited for: it may have begun just now.
    return not handled & (1 << (number - 1)) and not _waits_for_signals(pid)


def _waits_for_signals(pid: int) -> bool:
    """Whether a process is in rt_sigtimedwait(2), or cannot be looked into."""
    call = _read(f"/proc/{pid}/syscall")
    if call is not None:
        return call.split()[:1] == [b"%d" % _SIGTIMEDWAIT.get(os.uname().machine, -1)]
    place = _read(f"/proc/{pid}/wchan")
    return place in (None, b"", b"0") or b"sigtimedwait" in (place or b"")


def _status(pid: int) -> dict[bytes, bytes]:
    """/proc/PID/status by name (proc_pid_status(5)); {} where it cannot be read."""
    lines = (_read(f"/proc/{pid}/status") or b"").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(b":") for line in lines)}


def _read(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return None
