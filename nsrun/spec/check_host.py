"""Checks against the host's files: what is named has to be there, and be of its kind.

They look only: nothing is made, and a file whose folder the caller may not enter is left to
the planner, which knows as whom the container's root looks.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator

from nsrun.diag import Diagnostic
from nsrun.kernel.abi import CloneFlag, Ioctl
from nsrun.spec.checking import Problems, looks_at, problem
from nsrun.spec.model import NamespaceType, Spec
from nsrun.spec.words import did_you_mean, quote_path

_KINDS = {
    CloneFlag.CLONE_NEWUSER: NamespaceType.USER,
    CloneFlag.CLONE_NEWNS: NamespaceType.MOUNT,
    CloneFlag.CLONE_NEWPID: NamespaceType.PID,
    CloneFlag.CLONE_NEWNET: NamespaceType.NETWORK,
    CloneFlag.CLONE_NEWIPC: NamespaceType.IPC,
    CloneFlag.CLONE_NEWUTS: NamespaceType.UTS,
    CloneFlag.CLONE_NEWCGROUP: NamespaceType.CGROUP,
    CloneFlag.CLONE_NEWTIME: NamespaceType.TIME,
}


def _mode(path: str) -> int | None:
    """st_mode of the file at ``path``, 0 where there is none, None where that cannot be seen."""
    try:
        return os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return 0
    except (OSError, ValueError):
        return None


def _missing(spec: Spec, path: str, file: str) -> Diagnostic:
    folder = file
    while folder != "/" and _mode(os.path.dirname(folder)) == 0:
        folder = os.path.dirname(folder)
    parent, name = os.path.split(folder)
    try:
        near = did_you_mean(name, sorted(os.listdir(parent))[:1000])
    except OSError:
        near = ""
    label = f"{quote_path(folder)} is not there either" if folder != file else ""
    summary = f"{quote_path(file)} does not exist"
    return problem(spec, "NS305", path, summary, label=label, help=(near,))


def _folder(spec: Spec, path: str, file: str) -> Problems:
    mode = _mode(file)
    if mode == 0:
        yield _missing(spec, path, file)
    elif mode is not None and not stat.S_ISDIR(mode):
        yield problem(spec, "NS305", path, f"{quote_path(file)} is not a folder")


@looks_at("rootfs")
def rootfs_exists(spec: Spec) -> Problems:
    if spec.rootfs is None:
        return
    yield from _folder(spec, "rootfs.path", spec.rootfs.path)
    overlay = spec.rootfs.overlay
    if overlay is not None and overlay.upper is not None and overlay.work is not None:
        yield from _folder(spec, "rootfs.overlay.upper", overlay.upper)
        yield from _folder(spec, "rootfs.overlay.work", overlay.work)


@looks_at(each=("mounts",))
def sources_exist(spec: Spec) -> Problems:
    for mount in spec.mounts:
        path = f"{mount.path}.source"
        is_path = mount.type == "bind" or mount.source.startswith("/")
        if mount.source and is_path and not mount.optional and _mode(mount.source) == 0:
            yield _missing(spec, path, mount.source)
        folders = [(f"{mount.path}.lower[{i}]", lower) for i, lower in enumerate(mount.lower)]
        folders += [(f"{mount.path}.upper", mount.upper)] if mount.upper else []
        folders += [(f"{mount.path}.work", mount.work)] if mount.work else []
        for place, folder in folders:
            yield from _folder(spec, place, folder)


@looks_at("hooks")
def hooks_exist(spec: Spec) -> Problems:
    phases = {"prestart": spec.hooks.prestart, "poststart": spec.hooks.poststart,
              "poststop": spec.hooks.poststop}  # fmt: skip
    for phase, hooks in phases.items():
        for index, hook in enumerate(hooks):
            path = f"hooks.{phase}[{index}].path"
            mode = _mode(hook.path)
            if mode == 0:
                yield _missing(spec, path, hook.path)
            elif mode is not None and not (stat.S_ISREG(mode) and mode & 0o111):
                yield problem(spec, "NS305", path, f"{quote_path(hook.path)} is not a program")


@looks_at("namespaces")
def a_pin_can_be_made(spec: Spec) -> Problems:
    for index, namespace in enumerate(spec.namespaces):
        if namespace.pin is None:
            continue
        path = f"namespaces[{index}].pin"
        mode = _mode(namespace.pin)
        if mode == 0:
            yield from _folder(spec, path, os.path.dirname(namespace.pin))
        elif mode is not None and not stat.S_ISREG(mode):
            # The bind of a namespace's file needs a file under it (namespaces(7)).
            yield problem(
                spec,
                "NS318",
                path,
                f"{quote_path(namespace.pin)} is not a regular file",
                label="a namespace is kept by a bind mount on a file",
            )


@looks_at("namespaces")
def what_is_joined_is_of_its_kind(spec: Spec) -> Problems:
    for index, namespace in enumerate(spec.namespaces):
        if namespace.join_path is not None:
            yield from _joined(
                spec, f"namespaces[{index}].path", namespace.join_path, namespace.type
            )
        elif namespace.join_pid is not None and _mode(f"/proc/{namespace.join_pid}") == 0:
            yield problem(
                spec,
                "NS305",
                f"namespaces[{index}].pid",
                f"there is no process {namespace.join_pid}",
            )


def _joined(spec: Spec, path: str, file: str, wanted: NamespaceType) -> Iterator[Diagnostic]:
    if _mode(file) == 0:
        yield _missing(spec, path, file)
        return
    try:
        kind = namespace_kind(file)
    except OSError:
        return
    if kind is None:
        yield problem(
            spec,
            "NS309",
            path,
            f"{quote_path(file)} is not a namespace",
            label=f"{wanted.one} is to be joined here",
            help=("name /proc/PID/ns/..., or a file that a namespace is pinned on",),
        )
    elif kind != wanted:
        yield problem(
            spec,
            "NS309",
            path,
            f"{quote_path(file)} is {kind.one}",
            label=f"{wanted.one} is to be joined here",
            help=(f"write `type: {kind}`, or name another file",),
        )


def namespace_kind(path: str) -> NamespaceType | None:
    """The kind of the namespace that a file stands for, None for any other file.

    Raises OSError where the caller may not open it. Never waits: opened as O_PATH first, a
    FIFO or a device is recognized without being opened (open(2), ioctl_ns(2)).
    """
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(place).st_mode):
            return None
        fd = os.open(f"/proc/self/fd/{place}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    finally:
        os.close(place)
    try:
        return _KINDS.get(CloneFlag(fcntl.ioctl(fd, Ioctl.NS_GET_NSTYPE)))
    except OSError:
        # ENOTTY: a file that is not on nsfs.
        return None
    finally:
        os.close(fd)
