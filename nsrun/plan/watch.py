"""``nsrun run --why``: a process beside the container traces what becomes the command.

    child     prctl(PR_SET_DUMPABLE, 1) ── signal #watched ──▶ launcher ── spawn the tracer %child
    child     await #traced ◀───────────────────────────────── signal #traced

The tracer attaches while the child waits: before the capabilities, Landlock and the filter are
set, all of which it sees being set, and after every helper with rights of its own has run.
"""

from __future__ import annotations

from nsrun.kernel import abi, calls
from nsrun.kernel.values import Fmt, Int, Str
from nsrun.plan.draft import Draft
from nsrun.plan.launch import Launch
from nsrun.plan.ops import Signal, Spawn, Wait

_RULE = "--why"


def attach_tracer(draft: Draft, started: Launch, tracer: tuple[str, ...]) -> None:
    """``tracer``: the words of the program; the pid is put behind them."""
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
            argv=(*(Str(word) for word in tracer), Fmt((started.child,))),
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
