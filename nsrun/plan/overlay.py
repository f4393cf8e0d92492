"""Overlays: for the rootfs and as an entry of ``mounts``.

Source: Documentation/filesystems/overlayfs.rst. A layer is named by its host path where that
is short and plain, else by its descriptor below /proc/self/fd: fsconfig(2) takes at most 255
bytes, and ``:``, ``,`` and ``\\`` have a meaning in an overlay's options.
"""

from __future__ import annotations

import os.path
from dataclasses import dataclass

from nsrun.kernel import abi, calls
from nsrun.kernel.abi import MountAttr, MoveMountFlag, OpenFlag
from nsrun.kernel.values import Fmt, Reg
from nsrun.plan.draft import Draft
from nsrun.plan.identity import Identity
from nsrun.plan.labels import mount_context
from nsrun.plan.launch import Launch
from nsrun.plan.ops import Op
from nsrun.plan.sources import send_idmapped
from nsrun.plan.tree import Tree, unmount
from nsrun.spec.model import Mount, NamespaceType, Rootfs

_HANDLE = OpenFlag.O_PATH | OpenFlag.O_DIRECTORY | OpenFlag.O_CLOEXEC
Layer = str | Fmt


def is_plain(paths: list[str]) -> bool:
    """Whether layers can be named by their paths in one option."""
    joined = ":".join(paths)
    return (
        len(calls.os_bytes(joined)) <= abi.FSCONFIG_STRING_MAX
        and not any(set(path) & set(":,\\") for path in paths)
    )


def by_descriptor(fd: Reg, below: str = "") -> Fmt:
    return Fmt(("/proc/self/fd/", fd, f"/{below}" if below else ""))


def configure(
    draft: Draft, *, lower: list[Layer], upper: Layer | None, work: Layer | None,
    options: tuple[str, ...], name: str,
) -> tuple[Reg, list[Op]]:
    """fsopen(2) to fsmount(2) of an overlay; returns the detached mount's register."""
    context, mounted = draft.reg("overlay"), draft.reg(name)
    steps: list[Op] = [
        calls.fsopen("overlay", save=context),
        calls.fsconfig_string(context, "source", "overlay"),
        calls.fsconfig_string(context, "lowerdir", joined(lower)),
    ]
    if upper is not None and work is not None:
        steps.append(calls.fsconfig_string(context, "upperdir", upper))
        steps.append(calls.fsconfig_string(context, "workdir", work))
    if draft.spec.new(NamespaceType.USER) and upper is not None:
        # In a user namespace trusted.* attributes cannot be set; user.overlay.* can.
        options = (*options, "userxattr") if "userxattr" not in options else options
    steps += mount_context(draft, context, "overlay", options)
    steps += [filesystem_option(context, option) for option in options]
    steps += [
        calls.fsconfig_create(context),
        calls.fsmount(context, MountAttr(0), save=mounted),
        calls.close(context),
    ]
    return mounted, steps


def filesystem_option(context: Reg, option: str) -> Op:
    """One option of a file system: ``key=value`` or a bare flag."""
    key, equals, value = option.partition("=")
    if equals:
        return calls.fsconfig_string(context, key, value)
    return calls.fsconfig_flag(context, option)


def joined(layers: list[Layer]) -> str | Fmt:
    """``lowerdir``: the layers, uppermost first, with colons between."""
    parts: list[str | Reg] = []
    for number, layer in enumerate(layers):
        if number:
            parts.append(":")
        parts += list(layer.parts) if isinstance(layer, Fmt) else [layer]
    if all(isinstance(part, str) for part in parts):
        return "".join(str(part) for part in parts)
    return Fmt(tuple(parts))


def open_layers(draft: Draft, paths: list[str], at: str, what: str) -> list[Layer]:
    """Names for host folders, opened first where their paths cannot be written out."""
    if is_plain(paths):
        return list(paths)
    layers: list[Layer] = []
    for path in paths:
        fd = draft.reg("layer")
        draft.child(what.format(path), calls.openat(calls.CWD, path, _HANDLE, save=fd), at=at)
        layers.append(by_descriptor(fd))
    return layers


def mount_entry(
    draft: Draft, mount: Mount, options: tuple[str, ...]
) -> tuple[Reg, list[Op]]:
    """An entry of ``mounts`` with ``type: overlay``."""
    paths = [*mount.lower, *(p for p in (mount.upper, mount.work) if p is not None)]
    layers = open_layers(draft, paths, mount.path, "open the layer {}")
    count = len(mount.lower)
    upper, work = (layers[count], layers[count + 1]) if mount.upper else (None, None)
    return configure(
        draft,
        lower=layers[:count],
        upper=upper,
        work=work,
        options=options,
        name="m_overlay",
    )


@dataclass(frozen=True, slots=True)
class TakenLayers:
    """Idmapped trees of an entry's layers: each lower one, and the folder of upper and work."""

    lower: tuple[Reg, ...]
    upper: Reg | None


def take_layers(draft: Draft, launch: Launch, mount: Mount) -> TakenLayers:
    """Let the launcher map the layers' ids, so that the container's root owns them inside."""

    def take(path: str, name: str) -> Reg:
        return send_idmapped(
            draft,
            launch,
            path,
            owner=launch.child,
            recursive=False,
            name=name,
            at=mount.path,
        )

    lower = tuple(take(path, "lower") for path in mount.lower)
    if mount.upper is None or mount.work is None:
        return TakenLayers(lower, None)
    # Upper and work must lie in one mount, so the folder that holds both is taken.
    return TakenLayers(lower, take(os.path.commonpath((mount.upper, mount.work)), "layers"))


def taken_entry(
    draft: Draft, tree: Tree, mount: Mount, taken: TakenLayers, options: tuple[str, ...]
) -> tuple[Reg, list[Op]]:
    """An entry of ``mounts`` whose layers came from the launcher: detached trees, which the
    overlay finds only while they are attached somewhere."""
    scratch, steps = _scratch(draft, draft.spec.propagation == "rshared")
    trees = [(reg, str(number)) for number, reg in enumerate(taken.lower)]
    upper: Layer | None = None
    work: Layer | None = None
    if taken.upper is not None and mount.upper is not None and mount.work is not None:
        trees.append((taken.upper, "layers"))
        folder = os.path.commonpath((mount.upper, mount.work))
        upper, work = (
            by_descriptor(scratch, f"layers/{os.path.relpath(path, folder)}")
            for path in (mount.upper, mount.work)
        )
    for reg, name in trees:
        steps += [
            calls.mkdirat(scratch, name, 0o755),
            calls.move_mount(reg, "", scratch, name, MoveMountFlag.MOVE_MOUNT_F_EMPTY_PATH),
            calls.close(reg),
        ]
    lower: list[Layer] = [by_descriptor(scratch, str(n)) for n in range(len(taken.lower))]
    mounted, made = configure(
        draft, lower=lower, upper=upper, work=work, options=options, name="m_overlay"
    )
    return mounted, [*steps, *made, *unmount(tree, scratch), calls.close(scratch)]


def root_overlay(
    draft: Draft, identity: Identity, launch: Launch, taken: Reg, rootfs: Rootfs, *, shared: bool
) -> Reg:
    """The overlay on a rootfs; its scratch tmpfs is gone from the tree when it stands."""
    assert rootfs.overlay is not None
    upper: Layer
    work: Layer
    layers = None
    if not rootfs.overlay.ephemeral and identity.displaced and identity.maps is not None:
        layers = _take_layers(draft, launch, rootfs)
    scratch, steps = _scratch(draft, shared)
    steps.append(calls.mkdirat(scratch, "lower", 0o755))
    steps.append(
        calls.move_mount(taken, "", scratch, "lower", MoveMountFlag.MOVE_MOUNT_F_EMPTY_PATH)
    )
    lower: Layer = by_descriptor(scratch, "lower")
    if not identity.displaced and is_plain([rootfs.path]):
        lower = rootfs.path
    if rootfs.overlay.ephemeral:
        steps.append(calls.mkdirat(scratch, "upper", 0o755))
        steps.append(calls.mkdirat(scratch, "work", 0o755))
        upper, work = by_descriptor(scratch, "upper"), by_descriptor(scratch, "work")
    elif layers is not None:
        steps.append(calls.mkdirat(scratch, "layers", 0o755))
        steps.append(
            calls.move_mount(layers, "", scratch, "layers", MoveMountFlag.MOVE_MOUNT_F_EMPTY_PATH)
        )
        upper, work = (
            by_descriptor(scratch, f"layers/{os.path.relpath(path, _common(rootfs))}")
            for path in _upper_and_work(rootfs)
        )
    else:
        upper, work = open_layers(
            draft, list(_upper_and_work(rootfs)), "rootfs.overlay", "open the layer {}"
        )
    draft.child(
        "make scratch space for the overlay", *steps, at="rootfs.overlay", rule="rootfs.overlay"
    )
    root, made = configure(
        draft, lower=[lower], upper=upper, work=work, options=(), name="root"
    )
    draft.child(f"make an overlay on {rootfs.path}", *made, at="rootfs.overlay")
    draft.child(
        "take the scratch space out of sight",
        calls.fchdir(scratch),
        # The overlay holds its layers by private copies of their mounts.
        calls.umount2(".", abi.UmountFlag.MNT_DETACH),
        calls.close(scratch),
        at="rootfs.overlay",
    )
    return root


def _scratch(draft: Draft, shared: bool) -> tuple[Reg, list[Op]]:
    """A tmpfs over the old root: an upper layer must lie in a mount of this namespace."""
    context, scratch = draft.reg("tmpfs"), draft.reg("scratch")
    steps: list[Op] = []
    if shared:
        steps.append(calls.mount(None, "/", None, int(abi.MountFlag.MS_PRIVATE)))
    steps += [
        calls.fsopen("tmpfs", save=context),
        calls.fsconfig_string(context, "source", "nsrun"),
        calls.fsconfig_string(context, "mode", "0755"),
        *mount_context(draft, context, "tmpfs"),
        calls.fsconfig_create(context),
        calls.fsmount(context, MountAttr.MOUNT_ATTR_NODEV, save=scratch),
        calls.close(context),
        calls.move_mount(scratch, "", calls.CWD, "/", MoveMountFlag.MOVE_MOUNT_F_EMPTY_PATH),
    ]
    return scratch, steps


def _upper_and_work(rootfs: Rootfs) -> tuple[str, str]:
    overlay = rootfs.overlay
    assert overlay is not None and overlay.upper is not None and overlay.work is not None
    return (overlay.upper, overlay.work)


def _common(rootfs: Rootfs) -> str:
    return os.path.commonpath(_upper_and_work(rootfs))


def _take_layers(draft: Draft, launch: Launch, rootfs: Rootfs) -> Reg:
    """Upper and work, which must lie in one mount, as one idmapped tree: owned inside by the
    container's root, on disk by the caller."""
    return send_idmapped(
        draft,
        launch,
        _common(rootfs),
        owner=launch.child,
        recursive=False,
        name="layers",
        at="rootfs.overlay",
    )
