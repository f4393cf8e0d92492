"""What keeps a container of a stack is killed: ps tells it, and up and prune mend it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.support.box import wait_for
from tests.support.detached import is_dead
from tests.support.requires import requires
from tests.support.stacks import (
    Stacks,
    executor,  # noqa: F401 -- a fixture
    kill_who_locks,
    member,
)

pytestmark = requires("root")


def test_a_killed_monitor_and_keeper_are_told_and_mended(stacks: Stacks) -> None:
    containers = {"a": member(init=True), "b": member(init=True)}
    assert stacks.up(containers=containers).status == 0
    before = {name: one["id"] for name, one in stacks.ps().items()}
    kill_who_locks(Path("/run/nsrun/stacks/shop/lock"))
    kill_who_locks(Path("/run/nsrun/containers/shop-b/lock"))
    assert wait_for(lambda: stacks.ps()["shop-b"]["status"] == "dead")
    assert stacks.ps()["shop-a"]["status"] == "running"
    assert stacks.up(containers=containers).status == 0
    after = stacks.ps()
    assert {one["status"] for one in after.values()} == {"running"}
    # Who was not touched is the same container still.
    assert after["shop-a"]["id"] == before["shop-a"]
    assert after["shop-b"]["id"] != before["shop-b"]
    kill_who_locks(Path("/run/nsrun/stacks/shop/lock"))
    for name in ("shop-a", "shop-b"):
        kill_who_locks(Path(f"/run/nsrun/containers/{name}/lock"))
    assert wait_for(lambda: {one["status"] for one in stacks.ps().values()} == {"dead"})
    stacks.runner.run("prune").ok()
    assert stacks.ps() == {}


@pytest.mark.parametrize("first", ["keeper", "containers"])
def test_killed_commands_launchers_and_monitors_are_told_in_any_order(
    stacks: Stacks, first: str
) -> None:
    """With who keeps the stack dead before, or there to see it and killed after."""
    containers = {name: member(init=True) for name in ("command", "launcher", "monitor", "none")}
    assert stacks.up(containers=containers).status == 0
    pids = {name: one["pid"] for name, one in stacks.ps().items()}
    stat = Path(f"/proc/{pids['shop-launcher']}/stat").read_text()
    launcher = int(stat.rpartition(")")[2].split()[1])
    keeper = Path("/run/nsrun/stacks/shop/lock")
    if first == "keeper":
        kill_who_locks(keeper)
    os.kill(pids["shop-command"], signal.SIGKILL)
    os.kill(launcher, signal.SIGKILL)
    kill_who_locks(Path("/run/nsrun/containers/shop-monitor/lock"))
    told = {"shop-command": 137, "shop-launcher": 137, "shop-monitor": None, "shop-none": None}
    over = {"exited", "dead"}
    assert wait_for(lambda: [c["status"] in over for c in stacks.ps().values()].count(True) == 3)
    if first == "containers":
        kill_who_locks(keeper)
    found = stacks.ps()
    assert {name: one["exit_status"] for name, one in found.items()} == told
    assert (found["shop-monitor"]["status"], found["shop-none"]["status"]) == ("dead", "running")
    assert [name for name, pid in pids.items() if not is_dead(pid)] == ["shop-none"]
    assert stacks.up(containers=containers).status == 0
    assert {one["status"] for one in stacks.ps().values()} == {"running"}
    assert stacks.ps()["shop-none"]["pid"] == pids["shop-none"]


def test_an_interrupt_takes_back_what_is_coming_up_detached(stacks: Stacks) -> None:
    """It keeps the stack in a session of its own, where the terminal's signal does not come."""
    check = {"command": ["false"], "interval": "1s", "retries": 1000}
    containers = {
        "a": member(init=True, healthcheck=check),
        "b": member(depends_on={"a": {"condition": "healthy"}}),
    }
    with stacks.runner.start("up", "-d", stacks.write(containers=containers)) as waits:
        assert waits.stderr is not None
        while "shop-a running" not in (line := waits.stderr.readline()):
            assert line
        waits.send_signal(signal.SIGINT)
        said = waits.communicate(timeout=20)[1]
    assert waits.returncode in (-signal.SIGINT, 130)
    assert said == "shop-a stopping\nshop-a removed\n"
    assert stacks.ps() == {}
