"""File systems, paths and programs that are not there for the container."""

from __future__ import annotations

import os
from collections.abc import Mapping
from errno import EACCES, ENODEV, ENOENT, ENOTDIR, EPERM, errorcode

from nsrun.host import hints, trial
from nsrun.host.hint import HintContext, Replayed
from nsrun.host.syscalls import open_inside
from nsrun.kernel.abi import CloneFlag
from nsrun.plan.model import Track
from nsrun.plan.options import parse
from nsrun.plan.reads import host_sources, programs
from nsrun.runtime.subject import Problems, Subject
from nsrun.spec.model import NamespaceType

_NO_FILE_SYSTEM = frozenset({"", "bind", "umount"})


def file_systems_can_be_mounted(subject: Subject) -> Problems:
    if not subject.may_try or not subject.spec.new(NamespaceType.MOUNT):
        return
    rootfs = subject.spec.rootfs
    wanted: list[tuple[str, str, tuple[str, ...]]] = [
        (m.type, f"{m.path}.type", parse(m.options).filesystem if m.type == "cgroup" else ())
        for m in subject.spec.mounts
        if not m.remount
    ]
    if rootfs is not None and rootfs.overlay is not None:
        wanted.append(("overlay", "rootfs.overlay", ()))
    for fstype, at, options in wanted:
        if fstype in _NO_FILE_SYSTEM:
            continue
        # Only a hierarchy of control groups is another one by its options.
        pairs = {key: value for key, _, value in (word.partition("=") for word in options)}
        errno = trial.errno_of(trial.make_filesystem(fstype, pairs), subject.new_flags)
        if errno == EPERM:
            why, tips = _not_mountable(subject, fstype, pairs)
            summary = f"{fstype} cannot be mounted in these namespaces"
            yield subject.problem("NS402", summary, at, why=why, help=tips, errno=errno)
        elif errno == ENODEV:
            why, tips = hints.explain("fsopen", "ENODEV", (fstype,))
            summary = f"this kernel has no file system {fstype}"
            yield subject.problem("NS401", summary, at, why=why, help=tips)


def _not_mountable(
    subject: Subject, fstype: str, options: Mapping[str, str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if not subject.user_flag:
        return ("it needs CAP_SYS_ADMIN in the initial user namespace",), ()
    steps: list[Replayed] = [("clone3", (subject.new_flags,), ""), ("fsopen", (fstype,), "%fs")]
    steps += [("fsconfig", ("%fs", 0, key, value), "") for key, value in options.items()]
    return hints.explain("fsconfig", "EPERM", ("%fs",), HintContext(before=tuple(steps)))


def sources_can_be_reached(subject: Subject) -> Problems:
    """A folder on the way may be closed to the container's root: in a user namespace even host
    root has no right over what others own (user_namespaces(7))."""
    seen: set[str] = set()
    made: list[str] = []
    mounts = {m.path: m.target.rstrip("/") + "/" for m in subject.spec.mounts}
    for source in host_sources(subject.plan) if subject.plan is not None else ():
        # What an earlier entry has mounted there is not there yet.
        hidden = any((source.path + "/").startswith(target) for target in made)
        if source.at in mounts:
            made.append(mounts[source.at])
        if not source.at or hidden or source.path in seen:
            continue
        seen.add(source.path)
        inside = subject.user_flag if source.track is Track.CHILD else 0
        if trial.errno_of(trial.look_at(source.path), inside) == EACCES:
            why, tips = hints.explain("open_tree", "EACCES", ("AT_FDCWD", source.path))
            summary = f"cannot reach {source.path}"
            yield subject.problem("NS402", summary, source.at, why=why, help=tips, errno=EACCES)


def mounts_can_be_idmapped(subject: Subject) -> Problems:
    """The plan maps ids of mounts only for a caller who may (mount_setattr(2))."""
    for source in host_sources(subject.plan) if subject.plan is not None else ():
        errno = trial.map_ids_of(source.path) if source.idmapped else None
        if errno:
            why, tips = hints.explain("idmap", errorcode.get(errno, ""), (source.path,))
            summary = f"the ids of {source.path} cannot be mapped"
            yield subject.problem("NS401", summary, source.at, why=why, help=tips, errno=errno)


def sysctls_are_there(subject: Subject) -> Problems:
    keys = tuple(subject.spec.sysctl)
    if not keys or not subject.may_try:
        return
    # /proc/sys shows the network namespace of the process that looks (proc_sys_net(5)).
    flags = subject.new_flags & ~int(CloneFlag.CLONE_NEWPID)
    for key in keys:
        path = "/proc/sys/" + key.replace(".", "/")
        if trial.errno_of(trial.look_at(path), flags) == ENOENT:
            why, tips = hints.explain("openat2", "ENOENT", ("AT_FDCWD", path))
            summary = f"this kernel has no sysctl {key}"
            yield subject.problem("NS401", summary, f'sysctl["{key}"]', why=why, help=tips)


def command_is_there(subject: Subject) -> Problems:
    """Only where nothing is mounted over the folders that are searched."""
    spec = subject.spec
    mount = spec.namespace(NamespaceType.MOUNT)
    if subject.plan is None or (mount is not None and mount.joined):
        return
    tried = programs(subject.plan)
    rootfs = spec.rootfs.path if spec.rootfs is not None else None
    targets = [*(m.target for m in spec.mounts), *(f.target for f in spec.files), "/proc", "/dev"]
    if not tried or any(_may_be_there(rootfs, path, targets) for path in tried):
        return
    before = tuple(("execve", (path,), "") for path in tried[:-1])
    context = HintContext(rootfs=rootfs, before=before)
    why, tips = hints.explain("execve", "ENOENT", (tried[-1],), context)
    yield subject.problem("NS601", f"{spec.command[0]} is not there", "command", why=why, help=tips)


def _may_be_there(rootfs: str | None, path: str, targets: list[str]) -> bool:
    if not path.startswith("/") or any(path.startswith(t.rstrip("/") + "/") for t in targets):
        return True
    try:
        root = os.open(rootfs or "/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return True
    try:
        os.close(open_inside(root, path))
    except OSError as error:
        return error.errno not in (ENOENT, ENOTDIR)
    finally:
        os.close(root)
    return True
