"""Exit statuses, records and failures as data."""

from __future__ import annotations

import errno
import pickle

import pytest

from nsrun.plan.model import Track
from nsrun.replay.outcome import Failure, Kind, Outcome, State, Trace, errno_name, exec_status
from nsrun.replay.step import Recorder, Result


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("ENOENT", 127),
        ("ENOTDIR", 127),
        ("EACCES", 126),
        ("ENOEXEC", 126),
        ("EPERM", 126),
        ("EISDIR", 126),
        ("ELOOP", 126),
        ("ETXTBSY", 126),
        ("ELIBBAD", 126),
        ("EINVAL", 126),
        ("E2BIG", 126),
        ("ENAMETOOLONG", 126),
        ("ENOMEM", 125),
        ("EIO", 125),
    ],
)
def test_exec_status(name: str, status: int) -> None:
    assert exec_status(getattr(errno, name)) == status


def test_errno_names() -> None:
    assert errno_name(errno.EACCES) == "EACCES"
    assert errno_name(0) == ""
    assert errno_name(5000) == "5000"


def test_the_record_round_trips() -> None:
    recorder = Recorder(2, 3)
    recorder.enter(Track.CHILD, 1)
    assert recorder.result(Track.CHILD, 1).state is State.ENTERED
    recorder.leave(Track.CHILD, 1, Result(State.ACCEPTED, -1, errno.ENOENT))
    recorder.enter(Track.PARENT, 1)
    recorder.leave(Track.PARENT, 1, Result(State.DONE, -(2**63)))
    recorder.left_out(Track.CHILD, 2)
    trace = recorder.close()
    assert [r.state for r in trace.results(Track.PARENT)] == [State.NOT_REACHED, State.DONE]
    assert trace.result(Track.PARENT, 1).result == -(2**63)
    accepted = trace.result(Track.CHILD, 1)
    assert (accepted.state, accepted.result, accepted.errno_name) == (State.ACCEPTED, -1, "ENOENT")
    assert 0 < accepted.start <= accepted.end
    left_out = trace.result(Track.CHILD, 2)
    assert (left_out.state, left_out.start, left_out.end) == (State.LEFT_OUT, 0, 0)
    for index in (-1, 3):
        with pytest.raises(IndexError, match="no step"):
            trace.result(Track.CHILD, index)


def test_a_live_record_changes_and_a_copy_does_not() -> None:
    recorder = Recorder(1, 0)
    live, copy = recorder.live(), recorder.close()
    recorder.enter(Track.PARENT, 0)
    assert live.result(Track.PARENT, 0).state is State.ENTERED
    assert copy.result(Track.PARENT, 0).state is State.NOT_REACHED


def test_a_plan_without_steps_has_a_record() -> None:
    assert Recorder(0, 0).close().results(Track.CHILD) == ()
    assert Trace().results(Track.PARENT) == ()


def test_addresses() -> None:
    assert Failure(track=Track.CHILD, index=9, kind=Kind.ERRNO).address == "c9"
    assert Failure(track=Track.PARENT, index=-1, kind=Kind.INTERNAL).address == ""


def test_outcomes_can_be_pickled() -> None:
    outcome = Outcome(status=125, trace=Recorder(1, 1).close())
    assert pickle.loads(pickle.dumps(outcome)) == outcome  # noqa: S301 - its own
