"""The lanes at the left of a listing: which track acts, which runs beside it, which waits.

●─┐    a step of the parent that makes the child
│ ◇    the child waits for a sync
● ┊    a step of the parent while the child waits
●─▶    the parent releases the child
◀─■    the child becomes the command, and the parent's wait ends
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from nsrun.kernel.values import Call
from nsrun.plan.model import Placed, Plan, Track
from nsrun.plan.ops import EXEC, Clone, ReceiveFd, SendFd, Signal, Wait

WIDTH = 3


@dataclass(frozen=True, slots=True)
class Glyphs:
    """The marks of a listing; each of the pairs takes two columns."""

    step: str
    wait: str
    end: str
    runs: str
    waits: str
    fork: str
    right: str
    left: str


UNICODE = Glyphs("●", "◇", "■", "│", "┊", "─┐", "─▶", "◀─")
ASCII = Glyphs("*", "o", "#", "|", ":", "-.", "->", "<-")


def sent_sync(placed: Placed) -> str | None:
    """The sync that this step releases on the other track, None for none."""
    match placed.op:
        case Signal(sync=sync) | SendFd(sync=sync) | Clone(sync=sync, hand_over=True):
            return sync
        case Call(name="execve" | "execveat") if placed.track is Track.CHILD:
            return EXEC
        case _:
            return None


def awaited_sync(placed: Placed) -> str | None:
    """The sync that this step waits for, None for none."""
    match placed.op:
        case Wait(sync=sync) | ReceiveFd(sync=sync):
            return sync
        case _:
            return None


def _starts_child(placed: Placed) -> bool:
    """Whether the child's track begins here: not with a process that only holds namespaces."""
    op = placed.op
    return placed.track is Track.PARENT and isinstance(op, Clone) and not op.hold


@dataclass(slots=True)
class _Lanes:
    """Both tracks as the listing goes down: there or not, and what each waits for."""

    glyphs: Glyphs
    last_of_child: int
    there: dict[Track, bool] = field(
        default_factory=lambda: {Track.PARENT: True, Track.CHILD: False}
    )
    waits_for: dict[Track, str | None] = field(default_factory=dict)
    sent: set[tuple[Track, str]] = field(default_factory=set)

    def row(self, placed: Placed) -> str:
        """The three columns of one step, and what it changes for the next."""
        track = placed.track
        other = Track.CHILD if track is Track.PARENT else Track.PARENT
        if track is Track.CHILD:
            self.there[track] = True
        sent, awaited = sent_sync(placed), awaited_sync(placed)
        if sent is not None:
            self.sent.add((track, sent))
            if self.waits_for.get(other) == sent:
                self.waits_for[other] = None
        self.waits_for[track] = None
        row = self._draw(placed, other, sent)
        if awaited is not None and (other, awaited) not in self.sent:
            self.waits_for[track] = awaited
        if _starts_child(placed):
            self.there[Track.CHILD] = True
        if track is Track.CHILD and placed.index == self.last_of_child:
            self.there[track] = False
        return row

    def _draw(self, placed: Placed, other: Track, sent: str | None) -> str:
        glyphs = self.glyphs
        mark = glyphs.step
        if awaited_sync(placed) is not None:
            mark = glyphs.wait
        elif sent == EXEC:
            mark = glyphs.end
        beside = " " if not self.there[other] else glyphs.runs
        if self.there[other] and self.waits_for.get(other):
            beside = glyphs.waits
        if placed.track is Track.CHILD:
            return f"{glyphs.left}{mark}" if sent is not None else f"{beside} {mark}"
        if _starts_child(placed):
            return f"{mark}{glyphs.fork}"
        return f"{mark}{glyphs.right}" if sent is not None else f"{mark} {beside}"


def lanes(plan: Plan, *, ascii: bool = False) -> Iterator[tuple[Placed, str]]:
    """Every step in the plan's order, with its lanes: always three columns."""
    last = max((placed.index for placed in plan.track(Track.CHILD)), default=0)
    state = _Lanes(ASCII if ascii else UNICODE, last)
    for placed in plan.steps():
        yield placed, state.row(placed)


def telling(rows: list[str]) -> str:
    """The row that stands for several: one where the tracks touch, else one with its own mark."""
    plain = {" ", *(m for g in (UNICODE, ASCII) for m in (g.step, g.runs, g.waits))}
    touching = [row for row in rows if row[1] != " "]
    marked = [row for row in rows if not set(row) <= plain]
    return (touching or marked or rows)[0]
