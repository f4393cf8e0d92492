"""Why a path cannot be opened or made, as the folders on the way show it."""

from __future__ import annotations

import os

from nsrun.host import inside, nsfs, procfs, traced
from nsrun.host.actor import actor, owner_words
from nsrun.host.hint import Args, Hint, HintContext, text
from nsrun.kernel.abi import Capability

_SYS_PTRACE = 19  # linux/capability.h
_SHOWN = 3


def _path(args: Args, context: HintContext) -> str | None:
    """The host path of a call's (descriptor, path)."""
    start, path = text(args, 0), text(args, 1)
    if path.startswith("/"):
        return traced.host_path(context, path)
    base = traced.host_path(context, start) if start.startswith("%") else None
    return os.path.normpath(os.path.join(base, path)) if base is not None else None


def _prefixes(path: str) -> list[str]:
    parts = [part for part in path.split("/") if part]
    return ["/" + "/".join(parts[:count]) for count in range(1, len(parts) + 1)]


def missing_part(args: Args, context: HintContext) -> Hint | None:
    """The first component of a path that does not exist."""
    if context.inside and text(args, 1).startswith("/"):
        return _missing_inside(text(args, 1), context)
    path = _path(args, context)
    if path is None or _is_covered(args, context) or os.path.exists(path):
        return None
    for part in _prefixes(path):
        if os.path.islink(part) and not os.path.exists(part):
            return Hint((f"{part} is a symbolic link to nothing",))
        if not os.path.lexists(part):
            return Hint((f"{part} does not exist",))
    return None


def _missing_inside(path: str, context: HintContext) -> Hint | None:
    try:
        for part in _prefixes(path):
            if inside.host_of(part, context) is not None:
                continue
            if inside.host_of(part, context, follow=False) is not None:
                return Hint((f"{part} is a symbolic link to nothing",))
            return Hint((f"{part} does not exist{_in_what(part, context)}",))
    except inside.UnseenError:
        pass
    return None


def _in_what(path: str, context: HintContext) -> str:
    """Of what there is at a place of the container: the mount there, or the root."""
    over = traced.cover(context, os.path.normpath(path))
    if over is None:
        return f" in {context.rootfs}" if context.rootfs else ""
    source = traced.host_path(context, over[1])
    return "" if source == over[0] else f" in {source}, which is mounted on {over[0]}"


def _is_covered(args: Args, context: HintContext) -> bool:
    """Whether a mount of the run lies over a place in the container's root."""
    if not text(args, 0).startswith("%"):
        return False
    return traced.cover(context, os.path.normpath("/" + text(args, 1))) is not None


def closed_folder(args: Args, context: HintContext) -> Hint | None:
    """path_resolution(7): the folder on the way that may not be searched.

    In a new user namespace not even host root may enter what others own.
    """
    if context.inside and text(args, 1).startswith("/"):
        return _closed_inside(text(args, 1), context)
    path = _path(args, context)
    if path is None or _is_covered(args, context):
        return None
    return _closed(path, context) or _of_another(path)


def _closed_inside(path: str, context: HintContext) -> Hint | None:
    who = actor(context)
    try:
        for part in _prefixes(path)[:-1]:
            host = inside.host_of(part, context)
            status = os.stat(host) if host is not None else None
            if host is None or status is None or _has_acl(host):
                return None
            if not who.may(status, 1):
                return Hint((f"{who} may not enter {part} ({owner_words(status)})",))
    except inside.UnseenError:
        return None
    apart = context.rootfs is not None or traced.cover(context, os.path.normpath(path)) is not None
    return None if apart else _of_another(path)


def _closed(path: str, context: HintContext) -> Hint | None:
    who = actor(context)
    for part in _prefixes(path)[:-1]:
        status = os.stat(part)
        if who.may(status, 1) or _has_acl(part):
            continue
        return Hint((f"{who} may not enter {part} ({owner_words(status)})",))
    return None


def _has_acl(path: str) -> bool:
    """acl(5): the mode alone does not say who may do what."""
    return "system.posix_acl_access" in os.listxattr(path)


def _of_another(path: str) -> Hint | None:
    """proc_pid_ns(5): PTRACE_MODE_READ_FSCREDS over the process."""
    parts = path.split("/")
    if len(parts) < 5 or parts[1] != "proc" or not parts[2].isdigit():
        return None
    try:
        owner = os.stat(f"/proc/{parts[2]}").st_uid
    except OSError:
        return None
    if owner == os.getuid():
        return _more_capable(parts[2])
    return Hint((f"process {parts[2]} belongs to uid {owner}, and uid {os.getuid()} may not "
                 "look into it",))  # fmt: skip


def _more_capable(pid: str) -> Hint | None:
    """ptrace(2), cap_ptrace_access_check: without CAP_SYS_PTRACE the other one may have no right
    that the caller has not."""
    held = procfs.capabilities()
    more = procfs.bits(procfs.status(pid).get("CapPrm", "")) - held
    own = nsfs.inode("/proc/self/ns/user")
    if _SYS_PTRACE in held or not more or nsfs.inode(f"/proc/{pid}/ns/user") not in (None, own):
        return None
    known = {int(one): one.name for one in Capability}
    names = ", ".join(known.get(number, str(number)) for number in sorted(more)[:_SHOWN])
    rest = f" and {len(more) - _SHOWN} more" if len(more) > _SHOWN else ""
    return Hint(
        (f"process {pid} holds {names}{rest}, which nsrun does not: it takes CAP_SYS_PTRACE to "
         "look into it",),
        ("join a namespace of a process that has no more rights, or give nsrun CAP_SYS_PTRACE",),
    )  # fmt: skip


def link_in_the_way(args: Args, context: HintContext) -> Hint | None:
    """openat2(2): a folder that must be real is a symbolic link."""
    path = text(args, 1)
    host = os.path.join(context.rootfs or "/", path)
    if path and os.path.islink(host):
        return Hint(
            (f"{host} is a symbolic link, to {os.readlink(host)}",),
            ("/proc, /sys and /dev of a rootfs must be folders",),
        )
    return None


def _to_be_made(args: Args, context: HintContext, at: int = 0) -> tuple[str, str] | None:
    """The (host folder, name) of what a call makes in a descriptor's folder."""
    folder, name = text(args, at), text(args, at + 1)
    host = traced.place_of(context, folder) if folder.startswith("%") else None
    return (host, name) if host is not None and name else None


def read_only(args: Args, context: HintContext) -> Hint | None:
    """The place where something has to be made is read-only."""
    turned = _made_read_only(args, context)
    if turned is not None:
        return turned
    made = _to_be_made(args, context)
    mount = procfs.mount_of(made[0] if made else context.rootfs or "/")
    name = made[1] if made else text(args, 1)
    if not name or mount is None or not mount.readonly:
        return None
    return Hint(
        (f"{mount.target} is mounted read-only, and {name} is missing in it",),
        (f"make {name} in the rootfs beforehand, or use `overlay: ephemeral`",),
    )


def _made_read_only(args: Args, context: HintContext) -> Hint | None:
    """An earlier entry of the spec has made the mount read-only that something is missing in."""
    folder = traced.container_path(context, text(args, 0)) or "/"
    path = os.path.normpath(f"/{folder}/{text(args, 1)}")
    if path.startswith("//"):
        path = path[1:]
    readonly: dict[str, bool] = {}
    for call, values, _ in context.before:
        target = traced.container_path(context, text(values, 0)) if values else None
        if call == "mount_setattr" and target is not None:
            words = text(values, 3)
            if "RDONLY" in traced.words(words, "set") | traced.words(words, "clr"):
                readonly[target] = "RDONLY" in traced.words(words, "set")
    above = [t for t in readonly if path.startswith(t.rstrip("/") + "/")]
    place = max(above, key=len, default="")
    over = traced.cover(context, path)
    if not place or not readonly[place] or (over is not None and len(over[0]) > len(place)):
        return None
    return Hint(
        (f"{path} is missing in {place}, which an earlier entry has made read-only",),
        (f"put this entry above the one that makes {place} read-only",),
    )


def link_read_only(args: Args, context: HintContext) -> Hint | None:
    """The same for symlinkat(2), whose descriptor comes second."""
    return read_only(args[1:], context)


def not_writable(args: Args, context: HintContext) -> Hint | None:
    """mkdirat(2), mknodat(2): the folder is another's."""
    made = _to_be_made(args, context)
    if made is None:
        return None
    folder, name = made
    status, who = os.stat(folder), actor(context)
    if who.may(status, 2) or _has_acl(folder):
        return None
    return Hint(
        (f"{name} is missing in {folder}, where {who} may make nothing ({owner_words(status)})",),
        (f"make {name} in it beforehand, or use `overlay: ephemeral`",),
    )


def no_such_folder(args: Args, context: HintContext) -> Hint | None:
    """chdir(2): the folder is missing, or is no folder."""
    path = text(args, 0)
    host = traced.command_path(context, path) if path.startswith("/") else None
    if host is None:
        return None
    place = f"{context.rootfs} has no {path}" if context.rootfs else f"{path} does not exist"
    if not os.path.lexists(host):
        return Hint((place,), (f'make it: files: {{"{path}": {{folder: true}}}}',))
    if not os.path.islink(host) and not os.path.isdir(host):
        return Hint((f"{path} is not a folder",))
    return None
