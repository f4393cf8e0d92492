"""Why a mount or a path is refused, as mountinfo and the folders themselves show it."""

from __future__ import annotations

import os
import stat

from nsrun.host import procfs
from nsrun.host.hint import Hint, HintContext, text


def unbindable(args: tuple[str | int, ...], context: HintContext) -> Hint | None:
    """mount_namespaces(7): an unbindable mount cannot be the source of a bind."""
    del context
    path = text(args, 1)
    mount = procfs.mount_of(path) if path.startswith("/") else None
    if mount is None or "unbindable" not in mount.propagation:
        return None
    return Hint(
        (f"{path} is on an unbindable mount (mount {mount.ident} in /proc/self/mountinfo)",),
        (f"mount --make-private {mount.target}, or bind a folder above it without `recursive`",),
    )


def missing_part(args: tuple[str | int, ...], context: HintContext) -> Hint | None:
    """The first component of a host path that does not exist."""
    del context
    path = text(args, 1)
    if not path.startswith("/") or os.path.exists(path):
        return None
    parts = path.strip("/").split("/")
    for count in range(1, len(parts) + 1):
        part = "/" + "/".join(parts[:count])
        if os.path.islink(part) and not os.path.exists(part):
            return Hint((f"{part} is a symbolic link to nothing",))
        if not os.path.lexists(part):
            return Hint((f"{part} does not exist",))
    return None


def closed_folder(args: tuple[str | int, ...], context: HintContext) -> Hint | None:
    """The folder on the way that the caller may not enter."""
    del context
    path = text(args, 1)
    if not path.startswith("/"):
        return None
    part = ""
    for name in path.strip("/").split("/")[:-1]:
        part += f"/{name}"
        if os.path.isdir(part) and not os.access(part, os.X_OK):
            mode = stat.S_IMODE(os.stat(part).st_mode)
            return Hint((f"uid {os.getuid()} may not enter {part} (mode 0{mode:o})",))
    return None


def link_in_the_way(args: tuple[str | int, ...], context: HintContext) -> Hint | None:
    """openat2(2): a folder that must be real is a symbolic link."""
    path = text(args, 1)
    host = os.path.join(context.rootfs or "/", path)
    if path and os.path.islink(host):
        return Hint(
            (f"{host} is a symbolic link, to {os.readlink(host)}",),
            ("/proc, /sys and /dev of a rootfs must be folders",),
        )
    return None


def no_such_filesystem(args: tuple[str | int, ...], context: HintContext) -> Hint | None:
    """fsopen(2): ENODEV is a file system the kernel does not know."""
    del context
    name = text(args, 0)
    if not name or name in procfs.filesystems():
        return None
    return Hint(
        (f"{name} is not in /proc/filesystems",),
        (f"modprobe {name}, where the kernel has it as a module",),
    )


def too_revealing(args: tuple[str | int, ...], context: HintContext) -> Hint | None:
    """A user namespace may mount proc or sysfs only where the outer one is fully visible."""
    del args, context
    hiding = [m.target for m in procfs.mounts() if m.target.startswith(("/proc/", "/sys/"))]
    hiding = [target for target in hiding if not target.startswith("/sys/fs/cgroup")]
    if not hiding or procfs.id_map("uid")[0].size == 4294967295:
        return None
    return Hint(
        (f"parts of the outer /proc or /sys are hidden ({hiding[0]} is a mount)",),
        ("run the outer container with masked_paths: none and readonly_paths: none",),
    )


def read_only(args: tuple[str | int, ...], context: HintContext) -> Hint | None:
    """The place where something has to be made is read-only."""
    name = text(args, 1) or text(args, 2)
    mount = procfs.mount_of(context.rootfs or "/")
    if not name or mount is None or not mount.readonly:
        return None
    return Hint(
        (f"{mount.target} is mounted read-only, and {name} is missing in it",),
        (f"make {name} in the rootfs beforehand, or use `overlay: ephemeral`",),
    )


def pin_on_shared(args: tuple[str | int, ...], context: HintContext) -> Hint | None:
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


def locked_flags(args: tuple[str | int, ...], context: HintContext) -> Hint | None:
    """mount_namespaces(7): flags of mounts from a more privileged namespace are locked."""
    del context
    words = " ".join(str(a) for a in args)
    if "clr=" not in words:
        return None
    if procfs.id_map("uid")[0].size != 4294967295 or os.getuid() != 0:
        return Hint(
            ("flags of a mount that a more privileged namespace made cannot be cleared",),
            ("leave suid, dev, exec and rw out of this entry's options",),
        )
    return None
