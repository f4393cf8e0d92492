"""A namespace that outlives its processes: pinned on a file, joined, and let go."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.box import Box
from tests.support.host import unchanged
from tests.support.requires import requires
from tests.support.runner import Runner

pytestmark = requires("root")


def pinned(file: Path) -> bool:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return any(line.split(" ")[4] == str(file) for line in lines)


@pytest.fixture
def pin(root: Runner, root_seeds: Path) -> Iterator[Path]:
    file = root_seeds / "uts.ns"
    yield file
    while pinned(file):  # a failing test must not leave it either
        subprocess.run(["umount", "-l", file], check=True)


def test_a_pinned_namespace_is_joined_and_let_go(root: Runner, pin: Path) -> None:
    with unchanged(pin.parent):
        outside = os.uname().nodename
        name, link = root.run(pin.parent / "pin.yaml").ok().split()
        assert name == "pinned"
        assert link == f"uts:[{pin.stat().st_ino}]" != os.readlink("/proc/self/ns/uts")
        assert pinned(pin)
        assert root.run(pin.parent / "join.yaml").ok().split() == [name, link]
        nsenter = ["nsenter", f"--uts={pin}", "hostname"]
        assert subprocess.run(nsenter, check=True, capture_output=True).stdout == b"pinned\n"
        assert os.uname().nodename == outside
        root.run("unpin", pin).ok()
        assert not pinned(pin)
        assert not pin.exists()


def test_a_pin_is_not_put_over_another(root: Runner, pin: Path) -> None:
    root.run(pin.parent / "pin.yaml").ok()
    with unchanged(pin.parent):
        again = root.run(pin.parent / "pin.yaml")
    assert again.status == 125
    assert "already holds a uts namespace" in again.stderr
    assert "nsrun unpin" in again.stderr
    root.run("unpin", pin).ok()


def test_a_file_that_was_there_stays(root: Runner, pin: Path) -> None:
    pin.write_text("mine\n")
    with unchanged(pin.parent):
        root.run(pin.parent / "pin.yaml").ok()
        assert pinned(pin)
        root.run("unpin", pin).ok()
    assert pin.read_text() == "mine\n"


def test_unpin_says_when_there_is_nothing(root: Runner, area: Path) -> None:
    (area / "file").touch()
    with unchanged(area):
        missing = root.run("unpin", area / "missing")
        plain = root.run("unpin", area / "file")
    assert missing.status == plain.status == 1
    assert "does not exist" in missing.stderr
    assert "holds no namespace" in plain.stderr


def test_a_failed_start_pins_nothing(root: Runner, pin: Path) -> None:
    spec = pin.parent / "pin.yaml"
    with unchanged(pin.parent):
        failed = root.run(spec, "--", "/nonexistent/program")
        assert failed.status == 127
    assert not pin.exists()


def test_join_without_a_pin_is_refused(root: Runner, pin: Path) -> None:
    with unchanged(pin.parent):
        result = root.run(pin.parent / "join.yaml")
    assert result.status == 125
    assert "uts.ns" in result.stderr and "does not exist" in result.stderr


# --- every kind ------------------------------------------------------------------------------

KINDS = {"network": "net", "ipc": "ipc", "uts": "uts", "cgroup": "cgroup", "user": "user",
         "time": "time", "mount": "mnt"}  # fmt: skip


@pytest.fixture
def place(root_box: Box) -> Iterator[Path]:
    """A folder for pins that is a private mount: where a mount namespace can be pinned at all
    (mount_namespaces(7))."""
    made = root_box.folder / "pins"
    made.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "nsrun-test", made], check=True)
    try:
        subprocess.run(["mount", "--make-private", made], check=True)
        yield made
    finally:
        subprocess.run(["umount", "-R", "-l", made], check=True)


@pytest.fixture
def one_cpu() -> Iterator[None]:
    """The processor that the tests' own mount namespace was made on (conftest.py).

    A mount namespace can be bound only in one with a smaller id, and since Linux 6.18 each
    processor hands out ids from a batch of its own.
    """
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


@pytest.mark.usefixtures("one_cpu")
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_pinned_and_joined(
    root: Runner, root_box: Box, place: Path, kind: str
) -> None:
    file = place / kind
    name = KINDS[kind]
    link = f"readlink /proc/self/ns/{name}"
    made = root_box.spec(command=link, namespaces=[{"type": kind, "pin": str(file)}])
    result = root.run(made)
    for _ in range(9):
        # The kernel's check for loops of mount namespaces compares their numbers, and seldom a
        # newer one has the lower number (mnt_ns_loop()): EINVAL.
        if kind != "mount" or "EINVAL" not in result.stderr:
            break
        result = root.run(made)
    wanted = result.ok()
    assert wanted == f"{name}:[{file.stat().st_ino}]\n"
    joined = [{"type": kind, "path": str(file)}]
    assert root_box.out(link, namespaces=joined, cwd="/") + "\n" == wanted
    root.run("unpin", file).ok()
    assert not file.exists()


def test_a_pinned_pid_namespace_has_no_init(root: Runner, root_box: Box, place: Path) -> None:
    """The file keeps the namespace, not its init: nothing can run in it any more."""
    file = place / "pid"
    spaces = [{"type": "pid", "pin": str(file)}]
    root.run(root_box.spec(command="echo $$", namespaces=spaces)).ok()
    result = root_box.run("true", namespaces=[{"type": "pid", "path": str(file)}])
    assert result.status == 125
    assert "ENOMEM" in result.stderr and "init" in result.stderr and "ended" in result.stderr
    root.run("unpin", file).ok()


def test_several_pins_of_one_run(root: Runner, root_box: Box, place: Path) -> None:
    spaces = [{"type": kind, "pin": str(place / kind)} for kind in ("uts", "ipc", "network")]
    root.run(root_box.spec(command="true", namespaces=spaces, hostname="three")).ok()
    joined = [{"type": kind, "path": str(place / kind)} for kind in ("uts", "ipc", "network")]
    assert root_box.out("hostname", namespaces=joined) == "three"


def test_an_ordinary_user_cannot_pin(user_box: Box) -> None:
    spaces = ["user", {"type": "uts", "pin": str(user_box.folder / "pin")}]
    said = user_box.refused(namespaces=spaces)
    assert "EPERM" in said or "NS402" in said
    assert not (user_box.folder / "pin").exists()
