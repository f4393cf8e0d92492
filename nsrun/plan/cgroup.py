"""The container's control group: made and limited by the launcher, entered by the child.

The child enters as its first act, by writing 0 to files that the launcher has opened: so it
counts there before anything of the payload runs, and before its own id maps, which would take it
the right to. What it forks later is born inside.

Sources: cgroups(7), the kernel's Documentation/admin-guide/{cgroup-v1,cgroup-v2.rst}.
"""

from __future__ import annotations

from nsrun.kernel import abi, calls
from nsrun.kernel.abi import CloneFlag, FlockOperation, Magic, OpenFlag
from nsrun.kernel.facts import Facts
from nsrun.kernel.values import Reg
from nsrun.plan.cgroup_devices import attach_rules, narrow_devices, narrows_devices
from nsrun.plan.cgroup_end import clear, ending
from nsrun.plan.cgroup_limits import Group, Limit, group_name, limited
from nsrun.plan.cgroup_memory import watch_memory
from nsrun.plan.draft import Draft
from nsrun.plan.model import UndoWhen
from nsrun.plan.ops import Op
from nsrun.spec.model import NamespaceType, Resources


def make_groups(draft: Draft, facts: Facts, notify: str = "") -> tuple[Reg, ...]:
    """The launcher's part; the registers of what :func:`enter` writes to. ``notify``: the socket
    in the folder of a container that is left running, where its end is told; "" for none."""
    entered = [_open_joined(draft, path) for path in draft.spec.cgroups]
    resources = draft.spec.resources or Resources()
    groups = groups_for(draft, facts, resources)
    folder = notify.rpartition("/")[0]
    if draft.spec.resources is not None:
        _add_freezer(facts, groups)
    _refuse_folders(draft, facts, [group for group in groups if not group.folder.writable])
    return (*entered, *(_make(draft, facts, group, folder) for group in groups))


def enter(draft: Draft, entered: tuple[Reg, ...]) -> None:
    """The child's part."""
    if not entered:
        return
    for procs in entered:
        draft.parent("keep no control group open", calls.close(procs), rule="no descriptor leaks")
    at = next((key for key in ("resources", "devices") if key in draft.spec.spans), "")
    draft.child(
        "enter the control group",
        *(op for procs in entered for op in (calls.write(procs, b"0"), calls.close(procs))),
        at=at,
        rule="" if at else "the container's control group",
    )


def new_namespace(draft: Draft) -> None:
    """A cgroup namespace, whose root is the group that the process is in when it is made."""
    number = next(
        n for n, one in enumerate(draft.spec.namespaces) if one.type is NamespaceType.CGROUP
    )
    draft.child(
        "make a cgroup namespace with the control group as its root",
        calls.unshare(CloneFlag.CLONE_NEWCGROUP),
        at=f"namespaces[{number}]",
    )


def groups_for(
    draft: Draft, facts: Facts, resources: Resources, *, inherit: bool = True
) -> list[Group]:
    """The groups that hold the container to ``resources`` and to its devices; what this machine
    cannot limit is refused. ``inherit``: a new cpuset gets what it needs to be entered."""
    made = limited(draft, facts, resources, inherit=inherit)
    if narrows_devices(draft.spec):
        narrow_devices(draft, facts, made)
    return list(made.values())


def _add_freezer(facts: Facts, groups: list[Group]) -> None:
    """Version 1 has what stops a whole group in a hierarchy of its own; version 2 in each group.

    By it `pause` and the end of a whole tree reach what has left the tree of processes. Where the
    container has a group of version 2 already, or none at all, nothing is added.
    """
    found = facts.cgroups
    folder = found.v1.get("freezer") if found is not None else None
    if not groups or folder is None or not folder.writable or any(g.is_v2 for g in groups):
        return
    if all(group.folder.path != folder.path for group in groups):
        groups.append(Group(folder=folder, is_v2=False, at="resources", controllers=["freezer"]))


# --- steps -------------------------------------------------------------------------------------


def _make(draft: Draft, facts: Facts, group: Group, ends: str) -> Reg:
    folder = group.folder
    name = group_name(draft.spec.name)
    what = "cgroup" if group.is_v2 else f"{group.controllers[0]}_cgroup"
    base, own, procs = draft.reg(f"{what}_base"), draft.reg(what), draft.reg(f"{what}_procs")
    magic = Magic.CGROUP2_SUPER_MAGIC if group.is_v2 else Magic.CGROUP_SUPER_MAGIC
    place = OpenFlag.O_PATH | OpenFlag.O_DIRECTORY | OpenFlag.O_NOFOLLOW | OpenFlag.O_CLOEXEC
    draft.parent(
        f"open {folder.path}",
        calls.openat(calls.CWD, folder.path, place, save=base),
        calls.fstatfs(base, magic),
        at=group.at,
    )
    if group.is_v2:
        _give_on(draft, group, base)
    draft.parent(
        f"make the control group {folder.path}/{name}",
        clear(base, name),
        calls.mkdirat(base, name, 0o755),
        at=group.at,
        undo=ending(draft, facts, group, base),
        undo_when=UndoWhen.END,
    )
    shared = FlockOperation.LOCK_SH | FlockOperation.LOCK_NB
    draft.parent(
        # By the lock `nsrun prune` knows that it is in use, before anyone is in it. Whoever may
        # read it may hold a lock on it too: it is not waited for.
        "open and hold it",
        calls.openat(base, name, place & ~OpenFlag.O_PATH, save=own),
        calls.allow(calls.flock(own, shared), accept=("EAGAIN",)),
        calls.openat(own, "cgroup.procs", OpenFlag.O_WRONLY | OpenFlag.O_CLOEXEC, save=procs),
        at=group.at,
    )
    for limit in group.limits:
        draft.parent(
            _words(limit),
            *write_file(draft, own, limit.file, limit.text),
            at=limit.at,
            rule=limit.rule,
        )
    if group.devices is not None:
        attach_rules(draft, group.devices, own)
    if "memory" in group.controllers:
        watch_memory(draft, facts, group, own, ends)
    return procs


def _words(limit: Limit) -> str:
    if limit.file == "devices.deny":
        return "forbid every device"
    if limit.file == "devices.allow":
        return f"allow the device {limit.text}"
    return f"limit {limit.file} to {limit.text}"


def _give_on(draft: Draft, group: Group, base: Reg) -> None:
    """Kernel: a cgroup of version 2 has the controllers that the one above gives on. It stays so:
    others below may have come to count on it."""
    missing = [name for name in group.controllers if name not in group.folder.enabled]
    if missing:
        draft.parent(
            f"give on the controllers {', '.join(missing)}",
            *write_file(draft, base, "cgroup.subtree_control", " ".join(f"+{n}" for n in missing)),
            at=group.at,
        )


def write_file(draft: Draft, folder: Reg, file: str, text: str) -> list[Op]:
    """The steps that write ``text`` to a file of the group open in ``folder``."""
    fd = draft.reg(file)
    return [
        calls.openat(folder, file, OpenFlag.O_WRONLY | OpenFlag.O_CLOEXEC, save=fd),
        calls.write(fd, text.encode()),
        calls.close(fd),
    ]


def _open_joined(draft: Draft, path: str) -> Reg:
    """The file by which a group of another container is entered."""
    procs = draft.reg("procs")
    draft.parent(
        f"open the control group {path}",
        calls.openat(
            calls.CWD,
            f"{path}/cgroup.procs",
            OpenFlag.O_WRONLY | OpenFlag.O_CLOEXEC | OpenFlag.O_NOFOLLOW,
            save=procs,
        ),
        rule="the container's control group",
    )
    return procs


def _refuse_folders(draft: Draft, facts: Facts, groups: list[Group]) -> None:
    """Once for all that have the same reason."""
    alike: dict[tuple[bool, int], list[Group]] = {}
    for group in groups:
        alike.setdefault((group.is_v2, group.folder.owner), []).append(group)
    for same in alike.values():
        _refuse_alike(draft, facts, same)


def _refuse_alike(draft: Draft, facts: Facts, groups: list[Group]) -> None:
    group, folder = groups[0], groups[0].folder
    root = abi.Capability.CAP_SYS_ADMIN in facts.permitted
    helps = (
        ("mount the hierarchy for writing",)
        if root
        else ("let systemd delegate one: systemd-run --user --scope -p Delegate=yes nsrun ...",)
        if group.is_v2
        else ("run it as root: systemd delegates nothing of cgroup version 1",)
    )
    it, belongs, them = ("it", "belongs", "it") if len(groups) == 1 else ("they", "belong", "them")
    draft.refuse(
        "NS402",
        f"no control group can be made in {' or '.join(one.folder.path for one in groups)}",
        group.at,
        *helps,
        why=f"{it} {belongs} to uid {folder.owner}, and uid {facts.uid} may not write to {them}"
        if not root
        else f"{it} cannot be written to",
    )
