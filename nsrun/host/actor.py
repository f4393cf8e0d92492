"""As whom a failed step acted, in the host's ids, and what that may do with a file."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass

from nsrun.host import procfs, traced
from nsrun.host.hint import HintContext

_Lines = list[tuple[int, int, int]]


@dataclass(frozen=True, slots=True)
class Actor:
    """``shown``: the uid as the container has it. ``uids`` and ``gids``: the maps of the user
    namespace it holds capabilities in, None for the caller's own."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    shown: int
    capable: bool
    uids: _Lines | None = None
    gids: _Lines | None = None

    def may(self, status: os.stat_result, wanted: int) -> bool:
        """inode_permission of the kernel: the mode's bits, then CAP_DAC_OVERRIDE, which holds for
        files whose owner and group are mapped (user_namespaces(7)). ``wanted``: 1 enters or
        executes, 2 writes."""
        if self.uid == status.st_uid:
            shift = 6
        elif status.st_gid in (self.gid, *self.groups):
            shift = 3
        else:
            shift = 0
        if status.st_mode >> shift & wanted:
            return True
        return self.capable and self._holds(status)

    def _holds(self, status: os.stat_result) -> bool:
        if self.uids is None or self.gids is None:
            return True
        return _mapped(self.uids, status.st_uid) and _mapped(self.gids, status.st_gid)

    def __str__(self) -> str:
        if self.uids is None or self.shown == self.uid:
            inside = " in a new user namespace" if self.uids is not None else ""
            return f"uid {self.uid}{inside}"
        return f"uid {self.shown}, which is {self.uid} on the host,"


def _mapped(lines: _Lines, outside: int) -> bool:
    return any(first <= outside < first + size for _, first, size in lines)


def actor(context: HintContext) -> Actor:
    """Who replayed the failed step: the caller, until the run has taken other ids."""
    maps = dict(traced.id_maps(context))
    user = traced.new_user_namespace(context)
    uids = maps.get("uid", []) if user else None
    gids = maps.get("gid", []) if user else None
    taken = traced.final_ids(context)
    uid, gid = os.getuid(), os.getgid()
    if taken is not None:
        uid, gid = (
            found if (found := traced.to_host(context, kind, ident)) is not None else own
            for kind, ident, own in (("uid", taken[0], uid), ("gid", taken[1], gid))
        )
    return Actor(
        uid=uid,
        gid=gid,
        groups=() if traced.dropped_groups(context) else tuple(os.getgroups()),
        shown=taken[0] if taken is not None else uid,
        # CAP_DAC_OVERRIDE is 1 (linux/capability.h); a new user namespace gives all of them.
        capable=user or 1 in procfs.capabilities(),
        uids=uids,
        gids=gids,
    )


def owner_words(status: os.stat_result) -> str:
    """``mode 0700, owner 0:0``"""
    return f"mode 0{stat.S_IMODE(status.st_mode):o}, owner {status.st_uid}:{status.st_gid}"
