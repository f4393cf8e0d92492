"""Reading what strace(1) -f writes: system calls, by process, in their order."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_LINE = re.compile(r"(\d+) +(.*)")
_CALL = re.compile(r"([a-z_][a-z0-9_]*)\((.*)")
_RESUMED = re.compile(r"<\.\.\. ([a-z0-9_]+) resumed>(.*)")
_RESULT = re.compile(r"\) += +(-?\d+|\?|0x[0-9a-f]+)(?: ([A-Z][A-Z0-9_]*))?")
_UNFINISHED = " <unfinished ...>"
CLONES = frozenset({"clone", "clone3", "fork", "vfork"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Traced:
    """One system call. ``order`` is the place of its end among all lines, ``begin`` of its
    begin; ``result`` is None where it did not return, ``errno`` its name."""

    pid: int
    name: str
    text: str
    result: int | None
    errno: str
    begin: int
    order: int

    @property
    def injected(self) -> bool:
        return "(INJECTED)" in self.text


def parse(file: Path) -> list[Traced]:
    """The calls of an ``strace -f -o FILE``, by the order of their beginnings."""
    return sorted(_parse(file.read_text(errors="backslashreplace")), key=lambda call: call.begin)


def _parse(text: str) -> Iterator[Traced]:
    pending: dict[int, tuple[str, int]] = {}
    number = 0
    for number, line in enumerate(text.splitlines()):
        found = _LINE.match(line)
        if found is None:
            continue
        pid, rest = int(found[1]), found[2]
        begin = number
        if resumed := _RESUMED.match(rest):
            started, begin = pending.pop(pid, (resumed[1] + "(", number))
            rest = started + resumed[2]
        if rest.endswith(_UNFINISHED):
            pending[pid] = (rest.removesuffix(_UNFINISHED), number)
            continue
        if call := _CALL.match(rest):
            yield _traced(pid, call[1], rest, begin, number)
    for pid, (started, begin) in pending.items():
        if call := _CALL.match(started):
            yield _traced(pid, call[1], started, begin, number + 1)


def _traced(pid: int, name: str, text: str, begin: int, order: int) -> Traced:
    last = None
    for last in _RESULT.finditer(text):  # noqa: B007 - the last one counts
        pass
    value = None
    if last is not None and last[1] != "?":
        # umask(2)'s old value is octal.
        value = int(last[1], 8 if re.fullmatch("0[0-7]+", last[1]) else 0)
    return Traced(
        pid=pid,
        name=name,
        text=text,
        result=value,
        errno=last[2] or "" if last is not None else "",
        begin=begin,
        order=order,
    )


def parents(calls: list[Traced]) -> dict[int, int]:
    """Each process and the one that made it, the first one apart."""
    return {
        call.result: call.pid
        for call in calls
        if call.name in CLONES and call.result is not None and call.result > 0
    }
