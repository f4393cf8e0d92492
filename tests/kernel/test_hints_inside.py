"""Steps that fail once the root has been entered: the cause is looked for in the container."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nsrun.host.hint import HintContext
from nsrun.host.hints import explain
from nsrun.host.inside import UnseenError, host_of
from tests.support.box import Box, give
from tests.support.hints import said
from tests.support.requires import requires

ROOTED = ["user", "mount", "pid", "ipc", "uts", "network"]


def missing(box: Box, path: str, **keys: object) -> str:
    """The cause that is told where a Landlock rule's path is not there."""
    result = box.run(["/bin/true"], landlock={"read": ["/bin", path]}, **keys)
    assert result.status == 125, str(result)
    assert f"cannot allow reading in {path}:" in result.stderr
    return said(result).why


@requires("landlock")
def test_the_first_missing_part_is_that_inside(box: Box, own_root: Path) -> None:
    given = box.folder / "given"
    (given / "data").mkdir(parents=True)
    (given / "data/none").symlink_to("/srv/nothing")
    (given / "back").symlink_to("/in/data")
    # The host has what the container has not, and the other way around.
    (given / "out").symlink_to("/media")
    (own_root / "only").mkdir()
    give(given, box.runner)
    give(own_root, box.runner)
    rooted = box.with_(
        namespaces=ROOTED, rootfs=str(own_root), mounts=[f"{given}:/in", "/usr/share:/usr/share"]
    )
    behind = f"{given}, which is mounted on /in"
    for path, why in (
        ("/media", f"/media does not exist in {own_root}"),
        ("/media/typo", f"/media does not exist in {own_root}"),
        ("/only/typo", f"/only/typo does not exist in {own_root}"),
        ("/in/typo", f"/in/typo does not exist in {behind}"),
        ("/in/back/typo/a", f"/in/back/typo does not exist in {behind}"),
        ("/in/back/none/a", "/in/back/none is a symbolic link to nothing"),
        ("/in/out/a", "/in/out is a symbolic link to nothing"),
        ("/usr/share/typo", "/usr/share/typo does not exist"),
        # Of a new file system nothing is seen from outside.
        ("/dev/typo", ""),
    ):
        assert missing(rooted, path) == why, path


@requires("landlock")
def test_without_a_rootfs_what_is_mounted_counts(box: Box) -> None:
    given = box.folder / "given"
    (given / "data").mkdir(parents=True)
    give(given, box.runner)
    bound = box.with_(namespaces=["user", "mount"], mounts=[f"{given}:/srv"])
    assert missing(bound, "/srv/data/a") == (
        f"/srv/data/a does not exist in {given}, which is mounted on /srv"
    )
    assert missing(bound, "/nothing/a") == "/nothing does not exist"


@requires("root")
def test_a_folder_that_is_closed_is_that_inside(tmp_path: Path) -> None:
    (tmp_path / "srv/a").mkdir(parents=True)
    user = (("clone3", (0x10000000,), ""),)
    context = HintContext(rootfs=str(tmp_path), before=user, inside=True)
    asked = ("AT_FDCWD", "/srv/a/b")
    assert explain("openat", "EACCES", asked, context) == ((), ())
    (tmp_path / "srv/a").chmod(0o700)
    os.chown(tmp_path / "srv/a", 12345, 12345)
    why, _ = explain("openat", "EACCES", asked, context)
    assert "may not enter /srv/a (mode 0700, owner 12345:12345)" in why[0]


def test_a_root_of_which_too_little_is_known() -> None:
    for before in (
        (("setns", ("%mnt", 0x20000), ""),),
        (("pivot_root", (".", "."), ""),),
        (("fsconfig", ("%overlay", 1, "upperdir", "/srv/upper", 0), ""),),
    ):
        with pytest.raises(UnseenError):
            host_of("/bin", HintContext(before=before, inside=True))
    assert host_of("/proc", HintContext(inside=True)) == "/proc"


def test_what_the_run_had_made_is_there(tmp_path: Path) -> None:
    made = (
        ("openat2", ("%rootfs", "srv"), "%srv"),
        ("mkdirat", ("%srv", "made", 0o755), ""),
    )
    context = HintContext(rootfs=str(tmp_path), before=made, inside=True)
    assert host_of("/srv/made", context) == f"{tmp_path}/srv/made"
    assert host_of("/srv/other", context) is None
    assert host_of("/srv/made/a", context) is None
