"""Why a sysctl cannot be set, as its file below /proc/sys shows it."""

from __future__ import annotations

import os
import stat

from nsrun.host import procfs, traced, trial
from nsrun.host.hint import Args, Hint, HintContext, number, text
from nsrun.kernel.abi import CloneFlag

_ROOT = "/proc/sys/"
_SHOWN = 60


def _file(context: HintContext, path: str) -> str | None:
    """The host's name of a sysctl's file, for a path of the container or of the host."""
    del context
    path = "/" + path.lstrip("/")
    return path if path.startswith(_ROOT) else None


def _key(path: str) -> str:
    return path.removeprefix(_ROOT).replace("/", ".")


def _namespaces(context: HintContext) -> int:
    """The run's namespaces, without pid: a sysctl is looked up in those of who looks."""
    found = 0
    for call, args, _ in context.before:
        if call in ("clone3", "unshare"):
            found |= number(args, 0) or 0
    kinds = CloneFlag.CLONE_NEWUSER | CloneFlag.CLONE_NEWNET | CloneFlag.CLONE_NEWIPC
    return found & int(kinds | CloneFlag.CLONE_NEWUTS)


def no_such_sysctl(args: Args, context: HintContext) -> Hint | None:
    """openat2(2) of a file below /proc/sys, ENOENT."""
    path = _file(context, text(args, 1))
    if path is None or trial.errno_of(trial.look_at(path), _namespaces(context)) != 2:
        return None
    if not os.path.lexists(path):
        return Hint((f"this kernel has no sysctl {_key(path)}: {path} does not exist",))
    return Hint((f"{_key(path)} is there for the host, and not in a new namespace",))


def not_writable(args: Args, context: HintContext) -> Hint | None:
    """openat2(2) for writing, EACCES: the file's mode, or an owner that is another."""
    path = _file(context, text(args, 1))
    if path is None:
        return None
    try:
        status = os.stat(path)
    except OSError:
        return None
    mode = stat.S_IMODE(status.st_mode)
    if not mode & 0o222:
        return Hint((f"{_key(path)} can only be read (mode 0{mode:o})",))
    denied = trial.errno_of(lambda: os.open(path, os.O_WRONLY), _namespaces(context))
    if denied != 13:
        return None
    return Hint(
        (f"{_key(path)} belongs to the initial user namespace (mode 0{mode:o}, owner "
         f"{status.st_uid}:{status.st_gid})",),
        ("set it on the host, as root",),
    )  # fmt: skip


def on_read_only(args: Args, context: HintContext) -> Hint | None:
    """openat2(2) for writing, EROFS: the proc it lies on."""
    path = _file(context, text(args, 1))
    mount = procfs.mount_of(path) if path is not None else None
    if mount is None or not mount.readonly:
        return None
    return Hint(
        (f"{mount.target} is mounted read-only",),
        ("list `mount` and `pid` under namespaces, with a new /proc in `mounts`",),
    )


def value_refused(args: Args, context: HintContext) -> Hint | None:
    """write(2), EINVAL: the value is not of the kind that the file holds."""
    step = traced.made_by(context, text(args, 0))
    path = _file(context, text(step[1], 1)) if step is not None else None
    now = (procfs.read(path) or "").strip() if path is not None else ""
    if path is None or not now:
        return None
    value = text(args, 1).strip()
    held, given = now.split(), value.split()
    shown = now if len(now) <= _SHOWN else now[:_SHOWN] + "\u2026"
    if all(_is_number(w) for w in held) and not all(_is_number(w) for w in given):
        what = "a number" if len(held) == 1 else f"{len(held)} numbers"
        return Hint((f"{_key(path)} takes {what}, as on the host now: {shown}",))
    if len(given) > len(held) and all(_is_number(w) for w in held):
        return Hint((f"{_key(path)} takes no more than {len(held)} numbers, as now: {shown}",))
    return None


def _is_number(word: str) -> bool:
    return word.removeprefix("-").isdecimal()
