"""What the process has to know that undoes in the place of a killed launcher.

It is forked before the child is, as the launcher is then: registers that are set later are none
of its. Before an action whose undo reads such a register, the launcher has it made anew.
"""

from __future__ import annotations

from collections.abc import Iterable

from nsrun.plan.model import Action, Track
from nsrun.plan.ops import Clone, Op
from nsrun.plan.registers import registers, written


def renewals(actions: Iterable[Action]) -> frozenset[int]:
    """The places in ``actions`` of those before which it is made anew."""
    found: set[int] = set()
    there: set[str] = set()
    known: set[str] | None = None
    for number, action in enumerate(actions):
        if action.track is not Track.PARENT:
            continue
        if known is not None and _read(action.undo) & there - known:
            found.add(number)
            known = set(there)
        if known is None and any(isinstance(op, Clone) and not op.hold for op in action.steps):
            known = set(there)
        there |= {reg.name for op in action.steps for reg in written(op)}
    return frozenset(found)


def _read(undo: Iterable[Op]) -> set[str]:
    own = {reg.name for op in undo for reg in written(op)}
    return {reg.name for op in undo for reg in registers(op)} - own
