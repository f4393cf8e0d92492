"""What a finished plan takes from the host: its sources and the programs it may execute."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from nsrun.kernel.abi import MountAttr
from nsrun.kernel.values import Bytes, Call, Str
from nsrun.plan.model import Plan, Track
from nsrun.plan.ops import Op


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSource:
    """A host path that a mount is taken from, who takes it, whether its ids are mapped, and the
    place in the spec that asked for it, "" where a rule did."""

    path: str
    track: Track
    idmapped: bool
    at: str


def host_sources(plan: Plan) -> Iterator[HostSource]:
    """The absolute paths of open_tree(2), in the plan's order."""
    for action in plan.actions:
        idmapped = any(_maps_ids(op) for op in action.steps)
        for op in action.steps:
            if isinstance(op, Call) and op.name == "open_tree":
                path = op.args[1]
                if isinstance(path, Str) and path.value.startswith("/"):
                    yield HostSource(
                        path=path.value,
                        track=action.track,
                        idmapped=idmapped,
                        at=action.origin.path,
                    )


def _maps_ids(op: Op) -> bool:
    if not isinstance(op, Call) or op.name != "mount_setattr":
        return False
    attr = op.args[3]
    # struct mount_attr of linux/mount.h begins with attr_set.
    bits = int.from_bytes(attr.value[:8], "little") if isinstance(attr, Bytes) else 0
    return bool(bits & MountAttr.MOUNT_ATTR_IDMAP)


def programs(plan: Plan) -> tuple[str, ...]:
    """The paths that are tried for the command, in their order."""
    return tuple(
        op.args[0].value
        for placed in plan.steps()
        if isinstance(op := placed.op, Call) and op.name == "execve" and isinstance(op.args[0], Str)
    )
