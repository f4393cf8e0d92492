"""A fault at every step of a plan: at the Nth call of each name, until nothing fires."""

from __future__ import annotations

import errno
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from nsrun.plan.model import Plan, Track
from nsrun.plan.ops import Init
from tests.oracle.expected import Mismatch, expected, match
from tests.oracle.strace import Traced
from tests.oracle.traced import PATIENCE, Driver, Run

# A step of the plan as the report of a failure names it, and as the native executor does where
# it cannot hand its outcome on to be explained.
_STEP = re.compile(r"step \d+ of \d+ \(([pc]\d+)\)|step ([pc]\d+) failed: ")
_ERROR = re.compile(r"^error(?:\[NS\d+\])?: (.*)", re.MULTILINE)
# What a process that waits for nothing but a processor may be said to be in.
_AWAKE = re.compile(r"[RD] \((?:running|disk sleep)\)")
_LINK_STATE = re.compile(r"\b(?:UNKNOWN|DOWN|LOWERLAYERDOWN)\b")
# getpid(2): "always successful". The executors' own calls, in each helper, count on it.
_NEVER_FAIL = frozenset({"getpid"})
# What the payload does is of no interest: strace lets go of a process at its first execve(2).
_LET_GO = ("-b", "execve")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """An error (or a signal) put in the ``when``-th call of ``name`` of every process."""

    name: str
    when: int
    error: str = ""
    signal: str = ""

    def option(self) -> str:
        what = f"error={self.error}" if self.error else f"signal={self.signal}"
        return f"inject={self.name}:{what}:when={self.when}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Injected:
    """A run with a fault. ``steps``: the plan's steps that it hit, with what they accept;
    ``elsewhere``: whether it hit a call of the executor's own or of an undo; ``in_helper``: one of
    a program that the plan spawns."""

    fault: Fault
    run: Run
    steps: Mapping[str, tuple[str, ...]]
    elsewhere: bool
    in_helper: bool = False

    @property
    def fired(self) -> bool:
        return bool(self.steps) or self.elsewhere

    @property
    def reported(self) -> list[str]:
        return ["".join(names) for names in _STEP.findall(self.run.stderr)]


def names_of(driver: Driver) -> tuple[list[str], Run]:
    """The names of the calls that are steps of the plan and can fail, and the run that showed them.

    Its command runs untraced, as in the runs with a fault: proc_pid_status(5) would say ``t
    (tracing stop)`` of what strace holds.
    """
    run = driver.run(*_LET_GO)
    found = {call.name for call in located(driver, run).values()}
    return sorted(found - _NEVER_FAIL), run


def located(driver: Driver, run: Run) -> dict[str, Traced]:
    """Every step of the plan in the trace of a run, up to the one that failed."""
    calls = by_process(run.calls)
    found: dict[str, Traced] = {}
    try:
        found |= match(expected(driver.plan, Track.PARENT), calls, run.launcher)
    except Mismatch:
        found |= _as_far_as_it_went(driver, run, Track.PARENT, run.launcher)
    child = child_of(run)
    if child:
        try:
            found |= match(expected(driver.plan, Track.CHILD), calls, child)
        except Mismatch:
            found |= _as_far_as_it_went(driver, run, Track.CHILD, child)
    return found


def _as_far_as_it_went(driver: Driver, run: Run, track: Track, pid: int) -> dict[str, Traced]:
    """A track that ended because the other one failed: all that is there of it."""
    wanted, calls = expected(driver.plan, track), by_process(run.calls)
    low, high = 0, len(wanted)
    while low < high:
        middle = (low + high + 1) // 2
        try:
            match(wanted[:middle], calls, pid)
            low = middle
        except Mismatch:
            high = middle - 1
    return match(wanted[:low], calls, pid)


def by_process(calls: list[Traced]) -> dict[int, list[Traced]]:
    found: dict[int, list[Traced]] = defaultdict(list)
    for call in calls:
        found[call.pid].append(call)
    return found


def child_of(run: Run) -> int:
    """The process that the plan's first clone has made, 0 where it failed."""
    for call in run.of(run.launcher):
        if call.name == "clone3" and "CLONE_PIDFD" in call.text and call.result:
            return call.result if call.result > 0 else 0
    return 0


def sweep(
    driver: Driver,
    names: Sequence[str],
    error: str = "",
    signal: str = "",
    limit: int = 200,
) -> Iterator[Injected]:
    """A run for every call of ``names`` that is a step of the plan: fail at N, for N = 1, 2, ... of
    each name until nothing fires."""
    accepts = {
        one.address: (*one.accepts, *one.skips)
        for track in Track
        for one in expected(driver.plan, track)
    }
    for name in names:
        for when in range(1, limit):
            fault = Fault(name=name, when=when, error=error, signal=signal)
            let_go = () if name == "execve" else _LET_GO
            run = driver.run(*let_go, "-e", fault.option())
            planned = located(driver, run)
            made = _by_step(driver.plan, run, planned)
            steps = {a: accepts[a] for a, calls in made.items() if any(c.injected for c in calls)}
            of_steps = [call for calls in made.values() for call in calls]
            own = [call for call in _nsruns_own(run, planned) if call.injected]
            elsewhere = any(call not in of_steps for call in own) or _is_killed(run, fault)
            nsruns = {run.launcher, *(call.pid for call in planned.values())}
            in_helper = any(c.injected and c.pid not in nsruns for c in run.calls)
            found = Injected(
                fault=fault, run=run, steps=steps, elsewhere=elsewhere, in_helper=in_helper
            )
            if not found.fired:
                break
            yield found


def _is_killed(run: Run, fault: Fault) -> bool:
    """Whether a signal that is put in came. strace(1) marks a call whose result it has made up
    alone: one that a process is killed in has none."""
    return bool(fault.signal) and any(c.name == fault.name and c.result is None for c in run.calls)


def _by_step(plan: Plan, run: Run, planned: Mapping[str, Traced]) -> dict[str, list[Traced]]:
    """The calls of each step: the one that the plan says, and for ``Init`` what the process that
    stays behind it calls to become PID 1.

    strace counts ``when`` in every process anew, so a fault in the command's N-th call is in
    PID 1's N-th as well, and whichever is first to tell is reported. PID 1 settles until its
    close_range(2); what fails while it waits for the command is no step's failure any more.
    """
    made = {address: [call] for address, call in planned.items()}
    for placed in plan.steps():
        clone = planned.get(placed.address)
        if isinstance(placed.op, Init) and clone is not None:
            later = [call for call in run.of(clone.pid) if call.begin > clone.begin]
            names = [call.name for call in later]
            end = names.index("close_range") + 1 if "close_range" in names else len(later)
            made[placed.address] += later[:end]
    return made


def _nsruns_own(run: Run, planned: Mapping[str, Traced]) -> Iterator[Traced]:
    """The calls of nsrun's processes, without those of the command and of helpers."""
    ended = max(
        (c.begin for c in planned.values() if c.name == "execve" and not c.errno), default=None
    )
    pids = {run.launcher, *(call.pid for call in planned.values())}
    for call in run.calls:
        before = ended is None or call.begin <= ended
        if call.pid == run.launcher or (call.pid in pids and before):
            yield call


def problems(found: Injected, clean: Run) -> list[str]:
    """What is wrong with how a run met its fault; ``clean`` is a run without one."""
    fault, run = found.fault, found.run
    said: list[str] = []
    # Programs that a run starts take their time, the longer the busier the machine is.
    if run.seconds > max(PATIENCE, 5 * clean.seconds):
        said.append(f"it took {run.seconds:.1f} s")
    if "Traceback" in run.stderr:
        said.append("a traceback")
    deadly = {a for a, accepted in found.steps.items() if fault.error not in accepted}
    if deadly:
        said += _of_a_failed_step(found, deadly)
    elif run.status == clean.status:
        if _shape(run.stdout) != _shape(clean.stdout):
            said.append(f"the output is another:\n{run.stdout}\nnot:\n{clean.stdout}")
        # Explanations and warnings beside an error may need what the fault has taken.
        for told in _ERROR.findall(clean.stderr):
            said += [] if told in run.stderr else [f"not a word of: {told}"]
    elif found.steps and "ping: socket: " in run.stderr:
        # The kernel says that it has no net.ipv4.ping_group_range, whose default is left out then:
        # this ping may not.
        pass
    elif run.status != 125 or not _names(fault.error, run.stderr):
        said.append(f"status {run.status} without a word about {fault.error}")
    return said


def is_slow_again(driver: Driver, found: Injected) -> bool:
    """Whether a run that took too long does so a second time: the machine may have been busy."""
    run = driver.run(*_LET_GO, "-e", found.fault.option())
    return run.seconds > PATIENCE


def _names(error: str, text: str) -> bool:
    return error in text or os.strerror(getattr(errno, error)) in text


def _of_a_failed_step(found: Injected, deadly: set[str]) -> list[str]:
    run, error = found.run, found.fault.error
    said = []
    wanted = {125}
    if found.fault.name == "execve":
        wanted = {127} if error in ("ENOENT", "ENOTDIR") else wanted
        wanted = {126} if error in ("EACCES", "EPERM", "ENOEXEC") else wanted
    if run.status not in wanted:
        said.append(f"status {run.status} is none of {wanted}")
    # The parent's wait for the execve may fail only when the command has been executed already.
    if run.stdout and "await exec" not in run.stderr:
        said.append("the command ran")
    if found.elsewhere and not found.reported and _names(error, run.stderr):
        # The N-th call of the other process is the executor's own, and failed first.
        return said
    if error not in run.stderr:
        said.append(f"{error} is not named")
    if "NS003" in run.stderr:
        said.append("nsrun says that it is itself at fault")
    if found.in_helper and "spawn([" in run.stderr:
        # The N-th call of a helper is failed too, and the launcher hears of that first.
        return said
    if not deadly & set(found.reported):
        said.append(f"the report names {found.reported}, not {sorted(deadly)}")
    return said


def _shape(text: str) -> str:
    """Without what differs from run to run: numbers, addresses made from random ones, the state of
    interfaces (which the kernel tells later), how many processes are just there, and whether one
    of them that will sleep does so already. A zombie stays one."""
    text = _LINK_STATE.sub("UP", _AWAKE.sub("S (sleeping)", text))
    # The address that an interface gives itself comes a moment after it is up.
    text = re.sub(r"(?m)^fe80::.*\n| fe80::\S+", "", text.replace(" linkdown", ""))
    text = re.sub(" +", " ", text)
    return re.sub(r"\S*N\S*(\s\S*N\S*)*", "N", re.sub(r"\d+", "N", text))
