"""``profile``: presets of the security settings. What a spec says itself counts more.

    strict   no capabilities; the root read-only, with empty /tmp and /run; nothing else written but
             what the mounts let it, signals and abstract sockets kept inside (Landlock); 1024
             processes, 1024 (4096) open files, no core files
    none     for experiments: every capability that the caller may give, no seccomp filter, nothing
             masked or read-only, execve gives what files say
"""

from __future__ import annotations

import dataclasses
from typing import Any

from nsrun.spec.model import (
    Capabilities,
    Landlock,
    Mount,
    Namespace,
    NamespaceType,
    Resources,
    Rlimit,
    Rootfs,
)

_PROCESSES = 1024
_LIMITS = (
    Rlimit(name="core", soft=0, hard=0),
    Rlimit(name="nofile", soft=1024, hard=4096),
)
_EMPTY = (("/tmp", "mode=1777"), ("/run", "mode=755"))


def apply(values: dict[str, Any], rootfs_says: bool) -> frozenset[str]:
    """Fill in what the profile of ``values``, fields of a Spec, sets beside them; the keys that it
    has set. ``rootfs_says``: the spec itself says whether the root is read-only."""
    match values.get("profile", "default"):
        case "strict":
            preset = _strict(values, rootfs_says)
        case "none":
            preset = _none()
        case _:
            return frozenset()
    merged = ("mounts", "rlimits", "rootfs", "resources")
    new = {key: value for key, value in preset.items() if key not in values or key in merged}
    values.update(new)
    return frozenset(new)


def _none() -> dict[str, Any]:
    return {
        "capabilities": Capabilities(base="all"),
        "no_new_privileges": False,
        "seccomp": "unconfined",
        "masked_paths": "none",
        "readonly_paths": "none",
    }


def _strict(values: dict[str, Any], rootfs_says: bool) -> dict[str, Any]:
    namespaces: tuple[Namespace, ...] = values.get("namespaces", ())
    new = {namespace.type for namespace in namespaces if not namespace.joined}
    mounts: tuple[Mount, ...] = values.get("mounts", ())
    preset: dict[str, Any] = {"capabilities": Capabilities(base="none")}
    if NamespaceType.MOUNT in new:
        preset["mounts"] = mounts = (*_empty(mounts), *mounts)
    rootfs: Rootfs | None = values.get("rootfs")
    if rootfs is not None and not rootfs_says:
        preset["rootfs"] = rootfs = dataclasses.replace(rootfs, readonly=True)
    written = [m.target for m in mounts if _is_written(m)]
    if rootfs is not None and not rootfs.readonly:
        written.append("/")
    preset["landlock"] = Landlock(write=tuple(dict.fromkeys(written)), scoped=True, required=True)
    limits: tuple[Rlimit, ...] = values.get("rlimits", ())
    wanted = list(_LIMITS)
    resources: Resources = values.get("resources") or Resources()
    if resources.pids is None:
        if NamespaceType.USER in new:
            # setrlimit(2): counted in the container's own user namespace, and free for anyone.
            wanted.append(Rlimit(name="nproc", soft=_PROCESSES, hard=_PROCESSES))
        else:
            preset["resources"] = dataclasses.replace(resources, pids=_PROCESSES)
    given = {limit.name for limit in limits}
    preset["rlimits"] = (*limits, *(limit for limit in wanted if limit.name not in given))
    return preset


def _empty(mounts: tuple[Mount, ...]) -> tuple[Mount, ...]:
    given = {mount.target.rstrip("/") for mount in mounts}
    return tuple(
        Mount(type="tmpfs", target=target, path="profile", options=("nosuid", "nodev", mode))
        for target, mode in _EMPTY
        if target not in given
    )


def _is_written(mount: Mount) -> bool:
    return mount.type != "umount" and not mount.readonly
