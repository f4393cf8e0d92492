"""System calls by number through libc's syscall(2), and the raw clone3(2).

The library is bound as PyDLL, not CDLL: a replay has one thread, and a clone3 that released the
interpreter's lock would have the child take it again before Python knows that it was forked.
"""

from __future__ import annotations

import ctypes
import os
import struct

from nsrun.kernel import abi
from nsrun.kernel.abi import CloneFlag

_libc = ctypes.PyDLL(None, use_errno=True)
_syscall = _libc.syscall
# Without argtypes ctypes passes int and cuts 2^33+5 to 5.
_syscall.argtypes = (ctypes.c_long,) * 7
_syscall.restype = ctypes.c_long

_python = ctypes.pythonapi
for _name in ("PyOS_BeforeFork", "PyOS_AfterFork_Parent", "PyOS_AfterFork_Child"):
    getattr(_python, _name).argtypes = ()
    getattr(_python, _name).restype = None
_before_fork = _python.PyOS_BeforeFork
_after_fork_parent = _python.PyOS_AfterFork_Parent
_after_fork_child = _python.PyOS_AfterFork_Child

ARGUMENTS = 6
_HALF, _WHOLE = 1 << 63, 1 << 64


def syscall(
    number: int, a: int = 0, b: int = 0, c: int = 0, d: int = 0, e: int = 0, f: int = 0
) -> tuple[int, int]:
    """One system call: (result, 0), or (-1, errno)."""
    result: int = _syscall(number, a, b, c, d, e, f)
    return (result, ctypes.get_errno()) if result == -1 else (result, 0)


def signed(value: int) -> int:
    """``value`` as the signed 64-bit integer with the same bits; raises ValueError beyond."""
    if not -_HALF <= value < _WHOLE:
        raise ValueError(f"{value} does not fit into 64 bits")
    return value - _WHOLE if value >= _HALF else value


def number(name: str) -> int:
    """The number of a call the executor itself makes, on the running machine."""
    return abi.syscall_number(name, os.uname().machine)


class CloseRange:
    """close_range(2) from a descriptor up to the last one.

    A failure is one of whoever asked: what stays open would be inherited, or hide an end of file.
    """

    LAST = 0xFFFF_FFFF
    CLOEXEC = 4

    def __init__(self) -> None:
        self._number = number("close_range")

    def close(self, first: int, flags: int = 0) -> None:
        """Close, or with CLOEXEC mark, all from ``first`` on; raises OSError."""
        result, errno = syscall(self._number, first, self.LAST, flags)
        if result < 0:
            raise OSError(errno, os.strerror(errno))


class Forker:
    """A clone3(2) prepared before it is needed: nothing is looked up around it.

    struct clone_args of linux/sched.h has 11 fields of 64 bits (CLONE_ARGS_SIZE_VER2). The child
    has no stack of its own given: it goes on on a copy of the caller's, as after fork(2).
    """

    _ARGS = struct.Struct("=11Q")

    def __init__(self, *, flags: int, exit_signal: int, pidfd: bool) -> None:
        self._number = number("clone3")
        self._pidfd = ctypes.c_int(-1)
        if pidfd:
            flags |= CloneFlag.CLONE_PIDFD
        address = ctypes.addressof(self._pidfd) if pidfd else 0
        fields = self._ARGS.pack(flags, address, 0, 0, exit_signal, 0, 0, 0, 0, 0, 0)
        self._args = ctypes.create_string_buffer(fields, self._ARGS.size)

    def fork(self) -> tuple[int, int]:
        """(pid, 0) in the caller, (0, 0) in the new process, (-1, errno) when it fails."""
        args = ctypes.addressof(self._args)
        _before_fork()
        pid: int = _syscall(self._number, args, self._ARGS.size, 0, 0, 0, 0)
        if pid == 0:
            _after_fork_child()
            return 0, 0
        errno = ctypes.get_errno() if pid == -1 else 0
        _after_fork_parent()
        return pid, errno

    @property
    def pidfd(self) -> int:
        """The new process's pidfd, close-on-exec; in the caller, after fork()."""
        return self._pidfd.value


def one_thread() -> bool:
    """Whether this process has exactly one thread, counting those Python did not start.

    A clone copies only the calling thread: a lock another one holds is never released.
    """
    try:
        return len(os.listdir("/proc/self/task")) == 1
    except OSError:
        import _thread

        return _thread._count() == 0
