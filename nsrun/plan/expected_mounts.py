"""The mounts that a plan leaves behind, followed through its descriptors.

A descriptor is a mount (fsmount(2), open_tree(2) with OPEN_TREE_CLONE) or a place in one. What is
moved to a place stands there, and all that hangs on it goes where it goes.
"""

from __future__ import annotations

import posixpath
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from nsrun.kernel.abi import AtFlag, FsconfigCommand, MountAttr, MountFlag, OpenTreeFlag
from nsrun.kernel.values import Arg, Bytes, Call, Fmt, Int, Reg, Str
from nsrun.plan.model import Action

# Words of mountinfo (proc_pid_mountinfo(5)) for the attributes of a mount.
WORDS = {
    MountAttr.MOUNT_ATTR_RDONLY: "ro",
    MountAttr.MOUNT_ATTR_NOSUID: "nosuid",
    MountAttr.MOUNT_ATTR_NODEV: "nodev",
    MountAttr.MOUNT_ATTR_NOEXEC: "noexec",
    MountAttr.MOUNT_ATTR_NODIRATIME: "nodiratime",
    MountAttr.MOUNT_ATTR_NOSYMFOLLOW: "nosymfollow",
}
_ATIME = {0: "relatime", 0x10: "noatime", 0x20: "strictatime"}
_PROPAGATIONS = {
    MountFlag.MS_PRIVATE: "private",
    MountFlag.MS_SHARED: "shared",
    MountFlag.MS_SLAVE: "slave",
    MountFlag.MS_UNBINDABLE: "unbindable",
}


@dataclass(slots=True, eq=False, kw_only=True)
class Mount:
    """``fstype`` and ``source`` are "" where they are what was bound; ``source`` is then in
    ``bound``, a path of the host, or "" for one of the container.

    ``flags``: by a word of mountinfo whether it must stand there; ``atime`` and ``propagation``
    "" where nothing is said. ``options``: of the superblock, by their keys, "" for a bare word and
    None for a value that is known only then. ``sure``: False where the plan goes on without it.
    ``whole``: with all that is mounted below what was bound.
    """

    action: Action
    fstype: str = ""
    source: str = ""
    bound: str = ""
    whole: bool = False
    flags: dict[str, bool] = field(default_factory=dict)
    atime: str = ""
    propagation: str = ""
    options: dict[str, str | None] = field(default_factory=dict)
    sure: bool = True
    above: Mount | None = None
    name: str = ""
    # Its attributes were changed last by this action.
    changed: Action | None = None

    @property
    def target(self) -> str:
        """Where it stands, in the container."""
        base = self.above.target if self.above is not None else "/"
        return posixpath.normpath(posixpath.join(base, self.name.lstrip("/")))


@dataclass(frozen=True, slots=True)
class Place:
    """``path`` in the mount ``of``, None for the first mounts of the process."""

    of: Mount | None
    path: str


@dataclass(slots=True)
class _Context:
    fstype: str
    source: str = ""
    options: dict[str, str | None] = field(default_factory=dict)


class Mounts:
    """The mounts of a plan while it is read."""

    def __init__(self) -> None:
        self.pivoted = False
        self._root: Mount | None = None
        self._named: dict[str, Mount | Place | _Context] = {}
        self._standing: list[Mount] = []
        self._here: Mount | Place | None = None
        self._old_root_next = False

    def standing(self) -> tuple[Mount, ...]:
        """Those that are left, in the order in which they were put there."""
        return tuple(m for m in self._standing if not self.pivoted or self._is_in_root(m))

    def same(self, old: Reg, new: Reg) -> None:
        """A descriptor that was handed over."""
        if old.name in self._named:
            self._named[new.name] = self._named[old.name]

    def path_of(self, reg: Reg) -> str | None:
        """The container's path of a descriptor, None for what is no mount or place in one."""
        match self._named.get(reg.name):
            case Mount() as mount:
                return mount.target
            case Place() as place:
                return _target(place)
            case _:
                return None

    def call(self, call: Call, action: Action, sure: bool) -> None:
        args = call.args
        match call.name:
            case "openat" | "openat2" if call.save is not None:
                place = self._place(args[0], args[1])
                if place is not None:
                    self._named[call.save.name] = place
            case "fsopen" if call.save is not None:
                self._named[call.save.name] = _Context(_text(args[0]))
            case "fsconfig":
                self._configure(args)
            case "fspick" if call.save is not None:
                self._pick(call.save, args)
            case "fsmount" if call.save is not None:
                self._fsmount(call.save, args, action, sure)
            case "open_tree" if call.save is not None:
                self._open_tree(call.save, args, action, sure)
            case "move_mount":
                self._move(args, sure)
            case "mount_setattr":
                self._set(args, action)
            case "fchdir":
                found = self._get(args[0])
                self._here = None if isinstance(found, _Context) else found
            case "pivot_root":
                self._pivot()
            case "umount2":
                self._unmount()
            case _:
                pass

    # --- steps -------------------------------------------------------------------------------

    def _configure(self, args: tuple[Arg, ...]) -> None:
        context, command, key = self._get(args[0]), args[1], _text(args[2])
        if not isinstance(context, _Context) or not isinstance(command, Int):
            return
        if command.value == FsconfigCommand.FSCONFIG_SET_FLAG:
            context.options[key] = ""
        elif command.value == FsconfigCommand.FSCONFIG_SET_STRING and key == "source":
            context.source = _text(args[3])
        elif command.value == FsconfigCommand.FSCONFIG_SET_STRING:
            context.options[key] = args[3].value if isinstance(args[3], Str) else None

    def _pick(self, save: Reg, args: tuple[Arg, ...]) -> None:
        """The superblock of a mount: what is said of it from now on is said of the mount."""
        for mount in self._chosen(self._get(args[0]), self._place(args[0], args[1]), deep=False):
            self._named[save.name] = _Context(mount.fstype, options=mount.options)

    def _fsmount(self, save: Reg, args: tuple[Arg, ...], action: Action, sure: bool) -> None:
        context = self._get(args[0])
        if not isinstance(context, _Context) or not isinstance(args[2], Int):
            return
        bits = args[2].value
        self._named[save.name] = Mount(
            action=action,
            fstype=context.fstype,
            source=context.source,
            flags={word: bool(bits & bit) for bit, word in WORDS.items()},
            atime=_ATIME.get(bits & MountAttr.MOUNT_ATTR__ATIME, ""),
            options=context.options,
            # What a mount point's own propagation is decides of a new mount's.
            sure=sure,
        )

    def _open_tree(self, save: Reg, args: tuple[Arg, ...], action: Action, sure: bool) -> None:
        kind = args[2].value if isinstance(args[2], Int) else 0
        place = self._place(args[0], args[1])
        if not kind & OpenTreeFlag.OPEN_TREE_CLONE:
            if place is not None:
                self._named[save.name] = place
            return
        bound = place.path if place is not None and place.of is None else ""
        self._named[save.name] = Mount(
            action=action,
            bound=bound if self._is_hosts(bound) else "",
            whole=bool(kind & AtFlag.AT_RECURSIVE),
            sure=sure,
        )

    def _is_hosts(self, path: str) -> bool:
        """What lies in a mount that this plan has made before is the container's own."""
        made = [m.target for m in self._standing if m.above is None and m.target != "/"]
        return path.startswith("/") and not any(
            path == top or path.startswith(f"{top}/") for top in made
        )

    def _move(self, args: tuple[Arg, ...], sure: bool) -> None:
        mount = self._get(args[0])
        place = self._place(args[2], args[3])
        if not isinstance(mount, Mount) or place is None:
            return
        mount.above, mount.name = place.of, place.path
        mount.sure = mount.sure and sure
        self._standing.append(mount)

    def _set(self, args: tuple[Arg, ...], action: Action) -> None:
        how, attr = args[2], args[3]
        if not isinstance(how, Int) or not isinstance(attr, Bytes):
            return
        deep = bool(how.value & AtFlag.AT_RECURSIVE)
        sets, clears, propagation, _ = struct.unpack_from("=QQQQ", attr.value)
        for mount in self._chosen(self._get(args[0]), self._place(args[0], args[1]), deep):
            for bit, word in WORDS.items():
                if (sets | clears) & bit:
                    mount.flags[word] = bool(sets & bit)
            if clears & MountAttr.MOUNT_ATTR__ATIME:
                mount.atime = _ATIME.get(sets & MountAttr.MOUNT_ATTR__ATIME, "")
            if propagation:
                mount.propagation = _PROPAGATIONS.get(MountFlag(propagation), "")
            if not propagation or action is not mount.action:
                mount.changed = action

    def _chosen(self, found: object, place: Place | None, deep: bool) -> Iterator[Mount]:
        if isinstance(found, Mount):
            yield found
            if deep:
                yield from (m for m in self._standing if m is not found and _is_on(m, found))
            return
        if place is None:
            return
        target = _target(place)
        here = [m for m in self._standing if self._is_there(m) and m.target == target]
        yield from here[-1:]
        if deep:
            top = target.rstrip("/") + "/"
            yield from (
                m for m in self._standing
                if self._is_there(m) and m.target.startswith(top) and m.target != target
            )  # fmt: skip

    def _pivot(self) -> None:
        self.pivoted = True
        if isinstance(self._here, Mount):
            self._root = self._here
        elif isinstance(self._here, Place):
            self._root = self._here.of
        self._old_root_next = True

    def _unmount(self) -> None:
        if self._old_root_next:
            self._old_root_next = False
            return
        gone: Mount | None = None
        if isinstance(self._here, Mount):
            gone = self._here
        elif isinstance(self._here, Place):
            target = _target(self._here)
            here = [m for m in self._standing if self._is_there(m) and m.target == target]
            gone = here[-1] if here else None
        if gone is not None:
            self._standing = [m for m in self._standing if m is not gone and not _is_on(m, gone)]

    # --- parts -------------------------------------------------------------------------------

    def _get(self, arg: Arg) -> Mount | Place | _Context | None:
        return self._named.get(arg.name) if isinstance(arg, Reg) else None

    def _place(self, where: Arg, path: Arg) -> Place | None:
        """None for one that is not known before."""
        if isinstance(path, Fmt) or not isinstance(path, (Str, Int)):
            return None
        text = path.value if isinstance(path, Str) else ""
        if isinstance(where, Reg):
            found = self._named.get(where.name)
            if isinstance(found, Mount):
                return Place(found, text)
            if isinstance(found, Place):
                return Place(found.of, posixpath.join(found.path, text) if text else found.path)
            return None
        return Place(None, text)

    def _is_there(self, mount: Mount) -> bool:
        return self._root is None or self._is_in_root(mount)

    def _is_in_root(self, mount: Mount) -> bool:
        return self._root is None or mount is self._root or _is_on(mount, self._root)


def _is_on(mount: Mount, other: Mount) -> bool:
    above = mount.above
    while above is not None:
        if above is other:
            return True
        above = above.above
    return False


def _target(place: Place) -> str:
    base = place.of.target if place.of is not None else "/"
    return posixpath.normpath(posixpath.join(base, place.path.lstrip("/")))


def _text(arg: Arg) -> str:
    return arg.value if isinstance(arg, Str) else ""
