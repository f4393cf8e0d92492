"""Whether the limits of a container's control group agree with each other."""

from __future__ import annotations

from nsrun.spec.checking import Problems, looks_at, problem
from nsrun.spec.model import Spec


@looks_at("resources")
def a_device_is_limited_once(spec: Spec) -> Problems:
    if spec.resources is None:
        return
    seen: set[str] = set()
    for limit in spec.resources.io:
        if limit.device in seen:
            yield problem(
                spec, "NS318", f"{limit.path}.device", f"`{limit.device}` is limited twice"
            )
        seen.add(limit.device)
        if (limit.read_bps, limit.write_bps, limit.read_iops, limit.write_iops) == (None,) * 4:
            yield problem(
                spec,
                "NS318",
                limit.path,
                f"nothing of `{limit.device}` is limited",
                help=("add `read_bps`, `write_bps`, `read_iops` or `write_iops`",),
            )
