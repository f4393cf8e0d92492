"""No more descriptors, processes or room: whose limit it is, as it is now."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from nsrun.host import cgroups
from tests.support.box import Box
from tests.support.detached import Containers
from tests.support.hints import run_after, said
from tests.support.requires import requires

KEYS = {"namespaces": ["user", "mount"]}


def test_no_more_open_files(box: Box, executor: str) -> None:
    del executor
    limited = box.runner.with_(wrapper=("prlimit", "--nofile=7"), env={"NSRUN_EXECUTOR": "native"})
    result = limited.run("run", "--no-cache", box.spec(command="true", **KEYS))
    assert result.status == 125 and "(EMFILE)" in result.stderr
    found = said(result)
    assert found.why == "nsrun may have 7 files open at once (RLIMIT_NOFILE)"
    assert found.tips


def test_no_more_processes_of_a_user(user_box: Box) -> None:
    limited = user_box.runner.with_(wrapper=("prlimit", "--nproc=1"))
    found = said(limited.run("run", "--no-cache", user_box.spec(command="true", **KEYS)))
    assert "threads and may have 1 (RLIMIT_NPROC)" in found.why


@requires("root")
@pytest.mark.usefixtures("cgroups_alone")
def test_no_more_processes_of_a_group(root_box: Box) -> None:
    pids = cgroups.look().v1.get("pids")
    if pids is None or not pids.writable:
        pytest.skip("no hierarchy of version 1 for pids")
    above = Path(pids.path) / f"test-above-{os.getpid()}"
    above.mkdir()
    try:
        script = f"echo $$ >{above}/cgroup.procs && echo 1 >{above}/pids.max"
        spec = root_box.spec(command="true", **KEYS)
        found = said(run_after(root_box.runner, script, "run", "--no-cache", spec))
        assert found.why == f"{above}, in which nsrun runs, has 1 processes and may have 1"
        assert f"raise {above}/pids.max" in found.tips
    finally:
        above.rmdir()


def _pids_folder() -> Path:
    pids = cgroups.look().v1.get("pids")
    if pids is None or not pids.writable:
        pytest.skip("no hierarchy of version 1 for pids")
    return Path(pids.path)


@requires("root")
@pytest.mark.usefixtures("cgroups_alone")
def test_an_init_alone_fills_its_group(root_box: Box) -> None:
    group = _pids_folder() / "nsrun-small"
    kinds, proc = ["user", "mount", "pid"], [{"type": "proc", "target": "/proc"}]
    spec = root_box.spec(
        command="true", name="small", namespaces=kinds, mounts=proc, init=True,
        resources={"pids": 1},
    )  # fmt: skip
    found = said(root_box.runner.run("run", "--no-cache", spec))
    assert found.why == f"pids.max is 1, and nsrun's own processes in it are 2 ({group})"
    assert found.tips.startswith("resources: {pids: 2} at the least")
    assert not group.exists()


@requires("root")
@pytest.mark.usefixtures("cgroups_alone")
def test_another_command_in_a_full_group(root_c: Containers) -> None:
    group = _pids_folder() / "nsrun-c"
    script = "sleep 60 & sleep 60 & sleep 60 & echo up; wait"
    root_c.up(script, namespaces=["mount", "pid"], resources={"pids": 20})
    root_c.until_said("up")
    root_c.ok("update", "--pids", "2", "c")
    found = said(root_c("exec", "c", "--", "true"))
    assert found.why == f"pids.max is 2, 4 processes are in it ({group})"
    assert found.tips == "nsrun update --pids 6 c"
    # There was room for one: the other is nsrun's own, between the launcher and the command.
    root_c.ok("update", "--pids", "5", "c")
    found = said(root_c("exec", "c", "--", "true"))
    assert found.why.endswith(f"4 processes are in it ({group}), and nsrun begins with 2 more")
    root_c.ok(*found.tips.split()[1:])
    assert root_c("exec", "c", "--", "true").status == 0


def test_no_more_room(root_box: Box) -> None:
    """A mount point that has to be made in what is full."""
    source = root_box.folder / "full"
    source.mkdir()
    mounts = [
        {"type": "bind", "source": str(source), "target": "/mnt"},
        {"type": "tmpfs", "target": "/mnt/in"},
    ]
    spec = root_box.spec(command="true", namespaces=["mount"], mounts=mounts)
    full = f"mount -t tmpfs -o nr_inodes=1 none {source}"
    found = said(run_after(root_box.runner, full, spec))
    assert found.why == f"the file system on {source} (tmpfs) has no inode left"
    shutil.rmtree(source)
