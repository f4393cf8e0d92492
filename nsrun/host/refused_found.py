"""The refusals that were seen, each kind once, and the report that they are written into."""

from __future__ import annotations

import errno as errnos
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field

from nsrun.host import procfs
from nsrun.host.refused import Refused, Wall
from nsrun.host.refused_call import number_words, words

# More different refusals are no help to anybody.
DISTINCT_MAX = 200
# Of a call without paths its first arguments tell it apart.
_TOLD_APART = 3


@dataclass(slots=True)
class _Found:
    """One kind of refusal; ``command``: the name of the first process that met it."""

    call: str
    errno: str
    command: str
    wall: Wall
    count: int = 1


@dataclass(slots=True)
class Findings:
    """``report``: an open descriptor that the findings are written into."""

    report: int
    _found: dict[tuple[object, ...], _Found] = field(default_factory=dict)
    _more: int = 0

    def add(self, call: Refused, wall: Callable[[], Wall | None]) -> None:
        """Count a refusal; ``wall`` is asked for the first of its kind, None leaves it out."""
        numbers = tuple(number_words(value) for value in call.arguments[:_TOLD_APART])
        key = (call.name, call.paths or numbers, call.flags, call.errno)
        known = self._found.get(key)
        if known is not None:
            known.count += 1
            return
        told = wall()
        if told is None:
            return
        if len(self._found) >= DISTINCT_MAX:
            self._more += 1
            return
        self._found[key] = _Found(
            call=words(call),
            errno=errnos.errorcode.get(call.errno, str(call.errno)) if call.errno else "SIGSYS",
            command=(procfs.read(f"/proc/{call.pid}/comm") or "?").rstrip("\n"),
            wall=told,
        )

    def write(self, *, complete: bool) -> None:
        """``complete``: the first process has ended."""
        rows = [
            {
                "call": found.call, "errno": found.errno, "command": found.command,
                "count": found.count, "wall": found.wall.kind, "why": found.wall.why,
                "path": found.wall.path, "target": found.wall.target, "help": found.wall.help,
            }
            for found in self._found.values()
        ]  # fmt: skip
        document = {"refused": rows, "more": self._more, "complete": complete}
        data = json.dumps(document).encode()
        # Threads may outlive the first one, at whose end it is read.
        os.pwrite(self.report, data, 0)
        os.ftruncate(self.report, len(data))
