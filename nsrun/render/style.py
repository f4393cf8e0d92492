"""Colour, where it is asked for; without it every function gives its text back."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from nsrun.diag import Severity


class Role(StrEnum):
    """What a piece of text is; the value is its SGR parameters (console_codes(4))."""

    PARENT = "36"
    CHILD = "35"
    CALL = "1"
    ASIDE = "2"
    ERROR = "1;31"
    WARNING = "1;33"
    NOTE = "1;36"
    ADDED = "32"
    REMOVED = "31"
    CHANGED = "33"
    GUTTER = "1;34"


SEVERITY = {
    Severity.ERROR: Role.ERROR,
    Severity.WARNING: Role.WARNING,
    Severity.NOTE: Role.NOTE,
}


@dataclass(frozen=True, slots=True)
class Style:
    """Paints text, or not."""

    color: bool = False

    def paint(self, text: str, role: Role) -> str:
        """``text`` in the colour of ``role``; it holds no escape sequences itself."""
        return f"\x1b[{role.value}m{text}\x1b[0m" if self.color and text else text
