"""Failures that pass by themselves, and are waited out instead of told.

The kernel takes a network namespace down some time after its last process has ended; until then
the outer end of a pair is there, and its name is taken (EEXIST).
"""

from __future__ import annotations

import os
import time

from nsrun.kernel.values import Call, Reg, Str
from nsrun.plan.forwarding import MARKED, SHARED
from nsrun.plan.model import Placed, Plan, Track
from nsrun.plan.ops import Netlink
from nsrun.replay.outcome import Failure, Kind, Outcome

# cleanup_net() comes around within milliseconds, later under load. A name that is really taken
# is told of after this time, in seconds.
_PATIENCE = 1.0
_PAUSE = 0.005
# A name that nobody has is refused all the same if it is the inner end's that is taken: what is
# replayed again and again without an end is told of. Counted in the environment, for the native
# executor becomes another program in between.
_REPLAYS_MAX = 10
_COUNT = "NSRUN_REPLAYS"
_LINK_ADD = "rtnl link add "


def has_passed(plan: Plan, outcome: Outcome) -> bool:
    """Whether the run failed by what is over now, so that it may be replayed from its start."""
    failure = outcome.failure
    if failure is None or outcome.started or outcome.interrupted or outcome.undo_failures:
        return False
    placed = next((p for p in plan.track(failure.track) if p.index == failure.index), None)
    if placed is None or failure.track is not Track.PARENT:
        return False
    told = os.environ.get(_COUNT, "")
    count = int(told) if told.isdecimal() else 0
    passed = _name_is_free_again(plan, placed, failure) or _mark_was_removed(placed, failure)
    if not passed or count >= _REPLAYS_MAX:
        return False
    os.environ[_COUNT] = str(count + 1)
    return True


def _name_is_free_again(plan: Plan, placed: Placed, failure: Failure) -> bool:
    op = placed.op
    if not isinstance(op, Netlink) or failure.errno_name != "EEXIST":
        return False
    if not op.message.text.startswith(_LINK_ADD):
        return False
    name = op.message.text.removeprefix(_LINK_ADD).split()[0]
    from nsrun.host import links

    place = _place(plan, placed, op.socket)
    deadline = time.monotonic() + _PATIENCE
    while links.is_there(name, place):
        if _runs(plan.name) or time.monotonic() > deadline:
            return False
        time.sleep(_PAUSE)
    return not _runs(plan.name)


def _place(plan: Plan, placed: Placed, rtnl: Reg) -> str | None:
    """The file of the network namespace that a socket was made in, None for the caller's own."""
    opened: dict[Reg, str] = {}
    there: str | None = None
    for step in plan.track(Track.PARENT)[: placed.index]:
        op = step.op
        if not isinstance(op, Call):
            continue
        if op.name == "openat" and op.save is not None and isinstance(op.args[1], Str):
            opened[op.save] = op.args[1].value
        elif op.name == "setns" and isinstance(op.args[0], Reg):
            there = opened.get(op.args[0])
        elif op.save == rtnl:
            return None if there == "/proc/self/ns/net" else there
    return None


def _runs(container: str) -> bool:
    from nsrun.host import containers

    uid = os.getuid()
    return bool(containers.running((container,), containers.state_folder(uid, os.environ), uid))


def _mark_was_removed(placed: Placed, failure: Failure) -> bool:
    """The last user of a switch removed its mark, or the folder, just when this run came."""
    if failure.kind is Kind.EXPECT:
        return placed.action.what.endswith(MARKED)
    return failure.errno_name == "ENOENT" and placed.action.what.endswith(SHARED)
