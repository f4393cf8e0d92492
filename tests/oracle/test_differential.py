"""Two executors, one contract: strace sees the plan in a run of every spec, and of both executors
the same calls, step by step."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from nsrun.plan.model import Track
from tests.oracle.expected import NETLINK_BODY, expected, match
from tests.oracle.faults import by_process, child_of
from tests.oracle.strace import Traced
from tests.oracle.traced import Driver, driver
from tests.support.box import copy_specs
from tests.support.examples import FOR_ROOT, RUNNABLE
from tests.support.places import networks_for, place_for
from tests.support.requires import check, requires
from tests.support.runner import Runner

pytestmark = requires("strace")

# What is another in each run: pids, descriptors, addresses and inode numbers, times.
# A message's bytes hold a pid in native order; which message it is the match has seen.
_BYTES = re.compile(r'iov_base="(?:[^"\\]|\\.)*"')
_RESULT = re.compile(r"\) += .*")
_NUMBER = re.compile(r"0x[0-9a-f]+|\d+")


@pytest.fixture
def executor() -> str:
    """Both, in each test."""
    return ""


def shape(call: Traced) -> str:
    """A call and its arguments without what differs from run to run."""
    text = _BYTES.sub("iov_base", _RESULT.sub(")", call.text))
    if "nlmsg_len" in text:
        text = NETLINK_BODY.sub("body", text)
    return _NUMBER.sub("N", text)


Steps = dict[str, tuple[str, str, str]]


def steps(made: Driver, executor: str) -> Steps:
    """Each step of the plan by its address: the call's name, its errno, its shape.

    Fails where the trace of the run lacks one. What depends on who else runs now is left out: that
    a name is taken (bind(2), EADDRINUSE) is no error, and a message of the launcher may wait
    already when its end is looked at.
    """
    run = made.run(executor=executor)
    calls = by_process(run.calls)
    found: dict[str, Traced] = {}
    for track, pid in ((Track.PARENT, run.launcher), (Track.CHILD, child_of(run))):
        wanted = expected(made.plan, track)
        of_track = match(wanted, calls, pid)
        assert of_track, track
        last = list(of_track)[-1]
        assert last == wanted[-1].address or of_track[last].name == "execve", run.stderr
        found |= of_track
    return {address: _comparable(call) for address, call in found.items()}


def _comparable(call: Traced) -> tuple[str, str, str]:
    if "MSG_PEEK" in call.text:
        return call.name, "", ""
    return call.name, "" if call.name in ("bind", "listen") else call.errno, shape(call)


COMPARED = [*RUNNABLE, "service.yaml"]
# Each with one of the two users, in turn; with both in `make matrix`.
_ALL = os.environ.get("NSRUN_MATRIX") == "1"
AS_USER = [s for s in COMPARED if s not in FOR_ROOT][:: 1 if _ALL else 2]
AS_ROOT = COMPARED if _ALL else [s for s in COMPARED if s not in AS_USER]


@pytest.mark.parametrize("name", [*AS_ROOT, *networks_for("root")])
def test_the_same_calls_as_root(root: Runner, area: Path, name: str) -> None:
    compare(root, area, name)


@pytest.mark.parametrize("name", [*AS_USER, *networks_for("ordinary")])
def test_the_same_calls_as_a_user(ordinary: Runner, area: Path, name: str) -> None:
    compare(ordinary, area, name)


def test_the_same_calls_of_a_pin_and_a_join(root: Runner, area: Path) -> None:
    """The one leaves a mount on the host, which the other needs."""
    check(("native",))
    seeds = copy_specs(area, root) / "seeds"
    found = []
    for executor in ("python", "native"):
        with driver(root, seeds / "pin.yaml", root.user.home) as made:
            pin = steps(made, executor)
        try:
            with driver(root, seeds / "join.yaml", root.user.home) as made:
                found.append([pin, steps(made, executor)])
        finally:
            subprocess.run(["umount", seeds / "uts.ns"], check=True)
            (seeds / "uts.ns").unlink()
    for python, native in zip(*found, strict=True):
        same(python, native)


def compare(runner: Runner, area: Path, name: str) -> None:
    with (
        place_for(name, runner, area) as place,
        driver(runner, place.spec, runner.user.home) as made,
    ):
        python = steps(made, "python")
        check(("native",))
        same(python, steps(made, "native"))


def same(python: Steps, native: Steps) -> None:
    assert len(native) >= 8
    assert list(native.items()) == list(python.items())
