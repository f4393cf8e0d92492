"""What keeps a container of a stack is killed: ps tells it, and up and prune mend it."""

from __future__ import annotations

import signal
from pathlib import Path

from tests.support.box import wait_for
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
