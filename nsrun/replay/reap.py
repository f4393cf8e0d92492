"""Ending processes and collecting them: only children of this process, never by name."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time

from nsrun.replay.outcome import SIGNALLED

# A killed process that does not end sits in the kernel; nothing here can help it along.
PATIENCE_NS = 2 * 10**9
_CHILDREN = "/proc/thread-self/children"


def exit_status(code: int, status: int) -> int:
    """A siginfo_t's si_code and si_status as an exit status, 128+N for signal N (waitid(2))."""
    return status if code == os.CLD_EXITED else SIGNALLED + status


def has_children() -> bool:
    """Whether this process has any child, ended or not."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def ended(pidfd: int, patience: int = 0) -> bool:
    """Whether a process has ended, or does so within ``patience`` nanoseconds."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(patience // 10**6))


def collect(pidfd: int) -> tuple[int, int] | None:
    """(exit status, signal or 0) of a child that has ended, None where it is not ours (any more).

    Raises BlockingIOError while it runs.
    """
    try:
        info = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
    except ChildProcessError:
        return None
    if info is None:
        raise BlockingIOError
    by_signal = info.si_status if info.si_code != os.CLD_EXITED else 0
    return exit_status(info.si_code, info.si_status), by_signal


def peek(pidfd: int) -> int:
    """The exit status of a child that has ended, which stays to be collected; -1 if unknown."""
    try:
        info = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return -1
    return -1 if info is None else exit_status(info.si_code, info.si_status)


def kill(pidfd: int) -> None:
    """SIGKILL; a process that is gone is no error."""
    with contextlib.suppress(OSError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)


def finish(pidfd: int) -> None:
    """Wait for a killed process, and collect it where it is a child."""
    ended(pidfd, PATIENCE_NS)
    with contextlib.suppress(BlockingIOError):
        collect(pidfd)


def collect_orphans(keep: int) -> None:
    """Collect every child that has ended but ``keep``, whose status someone else wants."""
    while True:
        try:
            info = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if info is None or info.si_pid == keep:
            return
        os.waitpid(info.si_pid, 0)


def sweep(keep: int = -1) -> tuple[int, ...]:
    """Kill and collect all children but ``keep``, also those a subreaper inherits from them.

    Returns the pids that did not end within PATIENCE_NS, () as a rule.
    """
    deadline = time.monotonic_ns() + PATIENCE_NS
    pause = 0.0005
    while True:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return ()
        left = tuple(pid for pid in _children() if pid != keep)
        for pid in left:
            _kill_child(pid)
        if not left or time.monotonic_ns() > deadline:
            return left
        time.sleep(pause)
        pause = min(2 * pause, 0.02)


def _children() -> tuple[int, ...]:
    """The pids of this process's children; () where procfs does not say (CONFIG_PROC_CHILDREN)."""
    try:
        fd = os.open(_CHILDREN, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ()
    try:
        text = b""
        while data := os.read(fd, 1 << 16):
            text += data
    except OSError:
        return ()
    finally:
        # What is to be undone depends on no answer to this.
        with contextlib.suppress(OSError):
            os.close(fd)
    return tuple(int(word) for word in text.split() if word.isdigit())


def _kill_child(pid: int) -> None:
    """SIGKILL a process, if it is a child of ours.

    The procfs asked may belong to another pid namespace, or be a forgery in an image: only
    waitid(2) knows. A child's pid is not used again before it is collected.
    """
    with contextlib.suppress(OSError):
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        os.kill(pid, signal.SIGKILL)
