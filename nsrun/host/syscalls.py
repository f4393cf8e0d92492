"""System calls that Python's ``os`` lacks, by number through libc's syscall(2)."""

from __future__ import annotations

import ctypes
import os
import struct

from nsrun.kernel import abi
from nsrun.kernel.abi import Prctl, ResolveFlag

# use_errno keeps the call's errno from being changed by the interpreter before it is read.
_syscall = ctypes.CDLL(None, use_errno=True).syscall
# Without argtypes ctypes passes int and cuts 2^33+5 to 5.
_syscall.argtypes = (ctypes.c_long,) * 7
_syscall.restype = ctypes.c_long

_MACHINE = os.uname().machine
# openat2(2): with RESOLVE_IN_ROOT a ".." that races with a rename is refused with EAGAIN.
_TRIES = 32
# struct statfs of asm-generic/statfs.h, 120 bytes; f_type is its first word.
_STATFS_SIZE = 128


def syscall(name: str, *arguments: int | bytes | ctypes.Array[ctypes.c_char]) -> int:
    """One system call; bytes are passed by their address, with a NUL behind them.

    Raises OSError with the call's errno, UnknownSyscallError on a machine without a table.
    """
    buffers = [ctypes.create_string_buffer(a) if isinstance(a, bytes) else a for a in arguments]
    numbers = [a if isinstance(a, int) else ctypes.addressof(a) for a in buffers]
    numbers += [0] * (6 - len(numbers))
    result: int = _syscall(abi.syscall_number(name, _MACHINE), *numbers)
    if result == -1:
        errno = ctypes.get_errno()
        raise OSError(errno, os.strerror(errno))
    return result


def not_dumpable() -> None:
    """ptrace(2): only who has CAP_SYS_PTRACE in the host's user namespace reaches this process, or
    its files in /proc, from now on; that holds after setns(2) too. Raises OSError."""
    try:
        syscall("prctl", Prctl.PR_SET_DUMPABLE, 0)
    except OSError as error:
        raise OSError(error.errno, "its memory cannot be closed to others") from None


def file_system(fd: int) -> int:
    """The magic number of the file system behind a descriptor (statfs(2)). Raises OSError."""
    buffer = ctypes.create_string_buffer(_STATFS_SIZE)
    syscall("fstatfs", fd, buffer)
    return int.from_bytes(buffer.raw[:8], "little")


def openat2(dirfd: int, path: str, flags: int, resolve: ResolveFlag) -> int:
    """openat2(2), close-on-exec; raises OSError, and ValueError for a path with a NUL."""
    name = os.fsencode(path)
    if b"\0" in name:
        raise ValueError("embedded null byte")
    how = struct.pack("=QQQ", flags | os.O_CLOEXEC, 0, int(resolve))
    for _ in range(_TRIES):
        try:
            return syscall("openat2", dirfd, name, how, len(how))
        except BlockingIOError:
            continue
    return syscall("openat2", dirfd, name, how, len(how))


def open_inside(root: int, path: str, flags: int = os.O_PATH, *, strict: bool = False) -> int:
    """Open a container path from the descriptor of its root, without leaving it.

    No symlink leads out of the root, and no magic link is followed; with ``strict`` no symlink
    at all (openat2(2)).
    """
    resolve = ResolveFlag.RESOLVE_IN_ROOT | ResolveFlag.RESOLVE_NO_MAGICLINKS
    if strict:
        resolve |= ResolveFlag.RESOLVE_NO_SYMLINKS
    return openat2(root, path.lstrip("/") or ".", flags, resolve)
