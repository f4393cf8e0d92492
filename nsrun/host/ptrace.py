"""ptrace(2) as the tracer of a payload needs it: one function a request.

By libc: the numbers of nsrun.kernel.abi are those of calls that a plan can make.
"""

from __future__ import annotations

import ctypes
import os
import struct
from dataclasses import dataclass

_libc = ctypes.CDLL(None, use_errno=True)
_ptrace = _libc.ptrace
_ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
_ptrace.restype = ctypes.c_long

# linux/ptrace.h
_DETACH, _SYSCALL = 17, 24
_GETEVENTMSG, _SEIZE, _INTERRUPT, _LISTEN = 0x4201, 0x4206, 0x4207, 0x4208
_GET_SYSCALL_INFO = 0x420E
EVENT_FORK, EVENT_VFORK, EVENT_CLONE, EVENT_EXEC, EVENT_EXIT = 1, 2, 3, 4, 6
EVENT_STOP = 128
# PTRACE_O_TRACESYSGOOD marks stops at system calls by this bit of the signal.
SYSCALL_STOP = 0x80
_OPTIONS = 1 | sum(
    1 << event for event in (EVENT_FORK, EVENT_VFORK, EVENT_CLONE, EVENT_EXEC, EVENT_EXIT)
)
_ENTRY, _EXIT = 1, 2
_INFO_SIZE = 88
# wait(2), linux/wait.h
WALL = 0x40000000
_STRING_MAX = 4096
_PAGE = 4096


@dataclass(frozen=True, slots=True)
class Entered:
    """A system call that begins."""

    architecture: int
    number: int
    arguments: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Left:
    """One that ends; ``errno`` is 0 where it has worked."""

    errno: int
    result: int


def _call(request: int, pid: int, address: int = 0, data: int = 0) -> int:
    ctypes.set_errno(0)
    result: int = _ptrace(request, pid, address, data)
    errno = ctypes.get_errno()
    if result == -1 and errno:
        raise OSError(errno, os.strerror(errno))
    return result


def seize(pid: int) -> None:
    """Become the tracer of ``pid`` and of all that it starts; it is not stopped."""
    _call(_SEIZE, pid, 0, _OPTIONS)


def interrupt(pid: int) -> None:
    _call(_INTERRUPT, pid)


def go_on(pid: int, signal: int = 0) -> None:
    """To the next system call, with the signal that it was stopped for."""
    _call(_SYSCALL, pid, 0, signal)


def detach(pid: int) -> None:
    """Trace it no more; it goes on."""
    _call(_DETACH, pid)


def listen(pid: int) -> None:
    """Leave it stopped, as a signal has it, until another wakes it."""
    _call(_LISTEN, pid)


def message(pid: int) -> int:
    """The new process of a fork, the former id of a thread that has executed a program."""
    word = ctypes.c_ulong()
    _call(_GETEVENTMSG, pid, 0, ctypes.addressof(word))
    return word.value


def call_of(pid: int) -> Entered | Left | None:
    """The system call at which ``pid`` is stopped (PTRACE_GET_SYSCALL_INFO, Linux 5.3)."""
    buffer = ctypes.create_string_buffer(_INFO_SIZE)
    _call(_GET_SYSCALL_INFO, pid, _INFO_SIZE, ctypes.addressof(buffer))
    kind, architecture = struct.unpack_from("=B3xI", buffer)
    if kind == _ENTRY:
        number, *arguments = struct.unpack_from("=7Q", buffer, 24)
        return Entered(architecture, number, tuple(arguments))
    if kind == _EXIT:
        result, failed = struct.unpack_from("=q?", buffer, 24)
        return Left(errno=-result if failed else 0, result=result)
    return None


def memory(pid: int, address: int, size: int) -> bytes:
    """Memory of a traced process; raises OSError where there is none (proc_pid_mem(5))."""
    if not 0 < address < 1 << 63:
        raise OSError(14, "no such address")
    fd = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.pread(fd, size, address)
    finally:
        os.close(fd)


def string(pid: int, address: int) -> str:
    """A C string, cut at PATH_MAX; raises OSError."""
    found = b""
    while len(found) < _STRING_MAX:
        # A string may end just before a page that is not there.
        piece = memory(pid, address + len(found), _PAGE - (address + len(found)) % _PAGE)
        text, end, _ = piece.partition(b"\0")
        found += text
        if end or not piece:
            break
    return os.fsdecode(found[:_STRING_MAX])
