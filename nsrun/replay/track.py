"""Running one action of a track: enter, run, record, each step in turn."""

from __future__ import annotations

from collections.abc import Callable

from nsrun.replay.outcome import State
from nsrun.replay.program import Prepared, Step
from nsrun.replay.step import GOES_ON, Recorder, Result, StepError, describe, internal


class TrackError(Exception):
    """A step failed: which one, and how."""

    def __init__(self, step: Step, error: StepError) -> None:
        super().__init__(step.index)
        self.step = step
        self.error = error


def run_action(prepared: Prepared, execute: Callable[[Step], Result], recorder: Recorder) -> bool:
    """Run the steps in order; True where at least one had an effect. Raises TrackError.

    A step that is SKIPPED ends the action: the rest is recorded as left out.
    """
    effect = False
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


def _attempt(step: Step, execute: Callable[[Step], Result], recorder: Recorder) -> Result:
    try:
        return execute(step)
    except StepError as error:
        failure = error
    except Exception as error:
        failure = internal(describe(error))
    recorder.leave(step.track, step.index, Result(State.FAILED, failure.value, failure.errno))
    raise TrackError(step, failure)
