"""Attacks of a rootfs on the host, each with the naive way as its failing control."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.attackers import beaten, swapping, until_tired
from tests.support.box import Box, give
from tests.support.host import files
from tests.support.rootfs import make_rootfs

ALL = ["user", "mount", "pid", "ipc", "uts", "network"]


@pytest.fixture
def outside(box: Box) -> Path:
    """A folder of the host, beside the rootfs, that nothing may be written to."""
    made = box.folder_of_user("outside")
    (made / "file").write_text("host\n")
    give(made, box.runner)
    return made


@pytest.fixture
def victim(box: Box, own_root: Path) -> Box:
    return box.with_(namespaces=ALL, rootfs=str(own_root))


def is_inside(rootfs: Path, target: str) -> bool:
    """The naive check: does the path lead out of the rootfs when it is simply joined?"""
    return os.path.realpath(f"{rootfs}{target}").startswith(str(rootfs))


# Where a symlink of the image may lead: relative, absolute, by a magic link of /proc.
def links(outside: Path) -> list[str]:
    return ["../" * 20 + str(outside)[1:], str(outside), f"/proc/self/root{outside}"]


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_mount_target_that_leads_outside(
    victim: Box, own_root: Path, outside: Path, which: int
) -> None:
    """CVE-2021-30465: the target of a mount is a symlink to the host."""
    (own_root / "target").symlink_to(links(outside)[which])
    if which < 2:
        assert not is_inside(own_root, "/target"), "the control: joined, it leads outside"
    before = files(outside)
    mounts = [{"type": "tmpfs", "target": "/target/here"}]
    result = victim.run("cat /proc/self/mountinfo", mounts=mounts)
    assert files(outside) == before
    if result.status == 0:
        targets = [line.split()[4] for line in result.stdout.splitlines()]
        assert any(target.endswith("/here") for target in targets), "mounted nowhere in the root"
    else:
        assert result.status == 125


@pytest.mark.parametrize("which", [0, 1])
def test_a_bind_on_a_file_that_leads_outside(
    victim: Box, own_root: Path, outside: Path, which: int
) -> None:
    link = links(outside)[which] + "/file"
    (own_root / "etc/hosts").symlink_to(link)
    assert not is_inside(own_root, "/etc/hosts")
    source = victim.folder / "hosts"
    source.write_text("mine\n")
    victim.run("true", mounts=[f"{source}:/etc/hosts"])
    assert (outside / "file").read_text() == "host\n"


@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize("entry", ["content", "symlink", "folder"])
def test_files_stay_inside(
    victim: Box, own_root: Path, outside: Path, which: int, entry: str
) -> None:
    """CVE-2024-45310, CVE-2019-16884: what is made goes through a symlink of the image."""
    (own_root / "way").symlink_to(links(outside)[which])
    before = files(outside)
    value = {"content": {"content": "planted\n"}, "symlink": {"symlink": "/etc/passwd"},
             "folder": {"folder": True}}[entry]  # fmt: skip
    victim.run("true", files={"/way/made": value})
    assert files(outside) == before
    assert not (outside / "made").is_symlink()


@pytest.mark.parametrize("name", ["proc", "sys", "dev"])
@pytest.mark.parametrize("to", ["etc", "/etc", "../../.."])
def test_system_folders_that_are_symlinks_are_refused(
    victim: Box, own_root: Path, name: str, to: str
) -> None:
    """CVE-2023-27561, CVE-2026-41579: the image's /proc is a symlink."""
    (own_root / name).rmdir()
    (own_root / name).symlink_to(to)
    before = files(own_root)
    said = victim.refused()
    assert "ELOOP" in said or "symlink" in said
    assert files(own_root) == before


@pytest.mark.parametrize("name", ["proc", "sys", "dev"])
def test_system_folders_that_are_files_are_refused(victim: Box, own_root: Path, name: str) -> None:
    (own_root / name).rmdir()
    (own_root / name).write_text("")
    said = victim.refused()
    # move_mount(2) has EINVAL for a folder's mount on a file.
    assert f"/{name}" in said and ("EINVAL" in said or "ENOTDIR" in said)
    assert (own_root / name).is_file()


def test_a_mask_through_a_symlink_stays_inside(victim: Box, own_root: Path, outside: Path) -> None:
    (own_root / "mask").symlink_to(str(outside))
    assert victim.run("true", masked_paths=["/mask/file"]).status in (0, 125)
    assert (outside / "file").read_text() == "host\n"


def test_a_folder_swapped_while_mounting(victim: Box, own_root: Path, outside: Path) -> None:
    """CVE-2021-30465, CVE-2024-45310 as a race: the target of mounts, and the folder in which
    folders are made for them, is now a folder, now a symlink to the host."""
    race, link = own_root / "race", own_root / "link"
    race.mkdir()
    # Where the link stands in its place, the folder is missing: an empty one might be taken
    # for a mount point that nsrun has made.
    (race / "keep").touch()
    link.symlink_to("../" * 20 + str(outside)[1:])
    give(own_root, victim.runner)

    def naive() -> bool:
        """A check of the real path, and then the joined path."""
        with contextlib.suppress(OSError):
            if is_inside(own_root, "/race"):
                os.makedirs(f"{own_root}/race/d/e", exist_ok=True)
        was_beaten = (outside / "d").exists()
        for made in (outside, race):
            shutil.rmtree(made / "d", ignore_errors=True)
        return was_beaten

    before = files(outside)
    with swapping(race, link):
        assert beaten(naive), "the control: who checks and then uses is beaten"
        mounts = [{"type": "tmpfs", "target": f"/race/{name}/deep"} for name in "abcd"]
        file = victim.spec(command="true", mounts=mounts, files={"/race/f": {"content": "x"}})
        for _ in until_tired():
            assert victim.runner.run(file).status in (0, 125)
            assert files(outside) == before


def test_no_file_of_the_image_is_imported(victim: Box, own_root: Path) -> None:
    """After pivot_root an import would run the image's code with the launcher's rights."""
    marker = "raise SystemExit('planted code ran')\n"
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    for folder in (f"usr/lib/{version}", f"usr/lib/{version}/encodings", "usr/lib"):
        (own_root / folder).mkdir(parents=True, exist_ok=True)
    for name in ("os.py", "re.py", "signal.py", "traceback.py", "linecache.py",
                 "encodings/idna.py", "encodings/ascii.py"):  # fmt: skip
        (own_root / f"usr/lib/{version}" / name).write_text(marker)
    give(own_root, victim.runner)
    assert victim.out("echo fine") == "fine"
    failing = victim.run(["/no/such/program"])
    assert "planted" not in failing.stderr and failing.status == 127


def test_the_working_folder_is_no_way_out(victim: Box, own_root: Path) -> None:
    """CVE-2024-21626: the cwd is a descriptor that the launcher still had open."""
    (own_root / "fd7").symlink_to("/proc/self/fd/7")
    for cwd in ("/proc/self/fd/3", "/proc/self/fd/5", "/fd7"):
        # Either it is refused, or what is behind it lies in the root by its name too.
        result = victim.run('[ . -ef "$(pwd -P)" ] && pwd -P', cwd=cwd)
        assert result.status in (0, 125), str(result)
        assert (result.stdout != "") == (result.status == 0)
        assert result.stdout in ("", "/\n", "/dev\n", "/proc\n", "/sys\n")


@pytest.mark.parametrize("name", ["a/b", "../x", "-x", "", "a\nb", "x" * 65])
def test_names_that_are_paths(box: Box, name: str) -> None:
    file = box.folder / "bad.yaml"
    file.write_text(json.dumps({"name": name, "namespaces": [], "command": "true"}))
    result = box.runner.run(file)
    assert result.status == 125
    assert "Traceback" not in result.stderr


def test_a_rootfs_of_links_is_left_as_it_was(box: Box, area: Path) -> None:
    """Undoing made mount points follows no link either."""
    rootfs = give(make_rootfs(box.folder / "tricky"), box.runner)
    outside = box.folder_of_user("treasure")
    (outside / "deep").mkdir()
    (rootfs / "a").symlink_to(str(outside))
    give(box.folder, box.runner)
    before = files(outside)
    mounts = [{"type": "tmpfs", "target": "/a/deep"}]
    box.runner.run(box.spec(command="true", namespaces=ALL, rootfs=str(rootfs), mounts=mounts))
    assert files(outside) == before
    assert subprocess.run(["test", "-d", outside / "deep"], check=False).returncode == 0


def test_devices_that_are_no_devices(victim: Box, own_root: Path, outside: Path) -> None:
    """CVE-2025-31133, CVE-2025-52565: what is bound for a device, or over what is masked, is what
    the image has put in its place: a link to the host, or a file of its own."""
    (own_root / "dev/null").symlink_to(f"{outside}/file")
    (own_root / "dev/console").symlink_to(f"{outside}/file")
    (own_root / "dev/pts").symlink_to(str(outside))
    give(own_root, victim.runner)
    before = files(outside)
    # The control: whoever takes the image's /dev/null as its source has the host's file.
    assert (own_root / "dev/null").read_text() == "host\n"
    script = "stat -c %t:%T /dev/null; cat /proc/keys /etc/passwd; echo over; stat -c %F /dev/pts"
    said = victim.out(script, masked_paths=["/etc/passwd", "/proc/keys"], tty=False)
    assert said == "1:3\nover\ndirectory"
    # Without the default mounts its own is all there is, and no device is taken for one.
    bare = {"default_mounts": False, "masked_paths": ["/etc/passwd"]}
    shown = victim.run("/bin/busybox cat /etc/passwd", **bare)
    assert shown.stdout == ""
    assert victim.run(["/bin/true"], tty=True, **bare).status in (0, 125)
    assert files(outside) == before


def test_a_proc_that_is_none(victim: Box, own_root: Path) -> None:
    """CVE-2025-52881, CVE-2019-16884: a sysctl is written to what the image, or a mount of the
    spec, has in the place of procfs."""
    key = own_root / "proc/sys/net/ipv4"
    key.mkdir(parents=True)
    (key / "ip_default_ttl").write_text("planted\n")
    give(own_root, victim.runner)
    path = own_root / "proc/sys/net/ipv4/ip_default_ttl"
    with open(path, "a"):  # the control: who writes to the path writes to the planted file
        pass
    keys = {"sysctl": {"net.ipv4.ip_default_ttl": "61"}}
    assert victim.out("cat /proc/sys/net/ipv4/ip_default_ttl", **keys) == "61"
    planted = victim.folder_of_user("fake")
    (planted / "sys/net/ipv4").mkdir(parents=True)
    (planted / "sys/net/ipv4/ip_default_ttl").write_text("planted\n")
    give(planted, victim.runner)
    mounts = [{"type": "bind", "source": str(planted), "target": "/proc"}]
    victim.run("true", mounts=mounts, **keys)
    assert (planted / "sys/net/ipv4/ip_default_ttl").read_text() == "planted\n"
    assert path.read_text() == "planted\n"


def test_a_source_that_is_a_link(victim: Box, own_root: Path, outside: Path) -> None:
    """CVE-2024-1753: a link of the image is no source on the host; an overlay's layers and a
    rootfs below a link of the image are not either."""
    (own_root / "etc/link").symlink_to(f"{outside}/file")
    give(own_root, victim.runner)
    assert (own_root / "etc/link").read_text() == "host\n", "the control: by its name it is"
    # Inside, the same link leads to a file of the image, or nowhere.
    said = victim.run("cat /etc/link")
    assert (said.status, said.stdout) == (1, "")
    mounts = [{"type": "bind", "source": str(own_root / "etc"), "target": "/mnt"}]
    said = victim.run("cat /mnt/link", mounts=mounts)
    assert (said.status, said.stdout) == (1, "")
