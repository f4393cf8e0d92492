"""SIGKILL of launcher or child at every step, whoever makes the call: nothing is left, or nothing
after one ``nsrun prune``."""

from __future__ import annotations

from pathlib import Path
from signal import SIGKILL

import pytest

from tests.oracle.faults import Injected, is_slow_again, names_of, sweep
from tests.oracle.test_oracle import left, tallied
from tests.oracle.traced import PATIENCE, driver
from tests.support.host import Snapshot, unchanged
from tests.support.places import Place, place_for, specs_for
from tests.support.requires import requires
from tests.support.runner import Runner

pytestmark = [requires("strace"), pytest.mark.sweep]


@pytest.mark.parametrize("name", specs_for("root"))
def test_a_kill_at_every_step(root: Runner, area: Path, name: str) -> None:
    check(root, area, name)


@pytest.mark.parametrize("name", specs_for("ordinary"))
def test_a_kill_at_every_step_of_a_users(ordinary: Runner, area: Path, name: str) -> None:
    check(ordinary, area, name)


def check(runner: Runner, area: Path, name: str) -> None:
    with (
        unchanged(),
        place_for(name, runner, area) as place,
        driver(runner, place.spec, runner.user.home, place.ran) as made,
    ):
        names, _ = names_of(made)
        before = place.look()
        wrong: list[str] = []
        judged: list[list[str]] = []
        with tallied("SIGKILL", made, judged):
            for found in sweep(made, names, signal="SIGKILL"):
                # Whoever is killed in execve(2) has been started, and ended by a signal: the kernel
                # does so itself where it can go neither on nor back.
                if found.fault.name == "execve" and found.run.status == 128 + SIGKILL:
                    place.ran()
                remains = remaining(runner, place, before)
                bad = [] if _heir_is_killed(found) else [f"left: {what}" for what in remains]
                if found.run.seconds > PATIENCE and is_slow_again(made, found):
                    bad.append(f"it took {found.run.seconds:.1f} s")
                judged.append(bad)
                if bad:
                    wrong.append(f"{found.fault.option()}: {bad}\n{found.run.stderr}")
                if remains:
                    before = place.renew(before)
        assert not wrong, f"{len(wrong)} of the runs:\n" + "\n".join(wrong[:20])
        assert len(judged) >= 20


def remaining(runner: Runner, place: Place, before: Snapshot) -> list[str]:
    if left(before, place.look):
        runner.run("prune").ok()
    return left(before, place.look)


def _heir_is_killed(found: Injected) -> bool:
    """Whether the N-th call of that process was the same too. It is killed with the launcher by
    nobody but strace(1), which counts in each process (docs/decisions/0012-heir.md)."""
    run = found.run
    heirs = {
        call.result
        for call in run.of(run.launcher)
        if call.name == "clone3" and "CLONE_PIDFD" not in call.text
    }
    return any(
        call.pid in heirs and call.name == found.fault.name and call.result is None
        for call in run.calls
    )
