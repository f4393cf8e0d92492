"""Before which actions the process that undoes for a killed launcher is made anew."""

from __future__ import annotations

import pytest

from nsrun.plan.binary import encode
from nsrun.plan.heirs import renewals
from nsrun.plan.model import Plan, Track
from nsrun.plan.ops import Clone
from nsrun.plan.registers import registers, written
from tests.golden.reference import plan_of, shown_path, spec_files

PLANS = {shown_path(file): plan_of(file) for file in spec_files()}
PHYSICAL = "specs/network/physical.yaml"


@pytest.mark.parametrize("name", PLANS)
def test_none_is_made_anew_for_what_it_knows(name: str) -> None:
    plan = PLANS[name]
    numbers = renewals(plan.actions)
    clone = next((n for n, a in enumerate(plan.actions) if _clones(plan, n)), len(plan.actions))
    assert all(number > clone for number in numbers)
    for number in numbers:
        action = plan.actions[number]
        assert action.track is Track.PARENT and action.undo
        read = {r.name for op in action.undo for r in registers(op)}
        assert read & _set_between(plan, clone, number)


def test_an_interface_that_moves_in_needs_another() -> None:
    plan = PLANS[PHYSICAL]
    assert [plan.actions[number].what for number in renewals(plan.actions)] == ["come back"]


def test_what_has_nothing_to_undo_needs_none() -> None:
    assert renewals(PLANS["specs/quickstart.yaml"].actions) == frozenset()


def test_the_binary_form_says_so() -> None:
    """The bit of native/plan.h, in as many action words."""
    words = memoryview(encode(PLANS[PHYSICAL]).split(b'{"')[0]).cast("B")
    found = bytes(words).count((0xA0 | 1 << 16).to_bytes(4, "little"))
    assert found == 1


def _clones(plan: Plan, number: int) -> bool:
    return any(isinstance(op, Clone) and not op.hold for op in plan.actions[number].steps)


def _set_between(plan: Plan, first: int, last: int) -> set[str]:
    actions = [a for a in plan.actions[first:last] if a.track is Track.PARENT]
    return {reg.name for a in actions for op in a.steps for reg in written(op)}
