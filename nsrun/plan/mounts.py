"""The entries of ``mounts``, in order: each a detached mount that is moved to its place.

Sources: open_tree(2), fsopen(2), mount_setattr(2), move_mount(2), mount_namespaces(7).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from nsrun.kernel import abi, calls
from nsrun.kernel.abi import MountAttr, MoveMountFlag
from nsrun.kernel.facts import Facts, Kind
from nsrun.kernel.values import Reg
from nsrun.plan import overlay
from nsrun.plan.covers import Cover, ancestors, components
from nsrun.plan.draft import Draft
from nsrun.plan.holder import custom_owner
from nsrun.plan.identity import Identity
from nsrun.plan.labels import mount_context, root_label
from nsrun.plan.launch import Launch
from nsrun.plan.ops import Op
from nsrun.plan.options import Options, parse, propagation
from nsrun.plan.owner import give_away
from nsrun.plan.sources import (
    clone_tree,
    is_folder,
    is_foreign,
    part_from_host,
    send_idmapped,
    wants_idmap,
)
from nsrun.plan.tree import Tree, unmount
from nsrun.spec.model import IdMap, Mount, Spec

EMPTY = abi.AtFlag.AT_EMPTY_PATH
WHOLE = abi.AtFlag.AT_EMPTY_PATH | abi.AtFlag.AT_RECURSIVE
TO_DESCRIPTOR = MoveMountFlag.MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlag.MOVE_MOUNT_T_EMPTY_PATH
_NOSUID, _NODEV = MountAttr.MOUNT_ATTR_NOSUID, MountAttr.MOUNT_ATTR_NODEV
_NOEXEC = MountAttr.MOUNT_ATTR_NOEXEC
# Nothing is set-uid or a device unless the spec says so (`suid`, `dev`).
_DEFAULTS: dict[str, MountAttr] = {
    "proc": _NOSUID | _NODEV | _NOEXEC,
    "sysfs": _NOSUID | _NODEV | _NOEXEC | MountAttr.MOUNT_ATTR_RDONLY,
    "cgroup": _NOSUID | _NODEV | _NOEXEC | MountAttr.MOUNT_ATTR_RDONLY,
    "cgroup2": _NOSUID | _NODEV | _NOEXEC | MountAttr.MOUNT_ATTR_RDONLY,
    "mqueue": _NOSUID | _NODEV | _NOEXEC,
    "devpts": _NOSUID | _NOEXEC,
    "devtmpfs": _NOSUID | _NOEXEC,
    "overlay": MountAttr(0),
}
_OTHERWISE = _NOSUID | _NODEV
# File systems without a device behind them take no superblock-wide read-only.
_VIRTUAL = frozenset(_DEFAULTS) | {"tmpfs", "ramfs", "hugetlbfs", "debugfs", "tracefs", "bpf"}


@dataclass(slots=True)
class Sources:
    """Trees of binds that were taken early, by their entry's place in the spec."""

    taken: dict[str, Reg] = field(default_factory=dict)
    layers: dict[str, overlay.TakenLayers] = field(default_factory=dict)


def is_new_bind(mount: Mount) -> bool:
    """A bind that is made, not one that an earlier entry has made and this one changes."""
    return mount.type == "bind" and not mount.remount


def is_skipped(facts: Facts, mount: Mount) -> bool:
    """An optional source that is not there."""
    fact = facts.paths.get(mount.source)
    return mount.optional and fact is not None and fact.kind is Kind.MISSING


def take_early(
    draft: Draft, facts: Facts, identity: Identity, launch: Launch, sources: Sources
) -> None:
    """Take the sources that could not be taken, or would be others, at their turn."""
    covered: set[str] = set()
    for mount in draft.spec.mounts:
        if is_new_bind(mount) and not is_skipped(facts, mount):
            _take_one_early(draft, facts, identity, launch, mount, sources, covered)
        elif mount.type == "overlay" and any(
            wants_idmap(facts, identity, path) for path in (*mount.lower, mount.upper) if path
        ):
            sources.layers[mount.path] = overlay.take_layers(draft, launch, mount)
        covered.add("/" + "/".join(components(mount.target)))


def _take_one_early(
    draft: Draft,
    facts: Facts,
    identity: Identity,
    launch: Launch,
    mount: Mount,
    sources: Sources,
    covered: set[str],
) -> None:
    # Root makes a volume's folder: host root's, whatever is in it by the time of a later plan.
    is_mapped = mount.volume and is_foreign(facts, identity, 0)
    if mount.idmap is not None or is_mapped:
        sources.taken[mount.path] = _take_idmapped(draft, facts, identity, launch, mount)
    elif _must_be_early(draft.spec, identity, mount, covered):
        tree, clone = clone_tree(draft, mount.source, recursive=mount.recursive, name=_name(mount))
        steps: list[Op] = [clone, *give_away(draft, facts, identity, mount, tree)]
        if not _keeps_peers(mount):
            steps.append(part_from_host(tree))
        draft.child(f"take {mount.source}", *steps, at=mount.path)
        sources.taken[mount.path] = tree


def _must_be_early(spec: Spec, identity: Identity, mount: Mount, covered: set[str]) -> bool:
    if spec.rootfs is not None or mount.uncovered:
        return True
    # Without a rootfs a source may be what an earlier entry has mounted, as in mount(8).
    if any(folder in covered for folder in ancestors(mount.source)):
        return False
    return identity.displaced or _keeps_peers(mount)


def _keeps_peers(mount: Mount) -> bool:
    """Slave and shared binds relate to the host's mount: take it before it is made private."""
    return any(word.removeprefix("r") in ("slave", "shared") for word in mount.propagation)


def _take_idmapped(
    draft: Draft, facts: Facts, identity: Identity, launch: Launch, mount: Mount
) -> Reg:
    at = f"{mount.path}.idmap"
    if abi.Capability.CAP_SYS_ADMIN not in facts.permitted:
        draft.refuse(
            "NS402",
            "an idmapped mount of a host file system needs root",
            at,
            why="mount_setattr(2) asks for CAP_SYS_ADMIN over the file system's user namespace",
        )
    if not isinstance(mount.idmap, IdMap):
        if identity.maps is None:
            draft.refuse(
                "NS301", "idmap: true needs a new user namespace", at, "or give the ranges here"
            )
        owner = launch.child
    else:
        owner = custom_owner(draft, facts, mount.idmap, at)
    return send_idmapped(
        draft,
        launch,
        mount.source,
        owner=owner,
        recursive=mount.recursive,
        name=_name(mount),
        at=mount.path,
    )


def _name(mount: Mount) -> str:
    return "m_" + (mount.target.rstrip("/").rsplit("/", 1)[-1] or "root")


# --- one entry -------------------------------------------------------------------------------


def mount_entry(draft: Draft, facts: Facts, tree: Tree, mount: Mount, sources: Sources) -> None:
    """The actions of one entry of ``mounts``."""
    if mount.idmap is not None and not is_new_bind(mount):
        draft.refuse(
            "NS318",
            "only a bind can have its ids mapped",
            f"{mount.path}.idmap",
            why="mount_setattr(2) maps the ids of a mount that has never been attached, through "
            "another user namespace than the file system's own",
        )
    if mount.type == "umount":
        _umount(draft, tree, mount)
    elif mount.type == "" or mount.remount:
        _change(draft, tree, mount)
    elif is_skipped(facts, mount):
        return
    elif mount.type == "bind":
        _bind(draft, facts, tree, mount, sources)
    else:
        _filesystem(draft, tree, mount, sources)


def _bind(draft: Draft, facts: Facts, tree: Tree, mount: Mount, sources: Sources) -> None:
    options = parse(mount.options)
    folder = is_folder(facts, mount.source)
    steps: list[Op] = []
    fd = sources.taken.get(mount.path)
    if fd is None:
        fd, clone = clone_tree(draft, mount.source, recursive=mount.recursive, name=_name(mount))
        steps.append(clone)
    steps += _attributes(fd, options, recursive=mount.recursive)
    steps += place(tree, fd, mount.target, folder=folder, create=mount.create)
    tree.mounted(mount.target, Cover.BIND if folder else Cover.FILE, mount.source)
    steps += _propagate(fd, mount.propagation)
    steps.append(calls.close(fd))
    draft.child(f"bind {mount.source} on {mount.target}", *steps, at=mount.path)


def _attributes(fd: Reg, options: Options, *, recursive: bool) -> list[Op]:
    """The defaults hold for the whole tree of a recursive bind, the words only where OCI says."""
    whole = WHOLE if recursive else EMPTY
    tree = options.tree.with_defaults(_OTHERWISE & ~options.top.clear)
    steps: list[Op] = []
    if tree:
        steps.append(calls.mount_setattr(fd, "", whole, attr_set=tree.set, attr_clr=tree.clear))
    if options.top:
        top = options.top
        steps.append(calls.mount_setattr(fd, "", EMPTY, attr_set=top.set, attr_clr=top.clear))
    return steps


def place(tree: Tree, fd: Reg, target: str, *, folder: bool, create: bool = True) -> list[Op]:
    """Steps that move a detached mount to ``target``, made where it is missing."""
    at, steps = tree.open(target, folder=folder, create=create)
    steps.append(calls.move_mount(fd, "", at, "", TO_DESCRIPTOR))
    steps.append(calls.close(at))
    return steps


def _propagate(fd: Reg, words: tuple[str, ...]) -> list[Op]:
    steps: list[Op] = []
    for word in words:
        flag, deep = propagation(word)
        steps.append(calls.mount_setattr(fd, "", WHOLE if deep else EMPTY, propagation=flag))
    return steps


def _filesystem(draft: Draft, tree: Tree, mount: Mount, sources: Sources) -> None:
    options = parse(mount.options)
    if mount.type == "overlay":
        taken = sources.layers.get(mount.path)
        if taken is not None:
            fd, steps = overlay.taken_entry(draft, tree, mount, taken, options.filesystem)
        else:
            fd, steps = overlay.mount_entry(draft, mount, options.filesystem)
        if options.top:
            top = options.top
            steps.append(calls.mount_setattr(fd, "", EMPTY, attr_set=top.set, attr_clr=top.clear))
    else:
        fd, steps = new_filesystem(
            draft,
            mount.type,
            source=mount.source,
            options=options,
            name=_name(mount),
        )
    steps += place(tree, fd, mount.target, folder=True, create=mount.create)
    tree.mounted(mount.target, Cover.FRESH if mount.type == "tmpfs" else Cover.OTHER)
    if options.tree:
        deep = options.tree
        steps.append(calls.mount_setattr(fd, "", WHOLE, attr_set=deep.set, attr_clr=deep.clear))
    steps += _propagate(fd, mount.propagation)
    steps.append(calls.close(fd))
    draft.child(f"mount {mount.type} on {mount.target}", *steps, at=mount.path)


def new_filesystem(
    draft: Draft, fstype: str, *, source: str, options: Options, name: str
) -> tuple[Reg, list[Op]]:
    """fsopen(2) to fsmount(2): a detached mount of a new superblock."""
    attributes = options.top.with_defaults(_DEFAULTS.get(fstype, _OTHERWISE))
    context, fd = draft.reg(f"{fstype}_fs"), draft.reg(name)
    steps: list[Op] = [calls.fsopen(fstype, save=context)]
    steps.append(calls.fsconfig_string(context, "source", source or fstype))
    if attributes.set & MountAttr.MOUNT_ATTR_RDONLY and fstype not in _VIRTUAL:
        # A device that is written nowhere else must not be written by its journal either.
        steps.append(calls.fsconfig_flag(context, "ro"))
    steps += mount_context(draft, context, fstype, options.filesystem)
    steps += [overlay.filesystem_option(context, option) for option in options.filesystem]
    steps += [
        calls.fsconfig_create(context),
        calls.fsmount(context, int(attributes.set), save=fd),
        calls.close(context),
        *root_label(draft, fd, fstype, options.filesystem),
    ]
    return fd, steps


def _umount(draft: Draft, tree: Tree, mount: Mount) -> None:
    fd = draft.reg("at_" + _name(mount))
    draft.child(
        f"unmount {mount.target}",
        tree.resolve(mount.target, save=fd),
        # Lazily: the descriptor itself keeps the mount busy. "." is what is mounted last there.
        *unmount(tree, fd),
        calls.close(fd),
        at=mount.path,
    )
    tree.unmounted(mount.target)


def _refuse_reconfigure(draft: Draft, mount: Mount, holder: str, words: tuple[str, ...]) -> None:
    draft.refuse(
        "NS409",
        f"{' '.join(words)} would change the file system behind {mount.target} for everyone",
        f"{mount.path}.options",
        "keep to options of the mount (ro, nosuid, nodev, noexec, noatime, ...)",
        "mount a file system of the container's own there",
        why=f"{holder}; options of the file system are its superblock's, which every mount of it "
        "shares (fsconfig(2))",
    )


def _change(draft: Draft, tree: Tree, mount: Mount) -> None:
    """An entry without a type: attributes, superblock options and propagation of a mount."""
    options = parse(mount.options)
    fd = draft.reg("at_" + _name(mount))
    steps: list[Op] = [tree.resolve(mount.target, save=fd)]
    if options.filesystem:
        if (holder := tree.of_others(mount.target)) is not None:
            _refuse_reconfigure(draft, mount, holder, options.filesystem)
        picked = draft.reg("picked")
        steps.append(
            calls.fspick(
                fd,
                "",
                abi.FspickFlag.FSPICK_CLOEXEC | abi.FspickFlag.FSPICK_EMPTY_PATH,
                save=picked,
            )
        )
        steps += [overlay.filesystem_option(picked, option) for option in options.filesystem]
        steps += [calls.fsconfig_reconfigure(picked), calls.close(picked)]
    for attributes, at in ((options.top, EMPTY), (options.tree, WHOLE)):
        if attributes:
            steps.append(
                calls.mount_setattr(fd, "", at, attr_set=attributes.set, attr_clr=attributes.clear)
            )
    steps += _propagate(fd, mount.propagation)
    steps.append(calls.close(fd))
    words = " ".join([*mount.options, *mount.propagation])
    draft.child(f"change {mount.target}: {words}", *steps, at=mount.path)
