"""Why a control group cannot be made or limited, as the group itself shows it."""

from __future__ import annotations

import os

from nsrun.host import procfs
from nsrun.host.hint import Args, Hint, HintContext, text

_SHOWN = 3


def in_use(args: Args, context: HintContext) -> Hint | None:
    """rmdir, EBUSY: processes are in the group, or groups below it."""
    base = _opened(text(args, 0), context)
    if base is None or not _is_cgroup(base):
        return None
    return _populated(os.path.join(base, text(args, 1)), context.name)


def _populated(folder: str, name: str) -> Hint | None:
    pids = (procfs.read(f"{folder}/cgroup.procs") or "").split()
    if pids:
        more = f" and {len(pids) - _SHOWN} more" if len(pids) > _SHOWN else ""
        return Hint(
            (f"{folder} holds the processes {', '.join(pids[:_SHOWN])}{more}",),
            (f"end the other {name or 'container'} first, or give this one another `name`",),
        )
    below = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    if below:
        return Hint(
            (f"a control group is below it: {folder}/{below[0]}",),
            (f"remove it, where nothing uses it: rmdir {folder}/{below[0]}",),
        )
    return None


def cannot_give_on(args: Args, context: HintContext) -> Hint | None:
    """write to cgroup.subtree_control, EBUSY: version 2 gives nothing on beside processes."""
    opened = [values for call, values, to in context.before if to and to == text(args, 0)]
    if not opened or text(opened[-1], 1) != "cgroup.subtree_control":
        return None
    base = _opened(text(opened[-1], 0), context)
    if base is None or not procfs.read(f"{base}/cgroup.procs"):
        return None
    return Hint(
        (f"processes are in {base} itself, and cgroup v2 limits no group beside them",),
        ("start nsrun in a group of its own: systemd-run --scope -p Delegate=yes nsrun ...",),
    )


def _opened(register: str, context: HintContext) -> str | None:
    """The host path that was opened into ``register``."""
    for call, values, to in reversed(context.before):
        if call == "openat" and to == register and text(values, 1).startswith("/"):
            return text(values, 1)
    return None


def _is_cgroup(path: str) -> bool:
    line = procfs.mount_of(path)
    return line is not None and line.fstype in ("cgroup", "cgroup2")
