"""Before which actions the process that undoes for a killed launcher is made anew."""

from __future__ import annotations

import pytest

from nsrun.kernel.values import Call
from nsrun.plan.binary import encode
from nsrun.plan.heirs import renewals
from nsrun.plan.model import Plan, Track
from nsrun.plan.ops import Clone
from tests.golden.reference import plan_of, shown_path, spec_files

PLANS = {shown_path(file): plan_of(file) for file in spec_files()}
PHYSICAL = "specs/network/physical.yaml"


@pytest.mark.parametrize("name", PLANS)
def test_one_is_made_anew_after_the_child_and_at_home(name: str) -> None:
    """In another network namespace it would undo there."""
    plan = PLANS[name]
    numbers = renewals(plan.actions)
    clone = next((n for n, _ in enumerate(plan.actions) if _clones(plan, n)), len(plan.actions))
    assert all(number > clone for number in numbers)
    for number in numbers:
        assert plan.actions[number].track is Track.PARENT
        before = [a for a in plan.actions[:number] if a.track is Track.PARENT]
        moves = [
            op for a in before for op in a.steps if isinstance(op, Call) and op.name == "setns"
        ]
        assert len(moves) % 2 == 0


def test_an_interface_that_moves_in_needs_another() -> None:
    assert _whats(PHYSICAL) == ["move eth1 into the container as wan0"]


def test_a_pair_needs_one_that_knows_its_number() -> None:
    """Which is set by the action that makes it."""
    assert _whats("specs/network/veth.yaml") == ["give ve-veth the address 169.254.1.1/30"]


@pytest.mark.parametrize("name", ["quickstart", "seeds/time", "seeds/init", "build", "limited"])
def test_what_ends_by_itself_needs_none(name: str) -> None:
    assert _whats(f"specs/{name}.yaml") == []


def test_the_binary_form_says_so() -> None:
    """The bit of native/plan.h, in as many action words."""
    words = memoryview(encode(PLANS[PHYSICAL]).split(b'{"')[0]).cast("B")
    found = bytes(words).count((0xA0 | 1 << 16).to_bytes(4, "little"))
    assert found == 1


def _clones(plan: Plan, number: int) -> bool:
    return any(isinstance(op, Clone) and not op.hold for op in plan.actions[number].steps)


def _whats(name: str) -> list[str]:
    actions = PLANS[name].actions
    return [actions[number].what for number in sorted(renewals(actions))]
