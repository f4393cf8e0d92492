"""The root of the container: a folder's tree, or an overlay on it, and the step into it.

Sources: pivot_root(2), move_mount(2), the kernel's Documentation/filesystems/overlayfs.rst.
"""

from __future__ import annotations

from nsrun.kernel import abi, calls
from nsrun.kernel.abi import MountAttr, MountFlag, MoveMountFlag
from nsrun.kernel.facts import Facts
from nsrun.kernel.values import Reg
from nsrun.plan import overlay
from nsrun.plan.draft import Draft
from nsrun.plan.identity import Identity
from nsrun.plan.launch import Launch
from nsrun.plan.ops import Op
from nsrun.plan.options import propagation
from nsrun.plan.sources import clone_tree, part_from_host, send_idmapped, wants_idmap
from nsrun.plan.tree import Tree
from nsrun.spec.model import NamespaceType, Rootfs

EMPTY = abi.AtFlag.AT_EMPTY_PATH
WHOLE = abi.AtFlag.AT_EMPTY_PATH | abi.AtFlag.AT_RECURSIVE


def take_rootfs(
    draft: Draft, facts: Facts, identity: Identity, launch: Launch, rootfs: Rootfs
) -> Reg:
    """The detached tree (or the lower layer of the overlay) that will be the root."""
    if wants_idmap(facts, identity, rootfs.path):
        return send_idmapped(
            draft,
            launch,
            rootfs.path,
            owner=launch.child,
            recursive=True,
            name="rootfs",
            at="rootfs",
        )
    tree, clone = clone_tree(draft, rootfs.path, recursive=True, name="rootfs")
    draft.child(
        f"take the rootfs {rootfs.path}", clone, part_from_host(tree), at="rootfs"
    )
    return tree


def enter_propagation(draft: Draft) -> None:
    """The first act in a new mount namespace: what is mounted here stays here."""
    spec = draft.spec
    flag, _ = propagation(spec.propagation)
    what = {
        "rprivate": "keep every mount in here",
        "rslave": "let mounts of the host in, and none out",
        "rshared": "share mounts with the host",
    }[spec.propagation]
    given = "propagation" in spec.spans
    draft.child(
        what,
        calls.mount(None, "/", None, int(MountFlag.MS_REC | flag)),
        at="propagation" if given else _mount_place(draft),
        rule="" if given else "default propagation",
    )


def ignore_file_privileges(draft: Draft, root: Reg | None = None) -> None:
    """No program of the tree below ``root``, or of the caller's, brings rights of its own.

    With no_new_privs execve(2) gives none anyway, but it still refuses (EPERM) a program whose
    file capabilities are not in the bounding set, as Debian's ping has them. On a mount that is
    nosuid they do not count, and it runs with what there is.
    """
    if not draft.spec.no_new_privileges:
        return
    nosuid = MountAttr.MOUNT_ATTR_NOSUID
    draft.child(
        "let no program raise its rights",
        calls.mount_setattr(calls.CWD, "/", abi.AtFlag.AT_RECURSIVE, attr_set=nosuid)
        if root is None
        else calls.mount_setattr(root, "", WHOLE, attr_set=nosuid),
        rule="default no_new_privileges",
        at="no_new_privileges" if "no_new_privileges" in draft.spec.spans else "",
    )


def _mount_place(draft: Draft) -> str:
    spec = draft.spec
    entry = spec.namespace(NamespaceType.MOUNT)
    return f"namespaces[{spec.namespaces.index(entry)}]" if entry else "namespaces"


def attach_root(draft: Draft, tree: Reg, *, shared: bool) -> None:
    """Put the new root over the old one, where pivot_root finds it."""
    steps: list[Op] = []
    if shared:
        # pivot_root(2) refuses a shared parent of the new root, and a mount on a shared root
        # would appear on the host.
        steps.append(calls.mount(None, "/", None, int(MountFlag.MS_PRIVATE)))
    steps.append(
        calls.move_mount(tree, "", calls.CWD, "/", MoveMountFlag.MOVE_MOUNT_F_EMPTY_PATH)
    )
    draft.child("put the new root over the old", *steps, at="rootfs")


def make_root_tree(
    draft: Draft, facts: Facts, identity: Identity, launch: Launch, taken: Reg
) -> Tree:
    """The root the mounts are made in: the tree itself, or an overlay on it."""
    rootfs = draft.spec.rootfs
    assert rootfs is not None
    shared = draft.spec.propagation == "rshared"
    if rootfs.overlay is None:
        attach_root(draft, taken, shared=shared)
        ignore_file_privileges(draft, taken)
        tree = Tree(
            draft=draft, facts=facts, root=taken, base=rootfs.path, early=launch.early
        )
        tree.hold()
        return tree
    root = overlay.root_overlay(draft, identity, launch, taken, rootfs, shared=shared)
    attach_root(draft, root, shared=False)
    ignore_file_privileges(draft, root)
    return Tree(draft=draft, facts=facts, root=root, base=None, early=launch.early)


def enter_root(draft: Draft, root: Reg) -> None:
    """pivot_root into the new root and let go of the old one."""
    spec = draft.spec
    old = draft.reg("oldroot")
    opened = abi.OpenFlag.O_PATH | abi.OpenFlag.O_DIRECTORY | abi.OpenFlag.O_CLOEXEC
    steps: list[Op] = [calls.fchdir(root), calls.pivot_root(".", ".")]
    if spec.propagation != "rprivate":
        # Unmounting a shared tree unmounts it on the host too, so it is parted before: after
        # pivot_root, when the new root and what has its own propagation no longer lie in it.
        steps.insert(0, calls.openat(calls.CWD, "/", opened, save=old))
        steps.append(calls.mount_setattr(old, "", WHOLE, propagation=MountFlag.MS_PRIVATE))
        steps.append(calls.close(old))
    steps += [
        # pivot_root(2): "." now has the old root stacked upon it, which this unmounts.
        calls.umount2(".", abi.UmountFlag.MNT_DETACH),
        calls.chdir("/"),
    ]
    draft.child("enter the new root and leave the old", *steps, at="rootfs")


def finish_root(draft: Draft, root: Reg) -> None:
    """Read-only and propagation of the root, once everything stands in it."""
    rootfs = draft.spec.rootfs
    if rootfs is None:
        return
    if rootfs.readonly:
        draft.child(
            "make the root read-only",
            calls.mount_setattr(root, "", EMPTY, attr_set=MountAttr.MOUNT_ATTR_RDONLY),
            at="rootfs.readonly",
        )
    if rootfs.propagation not in ("private", "rprivate"):
        flag, deep = propagation(rootfs.propagation)
        draft.child(
            f"make the root {rootfs.propagation}",
            calls.mount_setattr(root, "", WHOLE if deep else EMPTY, propagation=flag),
            at="rootfs.propagation",
        )
