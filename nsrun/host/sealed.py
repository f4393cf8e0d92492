"""Copies of programs that nobody can write to, for who enters a container that runs.

Kernel: the file that a process executes is open to whoever may look at it, through /proc/PID/exe,
and to itself, through /proc/self/exe, which a container can make the name of a program of its own.
Once nobody executes it any more it can be written to by that way (execve(2), ETXTBSY), where its
owner has an id in the container. So what enters one is a copy in memory (CVE-2019-5736).
"""

from __future__ import annotations

import errno
import fcntl
import os

# linux/memfd.h: since Linux 6.3, and needed where vm.memfd_noexec is 1.
_MFD_EXEC = 0x10
# memfd_create(2): a name has 249 bytes at most.
_NAME_MAX = 249
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def sealed_copy(path: str) -> int:
    """A descriptor of the copy, close-on-exec; raises OSError.

    It is named as the file: native/launch.c looks for what lies beside it.
    """
    with open(path, "rb") as file:
        fd = _memory(path if len(os.fsencode(path)) <= _NAME_MAX else os.path.basename(path))
        try:
            while os.sendfile(fd, file.fileno(), None, 1 << 30):
                pass
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
        except OSError:
            os.close(fd)
            raise
    return fd


def is_sealed() -> bool:
    """Whether this process executes such a copy."""
    fd = os.open("/proc/self/exe", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return bool(fcntl.fcntl(fd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_WRITE)
    # A file that can have no seals (fcntl(2)).
    except OSError:
        return False
    finally:
        os.close(fd)


def _memory(name: str) -> int:
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        return os.memfd_create(name, flags | _MFD_EXEC)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return os.memfd_create(name, flags)
