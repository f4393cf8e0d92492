"""From a spec to its end: facts are gathered, a plan is made and proved, and it is replayed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NoReturn

from nsrun.diag import Diagnostic, NsrunError
from nsrun.kernel.abi import CloneFlag
from nsrun.kernel.calls import seccomp_programs
from nsrun.kernel.values import Call, Int, Reg, Str
from nsrun.plan.model import Plan
from nsrun.spec.model import Spec

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nsrun.host.hint import HintContext
    from nsrun.kernel.depend import Depend
    from nsrun.replay.outcome import Outcome


def plan_for(spec: Spec) -> Plan:
    """The plan of ``spec`` for this machine and caller; nothing is made.

    Raises NsrunError where the machine or the caller cannot do what the spec asks.
    """
    from nsrun.host.facts import gather
    from nsrun.plan.build import plan, wanted

    return plan(spec, gather(wanted(spec)))


def plan_to_keep(
    spec: Spec,
    read: Iterable[tuple[str, os.stat_result | None]],
    variables: Iterable[str] = (),
) -> tuple[Plan, tuple[Depend, ...] | None]:
    """As :func:`plan_for`, and what the plan depends on; ``read`` are the files of the spec
    (with None for one that was not there), ``variables`` those that a template was given.

    None where it depends on what no look at the host can tell again: other processes, the state of
    an interface, or an input that is no file.
    """
    from nsrun.host.depends import depends
    from nsrun.host.facts import gather
    from nsrun.plan.build import plan, wanted

    query = wanted(spec)
    files = tuple(read)
    # What changes between this look and the facts makes the plan's entry stale, not wrong.
    passing = query.containers or query.pids or query.physical
    lasting = not (passing or any(path == "-" for path, _ in files))
    found = depends(query, files, os.environ, variables) if lasting else None
    return plan(spec, gather(query)), found


def hint_context(plan: Plan) -> HintContext:
    """What the explainers of a failed step have to know of the run, as its plan shows it."""
    from nsrun.host.hint import HintContext
    from nsrun.plan.planned_limits import planned_limits

    return HintContext(
        name=plan.name,
        rootfs=_rootfs(plan),
        pid_namespace=_joined_pid_namespace(plan),
        limits=tuple((limit.folder, limit.file, limit.value) for limit in planned_limits(plan)),
        filters=tuple(
            program
            for placed in plan.steps()
            if isinstance(placed.op, Call)
            for program, _ in seccomp_programs(placed.op)
        ),
    )


def _rootfs(plan: Plan) -> str | None:
    for placed in plan.steps():
        op = placed.op
        if placed.action.origin.path != "rootfs" or not isinstance(op, Call):
            continue
        if op.name == "open_tree":
            return next((arg.value for arg in op.args if isinstance(arg, Str)), None)
    return None


def _joined_pid_namespace(plan: Plan) -> str | None:
    """The file that the setns(2) of a pid namespace was opened from."""
    files: dict[Reg, str] = {}
    for placed in plan.steps():
        op = placed.op
        if not isinstance(op, Call):
            continue
        for arg in op.args:
            if op.save is not None and isinstance(arg, Str):
                files[op.save] = arg.value
        if op.name == "setns" and isinstance(op.args[0], Reg):
            kind = op.args[1]
            if isinstance(kind, Int) and kind.value == CloneFlag.CLONE_NEWPID:
                return files.get(op.args[0])
    return None


def unpin_plan(path: str) -> Plan:
    """The plan that lets go of the namespace pinned on the host file ``path``.

    Raises NsrunError where nothing is pinned there.
    """
    from nsrun.host.facts import gather
    from nsrun.kernel.facts import Query
    from nsrun.plan.unpin import plan_unpin

    path = os.path.abspath(path)
    return plan_unpin(path, gather(Query(paths=(path,))))


def replay_plan(plan: Plan) -> Outcome:
    """Replay a verified plan to its end.

    The command inherits descriptors 0 to 2, so what Python has buffered for them goes out first.
    """
    import sys

    from nsrun.replay.engine import replay

    sys.stdout.flush()
    sys.stderr.flush()
    return replay(plan)


def end_by_signal(outcome: Outcome) -> None:
    """End this process by the signal that has ended the command: so a monitor, whose child it is,
    tells SIGKILL from an exit status of 137. Returns where none has."""
    import contextlib
    import signal
    import sys

    from nsrun.host.syscalls import not_dumpable

    number = outcome.signal
    if not outcome.started or number is None or outcome.status != 128 + number:
        return
    sys.stdout.flush()
    sys.stderr.flush()
    # core(5): the command has left its own, if it was to; of this process there is none.
    with contextlib.suppress(OSError):
        not_dumpable()
    # Of SIGKILL none can be set, and glibc keeps two to itself.
    with contextlib.suppress(OSError, ValueError):
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    with contextlib.suppress(OSError, ValueError):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})


def joins(plan: Plan) -> bool:
    """Whether it enters what other processes are in, who may look at it there."""
    kinds = CloneFlag.CLONE_NEWUSER | CloneFlag.CLONE_NEWNS | CloneFlag.CLONE_NEWPID
    return any(
        isinstance(placed.op, Call)
        and placed.op.name == "setns"
        and isinstance(kind := placed.op.args[1], Int)
        and bool(kind.value & kinds)
        for placed in plan.steps()
    )


def become_sealed(
    plan: Plan, program: str | None, *, trace: bool = False, monitor: int = 0
) -> NoReturn:
    """Replay ``plan`` in this process's place, as a program that nobody can write to.

    ``program``: the native one, None for Python; ``monitor``: its pid, 0 where there is none.
    Raises NsrunError (NS411) where there can be no such program.
    """
    import sys

    from nsrun.plan.binary import encode
    from nsrun.replay import native

    sys.stdout.flush()
    sys.stderr.flush()
    copy = sealed(program or sys.executable)
    try:
        if program is not None:
            native.become(copy, plan, trace=trace)
        fd = native.memory_file("plan", encode(plan))
        words = ["@replay", str(fd), str(monitor), "T" if trace else "-"]
        # By its path Python finds what is installed with it.
        os.execve(copy, [sys.executable, "-P", "-m", "nsrun", *words], os.environ)
    except OSError as error:
        raise _not_sealed(error) from None


def sealed(program: str) -> int:
    """A descriptor of a sealed copy of the executor; raises NsrunError (NS411)."""
    from nsrun.host.sealed import sealed_copy

    try:
        return sealed_copy(os.path.realpath(program))
    except OSError as error:
        raise _not_sealed(error) from None


def _not_sealed(error: OSError) -> NsrunError:
    return NsrunError(
        Diagnostic(
            code="NS411",
            summary=f"the executor cannot be copied into memory: {error.strerror}",
            why=("what enters a container must not be a file that could be overwritten there",),
        )
    )


def replay_to_the_end(plan: Plan) -> Outcome:
    """As :func:`replay_plan`, once more after each failure that has passed by itself."""
    from nsrun.runtime.again import has_passed

    outcome = replay_plan(plan)
    while has_passed(plan, outcome):
        outcome = replay_plan(plan)
    return outcome
