"""Failures that pass by themselves, and are waited out instead of told.

The kernel takes a network namespace down some time after its last process has ended; until then
the outer end of a pair is there, and its name is taken (EEXIST).
"""

from __future__ import annotations

import os
import socket
import time

from nsrun.plan.forwarding import MARKED, SHARED
from nsrun.plan.model import Placed, Plan, Track
from nsrun.plan.ops import Netlink
from nsrun.replay.outcome import Failure, Kind, Outcome

# cleanup_net() comes around within milliseconds, later under load. A name that is really taken
# is told of after this time, in seconds.
_PATIENCE = 1.0
_PAUSE = 0.005
_LINK_ADD = "rtnl link add "


def has_passed(plan: Plan, outcome: Outcome) -> bool:
    """Whether the run failed by what is over now, so that it may be replayed from its start."""
    failure = outcome.failure
    if failure is None or outcome.started or outcome.interrupted or outcome.undo_failures:
        return False
    placed = next((p for p in plan.track(failure.track) if p.index == failure.index), None)
    if placed is None or failure.track is not Track.PARENT:
        return False
    return _name_is_free_again(plan, placed, failure) or _mark_was_removed(placed, failure)


def _name_is_free_again(plan: Plan, placed: Placed, failure: Failure) -> bool:
    op = placed.op
    if not isinstance(op, Netlink) or failure.errno_name != "EEXIST":
        return False
    if not op.message.text.startswith(_LINK_ADD):
        return False
    name = op.message.text.removeprefix(_LINK_ADD).split()[0]
    deadline = time.monotonic() + _PATIENCE
    while _is_there(name):
        if _runs(plan.name) or time.monotonic() > deadline:
            return False
        time.sleep(_PAUSE)
    return not _runs(plan.name)


def _is_there(name: str) -> bool:
    try:
        socket.if_nametoindex(name)
    except OSError:
        return False
    return True


def _runs(container: str) -> bool:
    from nsrun.host import containers

    uid = os.getuid()
    return bool(containers.running((container,), containers.state_folder(uid, os.environ), uid))


def _mark_was_removed(placed: Placed, failure: Failure) -> bool:
    """The last user of a switch removed its mark, or the folder, just when this run came."""
    if failure.kind is Kind.EXPECT:
        return placed.action.what.endswith(MARKED)
    return failure.errno_name == "ENOENT" and placed.action.what.endswith(SHARED)
