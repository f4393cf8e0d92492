"""The amounts that a plan holds a container's control groups to, read back from its steps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from nsrun.kernel.values import Bytes, Call, Reg, Str
from nsrun.plan.model import Origin, Plan

# Of these the lowest counts of a group's own and of those above it (cgroup-v1/memory.rst,
# cgroup-v1/pids.rst, cgroup-v2.rst).
AMOUNTS = ("memory.limit_in_bytes", "memory.max", "pids.max")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedLimit:
    """``folder``: the host's folder of the group that the container's own is made in."""

    folder: str
    file: str
    value: int
    origin: Origin


def planned_limits(plan: Plan) -> Iterator[PlannedLimit]:
    """Each amount that is written to a group which the plan makes."""
    opened: dict[Reg, str] = {}
    written: dict[Reg, tuple[str, str]] = {}
    for placed in plan.steps():
        match placed.op:
            case Call(name="openat", args=(_, Str(value=path), *_), save=Reg() as save) if (
                path.startswith("/")
            ):
                opened[save] = path
            case Call(name="openat", args=(Reg() as at, Str(value=file), *_), save=Reg() as save):
                folder = opened.get(at, "")
                if file in AMOUNTS:
                    written[save] = (folder, file)
                elif folder:
                    # The group's own folder, in the one above it.
                    opened[save] = folder
            case Call(name="write", args=(Reg() as fd, Bytes(value=text), *_)) if fd in written:
                folder, file = written[fd]
                if folder and text.isdigit():
                    yield PlannedLimit(
                        folder=folder, file=file, value=int(text), origin=placed.action.origin
                    )
            case _:
                pass
