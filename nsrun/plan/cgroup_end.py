"""How a container's control group ends: whoever is still in it is killed, and it is removed.

Most are empty by then, and one call removes them. Where a group is below it, or who was started
there by another than the container (``nsrun exec``) lives on, a helper looks at what there is:
a plan reads no list of processes, and knows no names that the container gives.
"""

from __future__ import annotations

from nsrun.kernel import calls
from nsrun.kernel.abi import AtFlag, OpenFlag
from nsrun.kernel.facts import Facts
from nsrun.kernel.values import Call, Reg, Str
from nsrun.plan.cgroup_limits import Group, group_name
from nsrun.plan.draft import Draft
from nsrun.plan.ops import Op, Spawn

# What killed processes are given to leave their group, in nanoseconds.
_DYING = 100_000_000
# The module that removes a group with all that is in it (nsrun.host.subgroups).
_HELPER = "nsrun.host.subgroups"


def clear(base: Reg, name: str) -> Call:
    """Before a group is made. What a killed run has left is empty; one that runs is not, and
    stays (EBUSY)."""
    return calls.allow(_rmdir(base, name), accept=("ENOENT",))


def ending(draft: Draft, facts: Facts, group: Group, base: Reg) -> tuple[Op, ...]:
    """The undo steps of a group's making; ``base``: the folder it was made in."""
    name = group_name(draft.spec.name)
    # Either it is gone, and the second says so and ends the steps, or it is in use.
    attempt = (
        calls.allow(_rmdir(base, name), accept=("ENOENT", "EBUSY")),
        calls.allow(_rmdir(base, name), accept=("EBUSY",), skip=("ENOENT",)),
    )
    helper = Spawn(
        argv=tuple(map(Str, (facts.python, "-I", "-m", _HELPER, f"{group.folder.path}/{name}")))
    )
    return (
        *(_kill_all(draft, base, name) if group.is_v2 else ()),
        *attempt,
        # Who has just been killed is in it a little longer.
        calls.wait_a_moment(_DYING),
        *attempt,
        helper,
    )


def _rmdir(base: Reg, name: str) -> Call:
    return calls.unlinkat(base, name, AtFlag.AT_REMOVEDIR)


def _kill_all(draft: Draft, base: Reg, name: str) -> tuple[Op, ...]:
    """Whatever is in it still: also what has left the container's own process tree."""
    fd = draft.reg("kill")
    opened = calls.openat(
        base, f"{name}/cgroup.kill", OpenFlag.O_WRONLY | OpenFlag.O_CLOEXEC, save=fd
    )
    return (
        # ENOENT: a kernel before 5.14 has no such file.
        calls.allow(opened, skip=("ENOENT",)),
        calls.write(fd, b"1"),
        calls.close(fd),
    )
