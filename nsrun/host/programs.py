"""The files that execve(2) opens for a command, found as the command finds them: the program, what
its #! line names, and what loads it.
"""

from __future__ import annotations

import os
import stat
import struct

from nsrun.host import traced
from nsrun.host.hint import HintContext
from nsrun.host.syscalls import open_inside

ELF = b"\x7fELF"
_PT_INTERP = 3
_PAGE = 4096
# Linux follows #! lines five deep (fs/exec.c); then comes a loader.
_DEPTH_MAX = 6
# ELFCLASS32 and ELFCLASS64 (elf(5)): e_phoff, e_phentsize with e_phnum, and of a program header
# its form, its size, p_offset and p_filesz.
_FORMS = {
    1: (("<I", 28), 42, ("<I", 32, 4, 16)),
    2: (("<Q", 32), 54, ("<Q", 56, 8, 32)),
}


def open_program(path: str, context: HintContext, flags: int = os.O_PATH) -> int | None:
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


def status_of(path: str, context: HintContext) -> os.stat_result | None:
    handle = open_program(path, context)
    if handle is None:
        return None
    try:
        return os.fstat(handle)
    finally:
        os.close(handle)


def head_of(path: str, context: HintContext) -> bytes | None:
    """The first page of a program, None where it is none that can be read."""
    fd = open_program(path, context, os.O_RDONLY | os.O_NONBLOCK)
    if fd is None:
        return None
    try:
        return os.read(fd, _PAGE) if stat.S_ISREG(os.fstat(fd).st_mode) else None
    except OSError:
        return None
    finally:
        os.close(fd)


def interpreter_of(head: bytes) -> str | None:
    """The program that runs this one: the #! line's, or the ELF's PT_INTERP (elf(5))."""
    if head.startswith(b"#!"):
        words = head[2:].split(b"\n", 1)[0].split()
        return os.fsdecode(words[0]) if words else None
    if not head.startswith(ELF) or len(head) < 64 or head[4] not in _FORMS:
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


def place_of(path: str, context: HintContext) -> str | None:
    """The container's path of a program with every link followed, by the root's own files."""
    handle = open_program(path, context)
    if handle is None:
        return None
    try:
        place = os.readlink(f"/proc/self/fd/{handle}")
    finally:
        os.close(handle)
    if context.rootfs is None:
        return place
    top = os.path.realpath(context.rootfs)
    return "/" + os.path.relpath(place, top) if place.startswith(f"{top}/") else None


def chain(path: str, context: HintContext) -> list[str]:
    """The files that the kernel opens, as far as they can be read: each is run by the next."""
    found = [path]
    while len(found) < _DEPTH_MAX:
        head = head_of(found[-1], context)
        after = interpreter_of(head) if head else None
        if after is None:
            break
        found.append(after)
    return found
