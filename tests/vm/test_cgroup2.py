"""``resources`` where cgroup v2 is all there is: what is written, and what it does."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.box import Box, wait_for
from tests.support.detached import Containers
from tests.support.paths import PYTHON
from tests.vm.conftest import TOP, enter

NAMESPACES = ["user", "mount", "pid", "ipc", "uts", "cgroup"]
PROC = {"type": "proc", "target": "/proc"}
DISK, SWAP = Path("/dev/ram0"), Path("/dev/ram1")
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
        assert running.end(60).status == 1
    assert not group.exists()


# --- what a limit does ---------------------------------------------------------------------------


def test_memory_ends_at_its_limit_and_swap_is_counted_apart(limited: Box) -> None:
    eats = "dd if=/dev/zero of=/dev/null bs=24M count=1 2>/dev/null; echo $?"
    hold = {"memory": "12m", "memory_swap": 0}
    result = limited.run(eats, resources=hold)
    assert (result.status, result.stdout) == (0, "137\n")
    told = "memory limit 12m reached: the kernel ended "
    assert f"warning[NS610]: {told}a process of the container" in result.stderr
    result = limited.run(eats.replace("dd", "exec dd", 1), resources=hold)
    assert result.status == 137
    assert f"error[NS610]: {told}the command" in result.stderr
    subprocess.run(["mkswap", SWAP], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["swapon", SWAP], check=True)
    try:
        assert limited.run(eats, resources=hold).stdout == "137\n"
        result = limited.run(eats, resources={**hold, "memory_swap": "256m"})
        assert (result.stdout, result.stderr) == ("0\n", "")
    finally:
        subprocess.run(["swapoff", SWAP], check=True)


def test_processes_and_time_end_at_their_limits(limited: Box) -> None:
    forks = "for i in 1 2 3 4 5 6 7 8; do sleep 5 & done; wait"
    result = limited.run(forks, resources={"pids": 5})
    assert result.status != 0
    assert "fork" in result.stderr.lower()
    busy = "i=0; while [ $i -lt 300 ]; do i=$((i+1)); done; echo there; read x"
    with limited.running(busy, resources={"pids": 5, "cpus": 0.05}) as running:
        assert running.line() == "there"
        told = (TOP / "nsrun-limited/cpu.stat").read_text().split()
        assert int(told[told.index("nr_throttled") + 1]) > 0
        running.end(60)


def test_a_disk_is_no_faster_than_allowed(limited: Box) -> None:
    reads = (
        "dd if=/dev/ram0 of=/dev/null bs=64k count=48 iflag=direct 2>/dev/null; cat /proc/uptime"
    )
    began = time.monotonic()
    limits = {"io": [{"device": str(DISK), "read_bps": "1m"}]}
    limited.run(reads, resources=limits).ok()
    # 3 MiB at 1 MiB/s: it can take longer, and without the limit it takes a moment.
    assert time.monotonic() - began > 2


def test_huge_pages_end_at_their_limit(limited: Box) -> None:
    Path("/proc/sys/vm/nr_hugepages").write_text("6")
    assert int(Path("/proc/sys/vm/nr_hugepages").read_text()) == 6
    program = (
        "import mmap, sys; size = int(sys.argv[1]) << 21\n"
        "at = mmap.mmap(-1, size, flags=0x40022)\n"  # MAP_HUGETLB|MAP_ANONYMOUS|MAP_PRIVATE
        "for page in range(0, size, 1 << 21): at[page] = 1\n"
        "print('touched')\n"
    )
    keys: dict[str, Any] = {"resources": {"hugepages": {"2MB": "4m"}}}
    assert limited.run([PYTHON, "-c", program, "2"], **keys).ok() == "touched\n"
    result = limited.run([PYTHON, "-c", program, "4"], **keys)
    assert result.status == 128 + signal.SIGBUS, str(result)
    Path("/proc/sys/vm/nr_hugepages").write_text("0")


def test_a_device_is_what_its_permissions_let_it(limited: Box) -> None:
    script = "head -c 1 /dev/zero | wc -c; echo a >/dev/zero && echo written; echo a >/dev/null"
    assert limited.run(script, devices=["/dev/zero"]).ok().split() == ["1", "written"]
    result = limited.run(script, devices=[ZERO], resources={"pids": 9})
    assert result.stdout.split() == ["1"]
    assert "/dev/zero: Operation not permitted" in result.stderr


# --- its life --------------------------------------------------------------------------------


@pytest.mark.parametrize("executor", ["native", "python"])
def test_what_has_left_the_tree_ends_with_the_group(limited: Box, executor: str) -> None:
    """Without a pid namespace nobody but the group knows of them."""
    script = "for i in 1 2 3; do setsid sleep 987 </dev/null >/dev/null 2>&1 & done; echo done"
    limited = limited.as_(env={"NSRUN_EXECUTOR": executor})
    result = limited.run(script, namespaces=["mount"], mounts=None, resources={"pids": 9})
    assert (result.status, result.stdout, result.stderr) == (0, "done\n", "")
    assert not (TOP / "nsrun-limited").exists()


def test_a_file_that_the_kernel_refuses_leaves_nothing(limited: Box) -> None:
    for file, text in (("memory.high", "soon"), ("memory.nothing", "1")):
        result = limited.run(["true"], resources={"pids": 9, "unified": {file: text}})
        assert result.status == 125
        assert f"cannot limit {file} to {text}" in result.stderr
        assert not (TOP / "nsrun-limited").exists()


def test_limits_change_and_commands_join(root_c: Containers) -> None:
    group = TOP / "nsrun-c"
    root_c.up(["sleep", "600"], resources={"pids": 9, "memory": "64m"}, namespaces=NAMESPACES)
    assert root_c.ok("exec", "c", "--", "cat", "/proc/self/cgroup") == "0::/\n"
    root_c.ok("update", "--pids", "5", "--memory", "32m", "c")
    assert (group / "pids.max").read_text() == "5\n"
    assert (group / "memory.max").read_text() == "33554432\n"
    # The second is refused by the kernel: the first is put back.
    result = root_c("update", "--pids", "7", "--cpuset-cpus", "4000", "c")
    assert result.status == 125
    assert (group / "pids.max").read_text() == "5\n"
    root_c.ok("kill", "c")
    assert wait_for(lambda: not group.exists())


def test_all_in_the_group_are_stopped_and_ended_by_it(root_c: Containers) -> None:
    group = TOP / "nsrun-c"
    root_c.up(["sleep", "600"], resources={"pids": 9}, namespaces=["mount"], mounts=[])
    # As a daemon that was started there by `nsrun exec`: of another tree of processes.
    with subprocess.Popen(["sleep", "601"]) as stray:
        (group / "cgroup.procs").write_text(str(stray.pid))
        root_c.ok("pause", "c")
        assert "frozen 1" in (group / "cgroup.events").read_text()
        assert root_c.ps()["c"]["status"] == "paused"
        root_c.ok("unpause", "c")
        assert "frozen 0" in (group / "cgroup.events").read_text()
        assert root_c.ps()["c"]["status"] == "running"
        # A paused one is ended all the same.
        root_c.ok("pause", "c")
        root_c.ok("kill", "c")
        assert stray.wait(60) == -signal.SIGKILL
    assert wait_for(lambda: not group.exists(), 60)


# --- where it may be -------------------------------------------------------------------------


@pytest.fixture
def delegated(user_box: Box, session: Path) -> Iterator[Path]:
    """A group that belongs to the user, as systemd delegates one; the user is in one below it."""
    user = user_box.runner.user
    # Whatever other tests had given on: not the disks.
    (TOP / "cgroup.subtree_control").write_text("+memory +pids +cpu -io")
    made = TOP / "user"
    login = made / "login"
    login.mkdir(parents=True)
    for folder in (made, login):
        for path in (folder, *(folder / name for name in _DELEGATED)):
            os.chown(path, user.uid, user.gid)
    enter(login)
    yield made
    enter(session)
    login.rmdir()
    made.rmdir()


# The kernel's own list: /sys/kernel/cgroup/delegate, as far as nsrun needs it.
_DELEGATED = ("cgroup.procs", "cgroup.threads", "cgroup.subtree_control")


def test_a_user_limits_in_what_is_delegated(user_box: Box, delegated: Path) -> None:
    box = user_box.with_(name="mine", namespaces=NAMESPACES, mounts=[PROC])
    resources = {"pids": 9, "memory": "32m"}
    with box.running("cat /proc/self/cgroup; read x", resources=resources) as running:
        assert running.line() == "0::/"
        group = delegated / "nsrun-mine"
        assert (group / "pids.max").read_text() == "9\n"
        assert (group / "memory.max").read_text() == "33554432\n"
        assert len((group / "cgroup.procs").read_text().split()) == 1
        assert running.end(60).status == 1
    assert not group.exists()
    # What was not given to the user it cannot give on, and a program takes rights it has not.
    assert "NS401" in box.refused(resources={"io": [{"device": str(DISK), "read_bps": 9}]})
    assert "NS402" in box.refused(devices=[ZERO])


def test_a_user_limits_nothing_elsewhere(user_box: Box, session: Path) -> None:
    said = user_box.refused(name="mine", namespaces=NAMESPACES, resources={"pids": 9})
    assert "error[NS402]: no control group can be made in /sys/fs/cgroup" in said
    assert "systemd-run --user --scope -p Delegate=yes" in said


def test_a_group_with_processes_beside_limits_nothing(root_box: Box, session: Path) -> None:
    """The rule of no internal processes: another is in the group that ours would be made in."""
    below = session / "below"
    below.mkdir()
    with subprocess.Popen(["sleep", "600"]) as other:
        try:
            enter(below)
            said = root_box.refused(name="limited", resources={"pids": 9}, namespaces=["mount"])
        finally:
            other.kill()
            enter(session)
    below.rmdir()
    assert f"processes are in {session} itself" in said
    assert "systemd-run --scope -p Delegate=yes" in said
