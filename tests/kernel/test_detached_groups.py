"""Containers left running that have a control group: stopped, ended, counted and entered by it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from nsrun.host import cgroups
from tests.support.box import wait_for
from tests.support.detached import Containers, is_dead
from tests.support.requires import requires

pytestmark = [requires("root"), pytest.mark.usefixtures("cgroups_alone")]

PIDS = {"pids": 20}


def folder(controller: str) -> Path:
    found = cgroups.look().v1
    if controller not in found or not found[controller].writable:
        pytest.skip(f"no hierarchy of version 1 for {controller}")
    return Path(found[controller].path) / "nsrun-c"


@pytest.fixture
def c(root_c: Containers) -> Containers:
    folder("freezer")
    return root_c


def _members(group: Path) -> set[int]:
    return set(map(int, (group / "cgroup.procs").read_text().split()))


def _states(c: Containers) -> set[str]:
    return {row["state"] for row in json.loads(c.ok("top", "c", "--format", "json"))}


def test_a_paused_one_is_stopped_by_its_group(c: Containers) -> None:
    group = folder("freezer")
    script = "trap 'echo noticed' CONT; n=0; while :; do n=$((n+1)); echo $n; sleep 0.005; done"
    c.up(script, resources=PIDS)
    c.until_said(" F 1\n")
    assert (group / "freezer.state").read_text() == "THAWED\n"
    assert c.ok("pause", "c") == "c\n"
    assert (group / "freezer.state").read_text() == "FROZEN\n"
    assert c.ps()["c"]["status"] == "paused"
    assert "(Paused)" in c.ok("ps")
    # Not by a signal: that is state T.
    # A zombie waits for its parent, which is stopped.
    assert _states(c) <= {"D", "S", "Z"}
    size = len(c.log())
    result = c("exec", "c", "--", "true")
    assert result.status == 125
    assert "error[NS607]: the container c is paused" in result.stderr
    assert len(c.log()) == size
    assert c.ok("unpause", "c") == "c\n"
    assert c.ps()["c"]["status"] == "running"
    assert wait_for(lambda: len(c.log()) > size)
    assert "noticed" not in c.log()
    # A paused one is stopped or killed all the same.
    c.ok("pause", "c")
    c.ok("kill", "c")
    c.until_over()
    assert not group.exists()
    assert c.ps()["c"]["exit_status"] == 137


@pytest.mark.parametrize("words", [("kill",), ("stop", "-t", "0"), ("rm", "-f")])
def test_its_end_is_that_of_all_in_its_group(c: Containers, words: tuple[str, ...]) -> None:
    """Without a pid namespace whoever was started by another than the first process is nobody's."""
    group = folder("freezer")
    c.up(["sleep", "60"], resources=PIDS, namespaces=["mount"], mounts=[], stop_signal="SIGURG")
    first = c.pid()
    # As a daemon that was started there by `nsrun exec`.
    stray = os.posix_spawn("/bin/sleep", ["sleep", "61"], {})
    (group / "cgroup.procs").write_text(str(stray))
    try:
        assert stray in {row["pid"] for row in json.loads(c.ok("top", "c", "--format", "json"))}
        c(*words, "c")
        assert os.WTERMSIG(os.waitpid(stray, 0)[1]) == 9
        stray = 0
    finally:
        if stray:
            os.kill(stray, 9)
            os.waitpid(stray, 0)
    assert wait_for(lambda: is_dead(first))
    assert wait_for(lambda: not group.exists())


def test_another_command_counts_to_the_limit_and_is_listed(c: Containers) -> None:
    memory = folder("memory")
    hold: dict[str, Any] = {"memory": "16m", "memory_swap": 0}
    c.up(["sleep", "60"], resources={**hold, "pids": 9})
    before = _members(memory)
    assert before == {c.pid()}
    # Of the group, the one that uses most is ended.
    assert c("exec", "c", "--", "tail", "/dev/zero").status == 137
    assert _members(memory) == before
    assert c.ps()["c"]["status"] == "running"
    with c.runner.start("exec", "c", "--", "sh", "-c", "echo in; exec sleep 62") as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "in\n"
        shown = json.loads(c.ok("top", "c", "--format", "json"))
        assert "sleep 62" in {row["command"] for row in shown}
        assert {row["pid"] for row in shown} == _members(memory)
        (use,) = json.loads(c.ok("stats", "c", "--format", "json"))
        assert (use["memory_limit"], use["processes"]) == (16 << 20, 2)
        assert 0 < use["memory"] <= int((memory / "memory.usage_in_bytes").read_text()) + (1 << 20)
        assert "/ 16.0 MiB" in c.ok("stats", "c")
        other.terminate()
    c.ok("kill", "c")
    c.until_over()
    known = json.loads(c.ok("inspect", "c"))[0]["State"]
    assert known["OOMKilled"] is True
