"""How a container's end tells that the kernel has ended processes of it for want of memory.

Sources: the kernel's Documentation/admin-guide/{cgroup-v1/memory.rst,cgroup-v2.rst}.
"""

from __future__ import annotations

from nsrun.kernel import calls
from nsrun.kernel.abi import OpenFlag
from nsrun.kernel.facts import Facts
from nsrun.kernel.values import Reg, Str
from nsrun.plan.cgroup_limits import Group, group_name
from nsrun.plan.draft import Draft
from nsrun.plan.model import MEMORY_LIMIT, UndoWhen
from nsrun.plan.ops import Op, Spawn
from nsrun.spec.model import Resources

# The files that hold a group to an amount of memory.
_MEMORY_FILES = ("memory.limit_in_bytes", "memory.max")
# mm/memcontrol-v1.c: "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n", the first two of one digit.
_OOM_KILL_AT = 40
# More than memory.events and memory.oom_control have, in bytes.
_COUNTS_MAX = 4096


def watch_memory(draft: Draft, facts: Facts, group: Group, own: Reg, ends: str) -> None:
    """How many processes the kernel has ended for want of memory is looked at when all have
    ended, before the group goes: a count that is not 0 is told as a failed undo step. ``ends``:
    the folder of a container that is left running, which keeps what the kernel had counted.
    """
    resources = draft.spec.resources or Resources()
    at = next((one.at for one in group.limits if one.file in _MEMORY_FILES), group.at)
    limit = f" {size_words(resources.memory)}" if resources.memory is not None else ""
    name = "memory.events" if group.is_v2 else "memory.oom_control"
    counts = draft.reg("oom_counts")
    steps: list[Op] = [calls.openat(own, name, OpenFlag.O_CLOEXEC, save=counts)]
    undo: list[Op] = []
    if ends:
        kept = draft.reg("oom_kept")
        made = OpenFlag.O_WRONLY | OpenFlag.O_CREAT | OpenFlag.O_TRUNC | OpenFlag.O_NOFOLLOW
        steps.append(
            calls.openat(calls.CWD, f"{ends}/oom", made | OpenFlag.O_CLOEXEC, mode=0o600, save=kept)
        )
        undo.append(calls.sendfile_whole(kept, counts, _COUNTS_MAX))
    grep = facts.helpers.get("grep")
    if not group.is_v2:
        undo.append(calls.read_digit_zero(counts, _OOM_KILL_AT, "oom_kill 0"))
    elif grep is not None:
        # Where the count stands in the text depends on those before it.
        path = f"{group.folder.path}/{group_name(draft.spec.name)}/{name}"
        undo.append(Spawn(argv=(Str(grep), Str("-qx"), Str("oom_kill 0"), Str(path))))
    draft.parent(f"{MEMORY_LIMIT}{limit}", *steps, at=at, undo=tuple(undo), undo_when=UndoWhen.END)


def size_words(size: int) -> str:
    """``32m``, as a spec has it."""
    for unit, word in ((1 << 30, "g"), (1 << 20, "m"), (1 << 10, "k")):
        if size and not size % unit:
            return f"{size // unit}{word}"
    return str(size)
