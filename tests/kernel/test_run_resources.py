"""``resources`` on the machine's own hierarchies of cgroup version 1: what holds, what is left."""

from __future__ import annotations

import fcntl
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nsrun.host import cgroups
from tests.support.box import Box, wait_for
from tests.support.detached import Containers
from tests.support.hints import run_after, said
from tests.support.requires import requires

pytestmark = [requires("root"), pytest.mark.usefixtures("cgroups_alone")]

NAMESPACES = ["user", "mount", "pid", "ipc", "uts", "cgroup"]
PROC = {"type": "proc", "target": "/proc"}


def folder(controller: str) -> Path:
    found = cgroups.look().v1
    if controller not in found or not found[controller].writable:
        pytest.skip(f"no hierarchy of version 1 for {controller}")
    return Path(found[controller].path)


def left() -> list[str]:
    return [str(path) for path in Path("/sys/fs/cgroup").rglob("nsrun-*")]


@pytest.fixture
def limited(root_box: Box) -> Iterator[Box]:
    before = left()
    yield root_box.with_(name="limited", namespaces=NAMESPACES, mounts=[PROC])
    assert wait_for(lambda: left() == before)


def test_no_more_processes_than_allowed(limited: Box) -> None:
    folder("pids")
    forks = "for i in 1 2 3 4 5 6 7 8; do sleep 5 & done; wait"
    result = limited.run(forks, resources={"pids": 5})
    assert result.status != 0
    assert "fork" in result.stderr.lower()
    assert limited.run("for i in 1 2 3; do true & done; wait", resources={"pids": 5}).status == 0


def test_no_more_memory_than_allowed(limited: Box) -> None:
    folder("memory")
    # tail keeps what it will print.
    eats = "head -c 60000000 /dev/zero | tail -c 50000000 >/dev/null"
    limit = {"memory": "16m", "memory_swap": 0}
    assert limited.run(f"{eats}; echo $?", resources=limit).ok() == "137\n"
    assert limited.run(eats, resources={"memory": "256m"}).status == 0


def test_what_it_is_held_to_is_what_was_asked(limited: Box) -> None:
    """Seen from outside, while it runs."""
    resources: dict[str, Any] = {
        "memory": "64m", "pids": 9, "cpus": 0.5, "cpu_weight": 50, "cpuset": {"cpus": "0"},
    }  # fmt: skip
    files = {
        "memory/memory.limit_in_bytes": "67108864",
        "pids/pids.max": "9",
        "cpu/cpu.cfs_quota_us": "50000",
        "cpu/cpu.shares": "512",
        "cpuset/cpuset.cpus": "0",
    }
    places = {file: folder(file.partition("/")[0]) for file in files}
    with limited.running("echo there; read x", resources=resources) as running:
        assert running.line() == "there"
        for file, text in files.items():
            group = places[file] / "nsrun-limited"
            assert (group / file.partition("/")[2]).read_text().strip() == text
            assert (group / "cgroup.procs").read_text().split()
        assert running.end().status == 1


def test_it_sees_itself_at_the_root(limited: Box) -> None:
    folder("pids")
    for namespaces in (NAMESPACES, [n for n in NAMESPACES if n != "user"]):
        shown = limited.run(
            ["cat", "/proc/self/cgroup"], namespaces=namespaces, resources={"pids": 9}
        ).ok()
        paths = {line.split(":")[1]: line.split(":")[2] for line in shown.splitlines()}
        assert paths["pids"] == "/"
    outside = limited.run(
        ["cat", "/proc/self/cgroup"], namespaces=["mount", "pid"], resources={"pids": 9}
    ).ok()
    assert "/nsrun-limited\n" in outside


def test_a_second_of_one_name_is_told_who_is_in_it(limited: Box) -> None:
    group = folder("pids") / "nsrun-limited"
    with limited.running("echo there; read x", resources={"pids": 9}) as running:
        assert running.line() == "there"
        result = limited.run(["true"], resources={"pids": 9})
        assert result.status == 125
        inside = (group / "cgroup.procs").read_text().split()
        assert f"= why: {group} holds the processes {', '.join(inside[:3])}" in result.stderr
        assert inside == (group / "cgroup.procs").read_text().split()
        assert running.end().status == 1


def test_what_a_killed_one_left_goes_with_the_next(limited: Box) -> None:
    group = folder("pids") / "nsrun-limited"
    with limited.running("echo there; read x", resources={"pids": 9}) as running:
        assert running.line() == "there"
        running.process.send_signal(signal.SIGKILL)
        running.end()
    procs = group / "cgroup.procs"
    assert wait_for(lambda: not procs.exists() or not procs.read_text())
    assert limited.run(["true"], resources={"pids": 9}).status == 0


def test_a_prune_removes_what_no_start_holds(limited: Box) -> None:
    """One that is killed before anyone has entered the group leaves it empty, and young; so is
    that of a start under way."""
    group = folder("pids") / "nsrun-limited"
    group.mkdir()
    held = os.open(group, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(held, fcntl.LOCK_SH)
        assert str(group) not in limited.runner.run("prune").ok()
        assert group.exists()
    finally:
        os.close(held)
    assert f"control group {group}" in limited.runner.run("prune").ok()
    assert not group.exists()


def test_a_start_holds_its_groups(limited: Box) -> None:
    with limited.running("echo there; read x", resources={"pids": 9}) as running:
        assert running.line() == "there"
        group = os.open(folder("pids") / "nsrun-limited", os.O_RDONLY | os.O_DIRECTORY)
        try:
            with pytest.raises(BlockingIOError):
                fcntl.flock(group, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.close(group)


def test_an_empty_one_stands_in_no_way(limited: Box) -> None:
    (folder("pids") / "nsrun-limited").mkdir()
    assert limited.run(["true"], resources={"pids": 9}).status == 0


def test_a_limit_the_kernel_refuses_leaves_nothing(limited: Box) -> None:
    folder("cpuset")
    result = limited.run(["true"], resources={"cpuset": {"cpus": "4000"}, "pids": 9})
    assert result.status == 125
    assert "cannot limit cpuset.cpus to 4000" in result.stderr


@pytest.mark.parametrize(
    ("controller", "limit", "resources", "why"),
    [
        (
            "cpu",
            "echo 50000 >$G/cpu.cfs_quota_us",
            {"cpus": 0.8},
            "in which nsrun runs, may use 0.5 processors",
        ),
        (
            "cpuset",
            "echo 0 >$G/cpuset.mems && echo 0 >$G/cpuset.cpus",
            {"cpuset": {"cpus": "0-1"}},
            "in which nsrun runs, has no processors but 0",
        ),
    ],
)
def test_more_than_the_group_above_has_is_refused_with_its_limit(
    limited: Box, controller: str, limit: str, resources: dict[str, Any], why: str
) -> None:
    above = folder(controller) / f"test-above-{os.getpid()}"
    above.mkdir()
    try:
        script = f"G={above} && {limit} && echo $$ >$G/cgroup.procs"
        spec = limited.spec(command=["true"], resources=resources)
        result = run_after(limited.runner, script, "run", "--no-cache", spec)
        assert result.status == 125
        assert said(result).why == f"{above}, {why}"
    finally:
        above.rmdir()


def test_a_lower_limit_above_is_told(limited: Box) -> None:
    """Before the run, by doctor, and when it has been reached."""
    above = folder("memory") / f"test-above-{os.getpid()}"
    above.mkdir()
    try:
        script = f"echo 64m >{above}/memory.limit_in_bytes && echo $$ >{above}/cgroup.procs"
        eats = "head -c 130000000 /dev/zero | tail -c 120000000 >/dev/null; exit 4"
        spec = limited.spec(command=eats, resources={"memory": "96m", "memory_swap": 0})
        told = run_after(limited.runner, script, "run", "--no-cache", spec)
        assert told.status == 4
        warned, _, ended = told.stderr.partition("NS610")
        assert "warning[NS413]: a limit of 96m will not be reached: 64m hold" in warned
        assert "^^^" in warned
        assert f"why: {above}, in which nsrun runs, has 67108864 in memory.limit_in" in warned
        assert f"why: {above}, in which nsrun runs, is held to 64m, so that" in ended
        assert f"try: raise {above}/memory.limit_in_bytes" in ended
        asked = run_after(limited.runner, script, "doctor", spec)
        assert "warning[NS413]" in asked.stdout + asked.stderr and asked.status == 0
        assert "NS413" not in limited.runner.run("doctor", spec).stdout
    finally:
        assert wait_for(lambda: not (above / "cgroup.procs").read_text())
        above.rmdir()


def test_another_command_is_held_to_the_same(root_c: Containers) -> None:
    group = folder("pids") / "nsrun-c"
    root_c.up(["sleep", "60"], resources={"pids": 9}, namespaces=NAMESPACES)
    before = set((group / "cgroup.procs").read_text().split())
    assert before
    shown = root_c.ok("exec", "c", "--", "cat", "/proc/self/cgroup")
    assert "pids:/\n" in shown
    root_c.ok("kill", "c")
    assert wait_for(lambda: not group.exists())


def test_limits_are_changed_or_stay_as_they_were(root_c: Containers) -> None:
    pids, cpuset = folder("pids") / "nsrun-c", folder("cpuset") / "nsrun-c"
    memory = folder("memory") / "nsrun-c"
    root_c.up(
        ["sleep", "60"],
        resources={"pids": 9, "cpuset": {"cpus": "0"}, "memory": "64m", "memory_swap": 0},
    )
    assert root_c.ok("update", "--pids", "5", "c") == "c\n"
    assert (pids / "pids.max").read_text() == "5\n"
    # The second is refused by the kernel: the first is put back.
    result = root_c("update", "--pids", "7", "--cpuset-cpus", "4000", "c")
    assert result.status == 125
    assert "cannot limit cpuset.cpus to 4000" in result.stderr
    assert (pids / "pids.max").read_text() == "5\n"
    assert (cpuset / "cpuset.cpus").read_text() == "0\n"
    # Memory grows and shrinks together with its sum with swap.
    for size, text in (("128m", "134217728\n"), ("32m", "33554432\n")):
        root_c.ok("update", "--memory", size, "--memory-swap", "0", "c")
        for name in ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes"):
            assert (memory / name).read_text() == text
    shown = root_c.ok("update", "--plan", "--pids", "3", "c")
    assert 'write(%pids_max, "3")' in shown
    assert (pids / "pids.max").read_text() == "5\n"
    result = root_c("update", "--cpus", "1", "c")
    assert "error[NS401]: c has no control group for cpu" in result.stderr
    assert "--pids: " in root_c("update", "--pids", "none", "c").stderr
    root_c.ok("kill", "c")
    assert "NS605" in root_c("update", "--pids", "3", "c").stderr


def test_less_memory_than_is_used(root_c: Containers) -> None:
    """Version 1 refuses it: the cause is told, and the name stands for what was done alone."""
    memory = folder("memory") / "nsrun-c"
    script = "import time; a = b'a' * (20 << 20); print('up', flush=True); time.sleep(60)"
    root_c.up(
        ["/usr/bin/python3", "-I", "-S", "-c", script],
        resources={"memory": "64m", "memory_swap": 0},
    )
    root_c.until_said("up")
    result = root_c("update", "--memory", "4m", "--memory-swap", "0", "c", "nobody")
    assert (result.status, result.stdout) == (125, "")
    assert "cannot limit memory.limit_in_bytes to 4m: Device or resource busy" in result.stderr
    why = re.search(r"= why: memory.usage_in_bytes is (\d+)k after .* \((.*)\)\n", result.stderr)
    assert why is not None and 20 << 10 < int(why[1]) < 64 << 10, result.stderr
    assert why[2] == str(memory)
    assert (memory / "memory.limit_in_bytes").read_text() == f"{64 << 20}\n"


def test_a_device_is_what_its_permissions_let_it(limited: Box) -> None:
    folder("devices")
    script = "head -c 1 /dev/zero | wc -c; echo a >/dev/zero && echo written; echo a >/dev/null"
    control = limited.run(script, devices=["/dev/zero"]).ok()
    assert control.split() == ["1", "written"]
    result = limited.run(script, devices=[{"path": "/dev/zero", "permissions": "r"}])
    assert result.stdout.split() == ["1"]
    assert "/dev/zero" in result.stderr
