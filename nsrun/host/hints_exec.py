"""Why a command cannot be found or run: a missing loader, a link to itself, another machine."""

from __future__ import annotations

import os
import stat
import struct

from nsrun.host import processes, traced
from nsrun.host.hint import Args, Hint, HintContext, text
from nsrun.host.programs import ELF, head_of, interpreter_of, place_of, status_of

# e_machine, linux/elf-em.h
_MACHINES = {3: "i386", 40: "arm", 62: "x86_64", 183: "aarch64", 243: "riscv"}
# NAME_MAX of linux/limits.h
_NAME_MAX = 255
_SHOWN = 3
# MAX_ARG_STRLEN of linux/binfmts.h, with its NUL, of 4 KiB pages.
_STRING_MAX = 32 * 4096


def not_found(args: Args, context: HintContext) -> Hint | None:
    """execve(2), ENOENT: the program is missing, or what loads it is."""
    path = text(args, 0)
    tried = [text(step[1], 0) for step in context.before if step[0] == "execve"]
    if not path.startswith("/"):
        return None
    if status_of(path, context) is not None:
        return _missing_loader(path, context)
    if not _sees(path, context):
        return None
    place = f" in {context.rootfs}" if context.rootfs else ""
    if tried:
        if not all(_sees(p, context) and status_of(p, context) is None for p in tried):
            return None
        folders = dict.fromkeys(os.path.dirname(p) for p in (*tried, path))
        name = os.path.basename(path)
        return Hint((f"{name} is in no folder of PATH{place}: {', '.join(folders)}",))
    parts = [part for part in path.split("/") if part]
    for count in range(1, len(parts) + 1):
        part = "/" + "/".join(parts[:count])
        if status_of(part, context) is None:
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
        head = head_of(runs, context)
        loader = interpreter_of(head) if head else None
        if loader is None or head is None:
            return None
        if status_of(loader, context) is None:
            if not _sees(loader, context):
                return _covered(runs, loader, context)
            break
        covered = _covered(runs, place_of(loader, context) or loader, context)
        if covered is not None:
            return covered
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


def _covered(runs: str, loader: str, context: HintContext) -> Hint | None:
    over = traced.empty_cover(context, os.path.normpath(loader))
    if over is None:
        return None
    return Hint(
        (f"{runs} exists, {loader} that it needs does not: {over} is an empty tmpfs, which the "
         "spec mounts there",),
        (f"leave {over} as it is, or bind into it what is needed",),
    )  # fmt: skip


def no_way_to_it(args: Args, context: HintContext) -> Hint | None:
    """execve(2), ENOTDIR and ELOOP: what stands on the way to a program."""
    path = text(args, 0)
    parts = [part for part in path.split("/") if part]
    for count in range(1, len(parts) + 1):
        part = "/" + "/".join(parts[:count])
        status = status_of(part, context)
        if status is None:
            host = traced.command_path(context, part)
            if host is None or not os.path.islink(host):
                return None
            leads = os.readlink(host)
            return Hint((f"{part} is a symbolic link to {leads}, which leads back to a link",))
        if count < len(parts) and not stat.S_ISDIR(status.st_mode):
            return Hint((f"{part} is not a folder",))
    return None


def too_big(args: Args, context: HintContext) -> Hint | None:
    """execve(2), E2BIG: one string of more than 32 pages, or all of more than a part of the
    stack's limit."""
    del context
    words = [len(os.fsencode(word)) for word in text(args, 1).split(" ")]
    if max(words) < _STRING_MAX:
        return None
    return Hint(
        (f"an argument has {max(words)} bytes, and the kernel takes {_STRING_MAX - 1}",),
        ("hand it over in a file: under `files`, or on standard input",),
    )


def name_too_long(args: Args, context: HintContext) -> Hint | None:
    """execve(2), ENAMETOOLONG: a part of the path."""
    del context
    longest = max(text(args, 0).split("/"), key=lambda part: len(os.fsencode(part)))
    size = len(os.fsencode(longest))
    if size <= _NAME_MAX:
        return None
    return Hint((f"a name in it has {size} bytes, and the kernel takes {_NAME_MAX}",))


def being_written(args: Args, context: HintContext) -> Hint | None:
    """execve(2), ETXTBSY: who has the program open for writing."""
    status = status_of(text(args, 0), context)
    if status is None:
        return None
    writers = list(processes.writers_of(status.st_dev, status.st_ino))
    shown = ", ".join(f"{pid} ({name})" for pid, name in writers[:_SHOWN])
    more = f" and {len(writers) - _SHOWN} more" if len(writers) > _SHOWN else ""
    who = f"process {shown}{more}" if writers else "a process whose descriptors you may not see"
    return Hint(
        (f"{who} has it open for writing",),
        ("write it under another name, and rename it when it is whole (rename(2))",),
    )


def not_a_program(args: Args, context: HintContext) -> Hint | None:
    """execve(2): ENOEXEC for another machine's program, or a script without #!."""
    head = head_of(text(args, 0), context)
    if not head:
        return None
    if head.startswith(ELF) and len(head) >= 20:
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
