"""The installed launcher: what it replays without Python, and what makes it plan anew."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.box import Box
from tests.support.launcher import Launcher
from tests.support.requires import requires

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


def test_the_second_run_executes_no_python(launcher: Launcher, spec: Path) -> None:
    assert launcher.run(spec).ok() == "one\n"
    assert launcher.thought
    assert launcher.run(spec).ok() == "one\n"
    assert not launcher.thought
    (entry,) = launcher.entries()
    assert stat.S_IMODE(entry.stat().st_mode) == 0o600
    assert stat.S_IMODE(launcher.cache.stat().st_mode) == 0o700


def test_other_words_are_another_entry(launcher: Launcher, spec: Path) -> None:
    launcher.run(spec).ok()
    assert launcher.run(spec, "--", "echo", "two").ok() == "two\n"
    assert launcher.thought
    assert launcher.run(spec, "--", "echo", "two").ok() == "two\n"
    assert not launcher.thought
    assert launcher.run(spec).ok() == "one\n"
    assert not launcher.thought


def test_no_cache(launcher: Launcher, spec: Path) -> None:
    for _ in range(2):
        launcher.run("run", "--no-cache", spec).ok()
        assert launcher.thought
    assert launcher.entries() == []


def test_a_failure_is_explained_from_the_cache(launcher: Launcher) -> None:
    spec = launcher.box.spec(
        "bad",
        namespaces=["user", "mount"],
        mounts=[{"type": "tmpfs", "target": "/tmp", "options": ["sise=1m"]}],
        command=["true"],
    )
    first, second = launcher.run(spec), launcher.run(spec)
    assert first.status == second.status == 125
    assert "Unknown parameter 'sise'" in first.stderr
    assert second.stderr == first.stderr


# --- what a plan depends on ------------------------------------------------------------------


def _edited(launcher: Launcher, spec: Path) -> str:
    spec.write_text(spec.read_text().replace('"one"', '"two"'))
    return "two\n"


def _same_size_and_time(launcher: Launcher, spec: Path) -> str:
    before = spec.stat()
    spec.write_text(spec.read_text().replace('"one"', '"six"'))
    os.utime(spec, ns=(before.st_atime_ns, before.st_mtime_ns))
    return "six\n"


def _replaced(launcher: Launcher, spec: Path) -> str:
    new = spec.with_suffix(".new")
    new.write_text(spec.read_text().replace('"one"', '"ten"'))
    os.rename(new, spec)
    return "ten\n"


@pytest.mark.parametrize("change", [_edited, _same_size_and_time, _replaced])
def test_a_changed_spec(launcher: Launcher, spec: Path, change: object) -> None:
    launcher.run(spec).ok()
    wanted = change(launcher, spec)  # type: ignore[operator]
    assert launcher.run(spec).ok() == wanted
    assert launcher.thought
    assert launcher.run(spec).ok() == wanted
    assert not launcher.thought


def test_a_changed_env_file(launcher: Launcher) -> None:
    file = launcher.box.folder / "some.env"
    file.write_text("WORD=one\n")
    spec = launcher.box.spec(env_file=str(file), namespaces=["user"], command="echo $WORD")
    assert launcher.run(spec).ok() == "one\n"
    file.write_text("WORD=two\n")
    assert launcher.run(spec).ok() == "two\n"
    assert launcher.thought


def test_a_bind_source_of_another_kind(launcher: Launcher) -> None:
    source = launcher.box.folder / "source"
    source.mkdir()
    (source / "inside").touch()
    spec = launcher.box.spec(
        namespaces=["user", "mount"],
        mounts=[{"type": "bind", "source": str(source), "target": "/mnt"}],
        command="ls /mnt",
    )
    assert launcher.run(spec).ok() == "inside\n"
    (source / "another").touch()
    assert launcher.run(spec).ok() == "another\ninside\n"
    assert not launcher.thought
    (source / "inside").unlink()
    (source / "another").unlink()
    source.rmdir()
    result = launcher.run(spec)
    assert result.status == 125 and "does not exist" in result.stderr
    source.write_text("")
    assert launcher.run(spec).status == 125
    assert launcher.thought


def test_a_variable_that_is_passed_on(launcher: Launcher) -> None:
    spec = launcher.box.spec(namespaces=["user"], command="echo $TERM")
    runner = launcher.box.runner
    for term, anew in (("one", True), ("two", True), ("one", False), ("two", False)):
        result = launcher.run(spec, runner=runner.with_(env={"TERM": term}))
        assert result.ok() == f"{term}\n"
        assert launcher.thought is anew


def test_another_folder(launcher: Launcher, spec: Path) -> None:
    """A relative name is another file elsewhere."""
    runner = launcher.box.runner
    other = launcher.box.folder / "other"
    other.mkdir()
    (other / "web.yaml").write_text(spec.read_text().replace('"one"', '"two"'))
    for folder, wanted in ((spec.parent, "one\n"), (other, "two\n"), (spec.parent, "one\n")):
        assert launcher.run("web.yaml", runner=runner.with_(cwd=folder)).ok() == wanted


def test_another_limit(launcher: Launcher, spec: Path) -> None:
    launcher.run(spec).ok()
    limited = ("sh", "-c", 'ulimit -n 99; exec "$@"', "sh")
    launcher.run(spec, before=limited).ok()
    assert launcher.thought
    launcher.run(spec, before=limited).ok()
    assert not launcher.thought
    launcher.run(spec).ok()
    assert not launcher.thought


def test_a_target_that_appears_in_the_rootfs(launcher: Launcher, own_root: Path) -> None:
    spec = launcher.box.spec(
        namespaces=["user", "mount"],
        rootfs=str(own_root),
        mounts=[{"type": "tmpfs", "target": "/some/where"}],
        command="ls -d /some/where",
    )
    assert launcher.run(spec).ok() == "/some/where\n"
    assert not (own_root / "some").exists()
    (own_root / "some").mkdir()
    os.chown(own_root / "some", launcher.box.runner.user.uid, launcher.box.runner.user.gid)
    assert launcher.run(spec).ok() == "/some/where\n"
    assert launcher.thought
    assert list((own_root / "some").iterdir()) == []


# --- what is not to be trusted ---------------------------------------------------------------


def _flip(entry: Path) -> None:
    data = bytearray(entry.read_bytes())
    for place in range(40, len(data), 997):
        data[place] ^= 0x55
    entry.write_bytes(data)


def _cut(entry: Path) -> None:
    os.truncate(entry, entry.stat().st_size // 3)


def _empty(entry: Path) -> None:
    os.truncate(entry, 0)


def _readable(entry: Path) -> None:
    entry.chmod(0o644)


def _link(entry: Path) -> None:
    os.rename(entry, entry.parent.parent / "elsewhere")
    entry.symlink_to(entry.parent.parent / "elsewhere")


def _second_name(entry: Path) -> None:
    os.link(entry, entry.parent / "0000000000000000.0")


def _fifo(entry: Path) -> None:
    entry.unlink()
    os.mkfifo(entry, 0o600)


def _folder(entry: Path) -> None:
    entry.unlink()
    entry.mkdir()


@pytest.mark.parametrize(
    "damage", [_flip, _cut, _empty, _readable, _link, _second_name, _fifo, _folder]
)
def test_an_entry_that_cannot_be_trusted(launcher: Launcher, spec: Path, damage: object) -> None:
    launcher.run(spec).ok()
    (entry,) = launcher.entries()
    damage(entry)  # type: ignore[operator]
    assert launcher.run(spec).ok() == "one\n"
    assert launcher.thought
    assert launcher.run(spec).ok() == "one\n"
    assert not launcher.thought


def test_a_plan_that_was_exchanged(launcher: Launcher, spec: Path) -> None:
    """Another entry's content under this one's name answers to other words."""
    launcher.run(spec).ok()
    (entry,) = launcher.entries()
    launcher.run(spec, "--", "echo", "wrong").ok()
    other = next(e for e in launcher.entries() if e != entry)
    entry.write_bytes(other.read_bytes())
    assert launcher.run(spec).ok() == "one\n"
    assert launcher.thought


def test_a_folder_that_others_can_write(launcher: Launcher, spec: Path) -> None:
    launcher.run(spec).ok()
    launcher.cache.chmod(0o777)
    try:
        for _ in range(2):
            assert launcher.run(spec).ok() == "one\n"
            assert launcher.thought
    finally:
        launcher.cache.chmod(0o700)
    launcher.run(spec).ok()
    assert not launcher.thought


@requires("root")
def test_an_entry_of_another_user(root_box: Box) -> None:
    launcher = Launcher(root_box)
    spec = root_box.spec("web", namespaces=["uts"], hostname="one", command="hostname")
    launcher.run(spec).ok()
    (entry,) = launcher.entries()
    os.chown(entry, 65534, 65534)
    assert launcher.run(spec).ok() == "one\n"
    assert launcher.thought


@pytest.fixture
def small_disk(root_box: Box) -> Iterator[Path]:
    place = root_box.folder / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8k,mode=0700", "t", place], check=True)
    yield place
    subprocess.run(["umount", place], check=True)


@requires("root")
def test_a_full_disk(root_box: Box, small_disk: Path) -> None:
    launcher = Launcher(root_box)
    spec = root_box.spec("web", namespaces=["uts"], hostname="one", command="hostname")
    runner = root_box.runner.with_(env={"NSRUN_CACHE_DIR": str(small_disk)})
    for _ in range(2):
        assert launcher.run(spec, runner=runner).ok() == "one\n"
        assert launcher.thought
    assert list(small_disk.iterdir()) == []


def test_info_and_clear(launcher: Launcher, spec: Path) -> None:
    launcher.run(spec).ok()
    assert "plans    1," in launcher.run("cache").ok()
    assert launcher.run("cache", "clear").ok() == "1 plans forgotten\n"
    assert launcher.entries() == []
    launcher.run(spec).ok()
    assert launcher.thought
