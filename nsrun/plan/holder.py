"""A user namespace that only lends its maps to an idmapped mount (mount_setattr(2)).

A process holds it until its file has been opened; it runs nothing and is ended again.
"""

from __future__ import annotations

import signal

from nsrun.kernel import abi, calls
from nsrun.kernel.abi import CloneFlag
from nsrun.kernel.facts import Facts
from nsrun.kernel.values import Int, Reg, RegKind
from nsrun.plan.draft import Draft
from nsrun.plan.identity import Maps, Writer
from nsrun.plan.launch import write_maps
from nsrun.plan.ops import Clone
from nsrun.spec.model import IdMap


def custom_owner(draft: Draft, facts: Facts, idmap: IdMap, at: str) -> Reg:
    """A process in a user namespace with these maps; returns its pid's register."""
    pid, pidfd = draft.reg("holder", RegKind.PID), draft.reg("holderfd")
    value = CloneFlag.CLONE_NEWUSER | CloneFlag.CLONE_PIDFD
    kill = calls.pidfd_send_signal(pidfd, Int(int(signal.SIGKILL), "SIGKILL"))
    draft.parent(
        "hold a user namespace with the mount's maps",
        Clone(
            flags=Int(int(value), abi.flag_text(int(value), CloneFlag)),
            exit_signal=Int(int(signal.SIGCHLD), "SIGCHLD"),
            pid=pid,
            pidfd=pidfd,
            hold=True,
        ),
        at=at,
        undo=(
            calls.allow(kill, accept=("ESRCH",)),
            calls.allow(calls.waitid_reap(pidfd), accept=("ECHILD",)),
        ),
    )
    maps = Maps(
        uid=idmap.uid,
        gid=idmap.gid,
        uid_writer=Writer.DIRECT,
        gid_writer=Writer.DIRECT,
        deny_setgroups=False,
    )
    write_maps(draft, facts, maps, pid)
    return pid
