"""Paths of /proc and /sys that are hidden or made read-only.

A file is covered by /dev/null, a folder by an empty read-only tmpfs, as OCI's ``maskedPaths``.
"""

from __future__ import annotations

from nsrun.kernel import abi, calls
from nsrun.kernel.abi import MountAttr, OpenFlag, OpenTreeFlag
from nsrun.kernel.facts import Facts
from nsrun.kernel.values import Expect, Reg
from nsrun.plan.covers import below
from nsrun.plan.defaults import wanted
from nsrun.plan.draft import Draft
from nsrun.plan.mounts import TO_DESCRIPTOR, new_filesystem
from nsrun.plan.ops import Op
from nsrun.plan.options import parse
from nsrun.plan.sources import part_if_shared
from nsrun.plan.tree import Tree
from nsrun.spec.model import Spec

# What the kernel shows of the whole machine; kinds as proc(5) and sysfs(5) have them.
_FILES = (
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/timer_list",
    "/proc/timer_stats",
)
_FOLDERS = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
    "/sys/fs/selinux",
)
_READONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
_ABSENT = ("ENOENT",)
_RULE = "default masked paths"


def _default_applies(spec: Spec, path: str) -> bool:
    """Defaults cover the /proc and /sys that this plan mounts, not the caller's own."""
    made = (m for m in spec.mounts if not m.remount)
    mounted = {m.target for m in made if m.type in ("proc", "sysfs", "bind")}
    return any(below(path, target) for target in (*wanted(spec), *mounted))


def mask(draft: Draft, facts: Facts, tree: Tree) -> None:
    """The masks of a spec."""
    files, folders = _default_masks(draft.spec, facts)
    entries = draft.spec.masked_paths
    custom = entries if isinstance(entries, tuple) else ()
    if not (files or folders or custom):
        return
    null = _open_null(draft)
    for path in files:
        _mask_file(draft, tree, null, path, known=True, rule=_RULE)
    for path in folders:
        _mask_folder(draft, tree, path, rule=_RULE)
    for number, path in enumerate(custom):
        # Which of the two it is shows when it is opened; the other one skips itself.
        _mask_folder(draft, tree, path, at=f"masked_paths[{number}]")
        _mask_file(draft, tree, null, path, known=False, at=f"masked_paths[{number}]")
    draft.child("close /dev/null", calls.close(null), rule="masked paths")


def _default_masks(spec: Spec, facts: Facts) -> tuple[list[str], list[str]]:
    """The files and the folders of the default masks that this spec has."""
    if spec.masked_paths != "default":
        return [], []
    thermal = (f"/sys/devices/system/cpu/cpu{n}/thermal_throttle" for n in range(facts.cpus))
    return (
        [path for path in _FILES if _default_applies(spec, path)],
        [path for path in (*_FOLDERS, *thermal) if _default_applies(spec, path)],
    )


def _open_null(draft: Draft) -> Reg:
    null = draft.reg("null")
    opened = OpenFlag.O_PATH | OpenFlag.O_CLOEXEC
    draft.child(
        "open /dev/null, to hide files behind",
        calls.openat(calls.CWD, "/dev/null", opened, save=null),
        # A swapped /dev/null would put its target in reach (CVE-2025-31133).
        calls.statx(null, *calls.is_device(1, 3)),
        rule="masked paths",
    )
    return null


def _mask_file(
    draft: Draft, tree: Tree, null: Reg, path: str, *, known: bool, at: str = "", rule: str = ""
) -> None:
    target, cover = draft.reg("hidden"), draft.reg("cover")
    steps: list[Op] = [calls.allow(tree.resolve(path, save=target), skip=_ABSENT)]
    if not known:
        no_folder = Expect(
            calls.STATX_MODE_AT, 2, 0o040000, 0, "it is no folder", otherwise="skip"
        )
        steps.append(calls.statx(target, no_folder))
    oflags = (
        OpenTreeFlag.OPEN_TREE_CLONE
        | OpenTreeFlag.OPEN_TREE_CLOEXEC
        | OpenTreeFlag.AT_EMPTY_PATH
    )
    steps += [
        calls.open_tree(null, "", oflags, save=cover),
        *part_if_shared(draft, cover),
        calls.move_mount(cover, "", target, "", TO_DESCRIPTOR),
        calls.close(cover),
        calls.close(target),
    ]
    draft.child(f"hide {path}", *steps, at=at, rule=rule)


def _mask_folder(
    draft: Draft, tree: Tree, path: str, *, at: str = "", rule: str = ""
) -> None:
    target = draft.reg("hidden")
    opened = OpenFlag.O_PATH | OpenFlag.O_DIRECTORY | OpenFlag.O_CLOEXEC
    steps: list[Op] = [
        calls.allow(
            tree.resolve(path, save=target, oflags=opened), skip=(*_ABSENT, "ENOTDIR")
        )
    ]
    options = parse(["ro", "nosuid", "nodev", "noexec", "size=4k", "mode=0755"])
    empty, made = new_filesystem(draft, "tmpfs", source="tmpfs", options=options, name="empty")
    steps += made
    steps += [
        calls.move_mount(empty, "", target, "", TO_DESCRIPTOR),
        calls.close(empty),
        calls.close(target),
    ]
    draft.child(f"hide {path}", *steps, at=at, rule=rule)


def make_readonly(draft: Draft, tree: Tree) -> None:
    """The read-only paths of a spec: each bound on itself, read-only with all below it."""
    spec = draft.spec
    if spec.readonly_paths == "none":
        return
    if spec.readonly_paths == "default":
        for path in _READONLY:
            if _default_applies(spec, path):
                _readonly(draft, tree, path, "", "default read-only paths")
        return
    for number, path in enumerate(spec.readonly_paths):
        _readonly(draft, tree, path, f"readonly_paths[{number}]", "")


def _readonly(draft: Draft, tree: Tree, path: str, at: str, rule: str) -> None:
    target: Reg = draft.reg("fixed")
    copy = draft.reg("copy")
    oflags = (
        OpenTreeFlag.OPEN_TREE_CLONE
        | OpenTreeFlag.OPEN_TREE_CLOEXEC
        | OpenTreeFlag.AT_EMPTY_PATH
        | OpenTreeFlag.AT_RECURSIVE
    )
    whole = abi.AtFlag.AT_EMPTY_PATH | abi.AtFlag.AT_RECURSIVE
    draft.child(
        f"make {path} read-only",
        calls.allow(tree.resolve(path, save=target), skip=_ABSENT),
        calls.open_tree(target, "", oflags, save=copy),
        calls.mount_setattr(copy, "", whole, attr_set=MountAttr.MOUNT_ATTR_RDONLY),
        calls.move_mount(copy, "", target, "", TO_DESCRIPTOR),
        calls.close(copy),
        calls.close(target),
        at=at,
        rule=rule,
    )
