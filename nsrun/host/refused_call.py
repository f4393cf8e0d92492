"""What a system call is about that a stopped process has made, and how people read it.

Paths are read from the process's memory and completed by its folders and descriptors.
"""

from __future__ import annotations

import json
import os
import struct

from nsrun.host import ptrace
from nsrun.host.refused import Refused, Rules

_AT_FDCWD = 0xFFFF_FF9C
_AF_UNIX, _AF_INET, _AF_INET6 = 1, 2, 10
# Of a call without paths its first arguments are shown.
_SHOWN = 3
# (descriptor argument or None for the working directory, argument of the path)
_PATHS: dict[str, tuple[tuple[int | None, int], ...]] = {
    **dict.fromkeys(
        ("open", "creat", "mkdir", "mknod", "unlink", "rmdir", "chdir", "chroot", "execve",
         "truncate", "access", "stat", "lstat", "readlink", "chmod", "chown", "lchown", "utime",
         "utimes", "getxattr", "setxattr", "removexattr", "statfs", "umount2", "swapon", "acct"),
        ((None, 0),),
    ),
    **dict.fromkeys(
        ("openat", "openat2", "mkdirat", "mknodat", "unlinkat", "execveat", "faccessat",
         "faccessat2", "newfstatat", "statx", "readlinkat", "fchmodat", "fchmodat2", "fchownat",
         "utimensat", "futimesat", "open_tree"),
        ((0, 1),),
    ),
    "rename": ((None, 0), (None, 1)),
    "renameat": ((0, 1), (2, 3)),
    "renameat2": ((0, 1), (2, 3)),
    "link": ((None, 0), (None, 1)),
    "linkat": ((2, 3),),
    "symlink": ((None, 1),),
    "symlinkat": ((1, 2),),
    "mount": ((None, 1),),
}  # fmt: skip
_DESCRIPTORS = ("fchmod", "fchown", "ftruncate", "fsetxattr", "fchdir")
_FLAGS = {"open": 1, "openat": 2}


def name_of(entered: ptrace.Entered) -> str:
    try:
        from nsrun.kernel.seccomp import call_name
    except ImportError:
        return f"call {entered.number}"
    return call_name(entered.architecture, entered.number) or f"call {entered.number}"


def read_call(
    pid: int, name: str, arguments: tuple[int, ...], errno: int, layers: tuple[Rules, ...]
) -> Refused:
    """The call at whose end ``pid`` is stopped; without paths where they cannot be read."""
    paths: list[str] = []
    flags = 0
    family = port = None
    try:
        for start, at in _PATHS.get(name, ()):
            text = ptrace.string(pid, arguments[at])
            base = None if start is None else arguments[start] & 0xFFFF_FFFF
            paths.append(_whole(pid, base, text))
        if name in _DESCRIPTORS:
            paths.append(os.readlink(f"/proc/{pid}/fd/{arguments[0] & 0xFFFF_FFFF}"))
        if name == "openat2":
            flags = struct.unpack("=Q", ptrace.memory(pid, arguments[2], 8))[0]
        elif name == "creat":
            flags = os.O_CREAT | os.O_WRONLY | os.O_TRUNC
        elif name in _FLAGS:
            flags = arguments[_FLAGS[name]] & 0xFFFF_FFFF
        if name in ("bind", "connect"):
            address = ptrace.memory(pid, arguments[1], min(arguments[2], 110))
            family, port, path = _address(address)
            if path:
                paths.append(_whole(pid, None, path))
    except (OSError, struct.error):
        paths = []
    return Refused(
        pid=pid, name=name, arguments=arguments, errno=errno, paths=tuple(paths), flags=flags,
        layers=layers, family=family, port=port,
    )  # fmt: skip


def _address(data: bytes) -> tuple[int | None, int | None, str]:
    """(family, port, path) of a struct sockaddr."""
    if len(data) < 2:
        return None, None, ""
    family = int.from_bytes(data[:2], "little")
    if family in (_AF_INET, _AF_INET6) and len(data) >= 4:
        return family, int.from_bytes(data[2:4], "big"), ""
    if family == _AF_UNIX and data[2:3] not in (b"", b"\0"):
        return family, None, os.fsdecode(data[2:].split(b"\0")[0])
    return family, None, ""


def _whole(pid: int, base: int | None, text: str) -> str:
    """A path from the process's root."""
    if not text.startswith("/"):
        link = "cwd" if base is None or base == _AT_FDCWD else f"fd/{base}"
        text = f"{os.readlink(f'/proc/{pid}/{link}')}/{text}"
    return "/" + os.path.normpath(text).lstrip("/")


def words(call: Refused) -> str:
    """The call as people read it: its paths, how a file is opened, a socket's address."""
    parts = [json.dumps(path, ensure_ascii=False) for path in call.paths]
    if call.name in ("open", "openat", "openat2", "creat"):
        parts.append(_open_words(call.flags))
    elif call.port is not None:
        parts.append(f"port {call.port}")
    elif not parts:
        parts = [number_words(value) for value in call.arguments[:_SHOWN]]
    return f"{call.name}({', '.join(parts)})"


def number_words(value: int) -> str:
    """An argument; a pointer says nothing, and is another each time."""
    if value >= 1 << 32:
        return "…"
    return f"{value:#x}" if value > 9 else str(value)


def _open_words(flags: int) -> str:
    names = [("O_RDONLY", "O_WRONLY", "O_RDWR", "3")[flags & 3]]
    names += [
        name for name in ("O_CREAT", "O_EXCL", "O_TRUNC", "O_APPEND", "O_DIRECTORY", "O_PATH")
        if flags & getattr(os, name)
    ]  # fmt: skip
    return "|".join(names)
