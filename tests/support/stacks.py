"""Stacks of a test's own, which are down when it ends.

A file of tests has the fixtures by importing them: ``executor, own_stacks, stacks``.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.box import Box
from tests.support.lab import Lab
from tests.support.requires import check
from tests.support.runner import Result, Runner

BASE: dict[str, Any] = {
    "namespaces": ["mount", "pid", "ipc", "uts", "network"],
    "mounts": [{"type": "proc", "target": "/proc"}],
    "stop_timeout": "1s",
    "command": ["sleep", "60"],
}


class Stacks:
    """Stacks of the test's own, which are down when it ends."""

    def __init__(self, runner: Runner, folder: Path) -> None:
        self.runner = runner.with_(env={"NSRUN_VOLUMES_DIR": str(folder / "volumes")})
        self.folder = folder
        self.names: set[str] = set()

    def write(self, name: str = "shop", **keys: Any) -> Path:
        self.names.add(name)
        file = self.folder / f"{name}.yaml"
        file.write_text(json.dumps({"name": name, **keys}))
        os.chown(file, self.runner.user.uid, self.runner.user.gid)
        return file

    def up(self, *words: str, name: str = "shop", **keys: Any) -> Result:
        return self.runner.run("up", "-d", *words, self.write(name, **keys))

    def ps(self) -> dict[str, dict[str, Any]]:
        listed = json.loads(self.runner.run("ps", "-a", "--format", "json").ok())
        return {one["name"]: one for one in listed}

    def down(self, name: str = "shop", *words: str) -> Result:
        return self.runner.run("down", *words, name)


def member(**keys: Any) -> dict[str, Any]:
    return {**BASE, **keys}


def kill_keeper(stack: str) -> None:
    """SIGKILL whoever has the stack's lock."""
    kill_who_locks(Path(f"/run/nsrun/stacks/{stack}/lock"))


def kill_who_locks(file: Path) -> None:
    """SIGKILL to the process that holds a flock(2) on ``file``, as /proc/locks tells it.

    By the device too: each tmpfs counts its inodes from 1, and other tests have a /run as well.
    """
    found = os.stat(file)
    place = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    lines = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    holders = [int(words[4]) for words in lines if words[5] == place]
    assert len(holders) == 1, f"{place}: {lines}"
    os.kill(holders[0], signal.SIGKILL)


@pytest.fixture(params=["native"])
def executor(request: pytest.FixtureRequest) -> str:
    """What a stack does with its containers is the same with both; one test has the other."""
    check(("native",))
    return str(request.param)


@pytest.fixture
def stacks(root: Runner, lab: Lab, area: Path) -> Iterator[Stacks]:
    made = Stacks(root, area)
    with lab.unchanged():
        yield made
        for name in made.names:
            result = made.down(name)
            assert result.status == 0 or "there is no stack" in result.stderr, str(result)


@pytest.fixture
def own_stacks(user_box: Box) -> Iterator[Stacks]:
    """As an ordinary user."""
    made = Stacks(user_box.runner, user_box.folder)
    yield made
    for name in made.names:
        made.down(name)
