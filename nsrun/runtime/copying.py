"""Trees of files as tar streams, packed and unpacked by descriptors: no name is ever followed.

Both sides of `nsrun cp` are this. A folder is entered by openat(2) with O_NOFOLLOW from the
folder above it, so that whoever swaps a folder for a symlink meanwhile gets an error, and neither
a read nor a write anywhere else (CVE-2018-15664).
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

_CHUNK = 1 << 20
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_SPECIAL = stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX


class CopyError(Exception):
    """What is wrong, in words."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a tree goes: into ``folder``, a descriptor. ``name``: what its root is called there;
    "" for what is in it, None for every name as it is. ``file``: a descriptor (O_PATH) of the
    file that is overwritten."""

    folder: int
    name: str | None
    file: int = -1


# --- packing ---------------------------------------------------------------------------------


def pack(handle: int, name: str, out: IO[bytes]) -> None:
    """Write what ``handle`` (O_PATH) is, called ``name``, and all that is below it.

    Devices, FIFOs and sockets are left out.
    """
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        _pack(tar, handle, name)


def _pack(tar: tarfile.TarFile, handle: int, name: str) -> None:
    status = os.fstat(handle)
    member = tarfile.TarInfo(name)
    member.mode, member.mtime = stat.S_IMODE(status.st_mode), status.st_mtime
    member.uid, member.gid = status.st_uid, status.st_gid
    if stat.S_ISREG(status.st_mode):
        # The very file that was looked at; opening it can neither block nor touch a device.
        with open(os.open(f"/proc/self/fd/{handle}", os.O_RDONLY | os.O_CLOEXEC), "rb") as file:
            member.size = status.st_size
            tar.addfile(member, _Exactly(file))  # type: ignore[arg-type]
    elif stat.S_ISLNK(status.st_mode):
        member.type = tarfile.SYMTYPE
        member.linkname = os.readlink("", dir_fd=handle)
        tar.addfile(member)
    elif stat.S_ISDIR(status.st_mode):
        member.type = tarfile.DIRTYPE
        tar.addfile(member)
        folder = os.open(f"/proc/self/fd/{handle}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for entry in sorted(os.listdir(folder)):
                try:
                    below = os.open(entry, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
                except FileNotFoundError:
                    continue
                try:
                    _pack(tar, below, f"{name}/{entry}")
                finally:
                    os.close(below)
        finally:
            os.close(folder)


class _Exactly:
    """A file that is as long as was said: one that is cut meanwhile goes on with zeros."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, size: int) -> bytes:
        data = b""
        while len(data) < size and (more := self._file.read(size - len(data))):
            data += more
        return data.ljust(size, b"\0")


# --- unpacking -------------------------------------------------------------------------------


def unpack(tar: tarfile.TarFile, first: tarfile.TarInfo | None, to: Target, owned: bool) -> None:
    """Make what a stream has, from its member ``first`` on. ``owned``: with its owners, else as
    the caller's. Raises OSError, CopyError."""
    folders: list[tuple[list[str], tarfile.TarInfo]] = []
    member = first
    while member is not None:
        parts = _placed(member.name, to)
        if member.isdir():
            folders.append((parts, member))
        if parts:
            with _within(to.folder, parts[:-1], make=to.name is None) as folder:
                _make(tar, member, folder, parts[-1], to, owned)
        elif not member.isdir():
            raise CopyError(f"{member.name} is no folder")
        member = tar.next()
    # A folder that may not be written to is filled before, and its time is that of before.
    for parts, made in reversed(folders):
        if parts:
            with _within(to.folder, parts) as folder:
                _finish(folder, made, owned)


def _placed(name: str, to: Target) -> list[str]:
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise CopyError(f"the archive has a name with '..': {name}")
    if to.name is None:
        return parts
    return [to.name, *parts[1:]] if to.name else parts[1:]


@contextlib.contextmanager
def _within(folder: int, parts: list[str], make: bool = False) -> Iterator[int]:
    """A descriptor of a folder below; a symlink on the way is an error."""
    here = os.dup(folder)
    try:
        for part in parts:
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, 0o755, dir_fd=here)
            try:
                below = os.open(part, _FOLDER, dir_fd=here)
            except OSError as error:
                raise OSError(error.errno, error.strerror, "/".join(parts)) from None
            os.close(here)
            here = below
        yield here
    finally:
        os.close(here)


def _make(
    tar: tarfile.TarFile, member: tarfile.TarInfo, folder: int, name: str, to: Target, owned: bool
) -> None:
    if member.isdir():
        try:
            os.mkdir(name, 0o700, dir_fd=folder)
        except FileExistsError:
            there = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if not stat.S_ISDIR(there.st_mode):
                raise CopyError(f"{name} is there already, and no folder") from None
        return
    if to.file >= 0 and member.isreg():
        with open(os.open(f"/proc/self/fd/{to.file}", os.O_WRONLY | os.O_CLOEXEC), "wb") as file:
            file.truncate(0)
            _fill(tar, member, file)
        return
    if not (member.isreg() or member.issym() or member.islnk()):
        # A device or a FIFO is not made, and takes no file's place.
        return
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)
    if member.isreg():
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(name, flags, 0o600, dir_fd=folder), "wb") as file:
            _fill(tar, member, file)
            _finish(file.fileno(), member, owned)
    elif member.issym():
        os.symlink(member.linkname, name, dir_fd=folder)
        if owned:
            os.chown(name, member.uid, member.gid, dir_fd=folder, follow_symlinks=False)
    elif member.islnk():
        *above, last = _placed(member.linkname, to)
        with _within(to.folder, above) as other:
            os.link(last, name, src_dir_fd=other, dst_dir_fd=folder, follow_symlinks=False)


def _fill(tar: tarfile.TarFile, member: tarfile.TarInfo, file: IO[bytes]) -> None:
    """Zeros of a whole chunk become a hole."""
    data = tar.extractfile(member)
    while data is not None and (chunk := data.read(_CHUNK)):
        if any(chunk):
            file.write(chunk)
        else:
            file.seek(len(chunk), os.SEEK_CUR)
    file.truncate(member.size)


def _finish(fd: int, member: tarfile.TarInfo, owned: bool) -> None:
    """Owner, mode and time. Another owner's set-user-ID is not the caller's."""
    mode = member.mode & 0o7777
    if owned:
        os.fchown(fd, member.uid, member.gid)
    else:
        mode &= ~_SPECIAL
    os.fchmod(fd, mode)
    os.utime(fd, (member.mtime, member.mtime))


# --- where -----------------------------------------------------------------------------------


def is_missing(error: OSError) -> bool:
    return error.errno in (errno.ENOENT, errno.ENOTDIR)
