"""How a run ends: exit statuses, and nothing left however nsrun itself is ended."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.box import Box, mounts_left, wait_for, watching_mounts
from tests.support.host import unchanged
from tests.support.requires import requires

ALL = ["user", "mount", "pid", "ipc", "uts", "network", "cgroup"]
SIMPLE = {"namespaces": ["user"]}


# --- the command's own end -------------------------------------------------------------------


@pytest.mark.parametrize("status", [0, 1, 2, 100, 125, 126, 127, 255])
def test_the_commands_status(root_box: Box, status: int) -> None:
    result = root_box.run(f"exit {status}", **SIMPLE)
    assert (result.status, result.stderr) == (status, "")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGHUP])
def test_128_and_the_signal(box: Box, number: signal.Signals) -> None:
    assert box.run(f"ulimit -c 0; kill -{int(number)} $$", **SIMPLE).status == 128 + number


# --- not started -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("program", "status", "errno"),
    [
        ("/no/such/program", 127, "ENOENT"),
        ("no-such-program", 127, "ENOENT"),
        ("/etc/passwd/program", 127, "ENOTDIR"),
        ("/etc/passwd", 126, "EACCES"),
        ("/etc", 126, "EACCES"),
    ],
)
def test_a_command_that_cannot_run(boxed: Box, program: str, status: int, errno: str) -> None:
    result = boxed.run([program])
    assert (result.status, result.stdout) == (status, "")
    assert "cannot run" in result.stderr and errno in result.stderr
    assert {127: "NS601", 126: "NS602"}[status] in result.stderr


def test_a_command_without_a_format(box: Box) -> None:
    program = box.folder / "program"
    program.write_bytes(b"\0no program\n")
    program.chmod(0o755)
    result = box.run([str(program)], namespaces=[])
    assert result.status == 126
    assert "ENOEXEC" in result.stderr


def test_a_missing_loader_is_named(box: Box, own_root: Path) -> None:
    """ENOENT of execve(2) for a program that is there: its interpreter is not."""
    script = own_root / "bin/script"
    script.write_text("#!/opt/none/python\n")
    script.chmod(0o755)
    keys = {"namespaces": ["user", "mount"], "rootfs": str(own_root)}
    result = box.run(["/bin/script"], **keys)
    assert result.status == 127
    assert "/bin/script" in result.stderr and "/opt/none/python" in result.stderr


def test_a_dynamic_program_without_its_loader(box: Box, own_root: Path) -> None:
    (own_root / "bin/cat-of-host").write_bytes(Path("/bin/cat").read_bytes())
    (own_root / "bin/cat-of-host").chmod(0o755)
    keys = {"namespaces": ["user", "mount"], "rootfs": str(own_root)}
    result = box.run(["/bin/cat-of-host"], **keys)
    assert result.status == 127
    assert "/ld-linux" in result.stderr or "/ld-" in result.stderr


def test_a_failed_step_is_125_and_points_at_the_line(box: Box) -> None:
    file = box.folder / "bad.yaml"
    file.write_text(
        "namespaces: [user, mount]\n"
        "mounts:\n"
        "  - {type: tmpfs, target: /mnt}\n"
        "  - {type: tmpfs, target: /media, options: [size=x]}\n"
        "command: echo ran\n"
    )
    with unchanged(box.folder):
        result = box.runner.run(file)
    assert (result.status, result.stdout) == (125, "")
    said = result.stderr
    assert "error[NS501]: cannot mount tmpfs on /media: Invalid argument (EINVAL)" in said
    assert "bad.yaml:4:" in said
    assert "{type: tmpfs, target: /media, options: [size=x]}" in said
    assert "= step " in said and "child: fsconfig(" in said
    assert "the kernel says: " in said
    assert said.count("error[") == 1


def test_the_trace_shows_every_step(box: Box) -> None:
    file = box.spec(command="true", namespaces=["user", "uts"], hostname="traced")
    result = box.runner.run("run", "--trace", file)
    assert result.status == 0
    assert 'sethostname("traced")' in result.stderr
    assert "execve(" in result.stderr


# --- ended from outside ----------------------------------------------------------------------

KILLED = {
    "namespaces": ALL,
    "mounts": [{"type": "proc", "target": "/proc"}, {"type": "tmpfs", "target": "/tmp"}],
    "hostname": "killed",
    "cwd": "/",
}
# Daemons that would live on: in sessions of their own, ignoring everything that can be.
STUBBORN = "trap '' TERM INT HUP; (setsid sleep 300 &); setsid sleep 300 & echo up; sleep 300; wait"


@pytest.mark.parametrize("init", [False, True], ids=["plain", "init"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_nothing_is_left(box: Box, number: signal.Signals, init: bool) -> None:
    with unchanged(box.folder.parent):
        keys = {**KILLED, "init": init, "stop_timeout": "200ms"}
        with box.running(STUBBORN, **keys) as running:
            assert running.line() == "up"
            if number is signal.SIGINT or number is signal.SIGHUP:
                # The command ignores these; SIGTERM begins the stop that ends in SIGKILL.
                running.process.send_signal(number)
                time.sleep(0.05)
                assert running.process.poll() is None
                number = signal.SIGTERM
            running.process.send_signal(number)
            result = running.end()
            assert result.status in (128 + signal.SIGKILL, 128 + signal.SIGTERM)
        for file in box.folder.glob("*.yaml"):
            file.unlink()


@requires("root")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_mount_is_left_on_a_shared_host(
    root_box: Box, own_rootfs: Path, number: signal.Signals
) -> None:
    box = root_box.as_(mounts="shared")
    box = Box(runner=watching_mounts(box.runner, box.folder), folder=box.folder)
    keys = {"namespaces": ["mount", "pid"], "rootfs": str(own_rootfs), "init": True,
            "mounts": [{"type": "tmpfs", "target": "/mnt"}]}  # fmt: skip
    # The shell that watches must not end itself: only nsrun is signalled.
    with box.running("echo up; exec sleep 300", **keys) as running:
        assert running.line() == "up"
        os.kill(nsrun_below(running.process.pid), number)
        running.end()
    assert mounts_left(box.folder) == []


def nsrun_below(pid: int) -> int:
    """The process of nsrun among the first children of a watching shell."""
    while True:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        # The native executor's name is nsrun-replay.
        if {b"nsrun", b"nsrun-replay"} & set(words) and b"-c" not in words:
            return pid
        pid = int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


@pytest.mark.parametrize("group", [False, True], ids=["alone", "group"])
def test_interrupted_before_the_command_runs(box: Box, own_root: Path, group: bool) -> None:
    """A SIGTERM while a hook runs is seen after it, and the command does not run. That the hook
    got it too, as with a terminal's signals, is no failure of the hook's."""
    sleeper = box.folder / "sleeper"
    sleeper.write_text("#!/bin/sh\nsleep 1\n")
    sleeper.chmod(0o755)
    keys = {
        "namespaces": ALL,
        "rootfs": str(own_root),
        "mounts": [{"type": "tmpfs", "target": "/made/point"}],
        "hooks": {"prestart": [{"path": str(sleeper), "env": ["PATH=/usr/bin:/bin"]}]},
    }
    file = box.spec(command="echo ran", **keys)
    with unchanged(box.folder):
        process = box.runner.start(file, start_new_session=True)
        # The mount point is made a little before the hook begins.
        assert wait_for((own_root / "made").exists)
        time.sleep(0.3)
        (os.killpg if group else os.kill)(process.pid, signal.SIGTERM)
        stdout, stderr = process.communicate(timeout=10)
    assert (process.returncode, stdout) == (128 + signal.SIGTERM, ""), stderr
    assert "NS505" in stderr and "interrupted by SIGTERM" in stderr


def test_ctrl_c_reaches_the_command_once(box: Box) -> None:
    """A terminal sends SIGINT to nsrun and command alike; nsrun does not send it again."""
    command = "trap 'echo got' INT; echo up; while read x; do echo $x; done; sleep 0.3"
    with box.running(command, namespaces=["user"]) as running:
        assert running.line() == "up"
        running.process.send_signal(signal.SIGINT)
        assert running.line() == "got"
        running.process.stdin.close()
        running.process.stdin = None
        assert running.end().stdout == ""


def test_the_death_of_nsrun_kills_the_command(box: Box) -> None:
    with unchanged(box.folder.parent), box.running("echo up; exec sleep 300", **SIMPLE) as running:
        assert running.line() == "up"
        running.process.kill()
        running.process.wait()
        for file in box.folder.glob("*.yaml"):
            file.unlink()


def test_many_at_once(root_box: Box) -> None:
    file = root_box.spec(command="hostname", namespaces=["user", "uts", "pid"], hostname="many")
    with unchanged(root_box.folder):
        started = [root_box.runner.start(file) for _ in range(6)]
        ends = [process.communicate(timeout=30) for process in started]
    assert [process.returncode for process in started] == [0] * 6
    assert [stdout for stdout, _ in ends] == ["many\n"] * 6


# --- in pipelines ----------------------------------------------------------------------------


def test_a_reader_that_goes_away(box: Box) -> None:
    file = box.spec(command=["yes"], namespaces=["user"])
    argv = box.runner.argv(file)
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, env=box.runner.environment(),
                               cwd=box.runner.cwd)  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.read(2) == b"y\n"
    process.stdout.close()
    assert process.wait(timeout=10) in (128 + signal.SIGPIPE, 1)


def test_large_output_comes_through(box: Box) -> None:
    result = box.run("head -c 3000000 /dev/zero | tr '\\0' x", **SIMPLE)
    assert len(result.stdout) == 3_000_000
