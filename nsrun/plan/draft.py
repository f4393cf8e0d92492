"""A plan in the making: actions in order, registers with unique names, origins from the spec."""

from __future__ import annotations

import re
from collections import Counter

from nsrun.diag import Collector, Diagnostic, NsrunError
from nsrun.kernel.values import Reg, RegKind
from nsrun.plan.model import Action, Origin, Track, UndoWhen
from nsrun.plan.ops import Op
from nsrun.spec.model import Spec

# The rules of what a profile can set, by the key that it sets.
_RULES = {
    "default capabilities": "capabilities",
    "default no_new_privileges": "no_new_privileges",
    "the container's Landlock rules": "landlock",
}
_KEY_END = re.compile(r"[.\[]")
_NOT_IN_NAMES = re.compile(r"[^a-z0-9]+")
# Of more a listing is no review, and planning them takes seconds.
MAX_STEPS = 10_000


class Draft:
    """Collects the actions of one plan; everything it gives out depends on the spec alone."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.actions: list[Action] = []
        self.refused = Collector()
        self._names: Counter[str] = Counter()
        self._steps = 0

    def reg(self, base: str, kind: RegKind = RegKind.FD) -> Reg:
        """A new register called after ``base``: ``proc``, then ``proc2``, ``proc3``."""
        name = _NOT_IN_NAMES.sub("_", base.lower()).strip("_") or "root"
        if name[0].isdigit():
            name = "r" + name
        self._names[name] += 1
        count = self._names[name]
        # A name that ends in a digit takes a dash of its own, or "a1" twice would be "a12".
        joint = "_" if name[-1].isdigit() else ""
        return Reg(name if count == 1 else f"{name}{joint}{count}", kind)

    def origin(self, at: str, rule: str) -> Origin:
        # What a rule implied has no place of its own where the spec does not say it.
        if self._is_preset(at or rule):
            at, rule = "profile", ""
        implied = rule and at not in self.spec.spans
        span = self.spec.span(at) if at and not implied else None
        return Origin(span=span, path=at if span or not rule else "", rule=rule)

    def _is_preset(self, where: str) -> bool:
        """Whether it is there because of the spec's profile, not of a key of its own."""
        key = _RULES.get(where) or _KEY_END.split(where, maxsplit=1)[0]
        return key in self.spec.preset and where not in self.spec.spans

    def child(self, what: str, *steps: Op, at: str = "", rule: str = "") -> None:
        """An action of the process that becomes the command."""
        self._add(Action(track=Track.CHILD, what=what, origin=self.origin(at, rule), steps=steps))

    def parent(
        self,
        what: str,
        *steps: Op,
        at: str = "",
        rule: str = "",
        undo: tuple[Op, ...] = (),
        undo_when: UndoWhen = UndoWhen.END,
    ) -> None:
        """An action of the caller's process, and how it is undone."""
        self._add(
            Action(
                track=Track.PARENT,
                what=what,
                origin=self.origin(at, rule),
                steps=steps,
                undo=undo,
                undo_when=undo_when,
            )
        )

    def parent_at(self, position: int, action: Action) -> None:
        """An action of the parent that must come before what is already drafted."""
        self._add(action, position)

    def _add(self, action: Action, position: int | None = None) -> None:
        self._steps += len(action.steps) + len(action.undo)
        if self._steps > MAX_STEPS:
            origin = action.origin
            raise NsrunError(
                Diagnostic(
                    code="NS104",
                    summary=f"the spec comes to more than {MAX_STEPS} steps",
                    span=origin.span or self.spec.span(""),
                    path=origin.path,
                )
            )
        self.actions.insert(len(self.actions) if position is None else position, action)

    def refuse(self, code: str, summary: str, at: str, *help_: str, why: str = "") -> None:
        """Note what this machine or caller cannot do. Drafting goes on, with any value in its
        place, so that everything is found at once; the draft becomes no plan."""
        found = Diagnostic(
            code=code,
            summary=summary,
            span=self.spec.span(at),
            path=at,
            help=help_,
            why=(why,) if why else (),
        )
        if found not in self.refused.diagnostics:
            self.refused.add(found)
