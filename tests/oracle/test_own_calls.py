"""Calls that are no step of the plan but the executor's own: a run does not go on without them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.oracle.traced import Run, driver
from tests.support.requires import requires
from tests.support.runner import Runner

pytestmark = requires("strace")

BASE = {"namespaces": ["user", "pid"], "command": ["sh", "-c", "echo ran"]}


def faulty(runner: Runner, fault: str, **keys: Any) -> Run:
    """A run with a fault in every process; strace lets go of each at its execve."""
    spec = runner.user.home / "spec.yaml"
    spec.write_text(json.dumps({**BASE, **keys}))
    with driver(runner, spec, runner.user.home) as made:
        assert made.run("-b", "execve").status == 0, "the control: without the fault it runs"
        return made.run("-b", "execve", "-e", f"inject={fault}")


@pytest.mark.parametrize("when", [1, 3])
def test_what_pid_1_cannot_do_is_told(root: Runner, when: int) -> None:
    """It answers signals and collects orphans, or the command does not run."""
    run = faulty(root, f"rt_sigaction:error=EPERM:when={when}", init=True)
    assert run.status == 125
    assert "EPERM" in run.stderr
    assert run.seconds < 2


def test_no_helper_runs_with_open_descriptors(root: Runner) -> None:
    log = root.user.home / "log"
    hook = {"path": "/bin/sh", "args": ["sh", "-c", f"echo hook >> {log}"]}
    run = faulty(root, "close_range:error=EIO:when=1", hooks={"prestart": [hook]})
    assert (run.status, run.stdout) == (125, ""), run.stderr
    assert "EIO" in run.stderr
    assert log.read_text() == "hook\n", "the control alone has run the hook"
