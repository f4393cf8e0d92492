"""The root of a container: pivot_root, read-only, overlays, and what is left of the folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.box import Box, give, mountinfo, mounts_left, top_mounts, watching_mounts
from tests.support.host import files
from tests.support.requires import requires
from tests.support.rootfs import FOLDERS

ALL = ["user", "mount", "pid", "ipc", "uts", "network"]
TABLE = "cat /proc/self/mountinfo"


@pytest.fixture
def rooted(box: Box, own_root: Path) -> Box:
    """A box with a rootfs of its own, which belongs to the user."""
    return box.with_(namespaces=ALL, rootfs=str(own_root))


def test_only_its_own(boxed: Box) -> None:
    assert set(boxed.out("ls /").split()) == set(FOLDERS)


def test_the_old_root_is_gone(boxed: Box, rootfs: Path) -> None:
    lines = mountinfo(boxed.out(TABLE))
    assert lines[0].target == "/"
    # mountinfo(5): the root of the mount within its file system is the rootfs's path.
    host = top_mounts(Path("/proc/self/mountinfo").read_text())
    mount_point = max((t for t in host if str(rootfs).startswith(t)), key=len)
    assert str(rootfs).endswith(lines[0].root.rsplit("/", 1)[-1])
    assert {line.target for line in lines if line.target == "/"} == {"/"}
    assert sum(line.target == "/" for line in lines) == 1, "something is stacked on the root"
    assert not any(line.root == "/" and line.target == mount_point != "/" for line in lines)


def test_no_way_back_out(boxed: Box) -> None:
    assert boxed.out("cd ../../../..; pwd; ls | wc -l").split() == ["/", str(len(FOLDERS))]


def test_the_default_mounts(boxed: Box) -> None:
    seen = top_mounts(boxed.out(TABLE))
    assert seen["/proc"].type == "proc"
    assert {"nosuid", "nodev", "noexec"} <= set(seen["/proc"].options)
    assert seen["/sys"].type == "sysfs"
    assert {"ro", "nosuid", "nodev", "noexec"} <= set(seen["/sys"].options)
    assert seen["/dev"].type == "tmpfs"
    assert "nosuid" in seen["/dev"].options
    assert seen["/dev/pts"].type == "devpts"
    assert "ptmxmode=666" in seen["/dev/pts"].super_options
    assert seen["/dev/shm"].type == "tmpfs"
    assert {"nosuid", "nodev", "noexec"} <= set(seen["/dev/shm"].options)
    assert seen["/dev/mqueue"].type == "mqueue"
    for node in ("null", "zero", "full", "random", "urandom", "tty"):
        assert f"/dev/{node}" in seen


def test_the_devices_work(boxed: Box) -> None:
    script = """
    echo gone > /dev/null && head -c 3 /dev/zero | wc -c && head -c 3 /dev/urandom | wc -c
    echo x > /dev/full || echo full
    stat -c '%t:%T' /dev/null
    ls /dev | xargs
    """
    result = boxed.run(script)
    lines = result.ok().splitlines()
    assert lines[:4] == ["3", "3", "full", "1:3"]
    links = {"fd", "stdin", "stdout", "stderr", "ptmx"}
    nodes = {"null", "zero", "full", "random", "urandom", "tty"}
    assert set(lines[4].split()) == links | nodes | {"pts", "shm", "mqueue"}


def test_no_device_is_made_inside(box: Box, own_root: Path) -> None:
    said = box.run(
        "mknod /tmp/disk b 8 0", namespaces=ALL, rootfs=str(own_root), capabilities="all"
    )
    assert said.status != 0
    assert "Operation not permitted" in said.stderr


def test_none_of_the_default_mounts(boxed: Box) -> None:
    assert boxed.out("ls /proc /sys /dev | xargs", default_mounts=False) == "/dev: /proc: /sys:"


def test_an_entry_replaces_a_default_mount(boxed: Box) -> None:
    mounts = [{"type": "tmpfs", "target": "/dev/shm", "options": ["size=1m", "mode=0700"]}]
    seen = mountinfo(boxed.out(TABLE, mounts=mounts))
    shm = [line for line in seen if line.target == "/dev/shm"]
    assert len(shm) == 1
    assert "size=1024k" in shm[0].super_options


def test_proc_is_of_the_new_pid_namespace(boxed: Box) -> None:
    assert boxed.out("readlink /proc/self; ls -d /proc/[0-9]*").split() == ["2", "/proc/1"]


@pytest.mark.parametrize("without", ["pid", "network", "ipc"])
def test_defaults_without_one_namespace(boxed: Box, without: str) -> None:
    """In a user namespace a fresh proc, sysfs or mqueue takes the right over its namespace."""
    spaces = [kind for kind in ALL if kind != without]
    seen = top_mounts(boxed.out(TABLE, namespaces=spaces))
    assert "/proc" in seen and "/sys" in seen
    assert ("/dev/mqueue" in seen) == (without != "ipc")


@requires("root")
def test_a_root_without_a_user_namespace(root_box: Box, own_rootfs: Path) -> None:
    box = root_box.with_(namespaces=["mount", "pid"], rootfs=str(own_rootfs))
    assert box.out("id -u; echo $$; ls / | wc -l").split() == ["0", "1", str(len(FOLDERS))]
    assert top_mounts(box.out(TABLE))["/dev/mqueue"].type == "mqueue"


# --- read-only, propagation ------------------------------------------------------------------


def test_read_only(rooted: Box, own_root: Path) -> None:
    root = {"path": str(own_root), "readonly": True}
    result = rooted.run("touch /x || echo refused; touch /dev/shm/x && echo made", rootfs=root)
    assert result.ok().split() == ["refused", "made"]
    assert "Read-only file system" in result.stderr
    control = rooted.spec(command="touch /x")
    assert rooted.runner.run(control).status == 0


@pytest.mark.parametrize(
    ("word", "tags"),
    [("rprivate", ("",)), ("rslave", ("",)), ("rshared", ("shared",)), ("unbindable", ("unb",))],
)
def test_propagation_of_the_root(boxed: Box, rootfs: Path, word: str, tags: tuple[str]) -> None:
    root = mountinfo(boxed.out(TABLE, rootfs={"path": str(rootfs), "propagation": word}))[0]
    found = "".join(root.tags)
    # A slave of nobody is private (mount_namespaces(7)).
    assert found.startswith(tags[0]) and (tags[0] or not found)


@pytest.mark.parametrize("mounts", ["private", "shared"])
@pytest.mark.parametrize("propagation", ["rprivate", "rslave", "rshared"])
@requires("root")
def test_nothing_is_left_on_the_host(
    root_box: Box, own_rootfs: Path, mounts: str, propagation: str
) -> None:
    """Whatever the propagation of the whole tree, and on a host whose / is shared too."""
    box = root_box.as_(mounts=mounts)
    runner = watching_mounts(box.runner, box.folder)
    for spaces in (["mount", "pid"], ALL):
        file = box.spec(
            command="true",
            namespaces=spaces,
            rootfs=str(own_rootfs),
            propagation=propagation,
            mounts=[{"type": "tmpfs", "target": "/mnt"}],
        )
        runner.run(file).ok()
        assert mounts_left(box.folder) == []


# --- made mount points -----------------------------------------------------------------------


def test_mount_points_are_made_and_taken_back(rooted: Box, own_root: Path) -> None:
    before = files(own_root)
    (rooted.folder / "file").write_text("content\n")
    mounts = [
        {"type": "tmpfs", "target": "/made/deep/down"},
        {"type": "bind", "source": str(rooted.folder / "file"), "target": "/other/file"},
        {"type": "tmpfs", "target": "/mnt"},
        {"type": "tmpfs", "target": "/mnt/inside/the/tmpfs"},
        {"type": "tmpfs", "target": "/srv/here"},
    ]
    script = "touch /made/deep/down/x && cat /other/file && ls -d /srv/here /mnt/inside/the/tmpfs"
    printed = rooted.out(script, mounts=mounts).split()
    assert printed == ["content", "/mnt/inside/the/tmpfs", "/srv/here"]
    assert files(own_root) == before


def test_what_the_command_puts_beside_them_stays(rooted: Box, own_root: Path) -> None:
    mounts = [{"type": "tmpfs", "target": "/made/point"}]
    rooted.runner.run(rooted.spec(command="touch /made/mine", mounts=mounts)).ok()
    assert (own_root / "made/mine").exists()
    assert not (own_root / "made/point").exists()


def test_mount_points_are_taken_back_after_a_failure(rooted: Box, own_root: Path) -> None:
    before = files(own_root)
    mounts = [
        {"type": "tmpfs", "target": "/made/point"},
        {"type": "tmpfs", "target": "/second", "options": ["nonsense=1"]},
    ]
    rooted.refused(mounts=mounts)
    assert rooted.run(["/nonexistent"], mounts=mounts[:1]).status == 127
    assert files(own_root) == before


def test_never_create(rooted: Box) -> None:
    mounts = [{"type": "tmpfs", "target": "/not/there", "create": "never"}]
    said = rooted.refused(mounts=mounts)
    assert "ENOENT" in said and "/not/there" in said


def test_default_mount_points_are_made_where_they_are_missing(
    rooted: Box, own_root: Path
) -> None:
    for name in ("proc", "sys", "dev"):
        (own_root / name).rmdir()
    before = files(own_root)
    assert rooted.out("ls -d /proc/1 /dev/null /sys/class").split() == [
        "/dev/null",
        "/proc/1",
        "/sys/class",
    ]
    assert files(own_root) == before


# --- overlay ---------------------------------------------------------------------------------


@requires("overlay_userns", "overlay")
def test_an_ephemeral_overlay(rooted: Box, own_root: Path) -> None:
    before = files(own_root)
    root = {"path": str(own_root), "overlay": "ephemeral"}
    script = "echo changed > /etc/passwd; touch /new; rm -r /srv; cat /etc/passwd; ls /"
    printed = rooted.out(script, rootfs=root).split()
    assert printed[0] == "changed"
    assert set(printed[1:]) == {*FOLDERS, "new"} - {"srv"}
    assert files(own_root) == before
    assert "new" not in rooted.out("ls /", rootfs=root).split()


@requires("overlay_userns", "overlay")
def test_a_persistent_overlay(box: Box, own_root: Path) -> None:
    upper, work = box.folder_of_user("state/up"), box.folder_of_user("state/work")
    give(box.folder / "state", box.runner)
    overlay = {"path": str(own_root), "overlay": {"upper": str(upper), "work": str(work)}}
    box = box.with_(namespaces=ALL, rootfs=overlay)
    before = files(own_root)
    first = box.spec(command="echo kept > /etc/kept; rm /etc/group; id -u")
    assert box.runner.run(first).ok() == "0\n"
    assert files(own_root) == before
    assert (upper / "etc/kept").read_text() == "kept\n"
    # What root makes inside belongs to the caller on disk.
    assert (upper / "etc/kept").stat().st_uid == box.runner.user.uid
    second = box.spec(command="cat /etc/kept; ls /etc | xargs")
    assert box.runner.run(second).ok() == "kept\nkept passwd\n"


@requires("overlay_userns", "overlay")
def test_paths_with_what_overlay_options_give_a_meaning(box: Box, own_root: Path) -> None:
    """``:``, ``,`` and a backslash separate and escape in lowerdir= (overlayfs.rst)."""
    strange = box.folder / "a:b,c\\d"
    own_root.rename(strange)
    root = {"path": str(strange), "overlay": "ephemeral"}
    assert "bin" in box.out("ls /", namespaces=ALL, rootfs=root).split()


@requires("overlay_userns", "overlay")
def test_a_read_only_overlay(boxed: Box, rootfs: Path) -> None:
    root = {"path": str(rootfs), "overlay": "ephemeral", "readonly": True}
    assert boxed.run("touch /x", rootfs=root).status == 1


def test_a_rootfs_that_is_a_symlink_to_a_folder(boxed: Box, rootfs: Path) -> None:
    link = boxed.folder / "link"
    os.symlink(rootfs, link)
    assert set(boxed.out("ls /", rootfs=str(link)).split()) == set(FOLDERS)


def test_a_relative_rootfs_is_beside_the_spec(box: Box, own_root: Path) -> None:
    assert own_root.name == "rootfs"
    assert "bin" in box.out("ls /", namespaces=ALL, rootfs="./rootfs").split()


def test_the_callers_own_root_in_a_new_mount_namespace(box: Box) -> None:
    """No rootfs: the host's tree, and mounts that only this container sees."""
    mounts = [{"type": "tmpfs", "target": "/mnt"}]
    printed = box.out("touch /mnt/inside; ls /mnt; ls /", namespaces=["user", "mount"],
                      mounts=mounts).split()
    assert printed[0] == "inside"
    assert set(os.listdir("/")) <= set(printed[1:]) | {".dockerenv"}
    assert not Path("/mnt/inside").exists()
