"""What the process has to know that undoes in the place of a killed launcher.

It is forked before the child is, as the launcher is then: registers that are set later are none
of its. Where an action's undo reads such a register, the launcher has it made anew: before the
action where all is known by then, else before the next one. Never while the launcher is in another
network namespace: the heir would undo there.
"""

from __future__ import annotations

from collections.abc import Iterable

from nsrun.kernel.values import Call
from nsrun.plan.model import Action, Track
from nsrun.plan.ops import Clone, Op
from nsrun.plan.registers import registers, written

# Undo steps about what is the launcher's own, or ends with it.
_ENDS_BY_ITSELF = frozenset({"setns", "pidfd_send_signal", "waitid", "close"})


def renewals(actions: Iterable[Action]) -> frozenset[int]:
    """The places in ``actions`` of those before which it is made anew."""
    found: set[int] = set()
    there: set[str] = set()
    owed: set[str] = set()
    known: set[str] | None = None
    away = False
    for number, action in enumerate(actions):
        if action.track is not Track.PARENT:
            continue
        own = {reg.name for op in action.steps for reg in written(op)}
        if known is not None:
            read = _read(action)
            # What the action itself sets can be known after it alone.
            due = owed if read & own else owed | read
            if not away and due & (there - known):
                found.add(number)
                known = set(there)
            owed |= read
        elif any(isinstance(op, Clone) and not op.hold for op in action.steps):
            known = set(there)
        there |= own
        away ^= sum(isinstance(op, Call) and op.name == "setns" for op in action.steps) % 2 == 1
    return frozenset(found)


def _read(action: Action) -> set[str]:
    """The registers that the undo of what outlives the launcher reads, and does not set itself."""
    if all(_ends_by_itself(op) for op in action.undo):
        return set()
    own = {reg.name for op in action.undo for reg in written(op)}
    return {reg.name for op in action.undo for reg in registers(op)} - own


def _ends_by_itself(op: Op) -> bool:
    return isinstance(op, Call) and op.name in _ENDS_BY_ITSELF
