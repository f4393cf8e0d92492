"""Why a command cannot be executed: a missing loader, no execute bit, another machine."""

from __future__ import annotations

import os
import stat
import struct

from nsrun.host.hint import Hint, HintContext, text
from nsrun.host.syscalls import open_inside

_ELF, _PT_INTERP = b"\x7fELF", 3
# e_machine, linux/elf-em.h
_MACHINES = {3: "i386", 40: "arm", 62: "x86_64", 183: "aarch64", 243: "riscv"}
_PAGE = 4096


def _head(path: str, context: HintContext) -> bytes | None:
    """The first page of a program, found as the command would find it."""
    try:
        root = os.open(context.rootfs or "/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fd = open_inside(root, path, os.O_RDONLY | os.O_NONBLOCK)
    except (OSError, ValueError):
        return None
    finally:
        os.close(root)
    try:
        return os.read(fd, _PAGE) if stat.S_ISREG(os.fstat(fd).st_mode) else None
    except OSError:
        return None
    finally:
        os.close(fd)


def _interpreter(head: bytes) -> str | None:
    """The program that runs this one: the #! line's, or the ELF's PT_INTERP (elf(5))."""
    if head.startswith(b"#!"):
        words = head[2:].split(b"\n", 1)[0].split()
        return os.fsdecode(words[0]) if words else None
    if not head.startswith(_ELF) or len(head) < 64 or head[4] != 2:
        return None
    offset, size, count = (
        struct.unpack_from("<Q", head, 32)[0],
        struct.unpack_from("<H", head, 54)[0],
        struct.unpack_from("<H", head, 56)[0],
    )
    for index in range(count):
        at = offset + index * size
        if at + 56 > len(head):
            return None
        kind, _, start = struct.unpack_from("<IIQ", head, at)
        (length,) = struct.unpack_from("<Q", head, at + 32)
        if kind == _PT_INTERP and start + length <= len(head):
            return os.fsdecode(head[start : start + length].rstrip(b"\0"))
    return None


def missing_loader(args: tuple[str | int, ...], context: HintContext) -> Hint | None:
    """execve(2): ENOENT also means that the program's interpreter is missing."""
    path = text(args, 0)
    head = _head(path, context) if path else None
    loader = _interpreter(head) if head else None
    if loader is None or _head(loader, context) is not None:
        return None
    place = f" in {context.rootfs}" if context.rootfs else ""
    return Hint(
        (f"{path} exists, the program that loads it does not: {loader} is missing{place}",),
        ("copy the loader and the libraries that `ldd` lists, or use a static program",),
    )


def not_executable(args: tuple[str | int, ...], context: HintContext) -> Hint | None:
    """execve(2): EACCES for a folder, a file without x, or a noexec mount."""
    path = text(args, 0)
    if not path:
        return None
    host = (context.rootfs or "") + path
    try:
        status = os.stat(host)
    except OSError:
        return None
    if stat.S_ISDIR(status.st_mode):
        return Hint((f"{path} is a folder",))
    if not status.st_mode & 0o111:
        mode = stat.S_IMODE(status.st_mode)
        return Hint((f"{path} has no execute permission (mode 0{mode:o})",), (f"chmod +x {host}",))
    return None


def not_a_program(args: tuple[str | int, ...], context: HintContext) -> Hint | None:
    """execve(2): ENOEXEC for another machine's program, or a script without #!."""
    head = _head(text(args, 0), context)
    if not head:
        return None
    if head.startswith(_ELF) and len(head) >= 20:
        (machine,) = struct.unpack_from("<H", head, 18)
        name = _MACHINES.get(machine, f"machine {machine}")
        here = os.uname().machine
        return Hint((f"it is a program for {name}, this is {here}",)) if name != here else None
    if not head.startswith(b"#!"):
        return Hint(
            ("it is neither an ELF program nor a script with a #! line",),
            ("begin it with #!/bin/sh, or run it by a shell: command: [sh, FILE]",),
        )
    return None


def no_such_folder(args: tuple[str | int, ...], context: HintContext) -> Hint | None:
    """chdir(2): the folder is missing in the rootfs."""
    path = text(args, 0)
    if context.rootfs is None or not path or os.path.lexists(context.rootfs + path):
        return None
    return Hint(
        (f"{context.rootfs} has no {path}",),
        (f'make it: files: {{"{path}": {{folder: true}}}}',),
    )


def no_helper(args: tuple[str | int, ...], context: HintContext) -> Hint | None:
    """A helper program that is not there."""
    program = text(args, 0)
    if not program or os.path.lexists(program):
        return None
    return Hint((f"{program} does not exist",))
