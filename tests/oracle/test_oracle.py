"""strace is the judge: a run makes the plan's calls and little else, and fails cleanly at each."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nsrun.plan.model import Track
from tests.oracle import tally
from tests.oracle.expected import expected, match
from tests.oracle.faults import (
    Injected,
    by_process,
    child_of,
    is_slow_again,
    names_of,
    problems,
    sweep,
)
from tests.oracle.traced import Driver, driver
from tests.support.box import copy_specs
from tests.support.examples import TERMINALS
from tests.support.host import Snapshot, snapshot
from tests.support.places import Place, place_for, specs_for
from tests.support.requires import requires
from tests.support.runner import Runner

pytestmark = requires("strace")

ERRORS = ["EPERM", "ENOMEM", "EINTR", "ENOSPC", "EMFILE", "ENOENT"]

# An undo step has failed, which is said.
NOT_UNDONE = "error[NS504]: cannot undo"

# How a spec's run ends where it is not with 0: its timeout kills process 1.
STATUS = {"seeds/signals.yaml": 137}

# The interpreter's own calls in the child: memory, and what a fork makes it renew.
_MEMORY = {"brk", "mmap", "munmap", "mremap", "madvise"}
CHILDS_OWN = frozenset({*_MEMORY, "futex", "gettid", "getrandom", "set_robust_list"})


@pytest.fixture
def specs(anyone: Runner, area: Path) -> Path:
    return copy_specs(area, anyone)


def test_a_run_makes_the_plans_calls_and_little_else(anyone: Runner, specs: Path) -> None:
    """In their order; what the child calls besides is known, and no file of the interpreter's."""
    with driver(anyone, specs / "quickstart.yaml", anyone.user.home) as made:
        run = made.run("-b", "execve")
    assert run.status == 0, run.stderr
    calls, pid = by_process(run.calls), child_of(run)
    parent = match(expected(made.plan, Track.PARENT), calls, run.launcher)
    child = match(expected(made.plan, Track.CHILD), calls, pid)
    assert len(parent) >= 8
    assert len(child) > 100
    mine = [call for call in run.of(pid) if call.begin <= child[list(child)[-1]].begin]
    others = [call for call in mine if call not in child.values()]
    assert {call.name for call in others} <= CHILDS_OWN, [call.text for call in others]
    opened = [call.text for call in mine if call.name in ("open", "openat", "openat2")]
    assert opened
    assert not [text for text in opened if ".py" in text or ".so" in text or sys.prefix in text]


def left(before: Snapshot, look: Callable[[], Snapshot], patience: float = 2.0) -> list[str]:
    """What is not as before, when it has had time to go."""
    import time

    deadline = time.monotonic() + patience
    while differences := before.differences(look()):
        if time.monotonic() > deadline:
            return differences
        time.sleep(0.01)
    return []


def may_leave(found: Injected) -> bool:
    """Whether it is told that something is left: an undo step has failed, or a call of the
    executor's own while a helper did its work, of which nobody knows how far it came. What the
    kernel says is not there is not undone, and that is no failure."""
    if found.fault.error == "ENOENT" and not found.steps:
        return True
    own_alone = not found.steps and "spawn(" in found.run.stderr
    return NOT_UNDONE in found.run.stderr or own_alone


@contextmanager
def tallied(fault: str, made: Driver, judged: list[list[str]]) -> Iterator[None]:
    """The runs go into the sweep's table, also where one hangs."""
    try:
        yield
    except AssertionError as error:
        judged.append([str(error)])
        raise
    finally:
        tally.record(fault, made.executor, judged)


def check_sweep(
    made: Driver,
    error: str,
    at_least: int,
    status: int = 0,
    *,
    place: Place | None = None,
    look: Callable[[], Snapshot] = snapshot,
    only: tuple[str, ...] = (),
) -> None:
    """``status`` is that of a run without a fault; each has to leave ``place`` as it was, or to say
    what it could not undo; ``look`` sees what is there. ``only``: the calls to fail where
    they are not all."""
    if place is not None:
        look = place.look
    names, clean = names_of(made)
    assert clean.status == status, clean.stderr
    before = look()
    wrong: list[str] = []
    hit: set[str] = set()
    judged: list[list[str]] = []
    with tallied(error, made, judged):
        for found in sweep(made, [n for n in names if not only or n in only], error=error):
            assert any("(INJECTED)" in call.text for call in found.run.calls)
            hit |= found.steps.keys()
            bad = problems(found, clean)
            if bad and bad[0].startswith("it took") and not is_slow_again(made, found):
                bad = bad[1:]
            if place is not None and place.keeps and may_leave(found):
                before = place.renew(before)
            elif remains := left(before, look):
                bad += [f"left: {what}" for what in remains]
                # Each run is judged by itself, not by what one before it has left.
                before = place.renew(before) if place is not None else look()
            judged.append(bad)
            if bad:
                wrong.append(
                    f"{found.fault.option()} at {sorted(found.steps) or 'no step'}: "
                    f"{'; '.join(bad)}\n{found.run.stderr}"
                )
    assert not wrong, f"{len(wrong)} of the runs:\n" + "\n".join(wrong[:20])
    assert len(hit) >= at_least, f"only {len(hit)} steps were failed"


def test_a_fault_at_every_step_of_the_quickstart(root: Runner, area: Path) -> None:
    spec = copy_specs(area, root) / "quickstart.yaml"
    with driver(root, spec, root.user.home) as made:
        steps = sum(len(expected(made.plan, track)) for track in Track)
        # Some steps of paths that this kernel lacks are not reached at all.
        check_sweep(made, "EPERM", at_least=steps * 2 // 3)


# Without those on a terminal: what relays it to a command that runs fails without a word, as with a
# terminal that is gone. They are killed at every step as the others are (test_kill.py).
@pytest.mark.sweep
@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("name", [s for s in specs_for("root") if s not in TERMINALS])
def test_a_fault_at_every_step(root: Runner, area: Path, name: str, error: str) -> None:
    sweep_spec(root, area, name, error)


@pytest.mark.sweep
@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("name", [s for s in specs_for("ordinary") if s not in TERMINALS])
def test_a_fault_at_every_step_of_a_users(
    ordinary: Runner, area: Path, name: str, error: str
) -> None:
    sweep_spec(ordinary, area, name, error)


# The calls that set up a network; what else a spec does is failed in the quickstart.
QUICK = {
    "network/named.yaml": ("sendto", "setns", "getsockopt"),
    "network/nat.yaml": ("bind", "flock"),
    "network/physical.yaml": ("sendto", "setns", "getsockopt"),
}


@pytest.mark.parametrize("name", QUICK)
def test_a_fault_at_the_steps_of_a_network(root: Runner, area: Path, name: str) -> None:
    sweep_spec(root, area, name, "EPERM", QUICK[name])


def test_a_fault_at_the_steps_of_a_users_network(ordinary: Runner, area: Path) -> None:
    sweep_spec(ordinary, area, "network/user.yaml", "EPERM", ("bind", "socket"))


def sweep_spec(
    runner: Runner, area: Path, name: str, error: str, only: tuple[str, ...] = ()
) -> None:
    with (
        place_for(name, runner, area) as place,
        driver(runner, place.spec, runner.user.home, place.ran) as made,
    ):
        status = STATUS.get(name, 0)
        check_sweep(made, error, 5 if only else 20, status, place=place, only=only)
