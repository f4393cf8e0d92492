"""The quickstart and the everyday examples, as whoever copies them would run them."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.box import mountinfo, mounts_left, namespaces, wait_for, watching_mounts
from tests.support.host import unchanged
from tests.support.requires import requires
from tests.support.runner import Runner

LINKS = "for n in cgroup ipc mnt net pid user uts; do readlink /proc/self/ns/$n; done"


def facts(printed: str) -> dict[str, str]:
    return {
        key.strip(): value.strip()
        for key, _, value in (line.partition(":") for line in printed.splitlines())
    }


def test_quickstart(anyone: Runner, examples: Path) -> None:
    outside = (os.uname().nodename, namespaces())
    with unchanged(examples):
        result = anyone.run(examples / "quickstart.yaml")
    seen = facts(result.ok())
    assert result.stderr == "", "it warns"
    assert seen["host name"] == "quickstart"
    assert seen["user"].startswith("uid=0(root) gid=0(root)")
    assert seen["process id"] == "1"
    processes = seen["/proc"].split()
    assert processes[0] == "/proc/1" and len(processes) < 6
    inside, host_id, _ = seen["uid map"].split()[:3]
    assert inside == "0" and host_id != "0", "root inside is root outside"
    assert seen["/tmp"] == "0 files"
    assert seen["interfaces"] == "lo:"
    assert (os.uname().nodename, namespaces()) == outside


def test_quickstart_is_in_seven_new_namespaces(anyone: Runner, examples: Path) -> None:
    inside = anyone.run(examples / "quickstart.yaml", "--", "/bin/sh", "-c", LINKS).ok().split()
    assert len(inside) == 7
    assert not set(inside) & set(namespaces().values())


@requires("root")
@pytest.mark.parametrize("mounts", ["private", "shared"])
def test_quickstart_leaves_no_mount(
    root: Runner, area: Path, root_examples: Path, mounts: str
) -> None:
    runner = watching_mounts(root.with_(mounts=mounts), area)
    runner.run(root_examples / "quickstart.yaml").ok()
    assert mounts_left(area) == []


def test_the_shell(anyone: Runner, examples: Path) -> None:
    typed = (
        "stty -echo; printf '<<''<\\n'; ls -A /tmp | wc -l; touch /tmp/mine; id -u; echo $$;"
        " tty; (sleep 300 &); printf '>''>>\\n'; exit\n"
    )
    with unchanged(examples):
        text = anyone.run(examples / "shell.yaml", stdin=typed).ok().replace("\r", "")
    lines = text.partition("<<<\n")[2].partition(">>>")[0].split()
    assert lines[:3] == ["0", str(anyone.user.uid), "1"]
    assert lines[3].startswith("/dev/pts/")
    assert not Path("/tmp/mine").exists()


def test_the_build_sandbox(anyone: Runner, examples: Path) -> None:
    with unchanged(examples / "hello", examples / "skeleton"):
        printed = anyone.run(examples / "build.yaml").ok().splitlines()
    assert printed == ["interfaces: lo:", "the source is read-only", "hello from build"]
    made = examples / "out/hello"
    assert subprocess.run([made], check=True, capture_output=True).stdout == b"hello from build\n"
    assert made.stat().st_uid == anyone.user.uid


def test_the_read_only_service(anyone: Runner, examples: Path) -> None:
    with unchanged(examples):
        process = anyone.start(examples / "service.yaml")
        assert process.stdout is not None
        lines = [process.stdout.readline().rstrip("\n") for _ in range(5)]
        assert lines[0] == "read-only, but for /run"
        assert "Read-only file system" in lines[1]
        assert lines[2:] == ["CapEff:\t0000000000000000", "NoNewPrivs:\t1", "ready"]
        process.send_signal(signal.SIGTERM)
        stdout, stderr = process.communicate(timeout=10)
    assert (stdout, process.returncode) == ("stopping\n", 0), stderr


@requires("root")
def test_the_shared_mount(root: Runner, root_examples: Path, area: Path) -> None:
    """On a host with shared mounts: seen outside while it is there inside, gone after it."""
    runner = watching_mounts(root.with_(mounts="shared", env={"SECONDS_TO_LOOK": "1"}), area)
    exchange = root_examples / "exchange"
    process = runner.start(root_examples / "shared.yaml")
    assert process.stdout is not None
    table = Path(f"/proc/{process.pid}/mountinfo")

    def seen() -> list[str]:
        return [m.source for m in mountinfo(table.read_text()) if m.target == f"{exchange}/disk"]

    assert wait_for(lambda: seen() == ["from-inside"]), "it does not come out"
    stdout, stderr = process.communicate(timeout=10)
    assert process.returncode == 0, stderr
    lines = {line.target: line for line in mountinfo(stdout)}
    assert lines["/mnt"].peer_group and lines["/mnt/disk"].peer_group
    assert mounts_left(area) == []
    assert not (exchange / "disk").exists()


@requires("root")
def test_the_shared_mount_stays_inside_where_the_host_is_private(
    root: Runner, root_examples: Path, area: Path
) -> None:
    runner = watching_mounts(root.with_(mounts="private"), area)
    runner.run(root_examples / "shared.yaml").ok()
    assert mounts_left(area) == []


def test_every_spec_is_valid(anyone: Runner, examples: Path) -> None:
    specs = [*examples.glob("*.yaml"), *(examples / "seeds").glob("*.yaml")]
    ready = [spec for spec in specs if spec.name != "join.yaml"]  # it needs what pin.yaml makes
    assert len(ready) > 20
    with unchanged(examples):
        result = anyone.run("validate", *ready)
    assert result.status == 0, str(result)
