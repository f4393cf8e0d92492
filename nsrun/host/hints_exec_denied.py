"""Why a command may not be executed, where it is there: EACCES and EPERM of execve(2).

The kernel opens the program, what its #! line names and what loads it: any of them can be what is
refused.
"""

from __future__ import annotations

import dataclasses
import errno
import os
import stat

from nsrun.host import procfs, traced
from nsrun.host.actor import actor, owner_words
from nsrun.host.hint import Args, Hint, HintContext, text
from nsrun.host.programs import chain, open_program, status_of
from nsrun.kernel import bpf
from nsrun.kernel.abi import SeccompAction, UnknownSyscallError, syscall_number


def not_executable(args: Args, context: HintContext) -> Hint | None:
    """A folder, a file without x, a noexec mount, a closed folder above, a Landlock rule; of the
    program or of what runs it."""
    path = text(args, 0)
    if not path.startswith("/"):
        return None
    for number, file in enumerate(chain(path, context)):
        for cause in _CAUSES:
            found = cause(file, context)
            if found is not None and number:
                runs = f"{path} is run by {file}"
                return dataclasses.replace(found, why=(runs, *found.why))
            if found is not None:
                return found
    return None


def _no_permission(path: str, context: HintContext) -> Hint | None:
    status = status_of(path, context)
    if status is None:
        return None
    if stat.S_ISDIR(status.st_mode):
        return Hint((f"{path} is a folder",))
    if not stat.S_ISREG(status.st_mode):
        return Hint((f"{path} is no regular file",))
    if status.st_mode & 0o111:
        return None
    mode = stat.S_IMODE(status.st_mode)
    host = traced.command_path(context, path) or path
    return Hint((f"{path} has no execute permission (mode 0{mode:o})",), (f"chmod +x {host}",))


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
        status = status_of(part, context)
        if status is None:
            return None
        if not who.may(status, 1):
            what = "may not execute" if count == len(parts) else "may not enter"
            return Hint((f"{who} {what} {part} ({owner_words(status)})",))
    return None


def _not_allowed(path: str, context: HintContext) -> Hint | None:
    """landlock(7): each ruleset asks for a rule on the file or on a folder above it."""
    if not any(call == "landlock_restrict_self" for call, _, _ in context.before):
        return None
    above = _inodes_above(path, context)
    if not above:
        return None
    for place, rights in _rules(context):
        status = status_of(place, context)
        # What cannot be looked at may be what allows it.
        if "EXECUTE" in rights and (status is None or _inode(status) in above):
            return None
    return Hint(
        (f"no rule of landlock lets {path} be executed",),
        (f"`{os.path.dirname(path)}` in the list landlock.read",),
    )


def _rules(context: HintContext) -> list[tuple[str, set[str]]]:
    """(container's path, rights) of each rule that the run has made."""
    found = []
    for call, args, _ in context.before:
        if call != "landlock_add_rule":
            continue
        rights, _, register = text(args, 2).strip("{}").partition(", ")
        opened = traced.made_by(context, register)
        if opened is not None:
            found.append((text(opened[1], 1), set(rights.split("|"))))
    return found


def _inodes_above(path: str, context: HintContext) -> set[tuple[int, int]]:
    """Of a file and of every folder that it lies in, links followed."""
    handle = open_program(path, context)
    if handle is None:
        return set()
    try:
        place = os.readlink(f"/proc/self/fd/{handle}")
    finally:
        os.close(handle)
    found = {_inode(os.stat(place))}
    while place != "/":
        place = os.path.dirname(place)
        found.add(_inode(os.stat(place)))
    return found


def _inode(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


_CAUSES = (_no_permission, _on_noexec, _closed_to_user, _not_allowed)


def by_own_filter(args: Args, context: HintContext) -> Hint | None:
    """seccomp(2): the programs that the plan has set answer the call by themselves, whatever its
    pointers are. One that ends the process leaves no errno."""
    del args
    set_ = sum(call == "seccomp" for call, _, _ in context.before)
    answer = _answer(context.filters[:set_], "execve")
    name = errno.errorcode.get(answer & bpf.DATA_MASK, "")
    if answer & bpf.ACTION_MASK != SeccompAction.SECCOMP_RET_ERRNO or name != context.errno:
        return None
    return Hint(
        (f"the filter of the spec answers execve with {name}",),
        ("allow execve in the profile under `seccomp`: by it the command itself is executed",),
    )


def _answer(filters: tuple[bytes, ...], name: str) -> int:
    machine = os.uname().machine
    try:
        number = syscall_number(name, machine)
        return bpf.strictest(filters, bpf.ARCHITECTURES[machine], number, ())
    except (KeyError, UnknownSyscallError, bpf.NotAFilterError):
        return int(SeccompAction.SECCOMP_RET_ALLOW)
