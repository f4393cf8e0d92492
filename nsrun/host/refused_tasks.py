"""A process or thread that could not be started (EAGAIN): whose limit was full at that moment."""

from __future__ import annotations

import errno

from nsrun.host import cgroups, tasks
from nsrun.host.refused import Refused, Wall

_STARTS = ("clone", "clone3", "fork", "vfork")


def is_start(name: str, error: int) -> bool:
    """A call that was answered with what is said where there may be no more of something."""
    return error == errno.EAGAIN and name in _STARTS


def of_tasks(call: Refused) -> Wall | None:
    """In the kernel's order: the user's limit, the machine's, then the groups'."""
    if not is_start(call.name, call.errno):
        return None
    user = tasks.user_is_full(str(call.pid))
    if user is not None:
        uid, count, soft = user
        return Wall(
            kind="resource limit",
            why=f"nproc: uid {uid} of the host has {count} threads and may have {soft}",
            path="rlimits.nproc",
            help="a larger `nproc` under `rlimits`",
        )
    machine = tasks.machine_is_full()
    if machine:
        return Wall(kind="machine", why=machine)
    for folder in cgroups.folders_of(call.pid):
        full = tasks.full_group(folder)
        if full is None:
            continue
        group, now, most = full
        own = bool(tasks.of_container(group))
        return Wall(
            kind="cgroup",
            why=tasks.words(now, most, group),
            path="resources.pids" if own else "",
            help="more `pids` under `resources`" if own else f"raise {group}/pids.max",
        )
    return None
