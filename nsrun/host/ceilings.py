"""What the groups above a control group allow at most, as they are now.

Kernel: a group may be given more than those above it have; the lowest limit on the way up holds.
"""

from __future__ import annotations

import os

from nsrun.host import procfs
from nsrun.host.hint import Args, Hint, HintContext


def lowest(folder: str, file: str) -> tuple[str, int] | None:
    """The group of ``folder`` and those above it that allows least of ``file``, and how much; None
    where none is limited. Of groups above the top of a cgroup namespace nothing is seen."""
    found: tuple[str, int] | None = None
    while os.path.exists(f"{folder}/cgroup.procs"):
        value = procfs.number(f"{folder}/{file}")
        # "max", or of version 1 a number that is nearly all there is, is no limit.
        if value is not None and value < 1 << 60 and (found is None or value < found[1]):
            found = (folder, value)
        folder = os.path.dirname(folder)
    return found


def words(file: str, value: int) -> str:
    """``512m`` for memory, a number for processes."""
    if file.startswith("pids."):
        return f"{value} processes"
    for shift, unit in ((30, "g"), (20, "m"), (10, "k")):
        if value and not value & ((1 << shift) - 1):
            return f"{value >> shift}{unit}"
    return f"{value} bytes"


def below_a_lower_one(args: Args, context: HintContext) -> Hint | None:
    """The kernel ended a process for want of memory: a group above allows less."""
    del args
    for folder, file, own in context.limits:
        above = lowest(folder, file) if file.startswith("memory.") else None
        if above is not None and above[1] < own:
            return _less(file, *above)
    return None


def _less(file: str, group: str, value: int) -> Hint:
    return Hint(
        (f"{group}, in which nsrun runs, is held to {words(file, value)}, so that its own limit "
         "cannot be reached",),
        (f"raise {group}/{file}, or look at what the command needs",),
    )  # fmt: skip
