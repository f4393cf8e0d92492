"""What a plan depends on, looked at before the plan is made: the launcher compares it again.

Whatever nsrun.host.facts answers stands here too, by the identity of what it was read from. What
changes between the two looks makes the later comparison fail, never succeed.
"""

from __future__ import annotations

import os
import resource
import stat
import struct
import sys
from collections.abc import Iterable, Iterator, Mapping

from nsrun.host import cgroups, containers, forwarding, ids, paths, procfs
from nsrun.kernel.depend import CONTENT_MAX, IGNORED_BY_PYTHON, Depend, Kind, Mask
from nsrun.kernel.facts import Query

_LIMITS = 16
_STATUS_LINES = ("Uid", "Gid", "Groups", "CapPrm", "CapBnd", "NoNewPrivs")
# Read whole.
_CONTENTS = {
    "/proc/self/uid_map": "the caller's user namespace",
    "/proc/self/gid_map": "the caller's user namespace",
    "/proc/filesystems": "the file systems of the kernel",
    "/sys/devices/system/cpu/possible": "the processors of the machine",
    "/proc/sys/kernel/cap_last_cap": "the capabilities of the kernel",
}
_FILES = {
    "/etc/passwd": "the names of users",
    "/etc/subuid": "the subordinate user ids",
    "/etc/subgid": "the subordinate group ids",
}
# What the planner or a reader of specs looks at without being asked.
_VARIABLES = ("HOME", "PATH", "XDG_RUNTIME_DIR")
_WHOLE = Mask.IDENTITY | Mask.MODE | Mask.OWNER | Mask.CONTENT
_PLACE = Mask.IDENTITY | Mask.MODE | Mask.OWNER


def depends(
    query: Query,
    read: Iterable[tuple[str, os.stat_result | None]],
    environ: Mapping[str, str],
    variables: Iterable[str] = (),
) -> tuple[Depend, ...]:
    """All that the plan for ``query`` depends on, as it is now; ``read`` are the spec's files,
    with None for those that were not there, ``variables`` what it was given beside them."""
    return (
        *(_file(path, status) for path, status in read),
        *_machine(),
        *_caller(),
        *(_variable(name, environ) for name in (*_VARIABLES, *query.environment, *variables)),
        *(_stat(path, text, _WHOLE) for path, text in _FILES.items()),
        *_helpers(query.helpers, environ),
        *(_forwarding(query.bridges, environ) if query.forwarding else ()),
        *(_cgroups() if query.cgroups else ()),
        *(found for path in (*query.paths, *query.ways) for found in _path(path)),
        *_inside(query),
        *_program(),
    )


def compiled_depends(query: Query, kernel: tuple[int, int]) -> tuple[Depend, ...]:
    """What a plan needs that is carried to another machine: kinds and owners, not identities."""
    uname = os.uname()
    kind = Mask.TYPE | Mask.OWNER
    return (
        Depend(kind=Kind.MACHINE, text=f"a {uname.machine} machine", data=uname.machine.encode()),
        Depend(
            kind=Kind.KERNEL,
            text=f"Linux {kernel[0]}.{kernel[1]} or newer",
            dev_major=kernel[0],
            dev_minor=kernel[1],
        ),
        _lines("/proc/self/status", _STATUS_LINES[:5], "the same user, groups and capabilities"),
        *(_content(p, "the same user namespace") for p in list(_CONTENTS)[:2]),
        *(_stat(path, f"{path} as it was: {_shape(path)}", kind) for path in query.paths),
        *_inside(query, mask=int(Mask.TYPE)),
    )


def _shape(path: str) -> str:
    try:
        status = os.stat(path)
    except OSError:
        return "missing"
    what = "a folder" if stat.S_ISDIR(status.st_mode) else "a file"
    return f"{what} of {status.st_uid}:{status.st_gid}"


# --- the machine and the caller ----------------------------------------------------------------


def _machine() -> Iterator[Depend]:
    uname = os.uname()
    yield Depend(kind=Kind.RELEASE, text="the kernel's release", data=uname.release.encode())
    yield Depend(kind=Kind.MACHINE, text="the machine", data=uname.machine.encode())
    yield from (_content(path, text) for path, text in _CONTENTS.items())
    yield _stat("/sys/fs/cgroup", "the cgroup layout", _PLACE)


def _caller() -> Iterator[Depend]:
    yield _lines("/proc/self/status", _STATUS_LINES, "the caller's ids and capabilities")
    # Bit 0 of the mask is signal 1.
    ignored = sum(1 << bit for bit in procfs.bits(procfs.status().get("SigIgn", "")))
    yield Depend(
        kind=Kind.IGNORED,
        text="the ignored signals",
        path="/proc/self/status",
        ino=ignored | IGNORED_BY_PYTHON,
    )
    values: list[int] = []
    for number in range(_LIMITS):
        for limit in resource.getrlimit(number):
            values.append(limit & (2**64 - 1))
    packed = struct.pack(f"={2 * _LIMITS}Q", *values)
    yield Depend(kind=Kind.LIMITS, text="the resource limits", data=packed)


def _helpers(asked: tuple[str, ...], environ: Mapping[str, str]) -> Iterator[Depend]:
    """The programs that a plan may run: where they are found, and that they are nowhere before.

    Root writes its id maps itself.
    """
    folders = [f for f in environ.get("PATH", os.defpath).split(os.pathsep) if os.path.isabs(f)]
    maps = ("newuidmap", "newgidmap") if os.geteuid() != 0 else ()
    for name in (*maps, *asked):
        for folder in dict.fromkeys((*folders, *ids.HELPER_FOLDERS)):
            found = _stat(os.path.join(folder, name), f"where {name} is", _PLACE)
            yield found
            if not found.error:
                break


def _forwarding(bridges: tuple[str, ...], environ: Mapping[str, str]) -> Iterator[Depend]:
    """The ways out of the caller's network namespace, and what forwards through them."""
    contents, marks = forwarding.files(bridges, containers.state_folder(os.getuid(), environ))
    yield _stat("/proc/self/ns/net", "the caller's network namespace", Mask.IDENTITY)
    yield from (_content(path, "the ways out of the host, and what forwards") for path in contents)
    # Not their times: who shares one that is there writes nothing into it.
    yield from (_stat(path, "what running containers have switched on", _PLACE) for path in marks)


def _cgroups() -> Iterator[Depend]:
    """Where the container's control group is made, and what it can be given there."""
    yield _content("/proc/self/cgroup", "the caller's control group")
    for folder, contents in cgroups.files():
        yield _stat(folder, "where its control group is made", _PLACE)
        yield from (_content(path, "what a control group can be given") for path in contents)


def _program() -> Iterator[Depend]:
    """nsrun itself. In a checkout every module counts, for none of them is ever installed anew."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    files = [os.path.join(package, "__init__.py")]
    if os.path.exists(os.path.join(os.path.dirname(package), "pyproject.toml")):
        modules = [getattr(m, "__file__", None) for n, m in sys.modules.items() if _ours(n)]
        files += sorted(path for path in modules if path)
        schemas = os.path.join(os.path.dirname(package), "schemas")
        files += sorted(os.path.join(schemas, name) for name in _listed(schemas))
    for path in dict.fromkeys(files):
        yield _stat(path, "nsrun itself", _WHOLE)


def _ours(module: str) -> bool:
    return module.partition(".")[0] == "nsrun"


def _listed(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


# --- paths -------------------------------------------------------------------------------------


def _path(path: str) -> Iterator[Depend]:
    found = _stat(path, path, _PLACE)
    yield found
    if found.error:
        # Which part of it is missing: the first folder that is not there either.
        parent = os.path.dirname(path)
        while parent not in ("/", "") and not os.path.lexists(parent):
            yield _stat(parent, parent, _PLACE)
            parent = os.path.dirname(parent)


def _inside(query: Query, mask: int = int(_PLACE)) -> Iterator[Depend]:
    targets = dict.fromkeys((*query.targets, *(part for t in query.targets for part in _above(t))))
    if query.rootfs is None:
        yield from (_stat(target, target, mask) for target in targets)
        if query.users:
            yield from (
                _stat(p, f"the names in {p}", _WHOLE) for p in ("/etc/passwd", "/etc/group")
            )
        return
    try:
        root = os.open(query.rootfs, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except (OSError, ValueError):
        return
    try:
        for target in targets:
            yield _stat_inside(root, query.rootfs, target, mask)
        for name in ("/etc/passwd", "/etc/group") if query.users else ():
            yield _stat_inside(root, query.rootfs, name, _WHOLE)
    finally:
        os.close(root)


def _above(target: str) -> Iterator[str]:
    """The folders above a target: a missing one is made, another's symlink is followed."""
    parent = os.path.dirname(os.path.normpath(target))
    while parent not in ("/", ""):
        yield parent
        parent = os.path.dirname(parent)


def _stat(path: str, text: str, mask: int) -> Depend:
    try:
        status = os.stat(path)
    except OSError as error:
        return Depend(kind=Kind.STAT, text=text, path=path, error=error.errno or 0, mask=mask)
    except ValueError:  # a NUL inside: nothing of that name can ever be there
        return Depend(kind=Kind.STAT, text=text, path="/dev/null/", error=20, mask=mask)
    return _status(path, text, status, mask)


def _stat_inside(root: int, rootfs: str, target: str, mask: int) -> Depend:
    from nsrun.host.syscalls import open_inside

    text = f"{target} in {rootfs}"
    path = target.lstrip("/") or "."
    flags = os.O_PATH | (os.O_NOFOLLOW if mask & Mask.NOFOLLOW else 0)
    try:
        handle = open_inside(root, target, flags)
    except (OSError, ValueError) as error:
        if mask & Mask.NOFOLLOW or getattr(error, "errno", None) != 2:
            errno = getattr(error, "errno", 2)
            return Depend(kind=Kind.STAT, text=text, path=path, root=rootfs, error=errno, mask=mask)
        # A symlink to nothing is something that stands there.
        return _stat_inside(root, rootfs, target, mask | Mask.NOFOLLOW)
    try:
        return _status(path, text, os.fstat(handle), mask, rootfs)
    finally:
        os.close(handle)


def _file(path: str, status: os.stat_result | None) -> Depend:
    if status is None:
        return _stat(path, path, _WHOLE)
    return _status(path, path, status, _WHOLE)


def _status(path: str, text: str, status: os.stat_result, mask: int, root: str = "") -> Depend:
    return Depend(
        kind=Kind.STAT,
        text=text,
        path=path,
        root=root,
        mask=mask,
        ino=status.st_ino,
        size=status.st_size,
        mtime_ns=status.st_mtime_ns,
        ctime_ns=status.st_ctime_ns,
        dev_major=os.major(status.st_dev),
        dev_minor=os.minor(status.st_dev),
        mode=status.st_mode,
        uid=status.st_uid,
        gid=status.st_gid,
    )


# --- contents ----------------------------------------------------------------------------------


def _content(path: str, text: str) -> Depend:
    try:
        with open(path, "rb") as file:
            # One byte more than the launcher reads: what is larger is never the same.
            data = file.read(CONTENT_MAX + 1)
            return Depend(kind=Kind.CONTENT, text=text, path=path, data=data)
    except OSError as error:
        return Depend(kind=Kind.CONTENT, text=text, path=path, error=error.errno or 0)


def _lines(path: str, names: Iterable[str], text: str) -> Depend:
    wanted = tuple(name + ":" for name in names)
    lines = (paths.read_file(path) or "").split("\n")
    data = "\n".join(line for line in lines if line.startswith(wanted))
    return Depend(kind=Kind.LINES, text=text, path=path, data=data.encode())


def _variable(name: str, environ: Mapping[str, str]) -> Depend:
    value = environ.get(name)
    text = f"the variable {name}"
    if value is None:
        return Depend(kind=Kind.ENV, text=text, path=name, error=2)
    return Depend(kind=Kind.ENV, text=text, path=name, data=os.fsencode(value))
