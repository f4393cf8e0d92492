"""A command that was ended by its own seccomp filter."""

from __future__ import annotations

import signal

from nsrun.diag import Diagnostic, Severity
from nsrun.kernel import abi, bpf, calls
from nsrun.kernel.abi import SeccompAction
from nsrun.kernel.values import Call
from nsrun.plan.model import Action, Plan, Track
from nsrun.plan.ops import LAST_CALLS
from nsrun.replay.outcome import Outcome

_ENDS = (
    SeccompAction.SECCOMP_RET_KILL_PROCESS,
    SeccompAction.SECCOMP_RET_KILL_THREAD,
    SeccompAction.SECCOMP_RET_TRAP,
)


def filtered(plan: Plan, outcome: Outcome) -> tuple[Action, Diagnostic] | None:
    """NS611 and the action that sets the filter, where SIGSYS has ended the command and a filter of
    the plan answers so (seccomp(2)); None where it has come from elsewhere."""
    if outcome.signal != signal.SIGSYS or outcome.interrupted:
        return None
    programs: list[bytes] = []
    setting = None
    for action in plan.actions:
        for op in action.steps:
            found = calls.seccomp_programs(op) if isinstance(op, Call) else []
            if any(bpf.actions(program) & set(_ENDS) for program, _ in found):
                setting = action
            programs += [program for program, _ in found]
    if setting is None:
        return None
    last = _last_call(plan)
    if last and _ends(plan, programs, last):
        summary = f"the seccomp filter has ended the command at its {last}: it was never executed"
        tip = f"a rule under `seccomp` that allows {last}"
    else:
        summary = "the seccomp filter has ended the command for a system call"
        tip = "`nsrun run --why` tells which call it was"
    return setting, Diagnostic(
        code="NS611",
        summary=summary,
        severity=Severity.WARNING,
        why=("it got SIGSYS, which the kernel sends for a call that the filter answers so",),
        help=(tip,),
    )


def _last_call(plan: Plan) -> str:
    names = [p.op.name for p in plan.track(Track.CHILD) if isinstance(p.op, Call)]
    return next((name for name in reversed(names) if name in LAST_CALLS), "")


def _ends(plan: Plan, programs: list[bytes], call: str) -> bool:
    """Whether the filters end whoever makes ``call``, whatever its arguments are."""
    architecture = bpf.ARCHITECTURES.get(plan.needs.machine)
    if architecture is None:
        return False
    try:
        number = abi.syscall_number(call, plan.needs.machine)
        answer = bpf.strictest(programs, architecture, number, ())
    except (abi.UnknownSyscallError, bpf.NotAFilterError):
        return False
    return answer & bpf.ACTION_MASK in _ENDS
