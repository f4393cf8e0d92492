"""What a mount comes from: trees cloned as the caller, before anything is mounted over them.

A source is opened in the caller's tree with the caller's own ids. Where the command's ids are
others than the caller's, the sources are opened before the ids change; with a rootfs, before
the new root covers the old. An idmapped tree of a host file system can only be made by the
launcher, who has the right to (mount_setattr(2)), and is sent to the child.
"""

from __future__ import annotations

from dataclasses import dataclass

from nsrun.kernel import abi, calls
from nsrun.kernel.abi import MountAttr, MountFlag, OpenTreeFlag
from nsrun.kernel.facts import Facts, Kind
from nsrun.kernel.values import Fmt, Reg
from nsrun.plan.draft import Draft
from nsrun.plan.identity import Identity, from_host
from nsrun.plan.launch import Launch
from nsrun.plan.ops import Op, ReceiveFd, SendFd


@dataclass(frozen=True, slots=True)
class Taken:
    """A detached tree, and whether it is a folder."""

    fd: Reg
    folder: bool


def is_folder(facts: Facts, path: str) -> bool:
    """Whether a host path is a folder; what cannot be looked at is taken for one."""
    fact = facts.paths.get(path)
    return fact is None or fact.kind in (Kind.FOLDER, Kind.UNREACHABLE, Kind.MISSING)


def wants_idmap(facts: Facts, identity: Identity, path: str) -> bool:
    """Whether the owner of ``path`` is nobody inside, and the launcher may change that.

    Run by root, a nonzero host range leaves what host root owns foreign to the container's
    root: the tree is mapped, so that it owns it inside and host root on disk.
    """
    fact = facts.paths.get(path)
    return fact is not None and is_foreign(facts, identity, fact.owner[0])


def is_foreign(facts: Facts, identity: Identity, uid: int) -> bool:
    """Whether a host's uid is nobody inside, and the launcher may map what belongs to it."""
    if identity.maps is None or abi.Capability.CAP_SYS_ADMIN not in facts.permitted:
        return False
    if not identity.maps.uid or not identity.maps.gid:
        # There is no id inside to show the owner as.
        return False
    return from_host(identity.maps.uid, uid) is None


def clone_tree(draft: Draft, path: calls.Path, *, recursive: bool, name: str) -> tuple[Reg, Op]:
    """open_tree(2) of a host path as a detached copy."""
    oflags = OpenTreeFlag.OPEN_TREE_CLONE | OpenTreeFlag.OPEN_TREE_CLOEXEC
    if recursive:
        oflags |= OpenTreeFlag.AT_RECURSIVE
    reg = draft.reg(name)
    return reg, calls.open_tree(calls.CWD, path, oflags, save=reg)


def part_from_host(fd: Reg) -> Op:
    """Take a tree out of its peer groups, so that no mount in it reaches the host or back."""
    at = abi.AtFlag.AT_EMPTY_PATH | abi.AtFlag.AT_RECURSIVE
    return calls.mount_setattr(fd, "", at, propagation=MountFlag.MS_PRIVATE)


def part_if_shared(draft: Draft, fd: Reg) -> tuple[Op, ...]:
    """The same for a tree taken after the propagation was set: a private one has no peers."""
    return () if draft.spec.propagation == "rprivate" else (part_from_host(fd),)


def send_idmapped(
    draft: Draft,
    launch: Launch,
    path: str,
    *,
    owner: Reg,
    recursive: bool,
    name: str,
    at: str,
    rule: str = "",
) -> Reg:
    """The launcher clones ``path``, maps its ids through the user namespace of process
    ``owner``, and sends it; returns the child's register."""
    userns = draft.reg("userns")
    tree, clone = clone_tree(draft, path, recursive=recursive, name=f"{name}_host")
    received = draft.reg(name)
    # MOUNT_ATTR_IDMAP holds for the mount alone: a submount whose file system has no idmapped
    # mounts would fail the whole tree.
    map_ids = calls.mount_setattr(
        tree,
        "",
        abi.AtFlag.AT_EMPTY_PATH,
        attr_set=MountAttr.MOUNT_ATTR_IDMAP,
        userns=userns,
    )
    draft.parent(
        f"map the ids of {path} and hand it to the child",
        calls.openat(
            calls.CWD, Fmt(("/proc/", owner, "/ns/user")), abi.OpenFlag.O_CLOEXEC, save=userns
        ),
        clone,
        map_ids,
        SendFd(sync=received.name, channel=launch.outer, fd=tree),
        calls.close(tree),
        calls.close(userns),
        at=at,
        rule=rule,
    )
    draft.child(
        f"take {path} from the launcher",
        ReceiveFd(sync=received.name, channel=launch.inner, save=received),
        part_from_host(received),
        at=at,
        rule=rule,
    )
    return received
