"""The table of a sweep: a line for each errno and each killed process, and what was found."""

from __future__ import annotations

from collections.abc import Mapping

from tests.sim.replays import Tally

KINDS = ("leaked", "hung", "fail-open", "wrong")
_HEAD = ("fault", "executor", "runs", "injected", *KINDS)
_LINE = "{:<18} {:<10} {:>8} {:>9} {:>7} {:>5} {:>10} {:>6}"


def table(tallies: Mapping[tuple[str, str], Tally]) -> str:
    """``tallies`` by fault and executor. ``wrong``: another error, status or order than due."""
    lines = [_LINE.format(*_HEAD)]
    for (fault, executor), tally in sorted(tallies.items()):
        counts = [tally.kinds[kind] for kind in KINDS]
        lines.append(_LINE.format(fault, executor, tally.runs, tally.injected, *counts))
    return "\n".join(lines)
