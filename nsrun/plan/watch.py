"""``nsrun run --why``: a process beside the container traces what becomes the command.

    child     prctl(PR_SET_DUMPABLE, 1) ── signal #watched ──▶ launcher ── spawn the tracer %child
    child     await #traced ◀───────────────────────────────── signal #traced

The tracer attaches while the child waits: before the capabilities, Landlock and the filter are
set, all of which it sees being set, and after every helper with rights of its own has run.

A process that joins namespaces must be closed to those who are in them (CVE-2016-9962), and is then
closed to the tracer of an ordinary user as well, who keeps what it traces already (ptrace(2)). So
there the tracer attaches before the first join, and is told by a file of the walls that the plan
sets; what the command does after its execve it reads like any other's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsrun.kernel import abi, calls
from nsrun.kernel.values import Fmt, Int, Reg, Str
from nsrun.plan.draft import Draft
from nsrun.plan.ops import Signal, Spawn, Wait

if TYPE_CHECKING:
    from nsrun.plan.launch import Launch

_RULE = "--why"


def attach_tracer(
    draft: Draft, started: Launch, tracer: tuple[str, ...], process: Reg | None = None
) -> None:
    """``tracer``: the words of the program; the pid is put behind them. ``process``: what is to be
    traced while it is open still, None for the command's process, which is to be opened."""
    if process is None:
        be_readable(draft)
    draft.child(
        "let the tracer attach",
        Signal(sync="watched", channel=started.inner),
        Wait(sync="traced", channel=started.inner),
        rule=_RULE,
    )
    draft.parent(
        "trace the refused calls of the command",
        Wait(sync="watched", channel=started.outer, signals=started.signals),
        Spawn(
            argv=(*(Str(word) for word in tracer), Fmt((process or started.child,))),
            env=("PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"),
        ),
        Signal(sync="traced", channel=started.outer),
        rule=_RULE,
    )


def be_readable(draft: Draft) -> None:
    """ptrace(2): without CAP_SYS_PTRACE over the host, a tracer reads only what is dumpable; a
    change of ids takes that away."""
    draft.child(
        "be readable to the tracer",
        calls.prctl(abi.Prctl.PR_SET_DUMPABLE, Int(1)),
        rule=_RULE,
    )
