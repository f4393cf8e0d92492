"""Plans put away for the next run of the same words: writing them, and what there is.

Reading is the native launcher's (native/cached.c), by the same rules: the folder and the entry
belong to the caller alone, or they are as good as not there. An entry is written to a name of its
own and renamed, so no half of one is ever read.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from nsrun.kernel.depend import Depend
from nsrun.plan import entry
from nsrun.plan.binary import encode
from nsrun.plan.binary_format import checksum
from nsrun.plan.model import Plan

# What a cache may grow to; the oldest entries go first.
ENTRIES_MAX = 512
BYTES_MAX = 64 << 20
# An entry, or one that a run was killed while writing. Whatever else is in the folder is not ours.
_NAME = re.compile(r"[0-9a-f]{16}\.[0-9](\.[0-9]+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Info:
    """What a cache holds; ``bytes`` counts whole files."""

    folder: str
    entries: int
    bytes: int


def folder(environ: Mapping[str, str]) -> str | None:
    """Where the caller's cache is, whether or not it exists; None where there is no place.

    $NSRUN_CACHE_DIR, else /var/cache/nsrun for root, else nsrun in $XDG_CACHE_HOME or ~/.cache.
    """
    given = environ.get("NSRUN_CACHE_DIR", "")
    if given.startswith("/"):
        return given
    if os.getuid() == 0:
        return "/var/cache/nsrun"
    given = environ.get("XDG_CACHE_HOME", "")
    if given.startswith("/"):
        return os.path.join(given, "nsrun")
    home = environ.get("HOME", "")
    return os.path.join(home, ".cache/nsrun") if home.startswith("/") else None


def key(words: Sequence[str]) -> bytes:
    """What an entry answers to: the working folder and the words behind `nsrun`."""
    parts = [os.getcwd(), *words]
    return b"".join(os.fsencode(part) + b"\0" for part in parts)


def store(
    words: Sequence[str], plan: Plan, depends: Iterable[Depend], environ: Mapping[str, str]
) -> bool:
    """Put a plan away; False where that cannot be done, which is no failure of the run."""
    place = folder(environ)
    if place is None:
        return False
    try:
        wanted = key(words)
        data = entry.encode(wanted, depends) + encode(plan)
        at = _open(place, make=True)
    except (OSError, ValueError):
        return False
    try:
        return _write(at, _make_room(at, f"{checksum(wanted):016x}"), data)
    finally:
        os.close(at)


def info(environ: Mapping[str, str]) -> Info:
    """What there is in the caller's cache."""
    place = folder(environ) or ""
    with _opened(environ) as at:
        found = list(_entries(at)) if at is not None else []
    whole = sum(_is_whole(name) for name, _ in found)
    return Info(folder=place, entries=whole, bytes=sum(s.st_size for _, s in found))


def clear(environ: Mapping[str, str]) -> int:
    """Remove all entries; how many there were. Raises OSError."""
    count = 0
    with _opened(environ) as at:
        for name, _ in list(_entries(at)) if at is not None else ():
            os.unlink(name, dir_fd=at)
            count += _is_whole(name)
    return count


@contextlib.contextmanager
def _opened(environ: Mapping[str, str]) -> Iterator[int | None]:
    place = folder(environ)
    try:
        at = _open(place) if place is not None else None
    except OSError:
        at = None
    try:
        yield at
    finally:
        if at is not None:
            os.close(at)


def _open(place: str, *, make: bool = False) -> int:
    """The folder's descriptor; raises OSError where it is not there or not the caller's alone."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        at = os.open(place, flags)
    except FileNotFoundError:
        if not make:
            raise
        os.makedirs(os.path.dirname(place), mode=0o700, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.mkdir(place, 0o700)
        at = os.open(place, flags)
    status = os.fstat(at)
    if status.st_uid != os.getuid() or status.st_mode & 0o077:
        os.close(at)
        raise PermissionError(f"{place} is not the caller's alone")
    return at


def _make_room(at: int, name: str) -> str:
    """The name of the first entry for a key; those there are move back, the last is forgotten.

    The launcher looks at the latest first: of entries that no longer hold there is soon none left.
    """
    for number in reversed(range(entry.SLOTS - 1)):
        # Not there; or a folder stands in the way, or the disk is read-only.
        with contextlib.suppress(OSError):
            os.rename(f"{name}.{number}", f"{name}.{number + 1}", src_dir_fd=at, dst_dir_fd=at)
    return f"{name}.0"


def _write(at: int, name: str, data: bytes) -> bool:
    temporary = f"{name}.{os.getpid()}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        fd = os.open(temporary, flags, 0o600, dir_fd=at)
    except OSError:
        return False
    try:
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
        finally:
            os.close(fd)
        os.rename(temporary, name, src_dir_fd=at, dst_dir_fd=at)
    except OSError:  # a full disk, say
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=at)
        return False
    _bound(at)
    return True


def _entries(at: int) -> Iterator[tuple[str, os.stat_result]]:
    for name in os.listdir(at):
        with contextlib.suppress(OSError):
            status = os.stat(name, dir_fd=at, follow_symlinks=False)
            if stat.S_ISREG(status.st_mode) and _NAME.fullmatch(name):
                yield name, status


def _is_whole(name: str) -> bool:
    return name.count(".") == 1


def _bound(at: int) -> None:
    """Keep within the bounds: what was written longest ago goes first."""
    found = sorted(_entries(at), key=lambda item: item[1].st_mtime_ns)
    size = sum(status.st_size for _, status in found)
    while found and (len(found) > ENTRIES_MAX or size > BYTES_MAX):
        name, status = found.pop(0)
        size -= status.st_size
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=at)
