"""Columns of text, and times as people say them."""

from __future__ import annotations

import time
from collections.abc import Sequence

_SECOND = 10**9
# The largest unit of which there are two or more is shown.
_UNITS = ((86400 * 7, "week"), (86400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))


def columns(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table with its columns as wide as they need; nothing is trimmed."""
    cells = [tuple(head), *(tuple(_visible(cell) for cell in row) for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    )
    return "".join(f"{line}\n" for line in lines)


def _visible(text: str) -> str:
    from nsrun.render.text import visible

    return visible(text)


def ago(moment: int) -> str:
    """How long ago a time in nanoseconds since 1970 was: ``3 minutes``."""
    seconds = max(0, (time.time_ns() - moment) // _SECOND)
    for size, unit in _UNITS:
        count = seconds // size
        if count >= 2:
            return f"{count} {unit}s"
    return "1 second" if seconds else "less than a second"


def cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "\u2026"
