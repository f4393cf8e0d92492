"""Attacks on files that hold namespaces: in a folder of another user, and by their names."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from nsrun.host.syscalls import syscall
from nsrun.kernel.abi import MountFlag, UmountFlag
from tests.support.attackers import beaten, swapping, until_tired
from tests.support.box import Box
from tests.support.lab import Lab
from tests.support.requires import requires

pytestmark = requires("root")

_AWAY = UmountFlag.MNT_DETACH | UmountFlag.UMOUNT_NOFOLLOW


def mounted_below(folder: Path) -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [place for line in lines if (place := line.split(" ")[4]).startswith(f"{folder}/")]


def unmount_all(folder: Path) -> None:
    """Also while names there are swapped."""
    while found := mounted_below(folder):
        for place in found:
            with contextlib.suppress(OSError):
                syscall("umount2", place.encode(), _AWAY)


@pytest.fixture
def place(root_box: Box) -> Iterator[Path]:
    """A folder of an attacker's, and beside it one of root's."""
    for name in ("theirs", "roots"):
        (root_box.folder / name).mkdir()
        (root_box.folder / name / "file").write_text("root's\n")
    yield root_box.folder
    unmount_all(root_box.folder)


def test_a_pin_swapped_for_a_link(root_box: Box, place: Path) -> None:
    """The file is a symlink to root's when the namespace is mounted on it."""
    pin, link, victim = place / "theirs/file", place / "theirs/link", place / "roots/file"
    link.symlink_to(victim)
    for way in (link, place / "theirs/dangling"):
        if way != link:
            way.symlink_to(place / "roots/new")
        said = root_box.refused("true", namespaces=[{"type": "uts", "pin": str(way)}])
        assert str(way) in said
        assert not mounted_below(place) and not (place / "roots/new").exists()

    def naive() -> bool:
        """A check, and then mount(2) by the name."""
        with contextlib.suppress(OSError):
            if pin.is_file() and not pin.is_symlink():
                syscall("mount", b"/proc/self/ns/uts", os.fsencode(pin), 0, MountFlag.MS_BIND, 0)
        was_beaten = str(victim) in mounted_below(place)
        unmount_all(place)
        return was_beaten

    file = root_box.spec(command="true", namespaces=[{"type": "uts", "pin": str(pin)}])
    with swapping(pin, link, apart=True):
        assert beaten(naive), "the control: who checks and then mounts by the name is beaten"
        for _ in until_tired():
            assert root_box.runner.run("run", "--no-cache", file).status in (0, 125)
            assert str(victim) not in mounted_below(place)
            unmount_all(place)
    assert victim.read_text() == "root's\n"


@pytest.mark.parametrize("name", ["../escape", "a/b", "..", "", ".", "x\0y"])
def test_a_named_network_namespace_is_no_path(root_box: Box, lab: Lab, name: str) -> None:
    before = sorted(os.listdir("/run"))
    if "\0" not in name:
        for words in (["add", name], ["delete", name], ["exec", name, "true"]):
            result = root_box.runner.run("netns", *words)
            assert result.status != 0 and "Traceback" not in result.stderr, str(result)
            assert "NS002" in result.stderr or "usage" in result.stderr, str(result)
    assert sorted(os.listdir("/run")) == before
    # The control: joined to the folder it is another place.
    joined = os.path.normpath(f"/run/netns/{name}")
    assert os.path.dirname(joined) != "/run/netns" or "\0" in name


def test_links_in_the_folder_of_names_lead_to_no_file(root_box: Box, lab: Lab) -> None:
    """`netns delete` of a symlink takes the link away alone, `add` does not go through one."""
    subprocess.run(["mkdir", "-p", "/run/netns"], check=True)
    victim = root_box.folder / "victim"
    victim.write_text("root's\n")
    Path("/run/netns/link").symlink_to(victim)
    Path("/run/netns/dangling").symlink_to(root_box.folder / "new")
    try:
        for name in ("link", "dangling"):
            assert root_box.runner.run("netns", "add", name).status != 0
            assert root_box.runner.run("netns", "exec", name, "true").status != 0
            root_box.runner.run("netns", "delete", name)
        assert not Path("/run/netns/link").is_symlink()
    finally:
        for name in ("link", "dangling"):
            Path(f"/run/netns/{name}").unlink(missing_ok=True)
    assert victim.read_text() == "root's\n"
    assert not (root_box.folder / "new").exists()
    with open(os.open(root_box.folder / "new", os.O_CREAT | os.O_WRONLY), "w"):
        assert (root_box.folder / "new").exists(), "the control: open(2) through a link makes it"
