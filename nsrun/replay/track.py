"""Running one action of a track: enter, run, record, each step in turn."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from nsrun.replay.outcome import State
from nsrun.replay.program import Prepared, Step
from nsrun.replay.step import GOES_ON, Recorder, Result, StepError, describe, internal

_T = TypeVar("_T")


class TrackError(Exception):
    """A step failed: which one, and how."""

    def __init__(self, step: Step, error: StepError) -> None:
        super().__init__(step.index)
        self.step = step
        self.error = error


def run_action(
    prepared: Prepared,
    execute: Callable[[Step], Result],
    recorder: Recorder,
    before: Callable[[], None] | None = None,
) -> bool:
    """Run the steps in order; True where at least one had an effect. Raises TrackError.

    A step that is SKIPPED ends the action: the rest is recorded as left out. Where ``before``
    fails, the first has failed.
    """
    effect = False
    if before is not None:
        _attempt(prepared.steps[0], lambda _: before(), recorder)
    for position, step in enumerate(prepared.steps):
        recorder.enter(step.track, step.index)
        result = _attempt(step, execute, recorder)
        if result is not GOES_ON:
            recorder.leave(step.track, step.index, result)
        if result.state is State.SKIPPED:
            for rest in prepared.steps[position + 1 :]:
                recorder.left_out(rest.track, rest.index)
            return effect
        effect = True
    return effect


def _attempt(step: Step, execute: Callable[[Step], _T], recorder: Recorder) -> _T:
    try:
        return execute(step)
    except StepError as error:
        failure = error
    except Exception as error:
        failure = internal(describe(error))
    recorder.leave(step.track, step.index, Result(State.FAILED, failure.value, failure.errno))
    raise TrackError(step, failure)
