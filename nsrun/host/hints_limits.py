"""Why there is no more of something: descriptors, processes, room in a file system."""

from __future__ import annotations

import os
import resource

from nsrun.host import cgroups, procfs, traced
from nsrun.host.hint import Args, Hint, HintContext, text

# linux/capability.h
_SYS_ADMIN, _SYS_RESOURCE = 21, 24


def too_many_files(args: Args, context: HintContext) -> Hint | None:
    """EMFILE is the process's own limit (getrlimit(2), RLIMIT_NOFILE)."""
    del args, context
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    more = f"ulimit -n {hard}, before nsrun" if hard > soft else "raise the hard limit, as root"
    return Hint((f"nsrun may have {soft} files open at once (RLIMIT_NOFILE)",), (more,))


def too_many_processes(args: Args, context: HintContext) -> Hint | None:
    """clone(2), EAGAIN: pids.max of a control group, or RLIMIT_NPROC of the user."""
    del args, context
    for folder in cgroups.folders_of(os.getpid()):
        while os.path.exists(f"{folder}/cgroup.procs"):
            now, most = (procfs.number(f"{folder}/pids.{name}") for name in ("current", "max"))
            if now is not None and most is not None and now >= most:
                return Hint(
                    (f"{folder}, in which nsrun runs, has {now} processes and may have {most}",),
                    (f"raise {folder}/pids.max, or start nsrun in another group",),
                )
            folder = os.path.dirname(folder)
    soft, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    if soft == resource.RLIM_INFINITY or {_SYS_ADMIN, _SYS_RESOURCE} & procfs.capabilities():
        return None
    count = _threads(os.getuid())
    if count < soft:
        return None
    return Hint(
        (f"uid {os.getuid()} has {count} threads and may have {soft} (RLIMIT_NPROC)",),
        ("end some, or raise the limit: ulimit -u",),
    )


def _threads(uid: int) -> int:
    count = 0
    for entry in os.scandir("/proc"):
        try:
            if entry.name.isdigit() and entry.stat().st_uid == uid:
                count += len(os.listdir(f"{entry.path}/task"))
        except OSError:
            continue
    return count


def no_room(args: Args, context: HintContext) -> Hint | None:
    """ENOSPC of what makes or fills a file: the file system has no block, or no inode, left."""
    register = next((word for word in args[:2] if isinstance(word, str) and word[:1] == "%"), "")
    folder = traced.place_of(context, register) if register else None
    step = traced.made_by(context, register)
    if folder is None and step is not None and text(step[1], 0).startswith("%"):
        folder = traced.place_of(context, text(step[1], 0))
    mount = procfs.mount_of(folder) if folder is not None else None
    if folder is None or mount is None:
        return None
    room = os.statvfs(folder)
    for free, total, what in (
        (room.f_bavail, room.f_blocks, "no space"),
        (room.f_favail, room.f_files, "no inode"),
    ):
        if total and not free:
            return Hint(
                (f"the file system on {mount.target} ({mount.fstype}) has {what} left",),
                (f"make room on {mount.target}",),
            )
    return None
