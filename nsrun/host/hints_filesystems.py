"""Why a user namespace is refused a new file system: its type, or the hierarchies of control groups
that there are. Each is tried.
"""

from __future__ import annotations

import errno

from nsrun.host import procfs, traced, trial
from nsrun.host.hint import Args, Hint, HintContext, text
from nsrun.host.hints_mount import in_user_namespace
from nsrun.kernel.abi import CloneFlag

_BASE = int(CloneFlag.CLONE_NEWUSER | CloneFlag.CLONE_NEWNS)
# What a file system shows is of a namespace, and whoever mounts it has to own that one
# (cgroup1_get_tree, cgroup_get_tree, mqueue_get_tree).
_SHOWN = {
    "cgroup": CloneFlag.CLONE_NEWCGROUP,
    "cgroup2": CloneFlag.CLONE_NEWCGROUP,
    "mqueue": CloneFlag.CLONE_NEWIPC,
}


def not_in_user_namespaces(args: Args, context: HintContext) -> Hint | None:
    """fsconfig(2), EPERM: of most types only root of the initial user namespace makes one."""
    step = traced.made_by(context, text(args, 0))
    fstype = text(step[1], 0) if step is not None and step[0] == "fsopen" else ""
    if not fstype or fstype in ("proc", "sysfs") or not in_user_namespace(context):
        return None
    asked = traced.options(context, text(args, 0))
    asked.pop("source", None)
    owned = _SHOWN.get(fstype, 0)
    made = _BASE | (traced.new_namespaces(context) & owned)
    if made & owned != owned or _refusal(fstype, asked, made) != errno.EPERM:
        return None
    if fstype == "cgroup":
        return _no_hierarchy(asked, made)
    return Hint(
        (f"the kernel mounts no {fstype} for a user namespace",),
        ("mount it on the host, as root, and bind it: type bind",),
    )


def _refusal(fstype: str, options: dict[str, str], namespaces: int) -> int | None:
    return trial.errno_of(trial.make_filesystem(fstype, options), namespaces)


def _no_hierarchy(asked: dict[str, str], namespaces: int) -> Hint | None:
    """cgroup1_root_to_use of the kernel: a hierarchy that has just the controllers which were
    named, all without any, is mounted again; only the initial namespaces make a new one."""
    lines = (procfs.read("/proc/self/cgroup") or "").splitlines()
    found = [line.split(":", 2)[1] for line in lines]
    found = [one for one in found if one and "=" not in one]
    why = "a user namespace makes no new hierarchy of cgroup version 1"
    if not found:
        return Hint((f"{why}, and there is none",), ("type: cgroup2",))
    # The likeliest first.
    for one in sorted(found, key=lambda names: "memory" not in names.split(",")):
        if _refusal("cgroup", dict.fromkeys(one.split(","), ""), namespaces) == 0:
            what = f"just {', '.join(asked)}" if asked else "all controllers, as without options"
            return Hint(
                (f"{why}, and none that there is has {what}",),
                (f"name the controllers of one: options: [{', '.join(one.split(','))}]",),
            )
    return None
