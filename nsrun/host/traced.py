"""What registers and descriptors of a failed run stood for: followed back through its steps."""

from __future__ import annotations

import os
import re

from nsrun.host.hint import HintContext, Replayed, number, text
from nsrun.kernel.abi import CloneFlag

_BY_DESCRIPTOR = re.compile(r"/proc/self/fd/(%\w+)(?:/(.*))?")


def made_by(context: HintContext, register: str) -> Replayed | None:
    """The step that wrote a register (``%name``)."""
    return next((step for step in reversed(context.before) if step[2] == register), None)


def host_path(context: HintContext, word: str) -> str | None:
    """The host path behind a path, a register or a name below /proc/self/fd; None where it has
    none: a new file system, or a place in an overlay."""
    through = _BY_DESCRIPTOR.fullmatch(word)
    if through is not None:
        return _below_descriptor(context, through[1], through[2] or "")
    if not word.startswith("%"):
        return word if word.startswith("/") else None
    step = made_by(context, word)
    if step is None:
        return None
    call, args, _ = step
    if call == "receivefd":
        return host_path(context, text(args, 0))
    if call not in ("open_tree", "openat", "openat2"):
        return None
    start, path = text(args, 0), text(args, 1)
    if call != "openat2" and path.startswith("/"):
        return host_path(context, path)
    base = host_path(context, start) if start else "/"
    return None if base is None else os.path.normpath(os.path.join(base, path.lstrip("/")))


def _below_descriptor(context: HintContext, register: str, rest: str) -> str | None:
    name, _, inner = rest.partition("/")
    for call, args, _ in reversed(context.before):
        # A layer stands in the scratch folder as a mount of its own.
        if call == "move_mount" and (text(args, 2), text(args, 3)) == (register, name) and name:
            top = host_path(context, text(args, 0))
            return os.path.join(top, inner).rstrip("/") if top is not None else None
    top = host_path(context, register)
    return os.path.join(top, rest).rstrip("/") if top is not None else None


def container_path(context: HintContext, register: str) -> str | None:
    """The container's path that a register was opened from."""
    step = made_by(context, register)
    if step is None or step[0] != "openat2":
        return None
    return os.path.normpath("/" + text(step[1], 1))


def mounted_on(context: HintContext) -> list[tuple[str, str]]:
    """(container's path, register of the mount) of what was mounted, in order."""
    found = []
    for call, args, _ in context.before:
        if call == "move_mount":
            target = container_path(context, text(args, 2))
            if target is not None:
                found.append((os.path.normpath(f"{target}/{text(args, 3)}"), text(args, 0)))
    return found


def cover(context: HintContext, path: str) -> tuple[str, str] | None:
    """The (container's path, register) of the mount that a container's path lies in, None for
    the root itself."""
    lies_in = [
        (target, mount)
        for target, mount in mounted_on(context)
        if path == target or path.startswith(target.rstrip("/") + "/")
    ]
    return lies_in[-1] if lies_in else None


def empty_cover(context: HintContext, path: str) -> str | None:
    """The container's path of the new tmpfs that a path lies in, where nothing was put into it."""
    over = cover(context, path)
    mount = made_by(context, over[1]) if over is not None else None
    made = made_by(context, text(mount[1], 0)) if mount is not None else None
    if over is None or made is None or made[0] != "fsopen" or text(made[1], 0) != "tmpfs":
        return None
    steps = [step[:2] for step in context.before]
    moved = next(
        n
        for n, (call, args) in enumerate(steps)
        if call == "move_mount" and text(args, 0) == over[1]
    )
    # Whatever is made in it is made below a folder that is opened in it.
    opened = (
        os.path.normpath("/" + text(args, 1)) for call, args in steps[moved:] if call == "openat2"
    )
    return None if any(p.startswith(over[0]) for p in opened) else over[0]


def command_path(context: HintContext, path: str) -> str | None:
    """The host path of a container's path, None where a mount without one lies over it."""
    over = cover(context, path)
    if over is None:
        # POSIX lets two leading slashes mean something else, so normpath() keeps them.
        return os.path.normpath(f"{context.rootfs or ''}/{path.lstrip('/')}")
    top = host_path(context, over[1])
    if top is None:
        return None
    return os.path.normpath(os.path.join(top, os.path.relpath(path, over[0])))


def place_of(context: HintContext, register: str) -> str | None:
    """As :func:`host_path`, of a place in the root that a mount of the run may lie over."""
    inside = container_path(context, register)
    if inside is not None and cover(context, inside) is not None:
        return command_path(context, inside)
    return host_path(context, register)


def attributes(context: HintContext, register: str) -> set[str]:
    """The attributes that were set on a mount, as mount_setattr(2) and fsmount(2) name them."""
    found: set[str] = set()
    for call, args, _ in context.before:
        if call == "mount_setattr" and text(args, 0) == register:
            found = (found | words(text(args, 3), "set")) - words(text(args, 3), "clr")
    return found


def words(attr: str, which: str) -> set[str]:
    """The names in ``{set=RDONLY|NOSUID, clr=...}``, without their prefix."""
    match = re.search(rf"\b{which}=([^,}}]*)", attr)
    names = match[1].split("|") if match else []
    return {name.strip().removeprefix("MOUNT_ATTR_") for name in names}


def new_namespaces(context: HintContext) -> int:
    """The CLONE_NEW flags (among others) of what the run has made."""
    made = 0
    for call, args, _ in context.before:
        if call in ("clone3", "unshare"):
            made |= number(args, 0) or 0
    return made


def new_user_namespace(context: HintContext) -> bool:
    """Whether the run has made a user namespace."""
    return bool(new_namespaces(context) & CloneFlag.CLONE_NEWUSER)


def options(context: HintContext, register: str) -> dict[str, str]:
    """What fsconfig(2) has set on a file system that is being made, "" for what has no value."""
    found: dict[str, str] = {}
    for call, args, _ in context.before:
        if call == "fsconfig" and text(args, 0) == register and text(args, 2):
            found[text(args, 2)] = text(args, 3)
    return found


def final_ids(context: HintContext) -> tuple[int, int] | None:
    """The (uid, gid) that were taken last; None where the ids have stayed."""
    taken: dict[str, int] = {}
    for call, args, _ in context.before:
        if call in ("setresuid", "setresgid"):
            taken[call] = number(args, 0) or 0
    if len(taken) != 2:
        return None
    return taken["setresuid"], taken["setresgid"]


def to_host(context: HintContext, kind: str, ident: int) -> int | None:
    """The host's id of the container's: by the map that was written, or the same without one."""
    maps = [lines for name, lines in id_maps(context) if name == kind]
    if not maps:
        return None if new_user_namespace(context) else ident
    for inside, outside, size in maps[-1]:
        if inside <= ident < inside + size:
            return outside + ident - inside
    return None


def id_maps(context: HintContext) -> list[tuple[str, list[tuple[int, int, int]]]]:
    """(``uid`` or ``gid``, lines) of each id map, written by the run or by a helper."""
    found = []
    for call, args, _ in context.before:
        if call == "spawn" and text(args, 0).endswith(("/newuidmap", "/newgidmap")):
            found.append((text(args, 0)[-6:-3], triples(" ".join(map(str, args[2:])))))
        elif call == "write":
            opened = made_by(context, text(args, 0))
            name = text(opened[1], 1).rpartition("/")[2] if opened is not None else ""
            if name in ("uid_map", "gid_map"):
                found.append((name[:3], triples(text(args, 1))))
    return found


def triples(words: str) -> list[tuple[int, int, int]]:
    """The lines of an id map."""
    numbers = [int(word) for word in words.split() if word.isdigit()]
    return [(a, b, c) for a, b, c in zip(*[iter(numbers)] * 3, strict=False)]


def dropped_groups(context: HintContext) -> bool:
    """Whether the supplementary groups are others than the caller's."""
    return any(call == "setgroups" for call, _, _ in context.before)
