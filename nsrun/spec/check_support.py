"""Keys that the format has and that nsrun cannot do yet: refused, never ignored."""

from __future__ import annotations

from nsrun.spec.checking import Problems, looks_at, problem, written
from nsrun.spec.model import Spec

KEYS = ("devices",)


@looks_at()
def key_is_supported(spec: Spec) -> Problems:
    for key in written(spec, *KEYS):
        yield problem(
            spec,
            "NS205",
            key,
            f"`{key}` is not supported yet",
            label="this would be ignored",
            help=(f"remove `{key}`",),
            key=True,
        )
