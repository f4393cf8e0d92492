"""What one plan does that another does not: actions and steps, never line numbers.

Two actions are the same when they do the same. Where they stand in the spec, how they are
worded and what their own registers are called makes no difference.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from enum import StrEnum

from nsrun.kernel.values import Arg, Call
from nsrun.plan.model import Action, Plan, Track, UndoWhen
from nsrun.plan.ops import Op
from nsrun.plan.registers import registers, renamed, written
from nsrun.plan.tree import LEFT_BEHIND

# Two actions whose likeness is below this are one removed and one added, not one changed.
LIKENESS = 0.5


class Kind(StrEnum):
    """What became of an action."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"
    MOVED = "moved"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepChange:
    """A step on one side only. ``undo``: it is one of the action's undo steps."""

    kind: Kind
    op: Op
    undo: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """An action that differs. ``old`` is None where it is added, ``new`` where it is removed.

    ``steps`` holds the steps that are added or removed; a moved action has none. ``when`` is
    (old, new) where only the occasion of the undo steps changed.
    """

    kind: Kind
    old: Action | None = None
    new: Action | None = None
    steps: tuple[StepChange, ...] = ()
    when: tuple[UndoWhen, UndoWhen] | None = None

    @property
    def action(self) -> Action:
        """The action as it will be, or as it was."""
        found = self.new or self.old
        assert found is not None
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A property of the whole plan that differs (``needs.kernel``), both values as text."""

    name: str
    old: str
    new: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanDiff:
    """Every difference; changes are in the new plan's order, a removed one where it stood."""

    old_name: str
    new_name: str
    settings: tuple[Setting, ...] = ()
    changes: tuple[Change, ...] = ()

    @property
    def same(self) -> bool:
        return not self.settings and not self.changes

    def count(self, kind: Kind) -> int:
        return sum(change.kind is kind for change in self.changes)


def diff(old: Plan, new: Plan) -> PlanDiff:
    """How ``new`` differs from ``old``. It never fails, whatever the plans are."""
    return PlanDiff(
        old_name=old.name,
        new_name=new.name,
        settings=tuple(_settings(old, new)),
        changes=tuple(_changes(_canonical(old), _canonical(new))),
    )


def without_mount_points(plan: Plan) -> Plan:
    """``plan`` without making, and taking back, what mounts stand on.

    A container that runs has made them, and so its spec, planned again, finds them there.
    """
    kept = [a for a in plan.actions if a.origin.rule != LEFT_BEHIND]
    return replace(plan, actions=tuple(_without_making(a) for a in kept))


def _without_making(action: Action) -> Action:
    """An action that does nothing else is kept as it is: a folder is what it is about."""
    makes = [op for op in action.steps if _makes(op)]
    parents = {op.args[0] for op in makes if isinstance(op, Call)}
    rest = tuple(op for op in action.steps if not (_makes(op) or _only_opens(op, parents)))
    return replace(action, steps=rest) if makes and rest else action


def _makes(op: Op) -> bool:
    return isinstance(op, Call) and op.name in ("mkdirat", "mknodat") and "EEXIST" in op.accept


def _only_opens(op: Op, parents: set[Arg]) -> bool:
    """Whether a step opens or closes a folder in which something is made."""
    if not isinstance(op, Call):
        return False
    return (
        op.save in parents
        if op.name == "openat2"
        else op.name == "close" and (op.args[0] in parents)
    )


def _settings(old: Plan, new: Plan) -> Iterator[Setting]:
    pairs = (
        ("name", old.name, new.name),
        ("needs.kernel", old.needs.kernel, new.needs.kernel),
        ("needs.machine", old.needs.machine, new.needs.machine),
        ("needs.root", str(old.needs.root).lower(), str(new.needs.root).lower()),
        ("needs.features", ", ".join(old.needs.features), ", ".join(new.needs.features)),
    )
    for name, before, after in pairs:
        if before != after:
            yield Setting(name=name, old=before, new=after)


# --- what an action does, and nothing else -------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Item:
    """An action beside the form in which it is compared; ``number`` is its place in its plan."""

    number: int
    action: Action
    steps: tuple[Op, ...]
    undo: tuple[Op, ...]

    @property
    def does(self) -> tuple[object, ...]:
        return (self.action.track, self.steps, self.undo, self.action.undo_when)


def _canonical(plan: Plan) -> list[_Item]:
    """The plan's actions with the registers that only one action uses renamed by their order.

    A planner counts registers through the whole plan (``dir``, ``dir2``), so that one more
    mount would otherwise change every action after it.
    """
    users: defaultdict[str, set[int]] = defaultdict(set)
    for number, action in enumerate(plan.actions):
        for reg in registers((action.steps, action.undo)):
            users[reg.name].add(number)
    items = []
    for number, action in enumerate(plan.actions):
        own = [r.name for op in action.steps for r in written(op) if users[r.name] == {number}]
        names = {name: f"_{index}" for index, name in enumerate(dict.fromkeys(own))}
        steps, undo = renamed((action.steps, action.undo), names)
        items.append(_Item(number, action, steps, undo))
    return items


# --- matching ----------------------------------------------------------------------------------


def _changes(old: list[_Item], new: list[_Item]) -> list[Change]:
    """Pairs what is equal in order, then what is equal elsewhere, then what is alike."""
    placed: list[tuple[tuple[float, int], Change]] = []
    partner: dict[int, int] = {}
    for track in Track:
        before = [item for item in old if item.action.track is track]
        after = [item for item in new if item.action.track is track]
        kept, moved, changed = _pairs(before, after)
        partner |= {a.number: b.number for a, b in kept + moved + changed}
        for a, b in moved:
            change = Change(kind=Kind.MOVED, old=a.action, new=b.action)
            placed.append(((b.number, 1), change))
        for a, b in changed:
            placed.append(((b.number, 1), _changed(a, b)))
        matched = {b.number for _, b in kept + moved + changed}
        for b in after:
            if b.number not in matched:
                change = Change(kind=Kind.ADDED, new=b.action, steps=_all(b, Kind.ADDED))
                placed.append(((b.number, 1), change))
    # A removed action stands behind what stood before it and is still there.
    position = -1.0
    for a in old:
        if a.number in partner:
            position = float(partner[a.number])
        else:
            change = Change(kind=Kind.REMOVED, old=a.action, steps=_all(a, Kind.REMOVED))
            placed.append(((position + 0.5, a.number), change))
    return [change for _, change in sorted(placed, key=lambda entry: entry[0])]


_Pairs = list[tuple[_Item, _Item]]


def _pairs(old: list[_Item], new: list[_Item]) -> tuple[_Pairs, _Pairs, _Pairs]:
    """Those that stay, those that only moved, and those that changed."""
    numbers: dict[tuple[object, ...], int] = {}
    left = [numbers.setdefault(item.does, len(numbers)) for item in old]
    right = [numbers.setdefault(item.does, len(numbers)) for item in new]
    matcher = SequenceMatcher(None, left, right, autojunk=False)
    kept = [
        (old[block.a + offset], new[block.b + offset])
        for block in matcher.get_matching_blocks()
        for offset in range(block.size)
    ]
    rest_old = _without(old, {a.number for a, _ in kept})
    rest_new = _without(new, {b.number for _, b in kept})
    moved = _equal(rest_old, rest_new)
    rest_old = _without(rest_old, {a.number for a, _ in moved})
    rest_new = _without(rest_new, {b.number for _, b in moved})
    return kept, moved, _alike(rest_old, rest_new)


def _without(items: list[_Item], numbers: set[int]) -> list[_Item]:
    return [item for item in items if item.number not in numbers]


def _equal(old: list[_Item], new: list[_Item]) -> _Pairs:
    waiting: defaultdict[tuple[object, ...], list[_Item]] = defaultdict(list)
    for item in new:
        waiting[item.does].append(item)
    return [(item, waiting[item.does].pop(0)) for item in old if waiting[item.does]]


def _alike(old: list[_Item], new: list[_Item]) -> _Pairs:
    """The best pairs first; ties go by the order of the plans."""
    scores = sorted(
        (-score, a.number, b.number, a, b)
        for a in old
        for b in new
        if (score := _likeness(a, b)) >= LIKENESS
    )
    found: _Pairs = []
    used_old: set[int] = set()
    used_new: set[int] = set()
    for _, number, other, a, b in scores:
        if number not in used_old and other not in used_new:
            used_old.add(number)
            used_new.add(other)
            found.append((a, b))
    return found


def _likeness(a: _Item, b: _Item) -> float:
    """From 0 to 3: the same words count as much as the same steps, the same place as half."""
    x, y = a.action, b.action
    same_place = (x.origin.path or x.origin.rule) == (y.origin.path or y.origin.rule)
    steps = _overlap(a.steps + a.undo, b.steps + b.undo)
    calls = _overlap([_verb(op) for op in a.steps], [_verb(op) for op in b.steps])
    return (x.what == y.what) + 0.5 * same_place + 0.75 * steps + 0.25 * calls


def _verb(op: Op) -> str:
    return getattr(op, "name", type(op).__name__)


def _overlap(left: Sequence[object], right: Sequence[object]) -> float:
    """The share of members that both have, 1 for equal, 0 for nothing in common."""
    if not left and not right:
        return 1.0
    common = Counter(left) & Counter(right)
    return 2 * sum(common.values()) / (len(left) + len(right))


# --- steps -------------------------------------------------------------------------------------


def _all(item: _Item, kind: Kind) -> tuple[StepChange, ...]:
    steps = [StepChange(kind=kind, op=op) for op in item.action.steps]
    undo = [StepChange(kind=kind, op=op, undo=True) for op in item.action.undo]
    return (*steps, *undo)


def _changed(a: _Item, b: _Item) -> Change:
    steps = [
        *_step_changes(a.steps, b.steps, a.action.steps, b.action.steps, False),
        *_step_changes(a.undo, b.undo, a.action.undo, b.action.undo, True),
    ]
    when = (a.action.undo_when, b.action.undo_when)
    return Change(
        kind=Kind.CHANGED,
        old=a.action,
        new=b.action,
        steps=tuple(steps),
        when=when if when[0] is not when[1] else None,
    )


def _step_changes(
    left: Sequence[Op],
    right: Sequence[Op],
    old: Sequence[Op],
    new: Sequence[Op],
    undo: bool,
) -> Iterator[StepChange]:
    """``left`` and ``right`` are compared, ``old`` and ``new`` are what is shown of them."""
    matcher = SequenceMatcher(None, left, right, autojunk=False)
    for tag, a, a_end, b, b_end in matcher.get_opcodes():
        if tag != "equal":
            for op in old[a:a_end]:
                yield StepChange(kind=Kind.REMOVED, op=op, undo=undo)
            for op in new[b:b_end]:
                yield StepChange(kind=Kind.ADDED, op=op, undo=undo)


__all__ = ["Change", "Kind", "PlanDiff", "Setting", "StepChange", "diff"]
