"""The classic experiments: what a person would look at, inside, and unchanged outside."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.support.box import (
    copy_specs,
    mounts_left,
    namespaces,
    own_ids,
    top_mounts,
    watching_mounts,
)
from tests.support.host import unchanged
from tests.support.requires import requires
from tests.support.runner import Runner

KINDS = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")
LINKS = "for n in cgroup ipc mnt net pid time user uts; do readlink /proc/self/ns/$n; done"


def run(runner: Runner, spec: Path, *command: str, stdin: str | None = None) -> str:
    with unchanged(spec.parent):
        return runner.run(spec, *(("--", *command) if command else ()), stdin=stdin).ok()


def links_inside(runner: Runner, spec: Path) -> dict[str, str]:
    """The namespaces of a command of the spec, by their names in /proc."""
    lines = run(runner, spec, "/bin/sh", "-c", LINKS).split()
    return dict(zip(KINDS, lines, strict=True))


def assert_new(runner: Runner, spec: Path, *names: str) -> None:
    """The command is in new namespaces of just these kinds."""
    inside, outside = links_inside(runner, spec), namespaces()
    if not runner.user.is_caller or runner.mounts != "caller":
        outside["mnt"] = ""  # an ordinary user is started in a copy of ours
        assert "mnt" in names or inside["mnt"]
        inside["mnt"] = inside["mnt"] if "mnt" in names else ""
    different = {name for name in KINDS if inside[name] != outside[name]}
    assert different == set(names)


def test_uts(anyone: Runner, seeds: Path) -> None:
    outside = os.uname().nodename
    assert run(anyone, seeds / "uts.yaml") == "In Namespace\n"
    assert os.uname().nodename == outside
    assert_new(anyone, seeds / "uts.yaml", "user", "uts")


def test_a_new_uts_namespace_begins_with_the_callers_name(anyone: Runner, seeds: Path) -> None:
    spec = seeds / "uts.yaml"
    spec.write_text(spec.read_text().replace("hostname: In Namespace\n", ""))
    assert run(anyone, spec) == os.uname().nodename + "\n"


def test_ipc(anyone: Runner, seeds: Path) -> None:
    made = subprocess.run(["ipcmk", "-Q"], check=True, capture_output=True, text=True).stdout
    queue = made.split()[-1]
    try:
        outside = subprocess.run(["ipcs", "-q"], check=True, capture_output=True).stdout
        printed = run(anyone, seeds / "ipc.yaml").splitlines()
        assert printed[0] == "before: 0 queues"
        assert printed[-1] == "after:  1 queues"
        assert subprocess.run(["ipcs", "-q"], check=True, capture_output=True).stdout == outside
    finally:
        subprocess.run(["ipcrm", "-q", queue], check=True)
    assert_new(anyone, seeds / "ipc.yaml", "user", "ipc")


@pytest.mark.parametrize(
    ("make", "show"), [(["-S", "1"], "-s"), (["-M", "4096"], "-m")], ids=["semaphores", "memory"]
)
def test_other_objects_of_ipc(anyone: Runner, seeds: Path, make: list[str], show: str) -> None:
    made = subprocess.run(["ipcmk", *make], check=True, capture_output=True, text=True).stdout
    try:
        outside = subprocess.run(["ipcs", show], check=True, capture_output=True).stdout
        script = f"ipcs {show} | grep -c 0x; ipcmk {' '.join(make)} >&2; ipcs {show} | grep -c 0x"
        assert run(anyone, seeds / "ipc.yaml", "/bin/sh", "-c", script).split() == ["0", "1"]
        assert subprocess.run(["ipcs", show], check=True, capture_output=True).stdout == outside
    finally:
        subprocess.run(["ipcrm", show, made.split()[-1]], check=True)


def test_pid(anyone: Runner, seeds: Path) -> None:
    printed = run(anyone, seeds / "pid.yaml").splitlines()
    assert printed[:2] == ["process id: 1", "parent:     0"]
    # /proc is the host's, so this Python process is seen in it.
    assert int(re.findall(r"\d+", printed[2])[0]) > 2
    assert_new(anyone, seeds / "pid.yaml", "user", "pid")


def test_mount(anyone: Runner, seeds: Path) -> None:
    spec = seeds / "mount.yaml"
    first, *numbers, line = run(anyone, spec).splitlines()
    assert first == "process id: 1"
    # The shell, ls and grep, which may not have begun.
    assert numbers in (["1", "2", "3"], ["1", "2"])
    assert top_mounts(line)["/proc"].type == "proc"
    assert Path(f"/proc/{os.getpid()}").exists()
    assert_new(anyone, spec, "user", "mnt", "pid")


def test_user(root: Runner, root_seeds: Path) -> None:
    outside = os.uname().nodename
    with unchanged(root_seeds):
        result = root.run(root_seeds / "user.yaml")
    assert result.ok().splitlines()[0].startswith("uid=0(root) gid=0(root)")
    assert result.stdout.splitlines()[1].split() == ["0", "1000", "1"]
    assert "hostname:" in result.stderr, "root inside must not rename the host"
    assert os.uname().nodename == outside
    assert_new(root, root_seeds / "user.yaml", "user")


def test_root_inside_is_1000_outside(root: Runner, root_seeds: Path) -> None:
    folder = root_seeds / "made"
    folder.mkdir()
    os.chown(folder, 1000, 1000)
    root.run(root_seeds / "user.yaml", "--", "touch", folder / "file").ok()
    assert (folder / "file").stat().st_uid == 1000


@requires("userns")
def test_user_without_privilege(ordinary: Runner, area: Path) -> None:
    specs = copy_specs(area, ordinary)
    spec = specs / "seeds/user.yaml"
    me = ordinary.user
    own_ids(specs, me)
    printed = run(ordinary, spec).splitlines()
    assert printed[0].startswith("uid=0(root) gid=0(root)")
    assert printed[1].split() == ["0", str(me.uid), "1"]
    ordinary.run(spec, "--", "touch", me.home / "file").ok()
    assert (me.home / "file").stat().st_uid == me.uid


def test_unmapped(anyone: Runner, seeds: Path) -> None:
    """Ids without a number inside are the overflow ids, and execve takes every capability."""
    seen = run(anyone, seeds / "unmapped.yaml").split()
    assert seen == ["65534", "65534", "0", "CapEff:", "0000000000000000"]
    assert_new(anyone, seeds / "unmapped.yaml", "user")


def test_signals_from_inside_do_not_reach_process_1(anyone: Runner, seeds: Path) -> None:
    spec = seeds / "signals.yaml"
    with unchanged(seeds):
        result = anyone.run(spec)
    assert result.stdout.splitlines() == ["sent to 1: TERM, KILL", "process 1 is still there"]
    # From outside it is ended: by SIGKILL, as SIGTERM has no handler there, and that is said.
    assert result.status == 137
    assert "NS603" in result.stderr and "NS604" in result.stderr
    spec.write_text(spec.read_text().replace("command: |", "init: true\ncommand: |"))
    with unchanged(seeds):
        mended = anyone.run(spec)
    assert mended.status == 143, str(mended)
    assert "NS604" not in mended.stderr


@requires("timens")
def test_time(anyone: Runner, seeds: Path) -> None:
    before = float(Path("/proc/uptime").read_text().split()[0])
    uptime, *offsets = run(anyone, seeds / "time.yaml").splitlines()
    after = float(Path("/proc/uptime").read_text().split()[0])
    assert before + 86400 - 0.01 <= float(uptime.split()[0]) <= after + 86400 + 0.01
    assert [line.split() for line in offsets] == [
        ["monotonic", "3600", "0"],
        ["boottime", "86400", "0"],
    ]
    assert_new(anyone, seeds / "time.yaml", "user", "time")


def test_capabilities(anyone: Runner, seeds: Path) -> None:
    lines = run(anyone, seeds / "capabilities.yaml").splitlines()
    found = dict(line.split(":\t") for line in lines)
    assert found == {
        "CapInh": "0000000000000000",
        "CapPrm": "0000000000000401",
        "CapEff": "0000000000000401",
        "CapBnd": "0000000000000401",
        "CapAmb": "0000000000000000",
        "NoNewPrivs": "1",
    }


def states(runner: Runner, spec: Path) -> str:
    """The states of the processes as letters, in no order that means anything."""
    lines = run(runner, spec).splitlines()
    assert all(line.startswith("State:\t") for line in lines)
    return "".join(sorted(line[7] for line in lines))


def test_reaping(anyone: Runner, seeds: Path) -> None:
    assert "Z" not in states(anyone, seeds / "init.yaml")


def test_nobody_reaps_without_init(anyone: Runner, seeds: Path) -> None:
    assert states(anyone, seeds / "no-init.yaml").count("Z") == 1


def test_the_two_differ_by_one_line(seeds: Path) -> None:
    def settings(name: str) -> list[str]:
        lines = (seeds / name).read_text().splitlines()
        return [line for line in lines if not line.startswith("#")]

    with_init = settings("init.yaml")
    with_init.remove("init: true")
    assert with_init == settings("no-init.yaml")


CONNECT = """
import socket
s = socket.socket()
s.settimeout(2)
try:
    s.connect(("127.0.0.1", 9))
except OSError as error:
    print(type(error).__name__, error.errno)
"""


def connect(runner: Runner, spec: Path) -> str:
    return run(runner, spec, "/usr/bin/env", "python3", "-S", "-c", CONNECT).strip()


def test_loopback_up(anyone: Runner, seeds: Path) -> None:
    spec = seeds / "loopback-up.yaml"
    assert run(anyone, spec).splitlines() == ["lo:", "127.0.0.1", "127.0.0.1"][:2]
    # Nobody listens: the port is there to refuse (ECONNREFUSED 111).
    assert connect(anyone, spec) == "ConnectionRefusedError 111"
    assert_new(anyone, spec, "user", "net")


def test_loopback_down(anyone: Runner, seeds: Path) -> None:
    spec = seeds / "loopback-down.yaml"
    assert run(anyone, spec).splitlines() == ["lo:"]
    # ENETUNREACH 101: Network is unreachable
    assert connect(anyone, spec) == "OSError 101"
    assert_new(anyone, spec, "user", "net")


@pytest.mark.parametrize("propagation", ["private", "shared"])
def test_the_host_keeps_its_mounts(anyone: Runner, seeds: Path, propagation: str) -> None:
    """Also where / is shared, as systemd makes it: nothing leaks out, nor is left."""
    runner = watching_mounts(anyone.with_(mounts=propagation), seeds)
    for name in ("mount", "shared", "shared-and-slave"):
        runner.run(seeds / f"{name}.yaml").ok()
        assert mounts_left(seeds) == [], name
