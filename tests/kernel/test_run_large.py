"""What is as large as spec and kernel allow: times beyond poll(2), very many arguments."""

from __future__ import annotations

import signal

import pytest

from nsrun.spec.units import MAX_DURATION
from tests.kernel.test_replay_helpers import shell
from tests.support.box import Box
from tests.support.replays import command, parent, run, sh
from tests.support.requires import requires
from tests.support.runner import Result

pytestmark = requires("busybox")

# poll(2) counts milliseconds in an int, which is 24 days; a moment is an s64 of nanoseconds.
LONG = ["720h", f"{MAX_DURATION}ns"]


@pytest.mark.parametrize("time", LONG)
def test_a_long_timeout_is_not_over_at_once(box: Box, time: str) -> None:
    result = box.run("sleep 0.1; echo done", namespaces=["user"], timeout=time)
    assert result == Result(status=0, stdout="done\n", stderr="")


@pytest.mark.parametrize("time", LONG)
def test_a_long_stop_timeout_is_not_over_at_once(box: Box, time: str) -> None:
    command = "trap 'sleep 0.2; echo bye; exit 5' TERM; echo up; while :; do sleep 0.05; done"
    with box.running(command, namespaces=["user"], stop_timeout=time) as running:
        assert running.line() == "up"
        running.process.send_signal(signal.SIGTERM)
        result = running.end()
    assert (result.status, result.stdout) == (5, "bye\n")


@pytest.mark.usefixtures("both_executors")
@pytest.mark.parametrize("time", [720 * 3600 * 10**9, MAX_DURATION])
def test_a_helper_with_much_time(time: int) -> None:
    outcome = run(command(*sh("exit 4"), middle=(parent(shell("sleep 0.1", timeout=time)),)))
    assert (outcome.status, outcome.failure) == (4, None)


def test_a_hundred_thousand_arguments(box: Box) -> None:
    words = [str(number) for number in range(100_000)]
    spec = box.spec(namespaces=["user"], command=["true"])
    result = box.runner.run(spec, "--", "/bin/busybox", "sh", "-c", "echo $#", *words)
    assert result.ok() == "99999\n"
