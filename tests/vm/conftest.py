"""Tests of the small virtual machine (``make vm``): they are collected inside it only.

There, unlike on a machine that others use, a test may write to what is global.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.box import Box
from tests.support.detached import Containers, containers
from tests.support.host import unchanged
from tests.support.runner import Runner
from tests.support.vm import INSIDE

collect_ignore_glob = [] if os.environ.get(INSIDE) == "1" else ["test_*.py"]

TOP = Path("/sys/fs/cgroup")


@pytest.fixture(scope="session", autouse=True)
def _own_mounts(own_mounts: None) -> None:
    """As in tests/kernel."""


@pytest.fixture(autouse=True)
def session() -> Iterator[Path]:
    """The test is in a control group of its own, as a login is, and none of nsrun's is left."""
    made = TOP / "session"
    made.mkdir(exist_ok=True)
    enter(made)
    yield made
    enter(TOP)
    made.rmdir()
    assert [str(path) for path in TOP.rglob("nsrun-*")] == []


def enter(group: Path) -> None:
    """This process, and what it starts from here on."""
    (group / "cgroup.procs").write_text("0")


@pytest.fixture
def root_box(root: Runner) -> Box:
    return Box(runner=root, folder=root.user.home)


@pytest.fixture
def user_box(ordinary: Runner) -> Box:
    return Box(runner=ordinary, folder=ordinary.user.home)


@pytest.fixture
def root_c(root_box: Box) -> Iterator[Containers]:
    with unchanged(), containers(root_box) as made:
        yield made
