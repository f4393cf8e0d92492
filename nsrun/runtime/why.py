"""A run that is traced for refused calls: its plan, its replay in a process of its own, its report.

The report is a file in memory of this process, which the plan names by its descriptor: what is
printed is what runs.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace

from nsrun.diag import Diagnostic, NsrunError
from nsrun.host import procfs
from nsrun.host.facts import gather
from nsrun.kernel.abi import Capability
from nsrun.kernel.calls import seccomp_programs
from nsrun.kernel.values import Call
from nsrun.plan.build import plan, wanted
from nsrun.plan.landlock import planned_rules
from nsrun.plan.launch import joins
from nsrun.plan.model import Plan, Track
from nsrun.plan.seccomp_default import BY_CAPABILITY, FAMILIES
from nsrun.replay.outcome import NSRUN_FAILED
from nsrun.spec.model import SeccompProfile, Spec

# linux/prctl.h
_PR_SET_PDEATHSIG = 1
_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One kind of refused call. ``wall``: its name, "" where none was seen; ``path``: the key of
    the spec that the wall comes from, ``target``: the path inside that it is about."""

    call: str
    errno: str
    command: str
    count: int
    wall: str
    why: str
    path: str
    target: str
    help: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """``more``: further refusals that were counted and not kept. ``complete``: the tracer has seen
    the end."""

    rows: tuple[Row, ...]
    more: int
    complete: bool


def traced_plan(spec: Spec) -> tuple[Plan, int]:
    """The plan of ``spec`` with its tracer, and the descriptor of the report.

    Raises NsrunError: NS412 where nothing can be traced, and what any plan can raise.
    """
    _require_tracing(spec)
    report, report_place = _file("refused")
    known, known_place = _file("walls")
    given = ("--known", known_place) if joins(spec) else ()
    words = (sys.executable, "-P", "-m", "nsrun", "@why", *given, report_place)
    made = plan(spec, gather(wanted(spec)), tracer=words)
    os.write(known, _walls(made))
    return made, report


def _require_tracing(spec: Spec) -> None:
    """The kernel's Yama.rst: who may trace what is not below it."""
    scope = procfs.sysctl("kernel.yama.ptrace_scope") or 0
    if scope < 1 or (scope < 3 and Capability.CAP_SYS_PTRACE in procfs.capabilities()):
        return
    who = "nobody" if scope > 2 else "without CAP_SYS_PTRACE nobody"
    raise NsrunError(
        Diagnostic(
            code="NS412",
            summary="the command cannot be traced",
            span=spec.span("command"),
            path="command",
            why=(f"kernel.yama.ptrace_scope is {scope}: {who} may trace a process beside it",),
            help=(
                "set it to 0, which needs a reboot"
                if scope > 2
                else "run it as root, or: sysctl kernel.yama.ptrace_scope=0, as root",
            ),
        )
    )


def _file(name: str) -> tuple[int, str]:
    """A file in memory, and by which path another process finds it."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC)
    return fd, f"/proc/{os.getpid()}/fd/{fd}"


def _walls(made: Plan) -> bytes:
    """What nsrun.host.own_walls.read_known reads."""
    filters = [
        program.hex()
        for placed in made.track(Track.CHILD)
        if isinstance(placed.op, Call)
        for program, _ in seccomp_programs(placed.op)
    ]
    rules = planned_rules(made.actions)
    rulesets = [] if rules is None else [(rules.handled, rules.scoped, rules.rules)]
    return json.dumps({"filters": filters, "rulesets": rulesets}).encode()


def in_child(replay: Callable[[], int]) -> int:
    """The exit status of ``replay`` in a process of its own, which gets the caller's signals."""
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        status = NSRUN_FAILED
        try:
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
            if os.getppid() == parent:
                status = replay()
            sys.stdout.flush()
        finally:
            os._exit(status)
    # The terminal sends these to both; the run decides what they mean.
    for number in (signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    for number in _SIGNALS:
        signal.signal(number, lambda got, _: os.kill(pid, got))
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def read(spec: Spec, descriptor: int) -> Report | None:
    """What the tracer of ``spec`` has written; None where it has not, as of a run that did not
    come so far."""
    size = os.fstat(descriptor).st_size
    if not size:
        return None
    document = json.loads(os.pread(descriptor, size, 0))
    rows = (Row(**row) for row in document["refused"])
    return Report(
        rows=tuple(_with_help(spec, row) for row in rows),
        more=document["more"],
        complete=document["complete"],
    )


def _with_help(spec: Spec, row: Row) -> Row:
    """What only the spec knows: who is asked, and that the default profile opens calls to those
    who can have the capabilities they are for."""
    if row.path == "seccomp.listenerPath" and isinstance(spec.seccomp, SeccompProfile):
        return replace(row, help=f"what listens at {spec.seccomp.listener} decides")
    if row.wall != "seccomp" or spec.seccomp != "default":
        return row
    name, _, rest = row.call.partition("(")
    needed = [held for held, names in BY_CAPABILITY if name in names]
    if name == "socket":
        family = rest.partition(",")[0]
        needed = [(held,) for kind, held in FAMILIES if held and family in (str(kind), hex(kind))]
    if not needed:
        return row
    words = " or ".join(Capability(number).name for number in sorted(needed[0]))
    return replace(
        row,
        help=f"{words} under `capabilities`, for which the default profile has it, or a profile of "
        "your own under `seccomp`",
    )
