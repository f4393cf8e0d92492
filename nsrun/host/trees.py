"""Removing a folder that a container could write to: how deep it is and what is in it are its own.

shutil.rmtree needs a descriptor and a level of Python's stack for each folder on the way; here it
is two descriptors whatever the depth. No symlink is followed, and what is mounted below stays.
"""

from __future__ import annotations

import contextlib
import errno
import os
from dataclasses import dataclass

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class _Level:
    """A folder on the way: its name in the one above, which one it is, those still to be seen."""

    name: str
    which: tuple[int, int]
    below: list[str]


def remove(path: str) -> None:
    """Remove the folder at ``path`` with all in it, if it is there; what cannot be removed stays.

    Raises OSError where the folder stays, or one in it is moved away meanwhile: the way back is
    another's then.
    """
    above, name = os.path.split(path.rstrip("/"))
    try:
        base = os.open(above or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        with contextlib.suppress(FileNotFoundError):
            _empty(os.open(name, _FOLDER, dir_fd=base), name)
            os.rmdir(name, dir_fd=base)
    finally:
        os.close(base)


def _empty(here: int, name: str) -> None:
    """Remove what is in the folder open as ``here``, which is closed."""
    trail = [_Level(name, _which(here), _without_files(here))]
    try:
        while trail:
            if trail[-1].below:
                inner = _opened(here, trail[-1].below.pop(), trail)
                if inner >= 0:
                    os.close(here)
                    here = inner
                continue
            done = trail.pop()
            if trail:
                outer = os.open("..", _FOLDER, dir_fd=here)
                os.close(here)
                here = outer
                if _which(here) != trail[-1].which:
                    raise OSError(
                        errno.EAGAIN, "a folder was moved while it was removed", done.name
                    )
                with contextlib.suppress(OSError):
                    os.rmdir(done.name, dir_fd=here)
    finally:
        os.close(here)


def _opened(here: int, name: str, trail: list[_Level]) -> int:
    """The folder ``name``, which the way goes through now; -1 where it is left as it is: closed to
    the caller, or another file system."""
    try:
        inner = os.open(name, _FOLDER, dir_fd=here)
    except OSError:
        return -1
    which = _which(inner)
    if which[0] != trail[0].which[0]:
        os.close(inner)
        return -1
    trail.append(_Level(name, which, _without_files(inner)))
    return inner


def _which(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def _without_files(folder: int) -> list[str]:
    """Remove what is no folder; the names of the folders."""
    with os.scandir(folder) as entries:
        names = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_folder in names:
        if not is_folder:
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=folder)
    return [name for name, is_folder in names if is_folder]
