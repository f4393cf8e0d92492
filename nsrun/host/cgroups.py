"""The hierarchies of control groups, and where in them a container's own is made.

Sources: cgroups(7), the kernel's Documentation/admin-guide/cgroup-v2.rst.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from types import MappingProxyType

from nsrun.host import procfs, subgroups
from nsrun.kernel.facts import CgroupFolder, Cgroups

_CONTROLLERS = ("cgroup.controllers", "cgroup.subtree_control")
# Seconds within which a start that has made a group holds it.
_JUST_MADE = 0.5
_CPUSET = ("cpuset.cpus", "cpuset.mems")


def look() -> Cgroups:
    """The caller's place in every hierarchy that is mounted, as it is now."""
    v2, v1 = _places()
    folders = {path: _v1(path) for path in v1.values()}
    return Cgroups(
        v2=_v2(v2) if v2 is not None else None,
        v1=MappingProxyType({name: folders[path] for name, path in v1.items()}),
    )


def files() -> Iterator[tuple[str, list[str]]]:
    """The folders of :func:`look`, and the files in each that its answer was read from."""
    v2, v1 = _places()
    if v2 is not None:
        yield v2, [f"{v2}/{name}" for name in _CONTROLLERS]
    for path in dict.fromkeys(v1.values()):
        yield path, [f"{path}/{name}" for name in _CPUSET if os.path.exists(f"{path}/{name}")]


def folders_of(process: int) -> list[str]:
    """The host's folders of the control groups of a process, in every hierarchy."""
    mounted = _mounted()
    found = []
    for key, path in _own(str(process)).items():
        place = _on_host(mounted, key, path)
        if place is not None and os.path.isdir(place):
            found.append(place)
    return list(dict.fromkeys(found))


def named(process: int, name: str) -> list[str]:
    """The folders of the groups called ``name`` that a process is in, or is below."""
    found = []
    for folder in folders_of(process):
        before, there, _ = f"{folder}/".rpartition(f"/{name}/")
        if there:
            found.append(f"{before}/{name}")
    return found


def may_be_in(process: int, name: str) -> bool:
    """Whether a process is in a group called ``name``, or below one; asks for no mounts."""
    lines = (procfs.read(f"/proc/{process}/cgroup") or "").split("\n")
    return any(f"/{name}/" in f"{line}/" for line in lines)


def unused_below(prefix: str) -> Iterator[str]:
    """The groups beside the caller's whose name begins so, which no start holds, with nobody in
    them or in those below them. Those that were made this moment are waited for."""
    v2, v1 = _places()
    found = []
    youngest = _JUST_MADE
    for place in dict.fromkeys((*([v2] if v2 is not None else []), *v1.values())):
        for name in sorted(os.listdir(place)):
            if not name.startswith(prefix):
                continue
            path = os.path.join(place, name)
            with contextlib.suppress(FileNotFoundError):
                youngest = min(youngest, subgroups.age(path))
                found.append(path)
    time.sleep(max(_JUST_MADE - max(youngest, 0), 0))
    yield from filter(subgroups.is_unused, found)


def _places() -> tuple[str | None, Mapping[str, str]]:
    """The folder for new groups of cgroup v2, and those of version 1 by controller."""
    mounted, own = _mounted(), _own("self")
    v1 = {}
    for key, path in own.items():
        place = _on_host(mounted, key, path)
        if key and not key.startswith("name=") and place is not None and os.path.isdir(place):
            v1.update(dict.fromkeys(key.split(","), place))
    return _beside(mounted.get(""), own.get("")), v1


def _beside(mounted: tuple[str, str] | None, own: str | None) -> str | None:
    """The folder above the caller's cgroup of version 2; the root's own is the root.

    Kernel: a cgroup with processes in it, but for the root, cannot give controllers on.
    """
    if mounted is None or own is None:
        return None
    place = _joined(mounted, own)
    if place is None or not os.path.isdir(place):
        return None
    is_root = not os.path.exists(f"{place}/cgroup.type")
    above = os.path.dirname(place)
    # In a cgroup namespace the caller's own may be the top of what is mounted.
    has_above = os.path.exists(f"{above}/cgroup.procs")
    return place if is_root or not has_above else above


def _own(process: str) -> dict[str, str]:
    """Controllers ("cpu,cpuacct", "" for version 2) to path, from /proc/PID/cgroup."""
    lines = (procfs.read(f"/proc/{process}/cgroup") or "").split("\n")
    fields = (line.split(":", 2) for line in lines if line.count(":") >= 2)
    return {controllers: path for _, controllers, path in fields}


def _mounted() -> dict[str, tuple[str, str]]:
    """Controllers ("" for version 2) to the root of the mount and where it is mounted."""
    found: dict[str, tuple[str, str]] = {}
    for line in procfs.mounts():
        if line.fstype == "cgroup2":
            found[""] = (line.root, line.target)
        elif line.fstype == "cgroup":
            for word in line.super_options:
                found[word] = (line.root, line.target)
    return found


def _on_host(mounted: Mapping[str, tuple[str, str]], key: str, path: str) -> str | None:
    mount = mounted.get(key.partition(",")[0])
    return _joined(mount, path) if mount is not None else None


def _joined(mount: tuple[str, str], path: str) -> str | None:
    """Where the cgroup ``path`` is seen; None where it lies outside of what is mounted."""
    root, target = mount
    inside = os.path.relpath(path, root)
    if inside == ".." or inside.startswith("../"):
        return None
    return os.path.normpath(os.path.join(target, inside))


def _v2(path: str) -> CgroupFolder:
    available, enabled = (
        frozenset((procfs.read(f"{path}/{name}") or "").split()) for name in _CONTROLLERS
    )
    return _folder(path, ("", "cgroup.procs", "cgroup.subtree_control"), available, enabled)


def _v1(path: str) -> CgroupFolder:
    return _folder(path, ("",), frozenset(), frozenset())


def _folder(
    path: str, written: tuple[str, ...], controllers: frozenset[str], enabled: frozenset[str]
) -> CgroupFolder:
    try:
        owner = os.stat(path).st_uid
    except OSError:
        owner = 0
    cpus, mems = ((procfs.read(f"{path}/{name}") or "").strip() for name in _CPUSET)
    return CgroupFolder(
        path=path,
        owner=owner,
        writable=all(os.access(os.path.join(path, name), os.W_OK) for name in written),
        controllers=controllers,
        enabled=enabled,
        cpus=cpus,
        mems=mems,
    )
