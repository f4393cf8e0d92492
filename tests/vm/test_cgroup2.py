"""``resources`` where cgroup v2 is all there is: what is written, and what it does."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.support.box import Box, wait_for
from tests.support.detached import Containers
from tests.vm.conftest import TOP, enter

NAMESPACES = ["user", "mount", "pid", "ipc", "uts", "cgroup"]
PROC = {"type": "proc", "target": "/proc"}
DISK = Path("/dev/ram0")
ZERO = {"path": "/dev/zero", "permissions": "r"}


@pytest.fixture
def limited(root_box: Box) -> Box:
    return root_box.with_(name="limited", namespaces=NAMESPACES, mounts=[PROC])


def test_everything_is_as_it_was_asked(limited: Box) -> None:
    major_minor = f"{os.major(DISK.stat().st_rdev)}:{os.minor(DISK.stat().st_rdev)}"
    resources: dict[str, Any] = {
        "memory": "64m",
        "memory_swap": "8m",
        "pids": 9,
        "cpus": 0.5,
        "cpu_weight": 50,
        "cpuset": {"cpus": "1", "mems": "0"},
        "io": [{"device": str(DISK), "read_bps": "1m", "write_iops": 100}],
        "hugepages": {"2MB": "4m"},
        "unified": {"memory.high": "48m", "memory.oom.group": "1"},
    }
    files = {
        "memory.max": "67108864",
        "memory.swap.max": "8388608",
        "pids.max": "9",
        "cpu.max": "50000 100000",
        "cpu.weight": "50",
        "cpuset.cpus.effective": "1",
        "cpuset.mems.effective": "0",
        "io.max": f"{major_minor} rbps=1048576 wbps=max riops=max wiops=100",
        "hugetlb.2MB.max": "4194304",
        "memory.high": "50331648",
        "memory.oom.group": "1",
    }
    script = "cat /proc/self/cgroup; grep Cpus_allowed_list /proc/self/status; echo .; read x"
    with limited.running(script, resources=resources) as running:
        lines = [running.line() for _ in range(3)]
        assert lines[0] == "0::/"
        assert lines[1].split() == ["Cpus_allowed_list:", "1"]
        group = TOP / "nsrun-limited"
        found = {file: (group / file).read_text().strip() for file in files}
        assert found == files
        assert (group / "cgroup.procs").read_text().split()
        assert running.end().status == 1
    assert not group.exists()
