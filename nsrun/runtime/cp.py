"""Copying into and out of a running container, by a process in its user namespace.

That process has the container's ids and rights over its files, and no others: it opens paths from
the container's root alone (openat2(2), RESOLVE_IN_ROOT). It runs nothing of the container's, and
the two halves know of each other only a tar stream.
"""

from __future__ import annotations

import os
import shutil
import stat
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO

from nsrun.diag import Diagnostic, NsrunError
from nsrun.host.syscalls import not_dumpable, open_inside, syscall
from nsrun.runtime import copying
from nsrun.runtime.copying import CopyError, Target
from nsrun.runtime.store import Container

# linux/sched.h
_CLONE_NEWUSER = 0x10000000
_FAULTS = (OSError, CopyError, tarfile.TarError, ValueError)
_TOLD = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """``owned``: with owners (-a); ``follow``: a symlink that is named is followed (-L)."""

    owned: bool = False
    follow: bool = False


def copy_out(container: Container, path: str, local: str, stream: IO[bytes], how: Manner) -> None:
    """``local`` ``-``: the tar goes to ``stream``. Raises NsrunError."""
    ours, theirs = os.pipe()

    def work(root: int) -> None:
        os.close(ours)
        with open(theirs, "wb") as out:
            handle = open_inside(root, path, _flags(how))
            copying.pack(handle, _name(path), out)

    with _helper(container, path, work):
        os.close(theirs)
        with open(ours, "rb") as data:
            if local == "-":
                shutil.copyfileobj(data, stream)
                return
            with tarfile.open(fileobj=data, mode="r|") as tar:
                first = tar.next()
                to = _target(os.open, local, first, path)
                copying.unpack(tar, first, to, how.owned)
            # A pipe that is closed while somebody writes is an error there.
            while data.read(_TOLD):
                pass


def copy_in(container: Container, local: str, path: str, stream: IO[bytes], how: Manner) -> None:
    """``local`` ``-``: a tar comes from ``stream``. Raises NsrunError."""
    ours, theirs = os.pipe()

    def work(root: int) -> None:
        os.close(theirs)

        def inside(name: str, flags: int) -> int:
            return open_inside(root, name, flags)

        with open(ours, "rb") as data, tarfile.open(fileobj=data, mode="r|*") as tar:
            if local == "-":
                first = tar.next()
                to = Target(inside(path, os.O_PATH | os.O_DIRECTORY), None)
            else:
                first = tar.next()
                to = _target(inside, path, first, local)
            copying.unpack(tar, first, to, how.owned)

    with _helper(container, path, work):
        os.close(ours)
        with open(theirs, "wb") as out:
            if local == "-":
                shutil.copyfileobj(stream, out)
            else:
                handle = os.open(local, _flags(how) | os.O_CLOEXEC)
                copying.pack(handle, _name(local), out)


def _flags(how: Manner) -> int:
    return os.O_PATH if how.follow else os.O_PATH | os.O_NOFOLLOW


def _name(path: str) -> str:
    name = os.path.basename(os.path.normpath(path))
    return name if name not in ("", ".", "..") else "root"


def _target(
    opened: Callable[[str, int], int], path: str, first: tarfile.TarInfo | None, source: str
) -> Target:
    """As `docker cp` has it: into a folder that is there, else under the name that is given."""
    if first is None:
        raise CopyError("there is nothing to copy")
    above, name = os.path.split(path.rstrip("/"))
    above = above or ("/" if path.startswith("/") else ".")
    try:
        handle = opened(path, os.O_PATH)
    except FileNotFoundError:
        if (path.endswith("/") and not first.isdir()) or name in ("", ".", ".."):
            raise CopyError(f"there is no folder {path}") from None
        return Target(opened(above, os.O_PATH | os.O_DIRECTORY), name)
    status = os.fstat(handle)
    if stat.S_ISDIR(status.st_mode):
        contents = first.isdir() and (source.endswith("/.") or source in (".", "/"))
        return Target(handle, "" if contents else _name(source))
    if first.isdir() or not stat.S_ISREG(status.st_mode):
        raise CopyError(f"{path} is there already, and no folder")
    return Target(opened(above, os.O_PATH | os.O_DIRECTORY), name, handle)


@contextmanager
def _helper(container: Container, path: str, work: Callable[[int], None]) -> Iterator[None]:
    """Do ``work`` with a descriptor of the container's root, beside the block."""
    said, says = os.pipe()
    name = container.record.name
    try:
        root = os.open(f"/proc/{container.pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise _failed(f"the files of {name} cannot be reached: {error.strerror}") from None
    child = os.fork()
    if child == 0:
        _be_helper(container.pid, root, says, work)
    os.close(says)
    os.close(root)
    problem = ""
    try:
        yield
    except _FAULTS as error:
        problem = _words(error)
    finally:
        with open(said, "rb") as pipe:
            words = pipe.read(_TOLD).decode("utf-8", "replace")
        _, status = os.waitpid(child, 0)
    # What is wrong here may be but what its end has made of the stream.
    if words or status or problem:
        raise _failed(f"cannot copy {name}:{path}: {words or problem or 'its helper was killed'}")


def _be_helper(pid: int, root: int, says: int, work: Callable[[int], None]) -> None:
    code = 1
    try:
        _enter(pid)
        os.umask(0o022)
        work(root)
        code = 0
    except _FAULTS as error:
        os.write(says, _words(error).encode("utf-8", "replace")[:_TOLD])
    finally:
        os._exit(code)


def _enter(pid: int) -> None:
    """Its user namespace, where it has one of its own, as root of that.

    The helper sees the host's files: whoever could trace it in there were out (CVE-2016-9962).
    """
    not_dumpable()
    theirs = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    if os.path.sameopenfile(theirs, os.open("/proc/self/ns/user", os.O_RDONLY | os.O_CLOEXEC)):
        return
    syscall("setns", theirs, _CLONE_NEWUSER)
    # setgroups is denied where one id alone is mapped without a helper's privilege.
    with suppress(OSError):
        os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def _words(error: BaseException) -> str:
    if isinstance(error, OSError):
        where = f": {error.filename}" if error.filename else ""
        return f"{error.strerror}{where}"
    return str(error)


def _failed(summary: str) -> NsrunError:
    return NsrunError(Diagnostic(code="NS503", summary=summary))
