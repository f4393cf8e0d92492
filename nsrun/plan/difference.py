"""A difference between what was planned and what is there, as `nsrun drift` tells it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from nsrun.plan.model import Action, Origin

NOTHING = "-"
# A text that is longer than this is shown by its beginning.
_SHOWN = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """``what`` is expected to be ``expected`` and found ``found``; "-" for nothing. ``origin``: why
    it was to be so, None for what nobody has asked for."""

    what: str
    expected: str
    found: str
    origin: Origin | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What is no difference, and is to be known all the same."""

    what: str
    why: str


def differ(what: str, wanted: str, found: str, action: Action | None) -> Iterator[Difference]:
    """A difference, where there is one."""
    if wanted != found:
        origin = action.origin if action is not None else None
        yield Difference(what=what, expected=wanted, found=found, origin=origin)


def short(text: str) -> str:
    """On one line, and not a long one."""
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else line[: _SHOWN - 1] + "\u2026"
