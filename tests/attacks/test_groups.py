"""Attacks by control groups: what a container makes below its own, so that it outlives its end."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from nsrun.host import cgroups, subgroups
from tests.support.box import Box
from tests.support.detached import Containers, is_dead
from tests.support.requires import requires

pytestmark = [requires("root"), pytest.mark.usefixtures("cgroups_alone")]

# Groups of hostile names, and one too deep for a path.
MAKE = r"""
cd /pids/nsrun-c && mkdir -p "a b/$(printf '\033[2J')/c" ./-rf d || exit 1
i=0; while [ $i -lt 30 ]; do mkdir -p deep/e/e/e/e && cd deep || exit 1; i=$((i+1)); done
echo up; read x
"""
# One in the freezer, stopped with a process in it that dies when it goes on (version 1),
# and until then neither does the first process of its pid namespace.
STOP = r"""
mkdir /freezer/nsrun-c/stopped && cd /freezer/nsrun-c/stopped || exit 1
sleep 61 & echo $! >cgroup.procs && echo FROZEN >freezer.state
until grep -q FROZEN freezer.state; do sleep 0.01; done
echo up; sleep 60
"""


def hierarchies() -> dict[str, Path]:
    found = {}
    for name in ("pids", "freezer"):
        folder = cgroups.look().v1.get(name)
        if folder is None or not folder.writable:
            pytest.skip(f"no hierarchy of version 1 for {name}")
        found[name] = Path(folder.path)
    return found


@pytest.fixture
def keys() -> dict[str, Any]:
    """Its own groups, within reach; root without a user namespace may make others there."""
    mounts = [
        {"type": "bind", "source": str(path), "target": f"/{name}"}
        for name, path in hierarchies().items()
    ]
    spaces = ["mount", "ipc"]
    return {"name": "c", "namespaces": spaces, "resources": {"pids": 40}, "mounts": mounts}


def test_groups_of_a_containers_own_go_with_it(root_box: Box, keys: dict[str, Any]) -> None:
    left = [path / "nsrun-c" for path in hierarchies().values()]
    with root_box.running(MAKE, **keys) as running:
        assert running.line() == "up"
        with pytest.raises(OSError) as caught:
            left[0].rmdir()
        assert caught.value.errno == errno.EBUSY, "the control: one call does not remove it"
        ended = running.end()
    assert (ended.status, ended.stderr) == (1, "")
    assert not any(path.exists() for path in left)


STOP_NEW = r"""
cd /mnt/nsrun-c && mkdir -p 'a b/c' d && sleep 64 & pid=$!
until [ -d /mnt/nsrun-c/d ]; do sleep 0.01; done
cd /mnt/nsrun-c && echo $pid >d/cgroup.procs && echo 1 >d/cgroup.freeze && echo up; read x
"""


def test_the_same_on_version_2(root_box: Box) -> None:
    found = cgroups.look().v2
    if found is None or "hugetlb" not in found.controllers or not found.writable:
        pytest.skip("no hierarchy of version 2 with a controller that this test asks for")
    group = Path(found.path) / "nsrun-c"
    mounts = [{"type": "bind", "source": found.path, "target": "/mnt"}]
    with root_box.running(
        STOP_NEW, name="c", namespaces=["mount", "ipc"], mounts=mounts,
        resources={"hugepages": {"2MB": "4m"}},
    ) as running:  # fmt: skip
        assert running.line() == "up"
        (frozen,) = map(int, (group / "d/cgroup.procs").read_text().split())
        with pytest.raises(OSError) as caught:
            group.rmdir()
        assert caught.value.errno == errno.EBUSY, "the control: one call does not remove it"
        ended = running.end()
    assert (ended.status, ended.stderr) == (1, "")
    assert not group.exists()
    assert is_dead(frozen)


def test_who_is_stopped_in_a_group_below_ends(root_c: Containers, keys: dict[str, Any]) -> None:
    left = [path / "nsrun-c" for path in hierarchies().values()]
    mounts = [{"type": "proc", "target": "/proc"}, *keys["mounts"]]
    spaces = ["mount", "pid", "ipc"]
    root_c.up(STOP, **{**keys, "namespaces": spaces, "mounts": mounts})
    root_c.until_said("up")
    (frozen,) = map(int, (left[1] / "stopped/cgroup.procs").read_text().split())
    os.kill(frozen, signal.SIGKILL)
    assert (left[1] / "stopped/freezer.state").read_text() == "FROZEN\n"
    assert not is_dead(frozen), "the control: the signal alone does not end it"
    assert root_c.ok("kill", "c") == "c\n"
    root_c.until_over()
    assert is_dead(frozen)
    assert not any(path.exists() for path in left)


def test_a_command_that_came_in_ends_with_its_container(root_c: Containers) -> None:
    """In a container without a pid namespace nobody ends what `nsrun exec` has started there."""
    left = [path / "nsrun-c" for path in hierarchies().values()]
    goes = root_c.box.folder / "goes"
    waits = f"until [ -e {goes} ]; do sleep 0.02; done"
    root_c.up(waits, resources={"pids": 20}, namespaces=["mount"], mounts=[])
    script = "echo $$; trap '' TERM HUP; exec sleep 62"
    with root_c.runner.start("exec", "c", "--", "/bin/sh", "-c", script) as other:
        assert other.stdout is not None
        pid = int(other.stdout.readline())
        assert not is_dead(pid), "the control: the end of another does not end it"
        goes.touch()
        root_c.until_over()
        assert other.wait(10) == 128 + signal.SIGKILL
    assert not any(path.exists() for path in left)
    assert "NS504" not in root_c.ok("logs", "c")


def test_what_a_killed_run_has_left_is_removed_where_nobody_is_in_it() -> None:
    group = hierarchies()["pids"] / f"nsrun-left-{os.getpid()}"
    (group / "a b/c").mkdir(parents=True)
    pid = os.posix_spawn("/bin/sleep", ["sleep", "63"], {})
    try:
        (group / "a b/c/cgroup.procs").write_text(str(pid))
        assert subgroups.members(str(group)) == {pid}
        assert not subgroups.is_unused(str(group))
        assert not subgroups.remove_unused(str(group)), "the control: it is in use"
        assert (group / "a b/c").exists() and not is_dead(pid)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert subgroups.remove_unused(str(group))
    assert not group.exists()
    for path in (group.parent, group.parent / "other", "/tmp/nsrun-x"):
        with pytest.raises((ValueError, FileNotFoundError)):
            subgroups.end(str(path))
