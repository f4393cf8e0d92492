"""A kept plan is used as long as what it depended on is as it was: each thing, changed."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from nsrun.host import depends
from nsrun.kernel.depend import CONTENT_MAX
from tests.support.box import Box, give
from tests.support.launcher import Launcher
from tests.support.paths import PYTHON, ROOT
from tests.support.requires import requires
from tests.support.rootfs import PASSWD

pytestmark = requires("native", "busybox", "strace")


@pytest.fixture
def executor() -> str:
    """The cache is the native launcher's; `""`: what nsrun chooses."""
    return ""


@pytest.fixture
def launcher(box: Box) -> Launcher:
    return Launcher(box)


@pytest.fixture
def spec(launcher: Launcher) -> Path:
    return launcher.box.spec(
        "web", namespaces=["user", "mount", "uts"], hostname="one", command="hostname"
    )


# --- the caller --------------------------------------------------------------------------------

DIFFERENT = {
    "group": ("setpriv", "--groups=1234"),
    "bounding": ("setpriv", "--bounding-set=-sys_time"),
    "privileges": ("setpriv", "--no-new-privs"),
    "ignored": ("sh", "-c", 'trap "" USR1; exec "$@"', "sh"),
    "variable": ("env", "PATH=/usr/bin:/bin"),
}


@requires("root")
@pytest.mark.parametrize("how", DIFFERENT)
def test_another_caller_has_a_plan_of_its_own(root_box: Box, how: str) -> None:
    launcher = Launcher(root_box)
    spec = root_box.spec(namespaces=["uts"], hostname="one", command="hostname")
    launcher.run(spec).ok()
    for before, thought in ((DIFFERENT[how], True), (DIFFERENT[how], False), ((), False)):
        assert launcher.run(spec, before=before).ok() == "one\n"
        assert launcher.thought is thought


def test_a_signal_that_is_ignored_now(launcher: Launcher, spec: Path) -> None:
    """The command gets default actions: a plan made where all were so has no step for that."""
    words = ("--", "sh", "-c", "kill -USR1 $$; echo here")
    for before, thought in (((), True), (DIFFERENT["ignored"], True), ((), False)):
        assert launcher.run(spec, *words, before=before).status == 128 + 10
        assert launcher.thought is thought


@pytest.mark.parametrize("mask", ["0027", "0077"])
def test_no_plan_depends_on_the_umask(launcher: Launcher, spec: Path, mask: str) -> None:
    """It sets the command's itself."""
    before = ("sh", "-c", f'umask {mask}; exec "$@"', "sh")
    launcher.run(spec, "--", "sh", "-c", "umask", before=before).ok()
    assert launcher.run(spec, "--", "sh", "-c", "umask").ok() == "0022\n"
    assert launcher.run(spec, "--", "sh", "-c", "umask", before=before).ok() == "0022\n"
    assert not launcher.thought


def test_other_subordinate_ids(user_box: Box) -> None:
    launcher = Launcher(user_box)
    spec = user_box.spec(namespaces=["user"], command="cat /proc/self/uid_map")
    first = launcher.run(spec).ok()
    assert "200000" in first
    for file, etc in user_box.runner.user.binds:
        if etc.name in ("subuid", "subgid"):
            file.write_text(f"{user_box.runner.user.name}:300000:65536\n")
    second = launcher.run(spec).ok()
    assert launcher.thought
    assert second == first.replace("200000", "300000")


def test_a_helper_found_earlier_on_path(user_box: Box) -> None:
    launcher = Launcher(user_box)
    folder = user_box.folder_of_user("early")
    runner = user_box.runner.with_(env={"PATH": f"{folder}:/usr/bin:/bin"})
    spec = user_box.spec(namespaces=["user"], command="echo ran")
    launcher.run(spec, runner=runner).ok()
    assert launcher.run(spec, runner=runner).ok() == "ran\n" and not launcher.thought
    helper = folder / "newuidmap"
    helper.write_text("#!/bin/sh\necho mine >&2\nexit 3\n")
    helper.chmod(0o755)
    result = launcher.run(spec, runner=runner)
    assert launcher.thought
    assert result.status == 125 and f"{helper}" in result.stderr


@requires("root")
def test_another_users_cache_is_not_used(root_box: Box, user_box: Box) -> None:
    """Root does not run what another user has planned, and writes nothing there."""
    of_user, of_root = Launcher(user_box), Launcher(root_box)
    spec = user_box.spec(namespaces=["user"], command="echo ran")
    of_user.run(spec).ok()
    before = [(e.name, e.stat().st_mtime_ns) for e in of_user.entries()]
    runner = root_box.runner.with_(env={"NSRUN_CACHE_DIR": str(of_user.cache)})
    for _ in range(2):
        assert of_root.run(spec, runner=runner).ok() == "ran\n"
        assert of_root.thought
    assert [(e.name, e.stat().st_mtime_ns) for e in of_user.entries()] == before


# --- files -------------------------------------------------------------------------------------


def test_a_spec_whose_link_leads_elsewhere(launcher: Launcher, spec: Path) -> None:
    link = spec.with_name("link.yaml")
    link.symlink_to(spec)
    assert launcher.run(link).ok() == "one\n"
    other = spec.with_name("other.yaml")
    other.write_text(spec.read_text().replace('"one"', '"two"'))
    link.unlink()
    link.symlink_to(other)
    assert launcher.run(link).ok() == "two\n"
    assert launcher.thought


def test_a_spec_that_is_gone(launcher: Launcher, spec: Path) -> None:
    launcher.run(spec).ok()
    spec.unlink()
    result = launcher.run(spec)
    assert result.status == 125 and "NS001" in result.stderr


def test_standard_input_is_no_file_to_remember(launcher: Launcher, spec: Path) -> None:
    text = spec.read_text()
    assert launcher.run("-", stdin=text).ok() == "one\n"
    assert launcher.run("-", stdin=text.replace('"one"', '"two"')).ok() == "two\n"
    assert launcher.thought and launcher.entries() == []


def test_another_rootfs_of_the_same_name(launcher: Launcher, own_root: Path) -> None:
    (own_root / "which").write_text("first\n")
    spec = launcher.box.spec(
        namespaces=["user", "mount"], rootfs=str(own_root), command="cat /which"
    )
    assert launcher.run(spec).ok() == "first\n"
    (own_root / "which").write_text("edited\n")
    assert launcher.run(spec).ok() == "edited\n" and not launcher.thought
    own_root.rename(own_root.with_name("old"))
    shutil.copytree(own_root.with_name("old"), own_root, symlinks=True)
    give(own_root, launcher.box.runner)
    (own_root / "which").write_text("second\n")
    assert launcher.run(spec).ok() == "second\n" and launcher.thought


def test_a_users_number_in_the_rootfs(launcher: Launcher, own_root: Path) -> None:
    spec = launcher.box.spec(
        namespaces=["user", "mount"], rootfs=str(own_root), user="alice", command="id -u"
    )
    assert launcher.run(spec).ok() == "1000\n"
    passwd = own_root / "etc/passwd"
    passwd.write_text(PASSWD.replace("alice:x:1000", "alice:x:1001"))
    assert launcher.run(spec).ok() == "1001\n" and launcher.thought
    assert launcher.run(spec).ok() == "1001\n" and not launcher.thought


@requires("root")
def test_a_mount_over_a_source(root_box: Box) -> None:
    """The same name and another file system: identity is device and inode."""
    launcher = Launcher(root_box)
    source = root_box.folder_of_user("source")
    spec = root_box.spec(
        namespaces=["mount"],
        mounts=[{"type": "bind", "source": str(source), "target": "/mnt"}],
        command="stat -f -c %T /mnt",
    )
    first = launcher.run(spec).ok()
    subprocess.run(["mount", "-t", "ramfs", "none", source], check=True)
    try:
        second = launcher.run(spec).ok()
    finally:
        subprocess.run(["umount", source], check=True)
    assert launcher.thought and first != second


def test_a_file_larger_than_is_compared(tmp_path: Path) -> None:
    """What is read is more than the launcher ever reads: never the same."""
    file = tmp_path / "large"
    file.write_bytes(b"x" * (CONTENT_MAX + 100))
    assert len(depends._content(str(file), "large").data) > CONTENT_MAX
    file.write_bytes(b"x" * CONTENT_MAX)
    assert len(depends._content(str(file), "small").data) == CONTENT_MAX


# --- nsrun itself ------------------------------------------------------------------------------


@pytest.fixture
def copy(root_box: Box) -> Iterator[Path]:
    """A checkout of its own, with the interpreter of this one."""
    made = root_box.folder / "checkout"
    (made / "bin").mkdir(parents=True)
    ignore = shutil.ignore_patterns("__pycache__")
    for name in ("nsrun", "schemas"):
        shutil.copytree(ROOT / name, made / name, ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", made)
    shutil.copy(Path(PYTHON).parent / "nsrun", made / "bin")
    start = made / "bin/nsrun-python"
    start.write_text(f'#!/bin/sh\nexec {PYTHON} -P -m nsrun "$@"\n')
    start.chmod(0o755)
    yield made


@requires("root")
@pytest.mark.parametrize("file", ["nsrun/plan/build.py", "schemas/container.schema.json"])
def test_an_edited_nsrun(root_box: Box, copy: Path, file: str) -> None:
    launcher = Launcher(root_box)
    launcher.program = copy / "bin/nsrun"
    runner = root_box.runner.with_(env={"PYTHONPATH": str(copy)})
    spec = root_box.spec(namespaces=["uts"], hostname="one", command="hostname")
    launcher.run(spec, runner=runner).ok()
    assert launcher.run(spec, runner=runner).ok() == "one\n" and not launcher.thought
    os.utime(copy / file)
    assert launcher.run(spec, runner=runner).ok() == "one\n" and launcher.thought
    assert launcher.run(spec, runner=runner).ok() == "one\n" and not launcher.thought
