"""Why a process cannot be set up as asked: its score, its clocks, its working directory."""

from __future__ import annotations

import dataclasses
import os
import stat
import time

from nsrun.host import procfs, traced
from nsrun.host.actor import actor, owner_words
from nsrun.host.hint import Args, Hint, HintContext, text
from nsrun.host.programs import status_of

_SYS_RESOURCE = 24  # linux/capability.h
_CLOCKS = {"boottime": time.CLOCK_BOOTTIME, "monotonic": time.CLOCK_MONOTONIC}
# KTIME_SEC_MAX / 2, linux/ktime.h: no clock of a time namespace goes further.
_SECONDS_MAX = (1 << 63) // 10**9 // 2


def _file(args: Args, context: HintContext) -> str:
    """The path of what a write(2) writes to."""
    opened = traced.made_by(context, text(args, 0))
    return text(opened[1], 1) if opened is not None else ""


def score_lowered(args: Args, context: HintContext) -> Hint | None:
    """proc_pid_oom_score_adj(5), EACCES: below its own a process sets it with the right of the
    initial user namespace alone."""
    if _file(args, context) != "/proc/self/oom_score_adj":
        return None
    own, wanted = procfs.number("/proc/self/oom_score_adj"), int(text(args, 1))
    if own is None or wanted >= own:
        return None
    if traced.new_user_namespace(context):
        lacks = "which a process in a user namespace of its own does not have"
    elif _SYS_RESOURCE not in procfs.capabilities():
        lacks = f"which uid {os.getuid()} does not have"
    else:
        return None
    return Hint(
        (f"nsrun's own score is {own}: a lower one takes the host's CAP_SYS_RESOURCE, {lacks}",),
        (f"ask for {own} or more",),
    )


def clock_out_of_range(args: Args, context: HintContext) -> Hint | None:
    """time_namespaces(7), ERANGE: a clock would be below 0, or further than the kernel counts."""
    if not _file(args, context).endswith("/timens_offsets"):
        return None
    for line in text(args, 1).splitlines():
        name, seconds, _ = line.split()
        now = int(time.clock_gettime(_CLOCKS[name]))
        if now + int(seconds) < 0:
            return Hint(
                (f"the host's {name} is {now} s, and with {seconds} s it would be below 0",),
                (f"take off {now} s at most, which is less after a reboot",),
            )
        if now + int(seconds) > _SECONDS_MAX:
            return Hint((f"the kernel counts no further than {_SECONDS_MAX} s",))
    return None


def closed_on_the_way(args: Args, context: HintContext) -> Hint | None:
    """chdir(2), EACCES: a folder that the user may not enter."""
    path = os.path.normpath(text(args, 0))
    who = actor(context)
    if who.shown:
        # capabilities(7): who has become another than root has lost them.
        who = dataclasses.replace(who, capable=False)
    parts = [part for part in path.split("/") if part]
    for count in range(len(parts) + 1):
        part = "/" + "/".join(parts[:count])
        status = status_of(part, context)
        if status is None or not stat.S_ISDIR(status.st_mode):
            return None
        if not who.may(status, 1):
            return Hint(
                (f"{who} may not enter {part} ({owner_words(status)})",),
                ("name another `cwd` or `user`",),
            )
    return None
