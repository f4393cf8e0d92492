"""Why a control group cannot be made or limited, as the group itself shows it."""

from __future__ import annotations

import os

from nsrun.host import ceilings, procfs, traced
from nsrun.host.hint import Args, Hint, HintContext, text

_SHOWN = 3
# More than any machine has of processors or memory nodes.
_NUMBER_MAX = 1 << 16
# What the planner writes beside a quota, in microseconds (nsrun.spec.model.CPU_PERIOD).
_CPU_PERIOD = 100_000


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
            ("nsrun prune removes what is left and holds no process",),
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


def above_allows_less(args: Args, context: HintContext) -> Hint | None:
    """write to a limit, refused: of processors version 1 gives no more than the group above has.

    More memory or processes than above is taken, and what is above goes on to hold.
    """
    opened = {to: values for call, values, to in context.before if to and call == "openat"}
    limit = opened.get(text(args, 0))
    group = opened.get(text(limit, 0)) if limit is not None else None
    base = _opened(text(group, 0), context) if group is not None else None
    if limit is None or base is None or not _is_cgroup(base):
        return None
    file, wanted = text(limit, 1), text(args, 1)
    if file in ("cpuset.cpus", "cpuset.mems"):
        has = (procfs.read(f"{base}/{file}") or "").strip()
        if not has or _numbers(wanted) <= _numbers(has):
            return None
        what = "processors" if file == "cpuset.cpus" else "memory nodes"
        return Hint((f"{base}, in which nsrun runs, has no {what} but {has}",), ())
    if file == "cpu.cfs_quota_us":
        quota, period = (procfs.number(f"{base}/cpu.cfs_{n}_us") for n in ("quota", "period"))
        # -1: no limit.
        if not quota or not period or quota < 0 or int(wanted) / _CPU_PERIOD <= quota / period:
            return None
        return Hint((f"{base}, in which nsrun runs, may use {quota / period:g} processors",), ())
    return None


def more_is_used(args: Args, context: HintContext) -> Hint | None:
    """write to memory.limit_in_bytes, EBUSY: version 1 takes no limit below what is used and
    cannot be taken back (cgroup-v1/memory.rst)."""
    limit = traced.made_by(context, text(args, 0))
    base = _opened(text(limit[1], 0), context) if limit is not None else None
    file, wanted = (text(limit[1], 1) if limit is not None else ""), text(args, 1)
    kind, _, rest = file.rpartition("limit_in_bytes")
    if base is None or not kind.startswith("memory.") or rest or not wanted.isdigit():
        return None
    used = procfs.number(f"{base}/{kind}usage_in_bytes")
    if used is None or used <= int(wanted):
        return None
    return Hint(
        (f"{kind}usage_in_bytes is {ceilings.words(file, used)} after the kernel has taken back "
         f"what it could ({base})",),
        ("ask for more than that, or end what uses it first",),
    )  # fmt: skip


def _numbers(ranges: str) -> set[int]:
    """0, 2 and 3 of "0,2-3"; raises ValueError for another text."""
    found: set[int] = set()
    for part in ranges.split(","):
        first, _, last = part.partition("-")
        found.update(range(int(first), min(int(last or first), _NUMBER_MAX) + 1))
    return found


def _opened(register: str, context: HintContext) -> str | None:
    """The host path that was opened into ``register``."""
    for call, values, to in reversed(context.before):
        if call == "openat" and to == register and text(values, 1).startswith("/"):
            return text(values, 1)
    return None


def _is_cgroup(path: str) -> bool:
    line = procfs.mount_of(path)
    return line is not None and line.fstype in ("cgroup", "cgroup2")
