"""The mounts that every rootfs gets: /proc, /sys, and a /dev with its nodes.

They follow the OCI runtime spec's default file systems (config-linux.md). Where a fresh mount
would need a namespace that the spec does not make, the caller's own is bound instead.
"""

from __future__ import annotations

from nsrun.kernel import calls
from nsrun.kernel.abi import FileType, MountAttr, MoveMountFlag, OpenTreeFlag
from nsrun.kernel.facts import Facts
from nsrun.kernel.values import Reg
from nsrun.plan.covers import Cover, below
from nsrun.plan.draft import Draft
from nsrun.plan.identity import Identity, contains
from nsrun.plan.mounts import WHOLE, new_filesystem, place
from nsrun.plan.ops import Op
from nsrun.plan.options import Options, parse
from nsrun.plan.sources import clone_tree, part_if_shared
from nsrun.plan.tree import Tree
from nsrun.spec.model import NamespaceType, Spec

# include/uapi/linux/major.h and Documentation/admin-guide/devices.txt
NODES: tuple[tuple[str, int, int], ...] = (
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
)
_LINKS = (
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
)
_TTY_GROUP = 5
DEFAULT_TARGETS = ("/proc", "/sys", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue")
_RULE = "default mounts"


def wanted(spec: Spec) -> tuple[str, ...]:
    """The default targets of a spec: those that no entry of ``mounts`` replaces."""
    if spec.rootfs is None or not spec.default_mounts or not spec.new(NamespaceType.MOUNT):
        return ()
    made = (m for m in spec.mounts if m.type not in ("", "umount") and not m.remount)
    replaced = {m.target for m in made}
    targets = [t for t in DEFAULT_TARGETS if t not in replaced]
    if "/dev" in replaced:
        targets = [t for t in targets if not below(t, "/dev")]
    return tuple(targets)


def fresh_proc(spec: Spec) -> bool:
    """Whether a new proc of the container's own pid namespace can be mounted."""
    return not spec.new(NamespaceType.USER) or spec.new(NamespaceType.PID)


def mount_defaults(draft: Draft, facts: Facts, identity: Identity, tree: Tree) -> None:
    """The default mounts of a spec, in order."""
    spec = draft.spec
    targets = wanted(spec)
    if "/proc" in targets:
        if fresh_proc(spec):
            _plain(draft, tree, "proc", "/proc", "nosuid,nodev,noexec")
        else:
            _callers(draft, tree, "/proc", "no new pid namespace", readonly=False)
    if "/sys" in targets:
        # sysfs shows a network namespace: mounting it takes the right over that one.
        if not spec.new(NamespaceType.USER) or spec.new(NamespaceType.NETWORK):
            _plain(draft, tree, "sysfs", "/sys", "ro,nosuid,nodev,noexec")
        else:
            _callers(draft, tree, "/sys", "no new network namespace", readonly=True)
    if "/dev" in targets:
        _dev(draft, identity, tree, targets)


def _plain(draft: Draft, tree: Tree, fstype: str, target: str, words: str) -> None:
    options = parse(words.split(","))
    fd, steps = new_filesystem(draft, fstype, source=fstype, options=options, name=fstype)
    steps += place(tree, fd, target, folder=True)
    steps.append(calls.close(fd))
    tree.mounted(target, Cover.OTHER)
    draft.child(f"mount {fstype} on {target}", *steps, rule=_RULE)


def _callers(draft: Draft, tree: Tree, target: str, why: str, *, readonly: bool) -> None:
    fd, clone = clone_tree(draft, target, recursive=True, name=target.strip("/"))
    attributes = (
        MountAttr.MOUNT_ATTR_NOSUID | MountAttr.MOUNT_ATTR_NODEV | MountAttr.MOUNT_ATTR_NOEXEC
    )
    if readonly:
        attributes |= MountAttr.MOUNT_ATTR_RDONLY
    steps: list[Op] = [
        clone,
        *part_if_shared(draft, fd),
        calls.mount_setattr(fd, "", WHOLE, attr_set=attributes),
        *place(tree, fd, target, folder=True),
        calls.close(fd),
    ]
    tree.mounted(target, Cover.CALLERS)
    draft.child(f"bind the caller's {target}", *steps, rule=f"{_RULE}, {why}")


# --- /dev ------------------------------------------------------------------------------------


def _dev(draft: Draft, identity: Identity, tree: Tree, targets: tuple[str, ...]) -> None:
    options = parse(["nosuid", "strictatime", "mode=0755", "size=64m"])
    # devices lie in binds of their own; the tmpfs itself holds none, but nodev would not hurt
    # them either: it is the mount's flag, not the tree's.
    fd, steps = new_filesystem(draft, "tmpfs", source="tmpfs", options=options, name="dev")
    steps += place(tree, fd, "/dev", folder=True)
    tree.mounted("/dev", Cover.FRESH)
    draft.child("mount tmpfs on /dev", *steps, rule=_RULE)
    for name, major, minor in NODES:
        _node(draft, fd, name, major, minor)
    draft.child(
        "make the links of /dev",
        *(calls.symlinkat(leads_to, fd, name) for name, leads_to in _LINKS),
        rule=_RULE,
    )
    _dev_mounts(draft, identity, fd, targets)
    for target in ("/dev/pts", "/dev/shm", "/dev/mqueue"):
        if target in targets:
            tree.mounted(target, Cover.FRESH if target == "/dev/shm" else Cover.OTHER)
    draft.child("close /dev", calls.close(fd), rule=_RULE)


def _node(draft: Draft, dev: Reg, name: str, major: int, minor: int) -> None:
    node = draft.reg(name)
    oflags = OpenTreeFlag.OPEN_TREE_CLONE | OpenTreeFlag.OPEN_TREE_CLOEXEC
    draft.child(
        f"bind the device /dev/{name}",
        calls.open_tree(calls.CWD, f"/dev/{name}", oflags, save=node),
        calls.statx(node, *calls.is_device(major, minor)),
        *part_if_shared(draft, node),
        calls.mknodat(dev, name, FileType.S_IFREG | 0o666),
        calls.move_mount(node, "", dev, name, MoveMountFlag.MOVE_MOUNT_F_EMPTY_PATH),
        calls.close(node),
        rule=_RULE,
    )


def _dev_mounts(
    draft: Draft, identity: Identity, dev: Reg, targets: tuple[str, ...]
) -> None:
    spec = draft.spec
    pts = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]
    if identity.maps is None or contains(identity.maps.gid, _TTY_GROUP):
        pts.append(f"gid={_TTY_GROUP}")
    kinds: list[tuple[str, str, list[str]]] = [
        ("pts", "devpts", pts),
        ("shm", "tmpfs", ["nosuid", "nodev", "noexec", "mode=1777", "size=64m"]),
    ]
    # mqueue shows an ipc namespace: mounting it takes the right over that one.
    if not spec.new(NamespaceType.USER) or spec.new(NamespaceType.IPC):
        kinds.append(("mqueue", "mqueue", ["nosuid", "nodev", "noexec"]))
    for name, fstype, words in kinds:
        if f"/dev/{name}" not in targets:
            continue
        options: Options = parse(words)
        fd, steps = new_filesystem(draft, fstype, source=fstype, options=options, name=name)
        draft.child(
            f"mount {fstype} on /dev/{name}",
            *steps,
            calls.mkdirat(dev, name, 0o755),
            calls.move_mount(fd, "", dev, name, MoveMountFlag.MOVE_MOUNT_F_EMPTY_PATH),
            calls.close(fd),
            rule=_RULE,
        )
