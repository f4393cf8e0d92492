"""A fault at the calls of every plan, on the simulated machine; `make sweep` makes all of them."""

from __future__ import annotations

import errno
from typing import Any
from unittest import mock

import pytest

from nsrun.plan.model import Plan
from nsrun.plan.ops import Spawn
from nsrun.replay import engine, heir, track, undo
from nsrun.replay.outcome import State
from nsrun.replay.step import Result
from tests.sim.machine import Fault
from tests.sim.plans import plans
from tests.sim.replays import Finding, Simulation, Tally, sweep

PLANS = dict(plans())
# Each plan's first fault is another, so that together they meet every kind of call.
EVERY = 131
QUICK = "specs/quickstart.yaml"
CONFINED = "confined, cgroup v1"
MADE = "a mount point that is made"
PHYSICAL = "specs/network/physical.yaml"


@pytest.mark.parametrize("part", range(4))
def test_no_fault_leaks_hangs_or_is_ignored(part: int) -> None:
    tallies: dict[str, Tally] = {}
    wrong: list[tuple[str, Finding]] = []
    for number, (name, plan) in enumerate(PLANS.items()):
        if number % 4 != part:
            continue
        mine: dict[str, Tally] = {}
        sweep(plan, mine, EVERY, first=17 * number)
        for fault, tally in mine.items():
            wrong += [(name, found) for found in tally.findings]
            tallies.setdefault(fault, Tally()).add(bool(tally.injected), [])
    assert not wrong, f"{len(wrong)}: {wrong[:10]}"
    assert len(tallies) == 7
    assert all(tally.injected for tally in tallies.values())


# --- the sweep finds an executor that is wrong --------------------------------------------------


def _undo_forgotten(made: Any, *, failed: bool) -> Any:
    undoable = [prepared for prepared in made.done if prepared.undo]
    made.done[:] = [prepared for prepared in made.done if prepared not in undoable[:1]]
    return undo.undo(made, failed=failed)


def _undo_in_order(made: Any, *, failed: bool) -> Any:
    made.done.reverse()
    return undo.undo(made, failed=failed)


def _undo_stops_at_a_failure(made: Any, *, failed: bool) -> Any:
    failures: list[Any] = []
    for prepared in reversed(made.done):
        failures += undo._undo_action(made, prepared)
        if failures:
            break
    return tuple(failures)


def _failures_ignored(step: Any, execute: Any, recorder: Any) -> Any:
    try:
        return execute(step)
    except engine.StepError as error:
        return Result(State.ACCEPTED, -1, error.errno)


def _no_heir(self: Any, made: Any) -> None:
    del self, made


WRONG: dict[str, tuple[Any, str, Any, str, str]] = {
    "an undo forgotten": (engine, "undo", _undo_forgotten, CONFINED, "leaked wrong"),
    "undo in order": (engine, "undo", _undo_in_order, CONFINED, "wrong"),
    "undo that stops": (engine, "undo", _undo_stops_at_a_failure, CONFINED, "leaked wrong"),
    "failures ignored": (track, "_attempt", _failures_ignored, CONFINED, "fail-open"),
    "no heir": (heir.Heir, "appoint", _no_heir, MADE, "leaked"),
    "an heir that knows too little": (heir.Heir, "renew", _no_heir, PHYSICAL, "leaked"),
    "descriptors kept": (engine._Run, "_close", lambda run: None, QUICK, "leaked"),
}


@pytest.mark.parametrize("what", WRONG)
def test_control_a_wrong_executor_is_found(what: str) -> None:
    where, name, wrong, plan, kinds = WRONG[what]
    with mock.patch.object(where, name, wrong):
        found = _kinds(PLANS[plan])
    assert found & set(kinds.split()), f"{what}: {found}"


def _kinds(plan: Plan) -> set[str]:
    """What is found of a plan; a run without a fault may be wrong already."""
    simulation = Simulation(plan)
    kinds: set[str] = set()
    with simulation.installed() as clean:
        for at in range(1, clean.machine.count + 1, 3):
            for fault in (Fault(at, errno.EPERM), Fault(at, 0, "launcher")):
                ran = simulation.run(fault)
                kinds |= {found.kind for found in simulation.findings(ran, clean)}
    return kinds


def test_a_hardening_step_that_fails_is_named_and_nothing_is_executed() -> None:
    """Each of the steps that confine the command, by what the machine saw of it."""
    plan = PLANS[CONFINED]
    simulation = Simulation(plan)
    hardening = {"seccomp", "capset", "landlock_add_rule", "landlock_restrict_self", "setresuid"}
    met: set[str] = set()
    with simulation.installed() as clean:
        for at in range(1, clean.machine.count + 1):
            ran = simulation.run(Fault(at, errno.ENOSYS))
            if ran.machine.fired_call not in hardening:
                continue
            met.add(ran.machine.fired_call)
            assert ran.machine.fired is not None and ran.outcome is not None
            assert not ran.machine.execed
            assert ran.outcome.status == 125 and ran.outcome.failure is not None
            assert ran.outcome.failure.address == ran.machine.fired.address
            assert ran.outcome.failure.errno_name == "ENOSYS"
            assert not ran.machine.things
    assert met == hardening


def test_what_a_helper_is_to_read_is_closed_where_it_cannot_be_written() -> None:
    """Its file in memory, of which a full tmpfs or control group takes no more."""
    simulation = Simulation(PLANS["specs/network/nat.yaml"])
    met: set[str] = set()
    with simulation.installed() as clean:
        for at in range(1, clean.machine.count + 1):
            ran = simulation.run(Fault(at, errno.ENOSPC))
            here = ran.machine.fired
            if here is not None and isinstance(here.op, Spawn):
                met.add(ran.machine.fired_call)
                assert list(simulation.findings(ran, clean)) == []
    assert met >= {"memfd_create", "write", "lseek", "clone3", "helper"}


@pytest.mark.parametrize(
    "name", ["specs/seeds/pin.yaml", "specs/seeds/time.yaml", "specs/shell.yaml"]
)
def test_a_launcher_killed_at_any_call_leaves_no_command_running(name: str) -> None:
    """Also once it has released the child: the message outlives it."""
    simulation = Simulation(PLANS[name])
    with simulation.installed() as clean:
        for at in range(1, clean.machine.count + 1):
            ran = simulation.run(Fault(at, 0, "launcher"))
            assert list(simulation.findings(ran, clean)) == []


def test_a_pin_is_taken_back_whichever_step_fails() -> None:
    simulation = Simulation(PLANS["specs/seeds/pin.yaml"])
    with simulation.installed() as clean:
        assert clean.machine.things
        for at in range(1, clean.machine.count + 1):
            ran = simulation.run(Fault(at, errno.ENOMEM))
            assert list(simulation.findings(ran, clean)) == []
