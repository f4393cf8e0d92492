"""Taking back what the parent's actions made, last first."""

from __future__ import annotations

from nsrun.plan.model import UndoWhen
from nsrun.plan.ops import Spawn
from nsrun.replay.outcome import State, UndoFailure
from nsrun.replay.parent import ParentTrack
from nsrun.replay.program import Prepared
from nsrun.replay.step import StepError, UnsetRegisterError, describe, internal


def undo(track: ParentTrack, *, failed: bool) -> tuple[UndoFailure, ...]:
    """Run the undo steps of every action that is done; all of them, whichever fail.

    An action that failed half-way is not among them: its own steps are to leave nothing behind
    that a later one needs. ``failed``: nsrun failed or was interrupted before the command ran;
    only then are undo steps for FAILURE run.
    """
    failures: list[UndoFailure] = []
    for prepared in reversed(track.done):
        if prepared.action.undo_when is UndoWhen.END or failed:
            failures += _undo_action(track, prepared)
    return tuple(failures)


def _undo_action(track: ParentTrack, prepared: Prepared) -> list[UndoFailure]:
    """Where the launcher is killed while it undoes, its heir does not start a second time what has
    run; calls may be made twice."""
    failures: list[UndoFailure] = []
    count, through = len(prepared.undo), track.recorder.undone(prepared.number)
    if through == count:
        return failures
    for index, (op, runnable) in enumerate(zip(prepared.action.undo, prepared.undo, strict=True)):
        if index < through and isinstance(op, Spawn):
            continue
        skips = False
        try:
            result = runnable.run(track.registers)
        except UnsetRegisterError:
            # The step that makes it was left out: there is nothing to take back.
            pass
        except StepError as error:
            failures.append(_failure(prepared, index, error))
        except Exception as error:
            failures.append(_failure(prepared, index, internal(describe(error))))
        else:
            track.note_close(op)
            skips = result.state is State.SKIPPED
        track.recorder.note_undone(prepared.number, count if skips else index + 1)
        if skips:
            break
    return failures


def _failure(prepared: Prepared, index: int, error: StepError) -> UndoFailure:
    return UndoFailure(
        action=prepared.number,
        step=index,
        what=prepared.action.what,
        kind=error.kind,
        errno=error.errno,
        value=error.value,
        text=error.text.decode("utf-8", "backslashreplace"),
    )
