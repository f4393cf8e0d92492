"""Where the cache is, what when it cannot be used, and every spec of specs/ from it."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from nsrun.plan import entry
from tests.support.box import Box, copy_specs
from tests.support.examples import RUNNABLE
from tests.support.host import unchanged
from tests.support.launcher import Launcher
from tests.support.requires import requires
from tests.support.runner import TIMEOUT, Result, Runner

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
    return launcher.box.spec(namespaces=["user", "uts"], hostname="one", command="hostname")


# --- every spec ------------------------------------------------------------------------------

# Words with a number in them, one or more: pids, inodes, times, and how many processes there are.
_NUMBERS = re.compile(r"\S*\d\S*(\s\S*\d\S*)*")


def _shape(result: Result) -> tuple[int, str]:
    """Without what is another number, or another moment, in each run."""
    text = result.stdout.replace("R (running)", "S (sleeping)")
    return result.status, _NUMBERS.sub("N", text)


# Of every third, and of all in `make matrix`.
_SPECS = RUNNABLE if os.environ.get("NSRUN_MATRIX") == "1" else RUNNABLE[::3]


@pytest.mark.parametrize("name", _SPECS)
def test_every_spec_cold_warm_and_compiled(anyone: Runner, area: Path, name: str) -> None:
    """One plan by three ways: made now, kept, and carried by a program."""
    spec = copy_specs(area, anyone) / name
    launcher = Launcher(Box(runner=anyone, folder=anyone.user.home))
    cold = launcher.run(spec, stdin="echo typed\n")
    assert launcher.thought
    warm = launcher.run(spec, stdin="echo typed\n")
    assert _shape(cold) == _shape(warm)
    if cold.status == 125:
        return  # one that this user cannot plan
    # What is warned of is warned of each time.
    assert launcher.thought == ("warning[" in cold.stderr)
    program = anyone.user.home / "program"
    anyone.run("compile", spec, "-o", program).ok()
    compiled = anyone._finish(anyone.argv_of(program), "echo typed\n", TIMEOUT)
    assert _shape(compiled) == _shape(cold)


# --- its folder --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ({"XDG_CACHE_HOME": "{home}/xdg"}, "xdg/nsrun"),
        ({"XDG_CACHE_HOME": "xdg"}, ".cache/nsrun"),
        ({"NSRUN_CACHE_DIR": "here", "XDG_CACHE_HOME": "{home}/xdg"}, "xdg/nsrun"),
        ({"NSRUN_CACHE_DIR": "{home}/given", "XDG_CACHE_HOME": "{home}/xdg"}, "given"),
    ],
)
def test_both_find_the_same_folder(user_box: Box, given: dict[str, str], place: str) -> None:
    """What Python writes the launcher reads: they follow the same rule."""
    launcher = Launcher(user_box)
    spec = user_box.spec(namespaces=["user"], command="echo ran")
    home = user_box.runner.user.home
    env = {"NSRUN_CACHE_DIR": "", **{k: v.format(home=home) for k, v in given.items()}}
    runner = user_box.runner.with_(env=env)
    assert launcher.run(spec, runner=runner).ok() == "ran\n" and launcher.thought
    assert len(list((home / place).iterdir())) == 1
    assert launcher.run(spec, runner=runner).ok() == "ran\n" and not launcher.thought
    assert str(home / place) in user_box.runner.with_(env=env).run("cache", "info").ok()


def test_a_relative_name_is_another_entry_in_another_folder(launcher: Launcher) -> None:
    runner = launcher.box.runner
    for name in ("one", "two"):
        folder = launcher.box.folder_of_user(name)
        made = launcher.box.spec("web", namespaces=["user"], command=f"echo {name}")
        made.rename(folder / "web.yaml")
    for _ in range(2):
        for name in ("one", "two"):
            there = runner.with_(cwd=launcher.box.folder / name)
            assert launcher.run("web.yaml", runner=there).ok() == f"{name}\n"
    assert not launcher.thought


# --- what is in the way ------------------------------------------------------------------------


def test_a_cache_that_its_user_cannot_read(user_box: Box) -> None:
    launcher = Launcher(user_box)
    spec = user_box.spec(namespaces=["user"], command="echo ran")
    launcher.run(spec).ok()
    launcher.cache.chmod(0)
    try:
        for _ in range(2):
            result = launcher.run(spec)
            assert result == Result(status=0, stdout="ran\n", stderr="") and launcher.thought
    finally:
        launcher.cache.chmod(0o700)
    launcher.run(spec).ok()
    assert not launcher.thought


@requires("root")
def test_a_cache_on_a_disk_that_is_read_only(root_box: Box) -> None:
    """What is there is used; what is not, is planned each time."""
    launcher = Launcher(root_box)
    spec = root_box.spec(namespaces=["uts"], hostname="one", command="hostname")
    launcher.run(spec).ok()
    subprocess.run(["mount", "--bind", launcher.cache, launcher.cache], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", launcher.cache], check=True)
        assert launcher.run(spec).ok() == "one\n" and not launcher.thought
        spec.write_text(spec.read_text().replace('"one"', '"two"'))
        for _ in range(2):
            result = launcher.run(spec)
            assert result == Result(status=0, stdout="two\n", stderr="") and launcher.thought
    finally:
        subprocess.run(["umount", launcher.cache], check=True)


def test_a_folder_in_every_slot(launcher: Launcher, spec: Path) -> None:
    launcher.run(spec).ok()
    (first,) = launcher.entries()
    first.unlink()
    for slot in range(entry.SLOTS):
        (first.with_suffix(f".{slot}") / "inside").mkdir(parents=True)
    for _ in range(2):
        assert launcher.run(spec) == Result(status=0, stdout="one\n", stderr="")
        assert launcher.thought


def test_annotations_that_are_damaged(launcher: Launcher) -> None:
    """They are read only to explain a failure, and are no part of what is replayed."""
    spec = launcher.box.spec(
        namespaces=["user", "mount"],
        mounts=[{"type": "tmpfs", "target": "/tmp", "options": ["sise=1m"]}],
        command=["true"],
    )
    assert launcher.run(spec).status == 125
    (kept,) = launcher.entries()
    data = bytearray(kept.read_bytes())
    for place in range(len(data) - 2000, len(data), 97):
        data[place] ^= 0x55
    kept.write_bytes(data)
    result = launcher.run(spec)
    assert result.status == 125 and result.stdout == ""
    assert "Traceback" not in result.stderr and "NS003" not in result.stderr
    assert "error" in result.stderr


def test_many_at_once(launcher: Launcher, spec: Path) -> None:
    """Cold together: each has its plan, and one of them is kept whole."""
    argv = launcher.box.runner.argv_of(launcher.program, spec)
    with unchanged(launcher.box.folder):
        running = [
            subprocess.Popen(
                argv,
                cwd=launcher.box.runner.cwd,
                env=launcher.box.runner.environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for _ in range(8)
        ]
        ended = [process.communicate(timeout=60) for process in running]
    assert ended == [("one\n", "")] * 8
    assert 1 <= len(launcher.entries()) <= entry.SLOTS
    assert launcher.run(spec).ok() == "one\n" and not launcher.thought
    assert os.stat(launcher.entries()[0]).st_nlink == 1
