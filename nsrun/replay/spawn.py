"""Helpers run to their end by the launcher, or with it to its: newuidmap, nft, hooks."""

from __future__ import annotations

import errno as errnos
import os
import select
import signal
import struct
import time
from typing import NoReturn

from nsrun.kernel.values import Bytes, Fmt, Str
from nsrun.plan.ops import Spawn
from nsrun.replay.outcome import NSRUN_FAILED, SIGNALLED, Kind, State
from nsrun.replay.prepare import Buffer, Format, PrepareError, encode
from nsrun.replay.step import TEXT_MAX, Registers, Result, StepError, from_os_error
from nsrun.replay.syscalls import CloseRange, Forker, number, syscall
from nsrun.replay.watch import POLL_MAX

# A helper without a timeout of its own: while one runs, the launcher answers no signal.
DEFAULT_TIMEOUT_NS = 60 * 10**9
CAPTURE_MAX = 64 * 1024
# A pipe holds 64 KiB (pipe(7)), which one read takes; a second one sees the end.
_PIPE_PIECES = 2
# linux/prctl.h
_PR_SET_PDEATHSIG = 1
_ERRNO = struct.Struct("=i")


class PreparedSpawn:
    """One ``Spawn``, ready to be run once."""

    def __init__(self, op: Spawn) -> None:
        if not op.argv:
            raise PrepareError("a helper has no name")
        self._argv = tuple(
            encode(arg.value) if isinstance(arg, Str) else Format(arg) for arg in op.argv
        )
        self._env = dict(_variable(text) for text in op.env)
        self._stdin = _source(op.stdin)
        self._success = op.success
        self._timeout = op.timeout or DEFAULT_TIMEOUT_NS
        self._close_range = CloseRange()

    def run(self, registers: Registers) -> Result:
        """Raises StepError: SPAWN with exit status and stderr, ERRNO where it cannot start."""
        argv = [arg if isinstance(arg, bytes) else arg.fill(registers) for arg in self._argv]
        try:
            # Everything above 2 becomes close-on-exec: the helper gets three descriptors,
            # whatever the launcher itself was given.
            self._close_range.close(3, CloseRange.CLOEXEC)
            stdin = self._open_stdin(registers)
            try:
                helper = _Helper(argv, self._env, stdin)
            finally:
                os.close(stdin)
            status = helper.finish(self._timeout)
        except OSError as error:
            raise from_os_error(error) from error
        if helper.timed_out:
            raise StepError(Kind.SPAWN, errno=errnos.ETIMEDOUT, value=status, text=helper.words())
        if status not in self._success:
            raise StepError(Kind.SPAWN, value=status, text=helper.words())
        return Result(State.DONE, status)

    def _open_stdin(self, registers: Registers) -> int:
        if self._stdin is None:
            return os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        if isinstance(self._stdin, Format):
            content = self._stdin.fill(registers)
        else:
            content = self._stdin.content(registers)
        # A file, not a pipe: a helper that does not read cannot make the launcher wait.
        fd = os.memfd_create("stdin", os.MFD_CLOEXEC)
        try:
            view = memoryview(content)
            while view:
                view = view[os.write(fd, view) :]
            os.lseek(fd, 0, os.SEEK_SET)
        except OSError:  # ENOSPC: the memory of the control group or of tmpfs is used up
            os.close(fd)
            raise
        return fd


def _variable(text: str) -> tuple[bytes, bytes]:
    name, equals, value = encode(text).partition(b"=")
    if not equals or not name:
        raise PrepareError(f"not a variable: {text!r}")
    return name, value


def _source(stdin: Bytes | Fmt | None) -> Buffer | Format | None:
    if stdin is None:
        return None
    return Format(stdin) if isinstance(stdin, Fmt) else Buffer(stdin)


def _start(argv: list[bytes], env: dict[bytes, bytes], streams: tuple[int, ...]) -> int:
    """The pid of a new process that executes ``argv[0]``; raises OSError where it cannot."""
    failures, told = os.pipe2(os.O_CLOEXEC)
    forker = Forker(flags=0, exit_signal=signal.SIGCHLD, pidfd=False)
    prctl, launcher = number("prctl"), os.getpid()
    try:
        pid, errno = forker.fork()
        if pid == 0:
            try:
                # prctl(2): it ends with the launcher, which may have ended just before.
                syscall(prctl, _PR_SET_PDEATHSIG, signal.SIGKILL)
                if os.getppid() == launcher:
                    _execute(argv, env, streams)
            except OSError as error:
                os.write(told, _ERRNO.pack(error.errno or 0))
            finally:
                os._exit(NSRUN_FAILED)
        os.close(told)
        told = -1
        if pid > 0 and (data := os.read(failures, _ERRNO.size)):
            os.waitpid(pid, 0)
            errno = _ERRNO.unpack(data)[0]
    finally:
        os.close(failures)
        if told >= 0:
            os.close(told)
    if errno:
        raise OSError(errno, os.strerror(errno))
    return pid


def _execute(argv: list[bytes], env: dict[bytes, bytes], streams: tuple[int, ...]) -> NoReturn:
    """In the new process: three descriptors, default signals, the helper."""
    for new, fd in enumerate(streams):
        os.dup2(fd, new)
    for number_ in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number_, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.execve(argv[0], argv, env)


class _Helper:
    """One running helper, its output kept as it comes so that it never waits for us."""

    def __init__(self, argv: list[bytes], env: dict[bytes, bytes], stdin: int) -> None:
        self.timed_out = False
        self._text: dict[int, bytearray] = {}
        ends: list[int] = []
        try:
            for _ in range(2):
                reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
                ends.append(writer)
                self._text[reader] = bytearray()
                # Non-blocking is for our end alone: the two ends are two descriptions.
                os.set_blocking(writer, True)
            self._pid = _start(argv, env, (stdin, *ends))
        except OSError:
            self._close()
            raise
        finally:
            for fd in ends:
                os.close(fd)
        self._stdout, self._stderr = (self._text[reader] for reader in self._text)

    def finish(self, timeout: int) -> int:
        """Its exit status, 128+N for signal N; killed after ``timeout`` nanoseconds."""
        deadline = time.monotonic_ns() + timeout
        pidfd = -1
        ended = False
        try:
            pidfd = os.pidfd_open(self._pid)
            poll = select.poll()
            for fd in (pidfd, *self._text):
                poll.register(fd, select.POLLIN)
            open_pipes = set(self._text)
            while not ended:
                left = deadline - time.monotonic_ns()
                if left <= 0 and not self.timed_out:
                    self.timed_out = True
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                ready = poll.poll(None if self.timed_out else min(left // 10**6 + 1, POLL_MAX))
                for fd in [fd for fd, _ in ready if fd in open_pipes]:
                    if not self._read(fd):
                        poll.unregister(fd)
                        open_pipes.remove(fd)
                ended = any(fd == pidfd for fd, _ in ready)
            self._read_rest(open_pipes)
        finally:
            if not ended:
                os.kill(self._pid, signal.SIGKILL)
            if pidfd >= 0:
                os.close(pidfd)
            self._close()
            _, status = os.waitpid(self._pid, 0)
        code = os.waitstatus_to_exitcode(status)
        return code if code >= 0 else SIGNALLED - code

    def _read(self, fd: int) -> bool:
        """Take one piece of what there is; False where there is no more."""
        kept = self._text[fd]
        try:
            data = os.read(fd, CAPTURE_MAX)
        except BlockingIOError:
            return True
        if not data:
            return False
        kept += data
        # The end of what a program says is where it gives up: keep that.
        del kept[:-CAPTURE_MAX]
        return True

    def _read_rest(self, pipes: set[int]) -> None:
        """What the helper left behind: no more than a pipe holds, and without waiting for a
        daemon of it that keeps the pipe open."""
        for fd in pipes:
            for _ in range(_PIPE_PIECES):
                before = len(self._text[fd])
                if not self._read(fd) or len(self._text[fd]) == before < CAPTURE_MAX:
                    break

    def _close(self) -> None:
        for fd in self._text:
            os.close(fd)

    def words(self) -> bytes:
        """The end of what it wrote to stderr, or to stdout where it wrote nothing there."""
        return bytes(self._stderr or self._stdout)[-TEXT_MAX:]
