"""The stacks in specs/stacks that people copy do what their comments promise."""

from __future__ import annotations

import signal

import pytest

from tests.support.paths import SPECS
from tests.support.requires import requires
from tests.support.stacks import (
    Stacks,
    executor,  # noqa: F401 -- a fixture
    member,
)

pytestmark = requires("root", "ip", "ping", "busybox")


def test_the_ends_of_the_lab_reach_each_other_through_its_routers(stacks: Stacks) -> None:
    run = stacks.runner.run
    run("up", "-d", SPECS / "stacks/lab.yaml").ok()
    ping = ("--", "ping", "-nqc1", "-W1")
    # Of a time to live of 64, two routers take one each.
    shown = run("exec", "lab-alice", "--", "ping", "-nc1", "-W1", "10.93.3.10").ok()
    assert "ttl=62" in shown
    run("exec", "lab-bob", *ping, "10.93.1.10").ok()
    # No other way leads there.
    run("stop", "lab-r1").ok()
    assert run("exec", "lab-alice", *ping, "10.93.3.10").status == 1
    run("down", "lab").ok()
    assert stacks.ps() == {}


def test_the_rig_runs_to_completion(stacks: Stacks) -> None:
    run = stacks.runner.run
    told = run("up", "-d", SPECS / "stacks/rig.yaml")
    assert told.status == 0, str(told)
    order = [line for line in told.stderr.splitlines() if line.startswith("rig-")]
    assert order.index("rig-prepare exited (0)") < order.index("rig-server starting")
    assert order.index("rig-server healthy") < order.index("rig-client starting")
    assert run("wait", "rig-client").ok() == "0\n"
    assert run("logs", "rig-client").ok() == "the server says: ready\n"
    assert "running" in stacks.ps()["rig-server"]["status"]
    run("down", "--volumes", "rig").ok()
    assert list((stacks.folder / "volumes").rglob("*.html")) == []


@pytest.mark.parametrize(
    ("prepare", "status", "shown"),
    [
        ("echo ready > /mnt/index.html", 0, "client  | the server says: ready\n"),
        ("echo other > /mnt/index.html", 1, "client  | the server says: other\n"),
        ("exit 3", 1, ""),
    ],
)
def test_the_rig_ends_with_the_status_of_its_client(
    stacks: Stacks, prepare: str, status: int, shown: str
) -> None:
    """One that passes, one that fails, and one that could not be prepared."""
    text = (SPECS / "stacks/rig.yaml").read_text()
    text = text.replace("echo ready > /mnt/index.html", prepare)
    file = stacks.folder / "rig.yaml"
    file.write_text(text.replace("./base.yaml", str(SPECS / "stacks/base.yaml")))
    told = stacks.runner.run("up", "--exit-code-from", "client", file)
    assert told.status == status, str(told)
    assert told.stdout == shown
    # Its server would have gone on for ever, and never starts unprepared.
    assert ("rig-server stopping" in told.stderr) == bool(shown)
    assert ("error[NS609]" in told.stderr) != bool(shown)
    assert stacks.ps() == {}


def test_the_status_may_be_any_and_is_not_made_up(stacks: Stacks) -> None:
    run = stacks.runner.run
    containers = {
        "test": member(command="exit 42", restart={"policy": "on-failure", "max": 1}),
        "other": member(replicas=2),
    }
    file = stacks.write("rig", containers=containers)
    told = run("up", "--exit-code-from", "rig-test", file)
    assert told.status == 42, str(told)
    assert told.stderr.count("rig-test exited (42)") == 2
    unknown = run("up", "--exit-code-from", "tset", file)
    assert unknown.status == 1
    assert "error[NS605]: the stack rig has no container tset" in unknown.stderr
    several = run("up", "--exit-code-from", "other", file)
    assert "other stands for 2 containers of the stack rig" in several.stderr
    assert "rig-other-1, rig-other-2" in several.stderr
    assert run("up", "-d", "--exit-code-from", "test", file).status == 2
    assert stacks.ps() == {}


def test_a_test_that_is_interrupted_has_not_passed(stacks: Stacks) -> None:
    file = stacks.write("rig", containers={"test": member(command="echo begun; sleep 60")})
    process = stacks.runner.start("up", "--exit-code-from", "test", file)
    assert process.stdout is not None
    assert process.stdout.readline() == "test | begun\n"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 1
    assert stacks.ps() == {}
