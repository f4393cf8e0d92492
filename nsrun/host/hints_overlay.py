"""Why an overlay cannot be made: its layers, as they lie on the host.

Source: fs/overlayfs/super.c, params.c and the kernel's Documentation/filesystems/overlayfs.rst.
"""

from __future__ import annotations

import os

from nsrun.host import procfs, traced
from nsrun.host.hint import Args, Hint, HintContext, text

# ovl_parse_layer: OVL_MAX_STACK
_LAYERS_MAX = 500


class _Layers:
    """The host paths of an overlay's layers; None where one has no path on the host."""

    def __init__(self, context: HintContext, args: Args) -> None:
        options = {**traced.options(context, text(args, 0)), text(args, 2): text(args, 3)}
        names = [name for name in options.get("lowerdir", "").split(":") if name]
        self.lower = [traced.host_path(context, name) for name in names]
        self.upper = self._one(context, options.get("upperdir", ""))
        self.work = self._one(context, options.get("workdir", ""))

    @staticmethod
    def _one(context: HintContext, name: str) -> str | None:
        return traced.host_path(context, name) if name else None


def cannot_be_made(args: Args, context: HintContext) -> Hint | None:
    """fsconfig(2) of an overlay, at an option or when it is made."""
    step = traced.made_by(context, text(args, 0))
    if step is None or step[0] != "fsopen" or text(step[1], 0) != "overlay":
        return None
    layers = _Layers(context, args)
    for cause in _CAUSES:
        found = cause(layers)
        if found is not None:
            return found
    return None


def _same_or_inside(inner: str, outer: str) -> bool:
    """Whether one folder is the other or lies in it, however it is written."""
    inner, outer = os.path.realpath(inner), os.path.realpath(outer)
    return os.path.commonpath((inner, outer)) == outer


def _one_in_the_other(layers: _Layers) -> Hint | None:
    upper, work = layers.upper, layers.work
    if upper is None or work is None:
        return None
    for inner, outer in ((work, upper), (upper, work)):
        if _same_or_inside(inner, outer):
            return Hint(
                (f"{inner} lies in {outer}: upper and work must be beside each other",),
                ("name two folders, neither of which holds the other",),
            )
    return None


def _two_mounts(layers: _Layers) -> Hint | None:
    upper, work = layers.upper, layers.work
    if upper is None or work is None:
        return None
    first, second = procfs.mount_of(upper), procfs.mount_of(work)
    if first is None or second is None or first.ident == second.ident:
        return None
    return Hint(
        (f"upper lies on {first.target} ({first.fstype}), work on {second.target} "
         f"({second.fstype}): they must be on one mount",),
        (f"make the work folder beside {upper}",),
    )  # fmt: skip


def _upper_is_an_overlay(layers: _Layers) -> Hint | None:
    mount = procfs.mount_of(layers.upper) if layers.upper is not None else None
    if mount is None or mount.fstype != "overlay":
        return None
    return Hint(
        (f"{layers.upper} lies on an overlay ({mount.target}), which can be no upper layer",),
        ("take upper and work from another file system, for example a tmpfs",),
    )


def _upper_is_read_only(layers: _Layers) -> Hint | None:
    mount = procfs.mount_of(layers.upper) if layers.upper is not None else None
    if mount is None or not mount.readonly:
        return None
    return Hint((f"{layers.upper} lies on {mount.target}, which is mounted read-only",))


def _a_lower_layer_in_upper(layers: _Layers) -> Hint | None:
    """ovl_check_layer: a lower layer must not lie in what the overlay itself writes to."""
    for name, path in (("upper", layers.upper), ("work", layers.work)):
        for lower in layers.lower:
            if path is not None and lower is not None and _same_or_inside(lower, path):
                return Hint(
                    (f"the lower layer {lower} lies in {name} ({path})",),
                    ("take upper and work from outside of every lower layer",),
                )
    return None


def _volatile_before(layers: _Layers) -> Hint | None:
    """overlayfs.rst, volatile mount: the mark stays so that what was lost is not used again."""
    mark = f"{layers.work}/work/incompat/volatile"
    if layers.work is None or not os.path.isdir(mark):
        return None
    return Hint(
        (f"{mark} is there: an overlay with `volatile` has been made of these folders before",),
        (f"empty {layers.work}, and {layers.upper} as well if its content may be incomplete",),
    )


def _in_use(layers: _Layers) -> Hint | None:
    for mount in procfs.mounts():
        if mount.fstype != "overlay":
            continue
        for option in mount.super_options:
            key, _, value = option.partition("=")
            path = {"upperdir": layers.upper, "workdir": layers.work}.get(key)
            if path is not None and os.path.realpath(value) == os.path.realpath(path):
                return Hint(
                    (f"{path} is the {key} of the overlay on {mount.target} already",),
                    (f"unmount {mount.target}, or name other folders",),
                )
    return None


def _too_many(layers: _Layers) -> Hint | None:
    count = len(layers.lower)
    if count <= _LAYERS_MAX:
        return None
    return Hint((f"{count} lower layers: the kernel takes {_LAYERS_MAX}",))


_CAUSES = (
    _too_many,
    _one_in_the_other,
    _two_mounts,
    _upper_is_an_overlay,
    _upper_is_read_only,
    _a_lower_layer_in_upper,
    _volatile_before,
    _in_use,
)
