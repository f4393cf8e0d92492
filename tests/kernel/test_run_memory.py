"""What the kernel ends for want of memory is called so, from inside and outside, and nothing
else is; on the machine's own hierarchy of cgroup version 1."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from nsrun.host import cgroups
from tests.support.box import Box
from tests.support.detached import Containers
from tests.support.requires import requires

pytestmark = [requires("root"), pytest.mark.usefixtures("cgroups_alone")]

NAMESPACES = ["user", "mount", "pid", "ipc", "uts"]
PROC = {"type": "proc", "target": "/proc"}
HELD = {"memory": "8m", "memory_swap": 0}
# A line without an end, of which tail keeps all.
HOG = ["tail", "/dev/zero"]
ENDED = "memory limit 8m reached: the kernel ended "


@pytest.fixture
def limited(root_box: Box) -> Iterator[Box]:
    found = cgroups.look().v1.get("memory")
    if found is None or not found.writable:
        pytest.skip("no hierarchy of version 1 for memory")
    yield root_box.with_(name="limited", namespaces=NAMESPACES, mounts=[PROC], resources=HELD)


def test_the_command_ends_at_the_limit(limited: Box) -> None:
    result = limited.run(HOG)
    assert result.status == 137
    assert f"error[NS610]: {ENDED}the command" in result.stderr
    assert "asked for here" in result.stderr
    assert "8m" in result.stderr.splitlines()[3]


def test_a_child_ends_at_the_limit_and_the_command_goes_on(limited: Box) -> None:
    result = limited.run("tail /dev/zero; echo $?")
    assert (result.status, result.stdout) == (0, "137\n")
    assert f"warning[NS610]: {ENDED}a process of the container" in result.stderr


def test_who_is_killed_by_another_has_not_reached_the_limit(limited: Box) -> None:
    result = limited.run("kill -9 $$", namespaces=["mount"], mounts=[])
    assert (result.status, result.stderr) == (137, "")


@pytest.fixture
def kept(root_c: Containers) -> Containers:
    found = cgroups.look().v1.get("memory")
    if found is None or not found.writable:
        pytest.skip("no hierarchy of version 1 for memory")
    return root_c


def _is_oom(c: Containers) -> bool:
    known: bool = json.loads(c.ok("inspect", "c"))[0]["State"]["OOMKilled"]
    return known


def _events(c: Containers) -> list[str]:
    lines = c.ok("events", "--filter", "container=c", "--until", "0s", "--format", "json")
    return [json.loads(line)["Action"] for line in lines.splitlines()]


def test_one_left_running_is_known_to_have_ended_so(kept: Containers, tmp_path: Path) -> None:
    before, hungry = len(_events(kept)), tmp_path / "hungry"
    hungry.touch()
    script = f"test -e {hungry} && exec tail /dev/zero; exec sleep 60"
    kept.up(script, resources=HELD, namespaces=["mount", "pid"])
    kept.ok("wait", "c")
    kept.until_over()
    assert _is_oom(kept)
    shown = kept.ps()["c"]
    assert (shown["out_of_memory"], shown["exit_status"]) == (True, 137)
    assert "Exited (out of memory, 137)" in kept.ok("ps", "-a")
    assert f"stderr F error[NS610]: {ENDED}the command" in kept.said()
    assert _events(kept)[before:] == ["create", "start", "oom", "die"]
    # The next start knows nothing of it, and is killed by another.
    hungry.unlink()
    kept.ok("start", "c")
    assert not _is_oom(kept)
    kept.ok("kill", "c")
    kept.until_over()
    assert not _is_oom(kept)
    assert kept.ps()["c"]["exit_status"] == 137
    assert _events(kept)[before:].count("oom") == 1
