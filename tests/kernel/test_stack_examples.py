"""The stacks in specs/stacks that people copy do what their comments promise."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.test_stack import Stacks
from tests.support.box import wait_for
from tests.support.lab import Lab
from tests.support.paths import SPECS
from tests.support.requires import check, requires
from tests.support.runner import Runner

pytestmark = requires("root", "ip", "ping", "busybox")


@pytest.fixture(params=["native"])
def executor(request: pytest.FixtureRequest) -> str:
    """What a stack does with its containers is the same with both."""
    check(("native",))
    return str(request.param)


@pytest.fixture
def stacks(root: Runner, lab: Lab, area: Path) -> Iterator[Stacks]:
    made = Stacks(root, area)
    with lab.unchanged():
        yield made
        for name in ("lab", "rig"):
            made.down(name)


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
    ("prepare", "shown"),
    [("echo other > /mnt/index.html", "the server says: other\n"), ("exit 3", None)],
)
def test_the_rig_tells_a_failure(stacks: Stacks, prepare: str, shown: str | None) -> None:
    """A test that fails, and one that could not be prepared: it leaves nothing."""
    run = stacks.runner.run
    text = (SPECS / "stacks/rig.yaml").read_text()
    text = text.replace("echo ready > /mnt/index.html", prepare)
    file = stacks.folder / "rig.yaml"
    file.write_text(text.replace("./base.yaml", str(SPECS / "stacks/base.yaml")))
    told = run("up", "-d", file)
    if shown is None:
        assert told.status == 1
        assert "rig-prepare" in told.stderr and "rig-server starting" not in told.stderr
        assert stacks.ps() == {}
        return
    assert told.status == 0, str(told)
    assert wait_for(lambda: stacks.ps()["rig-client"]["status"] == "exited")
    assert run("wait", "rig-client").ok() == "1\n"
    assert run("logs", "rig-client").ok() == shown
