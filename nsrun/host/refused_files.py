"""Which wall a file stands behind: the mount, the mode, an owner without a mapping, Landlock, the
control group's list of devices. Each is looked at in the place of the refused process.

Sources: path_resolution(7), mount_namespaces(7), landlock(7), the kernel's cgroup-v1/devices.rst.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass

from nsrun.host import procfs
from nsrun.host.actor import owner_words
from nsrun.host.refused import Credentials, Refused, Wall, is_chown, is_owners
from nsrun.host.syscalls import open_inside
from nsrun.kernel.abi import LandlockAccessFs as Access

_READ, _WRITE, _ENTER = 4, 2, 1
# linux/capability.h
_CHOWN, _OVERRIDE, _READ_SEARCH, _FOWNER = 0, 1, 2, 3
# What each holds over (path_resolution(7)): reading a file, and all of a folder but writing; all.
_SEARCHES, _WRITES = frozenset({_OVERRIDE, _READ_SEARCH}), frozenset({_OVERRIDE})
_OWNS, _GIVES = frozenset({_FOWNER}), frozenset({_CHOWN})
_ACCMODE = os.O_ACCMODE
# What each call makes or removes in the folder that it names a part of.
_MAKES = {
    "mkdir": Access.MAKE_DIR, "mkdirat": Access.MAKE_DIR, "symlink": Access.MAKE_SYM,
    "symlinkat": Access.MAKE_SYM, "link": Access.MAKE_REG, "linkat": Access.MAKE_REG,
    "unlink": Access.REMOVE_FILE, "rmdir": Access.REMOVE_DIR,
    "unlinkat": Access.REMOVE_FILE, "rename": Access.MAKE_REG, "renameat": Access.MAKE_REG,
    "renameat2": Access.MAKE_REG, "mknod": Access.MAKE_REG, "mknodat": Access.MAKE_REG,
}  # fmt: skip
_NODES = {
    stat.S_IFCHR: Access.MAKE_CHAR, stat.S_IFBLK: Access.MAKE_BLOCK,
    stat.S_IFIFO: Access.MAKE_FIFO, stat.S_IFSOCK: Access.MAKE_SOCK,
}  # fmt: skip
_ACL = "system.posix_acl_access"
_AT_REMOVEDIR = 0x200
_OPENS = ("open", "openat", "openat2", "creat")
_RUNS = ("execve", "execveat")
_ACCESS = {"access": 1, "faccessat": 2, "faccessat2": 2}
_READS_WRITES: tuple[tuple[int, int], ...] = ((os.O_RDONLY, 4), (os.O_WRONLY, 2), (os.O_RDWR, 6))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """``path`` inside, ``status`` of what stands there, None for nothing. ``listed``: beside the
    mode an access list (acl(5)) has a say."""

    path: str
    status: os.stat_result | None
    mount: procfs.MountLine | None
    listed: bool = False


class Unseen(Exception):
    """A part of a path cannot be looked at from here: nothing can be said of it."""


def of_files(call: Refused, who: Credentials) -> Wall | None:
    """The wall of the first path of ``call`` that one stands before; None where none is seen.

    Raises OSError, ValueError and Unseen where it cannot be looked at.
    """
    try:
        root = os.open(f"/proc/{call.pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        raise Unseen from None
    try:
        for path in call.paths:
            found = _of_path(call, who, root, path)
            if found is not None:
                return found
    finally:
        os.close(root)
    return None


def _look(pid: int, root: int, path: str, *, follow: bool = True) -> _Place:
    flags = os.O_PATH if follow else os.O_PATH | os.O_NOFOLLOW
    try:
        fd = open_inside(root, path, flags)
    except FileNotFoundError:
        return _Place(path=path, status=None, mount=None)
    except OSError:
        raise Unseen from None
    try:
        text = procfs.read(f"/proc/self/fdinfo/{fd}") or ""
        ids = [int(ln.split()[1]) for ln in text.splitlines() if ln.startswith("mnt_id:")]
        table = procfs.mounts(str(pid))
        mount = next((m for m in table if m.ident in ids), None)
        return _Place(path=path, status=os.fstat(fd), mount=mount, listed=_listed(fd))
    finally:
        os.close(fd)


def _listed(fd: int) -> bool:
    try:
        return _ACL in os.listxattr(f"/proc/self/fd/{fd}")
    except OSError:
        return False


def _ancestors(path: str) -> list[str]:
    """From the root to the folder that ``path`` is in."""
    found = []
    while path not in ("/", ""):
        path = os.path.dirname(path)
        found.append(path)
    return found[::-1]


def _of_path(call: Refused, who: Credentials, root: int, path: str) -> Wall | None:
    folders: list[_Place] = []
    for name in _ancestors(path):
        # The first folder that is closed to it may be closed to us, and hides what is below.
        folders.append(_look(call.pid, root, name))
        closed = _closed(who, folders[-1]) if call.errno == errno.EACCES else None
        if closed is not None:
            return closed
    place = _look(call.pid, root, path)
    in_folder = call.name in _MAKES or (place.status is None and bool(call.flags & os.O_CREAT))
    parent = folders[-1] if folders else place
    about = parent if in_folder else place
    if call.errno == errno.EROFS:
        return _read_only(about)
    if about.status is None:
        return None
    wanted = _ENTER | _WRITE if in_folder else _wanted(call, about.status)
    return (
        _by_mode(call, who, about, wanted)
        or _by_sticky_folder(call, who, parent, place)
        or _by_landlock(call, place, folders, in_folder=in_folder)
        or _by_mount(call, about)
        or _by_device_rules(call, place)
    )


def _wanted(call: Refused, status: os.stat_result) -> int:
    if call.name in _OPENS:
        wanted = dict(_READS_WRITES).get(call.flags & _ACCMODE, 0)
        return wanted | (_WRITE if call.flags & os.O_TRUNC else 0)
    if call.name in _RUNS:
        return _ENTER
    if call.name in _ACCESS:
        return call.arguments[_ACCESS[call.name]] & 7
    if call.name in ("truncate", "connect"):
        return _WRITE
    return _ENTER if call.name in ("chdir", "chroot") and stat.S_ISDIR(status.st_mode) else 0


# --- mounts --------------------------------------------------------------------------------------


def _read_only(place: _Place) -> Wall | None:
    mount = place.mount
    if mount is None or not mount.readonly:
        return None
    what = "mounted read-only" if "ro" in mount.options else "of a file system that is read-only"
    return Wall(
        kind="read-only mount",
        why=f"{place.path} lies on {mount.target}, which is {what}",
        path="mounts",
        target=mount.target,
        help=f"a mount on {mount.target} without `ro`, or a tmpfs or volume where it writes",
    )


def _by_mount(call: Refused, place: _Place) -> Wall | None:
    mount, status = place.mount, place.status
    if mount is None or status is None or call.errno != errno.EACCES:
        return None
    device = stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode)
    for option, holds, what in (
        ("nodev", device and call.name in _OPENS, "a device there cannot be opened"),
        ("noexec", call.name in _RUNS, "no program there can be executed"),
    ):
        if holds and option in mount.options:
            return Wall(
                kind=f"{option} mount",
                why=f"{place.path} lies on {mount.target}, which is mounted {option}: {what}",
                path="mounts",
                target=mount.target,
                help=f"`{option}` left out of the options of {mount.target}",
            )
    return None


# --- modes and owners ----------------------------------------------------------------------------


def _closed(who: Credentials, folder: _Place) -> Wall | None:
    status = folder.status
    if status is None or who.actor.may(status, _ENTER) or _searches(who, status):
        return None
    if folder.listed:
        raise Unseen
    return _mode(who, folder.path, status, "enter", _SEARCHES)


def _searches(who: Credentials, status: os.stat_result) -> bool:
    return _READ_SEARCH in who.effective and not _foreign(who, status)


def _foreign(who: Credentials, status: os.stat_result) -> str:
    """The owner or group that the user namespace has no id for: a capability does not help."""
    if not who.own_user_namespace:
        return ""
    for kind, lines, ident in (
        ("uid", who.uids, status.st_uid), ("gid", who.gids, status.st_gid),
    ):  # fmt: skip
        if not any(start <= ident < start + size for _, start, size in lines):
            return f"{kind} {ident} of the host"
    return ""


def _mode(
    who: Credentials, path: str, status: os.stat_result, verb: str, counts: frozenset[int]
) -> Wall:
    """``counts``: the capabilities that would do, over an owner with a mapping."""
    foreign = _foreign(who, status)
    if foreign and counts & who.effective:
        return Wall(
            kind="user namespace",
            why=f"{who.actor} may not {verb} {path} ({owner_words(status)} of the host): {foreign} "
            "is not mapped, so no capability inside holds over it",
            path="idmap",
            target=path,
            help="an `idmap` that holds the owner, or another owner of the file",
        )
    return Wall(
        kind="file mode",
        why=f"{who.actor} may not {verb} {path} ({owner_words(status)} of the host)",
        path="user",
        target=path,
        help="another `user`, or another owner or mode of the file",
    )


def _by_mode(call: Refused, who: Credentials, place: _Place, wanted: int) -> Wall | None:
    status = place.status
    assert status is not None
    if place.listed:
        raise Unseen
    if is_chown(call.name):
        if _CHOWN not in who.effective or not _foreign(who, status):
            return None
        return _mode(who, place.path, status, "change", _GIVES)
    if is_owners(call.name):
        # inode_owner_or_capable
        capable = _FOWNER in who.effective and not _foreign(who, status)
        if who.actor.uid == status.st_uid or capable:
            return None
        return _mode(who, place.path, status, "change", _OWNS)
    for bit, verb in ((_READ, "read"), (_WRITE, "write to"), (_ENTER, "execute")):
        if not wanted & bit or who.actor.may(status, bit):
            continue
        if bit != _WRITE and _searches(who, status) and stat.S_ISDIR(status.st_mode):
            continue
        searches = bit == _READ or (bit == _ENTER and stat.S_ISDIR(status.st_mode))
        return _mode(who, place.path, status, verb, _SEARCHES if searches else _WRITES)
    return None


def _by_sticky_folder(
    call: Refused, who: Credentials, parent: _Place, place: _Place
) -> Wall | None:
    """unlink(2), rename(2), EPERM: of a folder like /tmp only one's own is taken away."""
    folder, status = parent.status, place.status
    removes = call.name.startswith(("unlink", "rmdir", "rename"))
    if call.errno != errno.EPERM or not removes or folder is None or status is None:
        return None
    capable = _FOWNER in who.effective and not _foreign(who, status)
    if not folder.st_mode & stat.S_ISVTX or who.actor.uid in (status.st_uid, folder.st_uid):
        return None
    return None if capable else _mode(who, place.path, status, "remove", _OWNS)


# --- Landlock ------------------------------------------------------------------------------------


def _rights(call: Refused, place: _Place, *, in_folder: bool) -> Access:
    """What Landlock asks for, on the file or on the folder that is changed."""
    if call.name in ("unlinkat",) and call.arguments[2] & _AT_REMOVEDIR:
        return Access.REMOVE_DIR
    if call.name in ("mknod", "mknodat"):
        mode = call.arguments[1 if call.name == "mknod" else 2]
        return _NODES.get(stat.S_IFMT(mode), Access.MAKE_REG)
    if call.name in _MAKES:
        return _MAKES[call.name]
    if in_folder:
        return Access.MAKE_REG | Access.WRITE_FILE
    if call.name in _RUNS:
        return Access.EXECUTE
    if call.name == "truncate":
        return Access.TRUNCATE
    if call.name not in _OPENS or place.status is None:
        return Access(0)
    folder = stat.S_ISDIR(place.status.st_mode)
    wanted = dict(_READS_WRITES).get(call.flags & _ACCMODE, 0)
    rights = Access(0)
    if wanted & _READ:
        rights |= Access.READ_DIR if folder else Access.READ_FILE
    if wanted & _WRITE:
        rights |= Access.WRITE_FILE
    return rights | Access.TRUNCATE if call.flags & os.O_TRUNC else rights


def _by_landlock(
    call: Refused, place: _Place, folders: list[_Place], *, in_folder: bool
) -> Wall | None:
    rights = _rights(call, place, in_folder=in_folder)
    chain = [p.status for p in (*folders, *(() if in_folder else (place,))) if p.status]
    for layer in call.layers:
        allowed = 0
        for status in chain:
            allowed |= layer.allowed.get((status.st_dev, status.st_ino), 0)
        missing = Access(int(rights) & layer.handled & ~allowed)
        if missing and call.errno == errno.EACCES:
            where = folders[-1].path if in_folder and folders else place.path
            reading = Access.READ_FILE | Access.READ_DIR | Access.EXECUTE
            key = "read" if not missing & ~reading else "write"
            names = "|".join(right.name or "" for right in missing)
            return Wall(
                kind="Landlock",
                why=f"no rule gives {names} on {where} or a folder above it",
                path="landlock",
                target=where,
                help=f"`{where}` in the list landlock.{key}",
            )
    return None


# --- devices -------------------------------------------------------------------------------------


def _by_device_rules(call: Refused, place: _Place) -> Wall | None:
    """Of cgroup v1, whose list can be read; that of v2 is a program."""
    wanted = _device(call, place)
    group = _devices_folder(call.pid) if wanted is not None else None
    rules = procfs.read(f"{group}/devices.list") if group is not None else None
    if wanted is None or rules is None:
        return None
    kind, major, minor, letters = wanted
    for line in rules.splitlines():
        kinds, numbers, rights = line.split()
        first, _, second = numbers.partition(":")
        fits = first in ("*", str(major)) and second in ("*", str(minor))
        if kinds in ("a", kind) and fits and set(letters) <= set(rights):
            return None
    return Wall(
        kind="device cgroup",
        why=f"no line of {group}/devices.list allows {kind} {major}:{minor} {letters}",
        path="devices",
        target=place.path,
        help=f"`{letters}` in the permissions of {place.path} under `devices`",
    )


def _device(call: Refused, place: _Place) -> tuple[str, int, int, str] | None:
    """The kind, the numbers and the letters of what is asked of a device, None for other calls."""
    if call.errno != errno.EPERM:
        return None
    if call.name in ("mknod", "mknodat"):
        at = 1 if call.name == "mknod" else 2
        mode, number, letters = call.arguments[at], call.arguments[at + 1], "m"
    elif call.name in _OPENS and place.status is not None:
        mode, number = place.status.st_mode, place.status.st_rdev
        letters = {0: "r", 1: "w", 2: "rw"}.get(call.flags & _ACCMODE, "")
    else:
        return None
    kind = {stat.S_IFCHR: "c", stat.S_IFBLK: "b"}.get(stat.S_IFMT(mode))
    return None if kind is None else (kind, os.major(number), os.minor(number), letters)


def _devices_folder(pid: int) -> str | None:
    for line in (procfs.read(f"/proc/{pid}/cgroup") or "").splitlines():
        _, controllers, path = line.split(":", 2)
        if "devices" not in controllers.split(","):
            continue
        for mount in procfs.mounts():
            if mount.fstype == "cgroup" and "devices" in mount.super_options:
                below = os.path.relpath(path, mount.root)
                return os.path.normpath(os.path.join(mount.target, below))
    return None
