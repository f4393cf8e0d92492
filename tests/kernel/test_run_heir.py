"""SIGKILL to nsrun: what it had made on the host is taken back all the same."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.box import Box, wait_for
from tests.support.host import unchanged
from tests.support.requires import requires

ALL = ["user", "mount", "pid", "ipc", "uts", "network"]
MADE = {
    "namespaces": ALL,
    "mounts": [{"type": "tmpfs", "target": "/made/point"}, {"type": "tmpfs", "target": "/mnt"}],
    "files": {"/made/file": {"content": "text"}},
}


@pytest.mark.parametrize("init", [False, True], ids=["plain", "init"])
@pytest.mark.parametrize("group", [False, True], ids=["alone", "group"])
def test_made_mount_points_of_a_killed_run(
    box: Box, own_root: Path, init: bool, group: bool
) -> None:
    """Also where a shell kills the whole job (kill(2), negative pid)."""
    keys = {**MADE, "rootfs": str(own_root), "init": init}
    file = box.spec(command="echo up; exec sleep 300", **keys)
    with unchanged(own_root):
        process = box.runner.start(file, start_new_session=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        assert (own_root / "made/point").exists(), "the control: something is there to be left"
        (os.killpg if group else os.kill)(process.pid, signal.SIGKILL)
        process.communicate(timeout=10)


def sleeping_hook(box: Box) -> dict[str, object]:
    """A prestart hook that waits until the test has done its part."""
    sleeper = box.folder / "sleeper"
    sleeper.write_text("#!/bin/sh\nexec sleep 5\n")
    sleeper.chmod(0o755)
    return {"prestart": [{"path": str(sleeper), "env": ["PATH=/usr/bin:/bin"]}]}


def test_a_kill_before_the_command_runs(box: Box, own_root: Path) -> None:
    hooks = sleeping_hook(box)
    file = box.spec(command="echo ran", rootfs=str(own_root), hooks=hooks, **MADE)
    with unchanged(own_root):
        process = box.runner.start(file)
        assert wait_for((own_root / "made/point").exists)
        process.kill()
        stdout, _ = process.communicate(timeout=10)
    assert stdout == ""


@pytest.fixture
def pin(root_box: Box) -> Iterator[Path]:
    file = root_box.folder / "uts.ns"
    yield file
    while is_mounted(file):  # a failing test must not leave it
        subprocess.run(["umount", "-l", file], check=True)


def is_mounted(file: Path) -> bool:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return any(line.split(" ")[4] == str(file) for line in lines)


@requires("root")
def test_a_start_that_is_killed_pins_nothing(root_box: Box, pin: Path) -> None:
    hooks = sleeping_hook(root_box)
    namespaces = [{"type": "uts", "pin": str(pin)}]
    file = root_box.spec(command="echo ran", namespaces=namespaces, hooks=hooks)
    with unchanged(root_box.folder):
        process = root_box.runner.start(file)
        assert wait_for(lambda: is_mounted(pin)), "the control"
        process.kill()
        process.communicate(timeout=10)


@requires("root")
def test_what_was_pinned_stays_when_the_command_ran(root_box: Box, pin: Path) -> None:
    namespaces = [{"type": "uts", "pin": str(pin)}]
    with root_box.running("echo up; exec sleep 300", namespaces=namespaces) as running:
        assert running.line() == "up"
        running.process.kill()
        running.end()
    assert not wait_for(lambda: not is_mounted(pin), patience=0.3)
    root_box.runner.run("unpin", pin).ok()
    assert not pin.exists()


def test_poststop_hooks_run_after_a_kill(box: Box) -> None:
    log = box.folder / "log"
    hook = {"path": "/bin/sh", "args": ["sh", "-c", f"echo stopped >> {log}"]}
    keys = {"namespaces": ["user", "pid"], "hooks": {"poststop": [hook]}}
    with box.running("echo up; exec sleep 300", **keys) as running:
        assert running.line() == "up"
        running.process.kill()
        running.end()
    assert wait_for(log.exists)
    assert log.read_text() == "stopped\n"


def test_nothing_is_undone_twice(box: Box) -> None:
    log = box.folder / "log"
    hook = {"path": "/bin/sh", "args": ["sh", "-c", f"echo stopped >> {log}"]}
    keys = {"namespaces": ["user", "pid"], "hooks": {"poststop": [hook]}}
    with unchanged():
        assert box.runner.run(box.spec(command="exit 3", **keys)).status == 3
    assert log.read_text() == "stopped\n"


def test_what_has_been_undone_is_not_undone_again(box: Box) -> None:
    """The launcher is killed while its second hook runs: of that nobody knows how far it has come,
    and it runs again."""
    log, goes = box.folder / "log", box.folder / "goes"
    slow = f"echo slow >> {log}; until [ -e {goes} ]; do sleep 0.02; done; echo end >> {log}"
    hooks = [
        {"path": "/bin/sh", "args": ["sh", "-c", text], "env": ["PATH=/usr/bin:/bin"]}
        for text in (f"echo first >> {log}", slow)
    ]
    keys = {"namespaces": ["user", "pid"], "hooks": {"poststop": hooks}}
    with unchanged():
        process = box.runner.start(box.spec(command="true", **keys))
        assert wait_for(lambda: log.exists() and "slow" in log.read_text())
        process.kill()
        process.wait(timeout=10)
        assert wait_for(lambda: log.read_text().count("slow") == 2)
        goes.touch()
        process.communicate(timeout=10)
    assert log.read_text() == "first\nslow\nslow\nend\n"
