"""Why a command cannot be executed: a missing loader, no execute bit, another machine."""

from __future__ import annotations

import dataclasses
import os
import stat
import struct

from nsrun.host import procfs, traced
from nsrun.host.actor import actor, owner_words
from nsrun.host.hint import Args, Hint, HintContext, text
from nsrun.host.syscalls import open_inside

_ELF, _PT_INTERP = b"\x7fELF", 3
# e_machine, linux/elf-em.h
_MACHINES = {3: "i386", 40: "arm", 62: "x86_64", 183: "aarch64", 243: "riscv"}
_PAGE = 4096
# ELFCLASS32 and ELFCLASS64 (elf(5)): e_phoff, e_phentsize with e_phnum, and of a program header
# its form, its size, p_offset and p_filesz.
_FORMS = {
    1: (("<I", 28), 42, ("<I", 32, 4, 16)),
    2: (("<Q", 32), 54, ("<Q", 56, 8, 32)),
}


def _open(path: str, context: HintContext, flags: int = os.O_PATH) -> int | None:
    """A program, found as the command would find it: in the rootfs, or in what lies over it."""
    over = traced.cover(context, os.path.normpath(path))
    top, inner = context.rootfs or "/", path
    if over is not None:
        host = traced.host_path(context, over[1])
        if host is None:
            return None
        top, inner = host, os.path.relpath(path, over[0])
    try:
        root = os.open(top, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if inner == ".":
            return os.open(f"/proc/self/fd/{root}", flags | os.O_CLOEXEC)
        return open_inside(root, inner, flags)
    except (OSError, ValueError):
        return None
    finally:
        os.close(root)


def _status(path: str, context: HintContext) -> os.stat_result | None:
    handle = _open(path, context)
    if handle is None:
        return None
    try:
        return os.fstat(handle)
    finally:
        os.close(handle)


def _head(path: str, context: HintContext) -> bytes | None:
    """The first page of a program, None where it is none that can be read."""
    fd = _open(path, context, os.O_RDONLY | os.O_NONBLOCK)
    if fd is None:
        return None
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
    if not head.startswith(_ELF) or len(head) < 64 or head[4] not in _FORMS:
        return None
    headers, entry, span = _FORMS[head[4]]
    (offset,) = struct.unpack_from(headers[0], head, headers[1])
    size, count = struct.unpack_from("<HH", head, entry)
    for index in range(count):
        at = offset + index * size
        if at + size > len(head) or size < span[1]:
            return None
        start, length = (struct.unpack_from(span[0], head, at + part)[0] for part in span[2:])
        if struct.unpack_from("<I", head, at)[0] == _PT_INTERP and start + length <= len(head):
            return os.fsdecode(head[start : start + length].rstrip(b"\0"))
    return None


def not_found(args: Args, context: HintContext) -> Hint | None:
    """execve(2), ENOENT: the program is missing, or what loads it is."""
    path = text(args, 0)
    tried = [text(step[1], 0) for step in context.before if step[0] == "execve"]
    if not path.startswith("/"):
        return None
    if _status(path, context) is not None:
        return _missing_loader(path, context)
    if not _sees(path, context):
        return None
    place = f" in {context.rootfs}" if context.rootfs else ""
    if tried:
        if not all(_sees(p, context) and _status(p, context) is None for p in tried):
            return None
        folders = dict.fromkeys(os.path.dirname(p) for p in (*tried, path))
        name = os.path.basename(path)
        return Hint((f"{name} is in no folder of PATH{place}: {', '.join(folders)}",))
    parts = [part for part in path.split("/") if part]
    for count in range(1, len(parts) + 1):
        part = "/" + "/".join(parts[:count])
        if _status(part, context) is None:
            return Hint((f"{part} does not exist{place}",))
    return None


def _sees(path: str, context: HintContext) -> bool:
    """Whether what lies at a container's path can be looked at from here."""
    over = traced.cover(context, os.path.normpath(path))
    return over is None or traced.host_path(context, over[1]) is not None


def _missing_loader(path: str, context: HintContext) -> Hint | None:
    """A script's interpreter, its own loader, or a program's."""
    place = f" in {context.rootfs}" if context.rootfs else ""
    runs = path
    # Linux follows #! lines five deep (fs/exec.c).
    for _ in range(5):
        head = _head(runs, context)
        loader = _interpreter(head) if head else None
        if loader is None or head is None:
            return None
        if _status(loader, context) is None:
            if not _sees(loader, context):
                return None
            break
        runs = loader
    else:
        return None
    if head.startswith(b"#!"):
        return Hint(
            (f"{runs} exists, what its #! line names does not: {loader} is missing{place}",),
            (f"put {loader} there, or name another interpreter in the first line",),
        )
    return Hint(
        (f"{runs} exists, the program that loads it does not: {loader} is missing{place}",),
        ("copy the loader and the libraries that `ldd` lists, or use a static program",),
    )


def not_executable(args: Args, context: HintContext) -> Hint | None:
    """execve(2), EACCES: a folder, a file without x, a noexec mount, a closed folder above."""
    path = text(args, 0)
    status = _status(path, context) if path.startswith("/") else None
    if status is None:
        return None
    if stat.S_ISDIR(status.st_mode):
        return Hint((f"{path} is a folder",))
    if not status.st_mode & 0o111:
        mode = stat.S_IMODE(status.st_mode)
        host = traced.command_path(context, path) or path
        return Hint((f"{path} has no execute permission (mode 0{mode:o})",), (f"chmod +x {host}",))
    return _on_noexec(path, context) or _closed_to_user(path, context)


def _on_noexec(path: str, context: HintContext) -> Hint | None:
    over = traced.cover(context, path)
    if over is not None and "NOEXEC" in traced.attributes(context, over[1]):
        return Hint(
            (f"{path} lies on {over[0]}, which the spec mounts noexec",),
            (f"leave noexec out of the options of {over[0]}",),
        )
    host = traced.command_path(context, path)
    mount = procfs.mount_of(host) if host is not None else None
    if host is None or mount is None or "noexec" not in mount.options:
        return None
    return Hint((f"{host} lies on {mount.target}, which is mounted noexec",))


def _closed_to_user(path: str, context: HintContext) -> Hint | None:
    """path_resolution(7): every folder above needs x for the user; what was capable of more has
    given it up by now."""
    who = dataclasses.replace(actor(context), capable=False)
    if who.shown == 0:
        return None
    parts = [part for part in path.split("/") if part]
    for count in range(len(parts) + 1):
        part = "/" + "/".join(parts[:count])
        status = _status(part, context)
        if status is None:
            return None
        if not who.may(status, 1):
            what = "may not execute" if count == len(parts) else "may not enter"
            return Hint((f"{who} {what} {part} ({owner_words(status)})",))
    return None


def not_a_program(args: Args, context: HintContext) -> Hint | None:
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


def no_helper(args: Args, context: HintContext) -> Hint | None:
    """A helper program that is not there."""
    program = text(args, 0)
    if not program or os.path.lexists(program):
        return None
    return Hint((f"{program} does not exist",))
