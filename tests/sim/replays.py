"""One plan replayed on the simulated machine with a fault at every call, and what is judged of it.

a run without a fault ── counts the calls, and shows what the plan makes
for each call, each errno and each process to kill ── a run, judged by itself
"""

from __future__ import annotations

import dataclasses
import errno as errnos
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from nsrun.kernel.facts import GROUP_PREFIX
from nsrun.kernel.values import Call
from nsrun.plan.model import Plan, Track, UndoWhen
from nsrun.plan.ops import Netlink, Op, Spawn
from nsrun.replay import engine
from nsrun.replay.outcome import Failure, Kind, Outcome, State, exec_status
from nsrun.replay.prepare import PreparedCall
from nsrun.replay.program import Prepared, Program, prepare
from nsrun.replay.step import Registers, Result, Runnable
from tests.sim.layer import MACHINE, Layer
from tests.sim.machine import CANNOT_FAIL, Fault, GoneError, HungError, Machine, Place
from tests.sim.modules import installed

ERRORS = ("EPERM", "ENOMEM", "EINTR", "ENOSPC", "EMFILE")
KILLS = ("launcher", "child")
# Nobody may wait longer for a process that cannot be killed (nsrun.replay.reap).
PATIENCE_NS = 2_500_000_000


@dataclass(slots=True)
class Ran:
    """A run: its outcome, None where the launcher was killed, and the machine after it."""

    fault: Fault
    machine: Machine
    outcome: Outcome | None
    open: int = 0


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with a run. ``kind``: leaked, hung, fail-open or wrong."""

    kind: str
    where: str
    what: str


class Watched:
    """An undo step that says whose calls it makes."""

    def __init__(self, layer: Layer, runnable: Runnable, place: Place) -> None:
        self._layer, self._runnable, self._place = layer, runnable, place

    def run(self, registers: Registers) -> Result:
        m = self._layer.m
        if m.current is m.launcher:
            m.undone.append((self._place.action, self._place.number))
        m.current.place = self._place
        try:
            return self._runnable.run(registers)
        finally:
            m.current.place = Place()


class Simulation:
    """One plan, prepared once; replayed as often as asked while ``installed``."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.layer = Layer(Machine(), {})
        program = prepare(plan, MACHINE)
        self.layer.answers = dict(_answers(program))
        self.program = dataclasses.replace(
            program,
            parent=tuple(self._watched(p) for p in program.parent),
        )
        self.ops = {s.address: s for s in plan.steps()}
        self._ever: set[str] = set()

    def _watched(self, prepared: Prepared) -> Prepared:
        undo = [
            Watched(self.layer, runnable, Place("undo", "", op, prepared.number, number))
            for number, (runnable, op) in enumerate(
                zip(prepared.undo, prepared.action.undo, strict=True)
            )
        ]
        return dataclasses.replace(prepared, undo=tuple(undo))

    @contextmanager
    def installed(self) -> Iterator[Ran]:
        """Gives the run without a fault."""
        with installed(self.layer, self.program):
            self.run(Fault())
            yield self.run(Fault())

    def run(self, fault: Fault) -> Ran:
        m = Machine(fault, set(self._ever))
        m.before_exec = lambda: self._not_done(m)
        self.layer.m, self.layer.track = m, None
        for step in self.program.steps(Track.PARENT):
            if step.hold is not None:
                step.hold._ours = -1
        outcome = None
        try:
            outcome = engine.replay(self.plan)
        except GoneError:
            pass
        except HungError:
            m.kill(m.launcher)
        # What is left of a launcher that has ended is open until the process itself ends.
        left = len(m.launcher.fds) - 3 if outcome is not None else 0
        if outcome is not None:
            m.kill(m.launcher, outcome.status, 0)
        m.settle()
        self._ever |= m.ever
        return Ran(fault, m, outcome, left)

    def _not_done(self, m: Machine) -> list[str]:
        """The child's steps before its execve that were neither made nor rightly left out."""
        wrong: list[str] = []
        for action in self.program.child:
            skipped = False
            for step in action.steps:
                if step.is_exec:
                    return wrong
                address = f"c{step.index}"
                if skipped or address in m.performed:
                    continue
                here = self.layer.track.recorder.result(Track.CHILD, step.index)
                ok, skipped = _may_fail(step.op, here.errno)
                if not isinstance(step.op, Call | Netlink) or ok:
                    continue
                wrong.append(address)
        return wrong

    # --- judging -----------------------------------------------------------------------------

    def findings(self, ran: Ran, clean: Ran) -> Iterator[Finding]:
        m, fault = ran.machine, ran.fault
        place = m.fired or Place()
        where = (
            f"{place.address or place.kind}{place.action if place.kind == 'undo' else ''} "
            f"{m.fired_call} ({fault.victim or errnos.errorcode.get(fault.errno, '')})"
        )
        if m.hung:
            yield Finding("hung", where, "everyone waits")
        if m.clock - clean.machine.clock > PATIENCE_NS:
            yield Finding("hung", where, f"it took {m.clock / 1e9:.1f} s")
        if m.open_steps:
            yield Finding("fail-open", where, f"executed without {m.open_steps}")
        failed_undo = {
            (u.action, u.step) for u in (ran.outcome.undo_failures if ran.outcome else ())
        }
        # What a command that has run keeps by its spec: a pinned namespace.
        # Who is killed in its execve(2) cannot be told from who has come through.
        entered = isinstance(place.op, Call) and place.op.name.startswith("execve")
        kept = clean.machine.things if m.execed or entered else set()
        left = m.things - kept
        if ran.outcome is None:
            left = {thing for thing in left if not _prunes(thing)}
        told = (failed_undo and place.kind == "undo") or self._half(ran, place)
        if left and not told:
            yield Finding("leaked", where, f"left: {sorted(left)}")
        if m.survivors:
            yield Finding("leaked", where, f"processes left: {m.survivors}")
        if ran.open > 0:
            yield Finding("leaked", where, f"{ran.open} descriptors left open")
        if ran.outcome is not None:
            yield from self._of_outcome(ran, clean, place, where)

    def _of_outcome(self, ran: Ran, clean: Ran, place: Place, where: str) -> Iterator[Finding]:
        outcome, m = ran.outcome, ran.machine
        assert outcome is not None and clean.outcome is not None
        if m.undone != self._wanted_undo(outcome) and m.fired_call != "":
            yield Finding("wrong", where, f"undone {m.undone}, not {self._wanted_undo(outcome)}")
        if ran.fault.victim == "child":
            killed = outcome.status == 137 or outcome.status == 125
            if not killed and not (m.fired is None or outcome.status == clean.outcome.status):
                yield Finding("wrong", where, f"status {outcome.status}")
            return
        errno = ran.fault.errno
        if place.kind == "step" and self._is_deadly(place, m.fired_call, errno):
            yield from self._of_failed_step(ran, place, where)
        elif place.kind == "undo" and self._is_deadly(place, m.fired_call, errno):
            named = [(u.action, u.step) for u in outcome.undo_failures]
            if named != [(place.action, place.number)] and not isinstance(place.op, Spawn):
                yield Finding("wrong", where, f"the undo failures are {named}")
        elif outcome.failure is not None and not self._is_of(outcome.failure, errno, place):
            yield Finding("wrong", where, f"the failure is {outcome.failure}")
        elif outcome.failure is not None and m.execed and not self._after_exec(place):
            yield Finding("fail-open", where, "the command ran, and a failure is told")

    def _is_of(self, failure: Failure, errno: int, place: Place) -> bool:
        if place.kind == "step" and failure.address != place.address:
            return False
        told = failure.kind is Kind.INTERNAL and f"[Errno {errno}]" in failure.text
        return failure.errno == errno or failure.kind is Kind.SPAWN or told

    def _half(self, ran: Ran, place: Place) -> bool:
        """Whether it is told that a helper was ended amid its work, however far it had come."""
        m = ran.machine
        told = ran.outcome is not None and ran.outcome.failure is not None
        return told and isinstance(place.op, Spawn) and m.fired_call not in ("clone3", "helper")

    def _is_deadly(self, place: Place, call: str, errno: int) -> bool:
        if errno == errnos.EINTR and call in ("recvmsg", "sendmsg", "poll", "recvfrom"):
            # The executor's own loops go on; a plan's recvfrom does not.
            return call == "recvfrom" and isinstance(place.op, Call)
        if call in CANNOT_FAIL or not isinstance(place.op, Call | Netlink):
            return False
        if isinstance(place.op, Call) and call != place.op.name:
            return False
        return not _may_fail(place.op, errno)[0]

    def _of_failed_step(self, ran: Ran, place: Place, where: str) -> Iterator[Finding]:
        outcome, m, errno = ran.outcome, ran.machine, ran.fault.errno
        assert outcome is not None
        is_exec = isinstance(place.op, Call) and place.op.name.startswith("execve")
        wanted = exec_status(errno) if is_exec else 125
        if m.execed and not self._after_exec(place):
            yield Finding("fail-open", where, "the command was executed")
        if outcome.status != wanted and not outcome.started:
            yield Finding("wrong", where, f"status {outcome.status}, not {wanted}")
        failure = outcome.failure
        if failure is None or (failure.address, failure.errno) != (place.address, errno):
            yield Finding("wrong", where, f"it names {failure}")

    def _after_exec(self, place: Place) -> bool:
        """Whether a step of the parent's is behind all that the child waits for."""
        if place.address.startswith("c"):
            return False
        later = [
            a
            for a, s in self.ops.items()
            if a.startswith("p")
            and s.index > int(place.address[1:])
            and type(s.op).__name__ in ("Signal", "SendFd")
        ]
        return not later

    def _wanted_undo(self, outcome: Outcome) -> list[tuple[int, int]]:
        """The undo steps of every action that has come to its end, last first."""
        failed = (outcome.failure is not None or outcome.interrupted) and not outcome.started
        found: list[tuple[int, int]] = []
        for prepared in self.program.parent:
            results = [outcome.trace.result(Track.PARENT, s.index) for s in prepared.steps]
            first_skipped = results and results[0].state is State.SKIPPED
            ended = {State.DONE, State.ACCEPTED, State.SKIPPED, State.LEFT_OUT}
            complete = not first_skipped and all(r.state in ended for r in results)
            if complete and (prepared.action.undo_when is UndoWhen.END or failed):
                found = [(prepared.number, n) for n in range(len(prepared.undo))] + found
        return self._without_skipped(found, outcome)

    def _without_skipped(
        self, wanted: list[tuple[int, int]], outcome: Outcome
    ) -> list[tuple[int, int]]:
        """An undo step that skips ends its action's: as many of those as were run are right."""
        run = Counter(action for action, _ in self.layer.m.undone)
        skips = {
            action
            for action, number in wanted
            if any(getattr(op, "skip", ()) for op in self.plan.actions[action].undo)
        }
        return [w for w in wanted if w[0] not in skips or w[1] < run[w[0]]]


def _prunes(thing: str) -> bool:
    """What `nsrun prune` removes after a launcher that was killed: empty control groups, and what
    lies in the state folder (nsrun.runtime.prune)."""
    path, _, name = thing.rpartition("/")
    group = path.startswith("/sys/fs/cgroup") and name.startswith(GROUP_PREFIX)
    return group or thing.startswith("/run/nsrun")


def _may_fail(op: Op | object, errno: int) -> tuple[bool, bool]:
    """Whether an errno is a success of the step, and whether it ends its action."""
    if not isinstance(op, Call | Netlink):
        return False, False
    name = errnos.errorcode.get(errno, "")
    return name in (*op.accept, *op.skip), name in op.skip


def _answers(program: Program) -> Iterator[tuple[int, list[tuple[int, int, int]]]]:
    for track in Track:
        for step in program.steps(track):
            yield from _answers_of(step.runnable)
    for prepared in program.parent:
        for runnable in prepared.undo:
            yield from _answers_of(runnable)


def _answers_of(runnable: Any) -> Iterator[tuple[int, list[tuple[int, int, int]]]]:
    if isinstance(runnable, PreparedCall):
        for out in runnable._outs:
            if out.expects:
                yield out.address, [(e.offset, e.size, e.equals & e.mask) for e in out.expects]


# --- sweeping ----------------------------------------------------------------------------------


@dataclass(slots=True)
class Tally:
    """A line of the table."""

    runs: int = 0
    injected: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)

    def add(self, fired: bool, findings: list[Finding]) -> None:
        self.runs += 1
        self.injected += fired
        self.kinds.update({finding.kind for finding in findings})
        self.findings += findings


def faults(calls: int, errors: tuple[str, ...] = ERRORS) -> Iterator[tuple[str, Fault]]:
    """Every fault there is in a run of so many calls, by the line of the table it counts in."""
    for at in range(1, calls + 1):
        for name in errors:
            yield name, Fault(at, getattr(errnos, name))
        for victim in KILLS:
            yield f"SIGKILL {victim}", Fault(at, 0, victim)


def sweep(plan: Plan, tallies: dict[str, Tally], every: int = 1, first: int = 0) -> None:
    """Every fault of one plan, or of each ``every``-th from ``first`` on."""
    simulation = Simulation(plan)
    with simulation.installed() as clean:
        assert clean.outcome is not None and clean.outcome.status == 0, clean
        assert clean.machine.execed and not clean.machine.survivors and not clean.open
        # A fault may make a run longer than one without: until nothing fires.
        calls = clean.machine.count
        for number, (line, fault) in enumerate(faults(calls)):
            if (number + first) % every:
                continue
            ran = simulation.run(fault)
            found = list(simulation.findings(ran, clean))
            tallies.setdefault(line, Tally()).add(ran.machine.fired is not None, found)
