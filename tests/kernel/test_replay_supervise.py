"""``Await`` against the kernel: signals, stopping, timeouts and PID 1."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from nsrun.kernel.abi import CloneFlag
from nsrun.kernel.values import Call, Int, Reg
from nsrun.plan.model import Plan
from nsrun.plan.ops import Op, Signal, Wait
from tests.support.replays import (
    INNER,
    OUTER,
    SECOND,
    Running,
    await_,
    call,
    command,
    exec_,
    gone,
    parent,
    run,
    sh,
    start,
)

pytestmark = pytest.mark.usefixtures("both_executors")

PID_NS = int(CloneFlag.CLONE_NEWPID)
HANDLER = "trap 'echo got; exit 3' {}; echo ready; while :; do /bin/busybox sleep 0.05; done"
# busybox sleep handles no signal and, as PID 1 of a namespace, gets none.
DEAF = exec_("/bin/busybox", "sh", "-c", "echo ready; exec /bin/busybox sleep 30")


def begun(the_plan: Plan) -> Running:
    running = start(the_plan)
    running.wait_output(b"ready\n")
    return running


def sleeps(launcher: int) -> None:
    """Wait until the shell of DEAF, which handles some signals, has executed sleep."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with open(f"/proc/{launcher}/task/{launcher}/children") as file:
            pid = file.read().split()[0]
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            if b"sleep" in file.read().split(b"\0"):
                return
        time.sleep(0.005)
    raise AssertionError("the command does not sleep")


def state(pid: int) -> str:
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0]


def child_of(pid: int) -> int:
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return int(file.read().split()[0])


def becomes(pid: int, wanted: str) -> bool:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        if state(pid) in wanted:
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize("name", ["INT", "HUP", "QUIT", "USR1", "USR2", "WINCH", "ALRM"])
def test_signals_are_forwarded_as_they_are(name: str) -> None:
    running = begun(command(*sh(HANDLER.format(name))))
    os.kill(running.pid, signal.Signals[f"SIG{name}"])
    outcome = running.outcome()
    assert (outcome.status, bytes(running.output)) == (3, b"ready\ngot\n")


@pytest.mark.parametrize("name", ["INT", "TERM", "QUIT", "HUP"])
def test_default_actions_end_the_command(name: str) -> None:
    number = signal.Signals[f"SIG{name}"]
    running = begun(command(*DEAF))
    sleeps(running.pid)
    os.kill(running.pid, number)
    outcome = running.outcome()
    assert (outcome.status, outcome.signal) == (128 + number, number)
    assert outcome.dropped_signal is None and outcome.started


def test_sigterm_becomes_the_stop_signal() -> None:
    supervise = await_(stop_signal=signal.SIGUSR1)
    running = begun(command(*sh(HANDLER.format("USR1")), supervise=supervise))
    os.kill(running.pid, signal.SIGTERM)
    assert running.outcome().status == 3


STUBBORN = sh("trap '' TERM INT; echo ready; while :; do /bin/busybox sleep 0.05; done")


def test_a_stop_that_is_ignored_ends_in_sigkill() -> None:
    running = begun(command(*STUBBORN, supervise=await_(stop_timeout=300_000_000)))
    sent = time.monotonic()
    os.kill(running.pid, signal.SIGTERM)
    outcome = running.outcome()
    assert (outcome.status, outcome.signal) == (137, signal.SIGKILL)
    assert 0.3 <= time.monotonic() - sent < 2
    assert (outcome.timed_out, outcome.dropped_signal) == (False, None)


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_the_second_stop_kills_at_once(second: int) -> None:
    running = begun(command(*STUBBORN, supervise=await_(stop_timeout=60 * SECOND)))
    os.kill(running.pid, signal.SIGTERM)
    time.sleep(0.1)
    assert state(running.pid) in "RS"
    os.kill(running.pid, second)
    assert running.outcome().status == 137


def test_timeout_stops_the_command() -> None:
    supervise = await_(timeout=200_000_000)
    began = time.monotonic()
    outcome = run(command(*DEAF, supervise=supervise))
    assert (outcome.status, outcome.timed_out) == (128 + signal.SIGTERM, True)
    assert 0.2 <= time.monotonic() - began < 2


def test_timeout_gives_the_command_its_last_word() -> None:
    supervise = await_(timeout=200_000_000)
    running = begun(command(*sh(HANDLER.format("TERM")), supervise=supervise))
    outcome = running.outcome()
    assert (outcome.status, outcome.timed_out) == (3, True)
    assert bytes(running.output) == b"ready\ngot\n"


def test_a_command_that_ends_in_time_is_not_timed_out() -> None:
    outcome = run(command(*sh("exit 4"), supervise=await_(timeout=30 * SECOND)))
    assert (outcome.status, outcome.timed_out) == (4, False)


# --- PID 1 -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["INT", "TERM", "QUIT", "HUP"])
def test_pid_1_without_a_handler_is_killed(name: str) -> None:
    """The kernel would drop the signal (pid_namespaces(7)), and nsrun seem to hang."""
    number = signal.Signals[f"SIG{name}"]
    running = begun(command(*DEAF, flags=PID_NS))
    sleeps(running.pid)
    sent = time.monotonic()
    os.kill(running.pid, number)
    outcome = running.outcome()
    assert (outcome.status, outcome.dropped_signal) == (137, number)
    assert time.monotonic() - sent < 2


def test_the_kernel_does_drop_it() -> None:
    """The control: the same signal, sent past nsrun, does nothing."""
    running = begun(command(*DEAF, flags=PID_NS))
    pid = child_of(running.pid)
    os.kill(pid, signal.SIGTERM)
    time.sleep(0.2)
    assert state(pid) == "S"
    os.kill(pid, signal.SIGKILL)
    assert running.outcome().status == 137


def test_pid_1_with_a_handler_gets_it() -> None:
    running = begun(command(*sh(HANDLER.format("TERM")), flags=PID_NS))
    os.kill(running.pid, signal.SIGTERM)
    outcome = running.outcome()
    assert (outcome.status, outcome.dropped_signal) == (3, None)


def test_pid_1_that_ignores_it_is_not_killed_at_once() -> None:
    supervise = await_(stop_timeout=300_000_000)
    running = begun(command(*STUBBORN, flags=PID_NS, supervise=supervise))
    os.kill(running.pid, signal.SIGINT)
    time.sleep(0.1)
    assert state(child_of(running.pid)) in "RSD"
    os.kill(running.pid, signal.SIGTERM)
    outcome = running.outcome()
    assert (outcome.status, outcome.dropped_signal) == (137, None)


SIGWAIT = """
import os, signal
os.write(1, b"ready\\n")
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
got = signal.sigwait({signal.SIGTERM})
os.write(1, b"got\\n")
os._exit(3)
"""


def test_pid_1_that_waits_for_it_gets_it() -> None:
    """sigwait(3), as tini does: /proc/PID/status shows neither a handler nor a mask."""
    python = shutil.which("python3", path="/usr/bin") or "/usr/bin/python3"
    running = begun(command(*exec_(python, "-I", "-S", "-c", SIGWAIT), flags=PID_NS))
    time.sleep(0.2)
    os.kill(running.pid, signal.SIGTERM)
    outcome = running.outcome()
    assert (outcome.status, outcome.dropped_signal) == (3, None)
    assert bytes(running.output) == b"ready\ngot\n"


# --- job control -----------------------------------------------------------------------------


def test_stop_and_continue() -> None:
    """Ctrl-Z stops the command and nsrun, fg continues both."""
    script = "echo ready; i=0; while [ $i -lt 20 ]; do i=$((i+1)); sleep 0.02; done; exit 5"
    running = begun(command(*sh(script)))
    pid = child_of(running.pid)
    os.kill(running.pid, signal.SIGTSTP)
    assert becomes(running.pid, "T") and becomes(pid, "T")
    time.sleep(0.3)
    os.kill(running.pid, signal.SIGCONT)
    assert running.outcome().status == 5


def test_a_command_that_stops_itself_is_waited_for() -> None:
    running = begun(command(*sh("echo ready; kill -STOP $$; exit 6")))
    pid = child_of(running.pid)
    assert becomes(pid, "T")
    os.kill(running.pid, signal.SIGCONT)
    assert running.outcome().status == 6


# --- what is collected -----------------------------------------------------------------------


def test_orphans_are_collected_while_the_command_runs(tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    script = f"(/bin/busybox sleep 0.1 & echo $! > {mark}); echo ready; sleep 20"
    running = begun(command(*sh(script)))
    pid = int(mark.read_text())
    deadline = time.monotonic() + 5
    while os.path.exists(f"/proc/{pid}") and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not os.path.exists(f"/proc/{pid}")
    os.kill(running.pid, signal.SIGTERM)
    assert running.outcome().status == 143


def test_sigkill_of_nsrun_ends_the_command() -> None:
    """PR_SET_PDEATHSIG is a step of the plan; the executor keeps what it set alive."""
    steps: tuple[Op, ...] = (call("prctl", 1, int(signal.SIGKILL)), *DEAF)
    running = begun(command(*steps))
    pid = child_of(running.pid)
    os.kill(running.pid, signal.SIGKILL)
    os.waitpid(running.pid, 0)
    os.close(running.result)
    os.close(running.stdout)
    assert gone(pid)


def test_a_signal_before_the_start_is_kept_for_the_command() -> None:
    """SIGUSR1 while the plan is replayed reaches the command, which handles it by its default."""
    pid = Reg("pid")
    middle = parent(
        call("getpid", save=pid),
        Call(name="kill", args=(pid, Int(signal.SIGUSR1))),
        Signal(sync="go", channel=OUTER),
    )
    outcome = run(command(Wait(sync="go", channel=INNER), *sh("sleep 10"), middle=(middle,)))
    assert (outcome.status, outcome.signal) == (128 + signal.SIGUSR1, signal.SIGUSR1)
