"""What stands at a path: on the host, and inside a rootfs without ever leaving it."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable

from nsrun.host import nsfs
from nsrun.kernel.facts import Kind, PathFact

# passwd and group of an image: more than this is no user database but an attack or a mistake.
LIMIT = 1 << 20
# path_resolution(7): as many symlinks as the kernel follows.
LINKS_MAX = 40
_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR})


def path_fact(path: str, nsfs_device: int) -> PathFact:
    """A host path, followed to its end; ``nsfs_device`` is :func:`nsrun.host.nsfs.device`."""
    try:
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        return _absent(path, error, lambda prefix: os.stat(prefix))
    try:
        status = os.fstat(handle)
        kind = None
        if status.st_dev == nsfs_device:
            kind = nsfs.kind_of_handle(handle)
        return _present(status, kind)
    finally:
        os.close(handle)


def ways(path: str) -> tuple[str, ...]:
    """Where the symlinks lie that an absolute path goes through, and last where it leads: each
    without symlinks on its own way. What is not there is taken as it is written."""
    found: list[str] = []
    place, left = "/", components(path)
    while left:
        part = left.pop(0)
        if part == "..":
            place = os.path.dirname(place)
            continue
        here = os.path.join(place, part)
        try:
            leads = os.readlink(here)
        except (OSError, ValueError):
            place = here
            continue
        found.append(here)
        if len(found) > LINKS_MAX:
            break
        place = "/" if leads.startswith("/") else place
        left = [*components(leads), *left]
    return (*found, place)


def target_fact(root: int, target: str) -> PathFact:
    """A path inside the root of descriptor ``root``, followed to its end within it.

    A last component that is a symlink to nothing is a SYMLINK: something stands there, and
    nothing can be made in its place.
    """
    from nsrun.host.syscalls import open_inside

    def look(path: str, flags: int = os.O_PATH) -> os.stat_result:
        handle = open_inside(root, path, flags)
        try:
            return os.fstat(handle)
        finally:
            os.close(handle)

    try:
        return _present(look(target))
    except (OSError, ValueError) as error:
        missing = _absent(target, error, look)
    if missing.kind is Kind.MISSING and missing.missing_part == _joined(components(target)):
        try:
            return _present(look(target, os.O_PATH | os.O_NOFOLLOW))
        except (OSError, ValueError):
            pass
    return missing


def own_target_fact(target: str) -> PathFact:
    """A path inside the caller's own root; the same rule for a symlink to nothing."""
    try:
        return _present(os.stat(target))
    except (OSError, ValueError) as error:
        missing = _absent(target, error, lambda prefix: os.stat(prefix))
    try:
        return _present(os.lstat(target)) if missing.kind is Kind.MISSING else missing
    except (OSError, ValueError):
        return missing


def _present(status: os.stat_result, namespace: str | None = None) -> PathFact:
    kind = Kind.FILE
    if stat.S_ISDIR(status.st_mode):
        kind = Kind.FOLDER
    elif stat.S_ISLNK(status.st_mode):
        kind = Kind.SYMLINK
    return PathFact(
        kind=kind,
        device=status.st_dev,
        inode=status.st_ino,
        owner=(status.st_uid, status.st_gid),
        mode=stat.S_IMODE(status.st_mode),
        namespace=namespace,
        block=_numbers(status.st_rdev) if stat.S_ISBLK(status.st_mode) else "",
        character=_numbers(status.st_rdev) if stat.S_ISCHR(status.st_mode) else "",
    )


def _numbers(device: int) -> str:
    return f"{os.major(device)}:{os.minor(device)}"


def _absent(
    path: str, error: OSError | ValueError, look: Callable[[str], os.stat_result]
) -> PathFact:
    # A ValueError is a NUL or a character that no file name can hold.
    if isinstance(error, OSError) and error.errno not in _ABSENT:
        return PathFact(kind=Kind.UNREACHABLE)
    return PathFact(kind=Kind.MISSING, missing_part=first_missing(path, look))


def first_missing(path: str, look: Callable[[str], os.stat_result]) -> str:
    """The shortest leading part of ``path`` that ``look`` does not find."""
    parts = components(path)
    for count in range(1, len(parts) + 1):
        prefix = _joined(parts[:count])
        try:
            look(prefix)
        except (OSError, ValueError):
            return prefix
    return _joined(parts)


def components(path: str) -> list[str]:
    """The names of a path: ``/a//b/./c`` is a, b, c."""
    return [part for part in path.split("/") if part not in ("", ".")]


def _joined(parts: list[str]) -> str:
    return "/" + "/".join(parts)


def read_regular(handle: int, limit: int = LIMIT) -> bytes | None:
    """The content of the regular file behind an O_PATH descriptor, None for anything else.

    Also None for a file over ``limit`` bytes: half a user database would be another one.
    """
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        return None
    try:
        fd = os.open(f"/proc/self/fd/{handle}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        parts: list[bytes] = []
        left = limit + 1
        while left > 0 and (part := os.read(fd, left)):
            parts.append(part)
            left -= len(part)
        return b"".join(parts) if left > 0 else None
    except OSError:
        return None
    finally:
        os.close(fd)


def read_file(path: str, limit: int = LIMIT) -> str | None:
    """The text of a regular file of the host, None where there is none that can be read."""
    try:
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (OSError, ValueError):
        return None
    return _text(handle, limit)


def read_inside(root: int, path: str, limit: int = LIMIT) -> str | None:
    """The text of a regular file inside the root of descriptor ``root``; None as above."""
    from nsrun.host.syscalls import open_inside

    try:
        handle = open_inside(root, path)
    except (OSError, ValueError):
        return None
    return _text(handle, limit)


def _text(handle: int, limit: int) -> str | None:
    try:
        data = read_regular(handle, limit)
    finally:
        os.close(handle)
    return None if data is None else data.decode("utf-8", "surrogateescape")
