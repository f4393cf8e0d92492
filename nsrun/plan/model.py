"""The plan: pure data, the same bytes for the same spec and facts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from nsrun.diag import Span
from nsrun.plan.ops import Op

FORMAT = 1
# How an action begins whose undo steps fail where the kernel has ended a process of the container
# for want of memory; the limit follows, where there is one.
MEMORY_LIMIT = "watch the memory limit"


class Track(StrEnum):
    """Which process replays an action: the caller's, or the one that becomes the command."""

    PARENT = "parent"
    CHILD = "child"


class UndoWhen(StrEnum):
    """When undo steps run: after every end of the run, or only if nsrun itself failed."""

    END = "end"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Why an action is there: a place in the spec, or the rule that implied it (or both)."""

    span: Span | None = None
    path: str = ""
    rule: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """What a person would say in one breath, and the steps that do it.

    ``undo`` runs in the parent's track, in the order given, when the action has succeeded
    and the run ends; actions are undone last first.
    """

    track: Track
    what: str
    origin: Origin
    steps: tuple[Op, ...]
    undo: tuple[Op, ...] = ()
    undo_when: UndoWhen = UndoWhen.END


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The spec a plan was made from: its file as given, and the SHA-256 of its text (hex)."""

    file: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a replay needs: oldest kernel ("5.15"), machine (uname -m), and named features."""

    kernel: str
    machine: str
    root: bool
    features: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Placed:
    """A step with its address: ``p4`` is step 4 of the parent's track, ``c9`` of the child's."""

    track: Track
    index: int
    action: Action
    op: Op

    @property
    def address(self) -> str:
        return f"{self.track.value[0]}{self.index}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """An ordered program. Each track runs its own actions in order; only syncs order the two."""

    name: str
    source: Source
    needs: Needs
    actions: tuple[Action, ...]
    format: int = FORMAT

    def steps(self) -> Iterator[Placed]:
        """Every step in the plan's order, with its address."""
        index = {Track.PARENT: 0, Track.CHILD: 0}
        for action in self.actions:
            for op in action.steps:
                yield Placed(action.track, index[action.track], action, op)
                index[action.track] += 1

    def track(self, track: Track) -> tuple[Placed, ...]:
        return tuple(placed for placed in self.steps() if placed.track is track)
