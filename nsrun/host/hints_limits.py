"""Why there is no more of something: descriptors, processes, room in a file system."""

from __future__ import annotations

import os
import resource

from nsrun.host import cgroups, procfs, tasks, traced
from nsrun.host.hint import Args, Hint, HintContext, number, text
from nsrun.kernel.abi import CloneFlag
from nsrun.kernel.facts import GROUP_PREFIX


def too_many_files(args: Args, context: HintContext) -> Hint | None:
    """EMFILE is the process's own limit (getrlimit(2), RLIMIT_NOFILE)."""
    del args, context
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    more = f"ulimit -n {hard}, before nsrun" if hard > soft else "raise the hard limit, as root"
    return Hint((f"nsrun may have {soft} files open at once (RLIMIT_NOFILE)",), (more,))


def too_many_processes(args: Args, context: HintContext) -> Hint | None:
    """clone(2), EAGAIN: pids.max of a control group, RLIMIT_NPROC of the user, or the machine."""
    own = _own_processes(args, context)
    found = _container_is_full(context, own) if own else None
    if found is not None:
        return found
    for folder in cgroups.folders_of(os.getpid()):
        full = tasks.full_group(folder)
        if full is not None:
            group, now, most = full
            return Hint(
                (f"{group}, in which nsrun runs, has {now} processes and may have {most}",),
                (f"raise {group}/pids.max, or start nsrun in another group",),
            )
    user = tasks.user_is_full()
    if user is not None:
        uid, count, soft = user
        return Hint(
            (f"uid {uid} has {count} threads and may have {soft} (RLIMIT_NPROC)",),
            ("end some, or raise the limit: ulimit -u",),
        )
    machine = tasks.machine_is_full()
    return Hint((machine,), ("end some processes, or raise it, as root",)) if machine else None


def _own_processes(args: Args, context: HintContext) -> int:
    """How many of nsrun's own are in the container's group with the one that could not be started,
    at most; 0 where it was the launcher that could not.

    The child enters the group as its first act, and a stage may still be in it.
    """
    if args and not _goes_on(args):
        return 0
    before = sum(
        call == "init" or (call == "clone3" and _goes_on(values))
        for call, values, _ in context.before
    )
    return 2 + before


def _goes_on(args: Args) -> bool:
    return bool((number(args, 0) or 0) & CloneFlag.CLONE_PARENT)


def _container_is_full(context: HintContext, own: int) -> Hint | None:
    """The group that the run has made has gone by now: what it was held to is in the plan. Of one
    that was entered, and of those above, all is as it was but for nsrun's own."""
    made = [(folder, most) for folder, file, most in context.limits if file == "pids.max"]
    for folder, most in made:
        if own > most:
            return Hint(
                (f"pids.max is {most}, and nsrun's own processes in it are {own} "
                 f"({folder}/{GROUP_PREFIX}{context.name})",),
                (f"resources: {{pids: {own}}} at the least, and what the command needs beside",),
            )  # fmt: skip
    entered = [
        os.path.dirname(text(values, 1))
        for call, values, _ in context.before
        if call == "openat" and text(values, 1).startswith("/") and _is_procs(text(values, 1))
    ]
    for folder in (*entered, *(folder for folder, _ in made)):
        full = tasks.full_group(folder, own)
        if full is None:
            continue
        group, now, most = full
        name = tasks.of_container(group)
        new = f", and nsrun begins with {own} more" if now < most else ""
        return Hint(
            (tasks.words(now, most, group) + new,),
            (f"nsrun update --pids {now + own} {name}" if name else f"raise {group}/pids.max",),
        )
    return None


def _is_procs(path: str) -> bool:
    return os.path.basename(path) == "cgroup.procs"


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
