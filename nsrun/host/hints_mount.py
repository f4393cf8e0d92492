"""Why a mount is refused, as mountinfo and the steps before it show."""

from __future__ import annotations

import errno
import os
import stat

from nsrun.host import procfs, traced, trial
from nsrun.host.hint import Args, Hint, HintContext, number, text
from nsrun.kernel.abi import CloneFlag, OpenTreeFlag

_WHOLE = 4294967295
# mount_attr's names and mountinfo's words for what can be locked (mount_namespaces(7)).
_LOCKED = {"RDONLY": "ro", "NOSUID": "nosuid", "NODEV": "nodev", "NOEXEC": "noexec"}


def in_user_namespace(context: HintContext) -> bool:
    own = procfs.id_map("uid")
    return traced.new_user_namespace(context) or not own or own[0].size != _WHOLE


# --- a tree that is taken --------------------------------------------------------------------


def not_bindable(args: Args, context: HintContext) -> Hint | None:
    """open_tree(2), EINVAL: an unbindable mount, or mounts below that must stay."""
    path = text(args, 1)
    mount = procfs.mount_of(path) if path.startswith("/") else None
    if mount is None:
        return None
    if "unbindable" in mount.propagation:
        return Hint(
            (f"{path} is on an unbindable mount (mount {mount.ident} in /proc/self/mountinfo)",),
            (f"mount --make-private {mount.target}",),
        )
    made = _made_unbindable(path, context)
    if made is not None:
        return Hint(
            (f"{path} lies on {made}, which the spec has made unbindable before",),
            (f"take the bind first: put it above the entry for {made}",),
        )
    flags = number(args, 2) or 0
    below = procfs.mounts_below(os.path.realpath(path))
    if flags & OpenTreeFlag.AT_RECURSIVE or not below or not in_user_namespace(context):
        return None
    return Hint(
        (f"{below[0].target} is mounted in it, and a user namespace may not uncover what that "
         "hides",),
        ("leave out `recursive: false`",),
    )  # fmt: skip


def _made_unbindable(path: str, context: HintContext) -> str | None:
    """The mount of the container's tree that an earlier entry has made unbindable."""
    changed: dict[str, str] = {}
    for call, args, _ in context.before:
        target = traced.container_path(context, text(args, 0)) if args else None
        if call != "mount_setattr" or target is None:
            continue
        kinds = traced.words(text(args, 3), "propagation")
        if kinds:
            changed[target] = kinds.pop().removeprefix("MS_")
    found = [
        target
        for target, kind in changed.items()
        if kind == "UNBINDABLE" and os.path.commonpath((path, target)) == target
    ]
    return max(found, key=len, default=None)


# --- a tree that is put in its place ---------------------------------------------------------


def not_alike(args: Args, context: HintContext) -> Hint | None:
    """move_mount(2), EINVAL or ENOTDIR: a folder stands only on a folder, a file on a file."""
    source = traced.host_path(context, text(args, 0))
    target = traced.container_path(context, text(args, 2))
    there = traced.command_path(context, target) if target is not None else None
    if source is None or target is None or there is None:
        return None
    kinds = [_kind(source), _kind(there)]
    if None in kinds or kinds[0] == kinds[1]:
        return None
    return Hint(
        (f"{source} is a {kinds[0]}, and {target} a {kinds[1]}",),
        (f"name a target that is a {kinds[0]}, or is not there yet",),
    )


def _kind(path: str) -> str | None:
    try:
        return "folder" if stat.S_ISDIR(os.stat(path).st_mode) else "file"
    except OSError:
        return None


def mount_limit(args: Args, context: HintContext) -> Hint | None:
    """fs.mount-max: the mounts one namespace may hold (Documentation/admin-guide/sysctl/fs.rst)."""
    limit = procfs.sysctl("fs.mount-max")
    if limit is None:
        return None
    here = procfs.mounts()
    made = _size(traced.host_path(context, text(args, 0)), here)
    for call, earlier, _ in context.before:
        if call == "move_mount":
            made += _size(traced.host_path(context, text(earlier, 0)), here)
    if len(here) + made <= limit:
        return None
    return Hint(
        (f"fs.mount-max is {limit}: the namespace began with {len(here)} mounts, and these are "
         f"{made} more",),
        ("bind folders with fewer mounts in them, or with `recursive: false`",
         "sysctl fs.mount-max=N, as root"),
    )  # fmt: skip


def _size(path: str | None, mounts: tuple[procfs.MountLine, ...]) -> int:
    """How many mounts a tree that was taken from a host path holds."""
    if path is None:
        return 1
    top = os.path.realpath(path).rstrip("/") + "/"
    return 1 + sum(m.target.startswith(top) and m.target != top for m in mounts)


def busy(args: Args, context: HintContext) -> Hint | None:
    """fsconfig(2) FSCONFIG_CMD_CREATE, EBUSY: a device that is mounted with other options."""
    source = traced.options(context, text(args, 0)).get("source", "")
    try:
        device = os.stat(source)
    except (OSError, ValueError):
        return None
    if not stat.S_ISBLK(device.st_mode):
        return None
    for mount in procfs.mounts():
        try:
            same = os.stat(mount.source).st_rdev == device.st_rdev
        except (OSError, ValueError):
            continue
        if same and mount.source.startswith("/"):
            how = "read-only" if "ro" in mount.super_options else "for writing"
            return Hint(
                (f"{source} is mounted {how} on {mount.target} already",),
                (f"bind {mount.target} instead of mounting the device again",),
            )
    return None


# --- attributes ------------------------------------------------------------------------------


def attributes_refused(args: Args, context: HintContext) -> Hint | None:
    """mount_setattr(2), EINVAL: the ids of this file system cannot be mapped."""
    if "IDMAP" not in traced.words(text(args, 3), "set"):
        return None
    path = traced.host_path(context, text(args, 0))
    return cannot_be_idmapped((path,), context) if path is not None else None


def cannot_be_idmapped(args: Args, context: HintContext) -> Hint | None:
    """EINVAL: the file system has no idmapped mounts. EPERM: the mount is one already."""
    del context
    path = text(args, 0)
    mount = procfs.mount_of(path)
    if mount is None:
        return None
    if "idmapped" in mount.options:
        return Hint(
            (f"{path} lies on an idmapped mount ({mount.target}), which cannot be mapped again",),
        )
    if os.strerror(trial.map_ids_of(path) or 0) != "Invalid argument":
        return None
    return Hint(
        (f"{path} lies on {mount.fstype} ({mount.target}), which has no idmapped mounts here",),
        ("leave out `idmap`, or use another file system, for example a copy on ext4 or tmpfs",),
    )


def locked_flags(args: Args, context: HintContext) -> Hint | None:
    """mount_namespaces(7): flags of mounts from a more privileged namespace are locked."""
    attr = text(args, 3)
    path = traced.place_of(context, text(args, 0))
    mount = procfs.mount_of(path) if path is not None else None
    if "IDMAP" in traced.words(attr, "set"):
        return cannot_be_idmapped((path,), context) if path is not None else None
    if mount is None or not in_user_namespace(context):
        return None
    cleared = traced.words(attr, "clr")
    locked = [w for name, w in _LOCKED.items() if name in cleared and w in mount.options]
    if not locked:
        return None
    asked = {"ro": "rw", "nosuid": "suid", "nodev": "dev", "noexec": "exec"}
    return Hint(
        (f"{mount.target} is mounted {', '.join(locked)}, and a user namespace may not take that "
         "away",),
        (f"leave {', '.join(asked[w] for w in locked)} out of this entry's options",),
    )  # fmt: skip


# --- file systems ----------------------------------------------------------------------------


def no_such_filesystem(args: Args, context: HintContext) -> Hint | None:
    """fsopen(2): ENODEV is a file system the kernel does not know."""
    del context
    name = text(args, 0)
    if not name or name in procfs.filesystems():
        return None
    return Hint(
        (f"{name} is not in /proc/filesystems",),
        (f"modprobe {name}, where the kernel has it as a module",),
    )


def too_revealing(args: Args, context: HintContext) -> Hint | None:
    """A user namespace may mount proc or sysfs only where the outer one is fully visible."""
    if not in_user_namespace(context) or not _is_proc_or_sysfs(args, context):
        return None
    hiding = [m.target for m in procfs.mounts() if m.target.startswith(("/proc/", "/sys/"))]
    # Mounts on folders that are empty for good hide nothing (fs/proc: proc_create_mount_point).
    hiding = [t for t in hiding if not t.startswith(("/sys/fs/", "/sys/kernel/", "/proc/sys/fs/"))]
    if not hiding or not _refused_again(args, context):
        return None
    return Hint(
        (f"parts of the outer /proc or /sys are hidden ({hiding[0]} is a mount)",),
        ("run the outer container with masked_paths: none and readonly_paths: none",),
    )


def cannot_unmount(args: Args, context: HintContext) -> Hint | None:
    """umount2(2), EINVAL: no mount stands there, or one that is locked to what it lies in."""
    del args
    entered = [values for call, values, _ in context.before if call == "fchdir"]
    path = traced.container_path(context, text(entered[-1], 0)) if entered else None
    host = traced.command_path(context, path) if path is not None else None
    if path is None or host is None:
        return None
    if any(target == path for target, _ in traced.mounted_on(context)):
        return None
    if not any(mount.target == os.path.realpath(host) for mount in procfs.mounts()):
        return Hint((f"nothing is mounted on {path}",), ("leave the entry out",))
    if in_user_namespace(context):
        return Hint(
            (f"{path} was mounted outside: in a user namespace that mount is locked, as what it "
             "hides must stay hidden",),
            ("mount something over it instead",),
        )  # fmt: skip
    return None


def _refused_again(args: Args, context: HintContext) -> bool:
    """Whether new namespaces that own all that the file system shows are refused it as well."""
    step = traced.made_by(context, text(args, 0))
    fstype = text(step[1], 0) if step is not None else "proc"
    owned = CloneFlag.CLONE_NEWPID if fstype == "proc" else CloneFlag.CLONE_NEWNET
    kinds = CloneFlag.CLONE_NEWUSER | CloneFlag.CLONE_NEWNS | owned
    return trial.errno_of(trial.mount_filesystem(fstype), int(kinds)) == errno.EPERM


def _is_proc_or_sysfs(args: Args, context: HintContext) -> bool:
    step = traced.made_by(context, text(args, 0))
    return step is None or text(step[1], 0) in ("proc", "sysfs")


def pin_on_shared(args: Args, context: HintContext) -> Hint | None:
    """namespaces(7): a mount namespace is not pinned on a mount that propagates."""
    del context
    source, target = text(args, 0), text(args, 1)
    if not source.endswith("/ns/mnt"):
        return None
    mount = procfs.mount_of(target)
    if mount is None or not mount.shared:
        return None
    return Hint(
        (f"{target} lies on {mount.target}, a shared mount: the pin would propagate into itself",),
        ("mount --bind FOLDER FOLDER; mount --make-private FOLDER; pin on a file in it",),
    )


def pinning_forbidden(args: Args, context: HintContext) -> Hint | None:
    """open_tree(2), OPEN_TREE_CLONE, EPERM: what the launcher takes of a namespace to pin it."""
    del context
    path = text(args, 1)
    if not path.startswith("/proc/") or "/ns/" not in path or 21 in procfs.capabilities():
        return None
    return Hint(
        (f"to bind a namespace takes CAP_SYS_ADMIN, which uid {os.getuid()} does not have",),
    )


def mounting_forbidden(args: Args, context: HintContext) -> Hint | None:
    """mount(2), EPERM: the caller has no right in its own mount namespace."""
    del args, context
    if 21 in procfs.capabilities():
        return None
    return Hint((f"mount(2) needs CAP_SYS_ADMIN, which uid {os.getuid()} does not have",))
