"""File systems and attributes that are refused, limits of mounts, and places that are read-only."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.box import Box
from tests.support.hints import Said, run_after, said
from tests.support.requires import requires

MOUNT = ["user", "mount"]


def refused(box: Box, *mounts: object, **keys: object) -> Said:
    keys.setdefault("namespaces", MOUNT)
    return said(box.refused("true", mounts=list(mounts), **keys))


def test_a_file_system_that_the_kernel_lacks(box: Box) -> None:
    found = refused(box, {"type": "nosuchfs", "target": "/mnt"})
    assert found.why == "nosuchfs is not in /proc/filesystems"
    assert "modprobe nosuchfs" in found.tips


@requires("root", "idmapped_mounts")
def test_a_file_system_without_idmapped_mounts(root_box: Box) -> None:
    entry = {"type": "bind", "source": "/proc", "target": "/mnt", "idmap": True}
    found = refused(root_box, entry)
    assert found.why == "/proc lies on proc (/proc), which has no idmapped mounts here"
    assert "leave out `idmap`" in found.tips


@requires("root")
def test_a_device_that_is_mounted_otherwise(root_box: Box) -> None:
    rows = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    roots = [row for row in rows if row[1] == "/" and Path(row[0]).is_block_device()]
    device, _, kind, options = roots[0][:4] if roots else ("", "", "", "")
    if "rw" not in options.split(","):
        pytest.skip("the root of this machine lies on no block device that is mounted for writing")
    # fs/super.c, get_tree_bdev: the one superblock of a device is read-only or it is not.
    entry = {"type": kind, "source": device, "target": "/mnt", "options": ["ro"]}
    found = refused(root_box, entry, namespaces=["mount"])
    assert "EBUSY" in found.text
    assert found.why == f"{device} is mounted for writing on / already"
    assert found.tips == "bind / instead of mounting the device again"


@requires("root")
def test_a_proc_that_would_show_what_is_hidden(user_box: Box) -> None:
    spec = user_box.spec(
        namespaces=["user", "mount", "pid"],
        mounts=[{"type": "proc", "target": "/proc"}],
        command="true",
    )
    found = said(run_after(user_box.runner, "mount --bind /dev/null /proc/version", spec))
    assert "EPERM" in found.text
    assert "parts of the outer /proc or /sys are hidden (/proc/version is a mount)" in found.why


def test_a_file_system_that_no_user_namespace_may_mount_has_no_hidden_proc(box: Box) -> None:
    found = refused(box, {"type": "debugfs", "target": "/mnt"})
    assert "EPERM" in found.text
    assert found.why == "the kernel mounts no debugfs for a user namespace"


@requires("root")
def test_a_root_that_is_read_only(root_box: Box, own_rootfs: Path) -> None:
    script = f"mount --bind {own_rootfs} {own_rootfs} && mount -o remount,bind,ro {own_rootfs}"
    spec = root_box.spec(
        namespaces=["mount"], rootfs=str(own_rootfs), command="true",
        mounts=[{"type": "tmpfs", "target": "/new"}],
    )  # fmt: skip
    found = said(run_after(root_box.runner, script, spec))
    assert "EROFS" in found.text
    assert found.why == f"{own_rootfs} is mounted read-only, and new is missing in it"
    assert "make new in the rootfs beforehand" in found.tips


def test_a_pin_of_an_ordinary_user(user_box: Box) -> None:
    pin = user_box.folder / "pin"
    result = user_box.run("true", namespaces=["user", {"type": "uts", "pin": str(pin)}])
    assert result.status == 125
    found = said(result)
    assert found.why.endswith(f"which uid {user_box.runner.user.uid} does not have")


@requires("root")
def test_the_most_mounts(root_box: Box) -> None:
    limit = int(Path("/proc/sys/fs/mount-max").read_text())
    if limit > 200_000:
        pytest.skip(f"fs.mount-max is {limit}, which takes long to reach")
    top = root_box.folder / "many"
    top.mkdir()
    big = f"{top}/big"
    # Doubles until no other copy fits: what is missing to the limit is less than what is bound.
    double = f"mkdir {big}/$n && mount --rbind {big} {big}/$n 2>/dev/null"
    script = (
        f"mount -t tmpfs t {top} && mkdir {big} && mount -t tmpfs t {big} && n=0 && "
        f"while {double}; do n=$((n+1)); done; true"
    )
    spec = root_box.spec(namespaces=["mount"], mounts=[f"{big}:/mnt"], command="true")
    found = said(run_after(root_box.runner, script, spec))
    assert "ENOSPC" in found.text
    assert f"fs.mount-max is {limit}: the namespace began with " in found.why
    assert "bind folders with fewer mounts in them" in found.tips


@requires("root")
def test_a_hierarchy_of_control_groups_that_is_not_there(root_box: Box) -> None:
    """Of version 1: a user namespace mounts one that has just the controllers it names."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    there = [line.split(":")[1] for line in lines]
    there = [one for one in there if one and "=" not in one]
    if "memory" not in there or "pids" not in there:
        pytest.skip("memory and pids have no hierarchies of their own")
    kinds = {"namespaces": ["user", "mount", "cgroup"]}
    no_new = (
        "a user namespace makes no new hierarchy of cgroup version 1, and none that there is has"
    )
    entry = {"type": "cgroup", "target": "/sys/fs/cgroup"}
    found = refused(root_box, entry, **kinds)
    assert found.why == f"{no_new} all controllers, as without options"
    assert found.tips == "name the controllers of one: options: [memory]"
    both = {**entry, "options": ["memory", "pids", "ro"]}
    assert refused(root_box, both, **kinds).why == f"{no_new} just memory, pids"
    one = {**entry, "options": ["memory", "ro"]}
    root_box.run("test -e /sys/fs/cgroup/memory.usage_in_bytes", mounts=[one], **kinds).ok()
    for mounts, said_so in (([entry], True), ([both], True), ([one], False)):
        spec = root_box.spec(command="true", mounts=mounts, **kinds)
        doctor = root_box.runner.run("doctor", spec).stderr
        assert ("NS402" in doctor) == (no_new in doctor) == said_so, doctor
