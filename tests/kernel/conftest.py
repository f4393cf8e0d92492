"""Fixtures of the tests against the real kernel: boxes for specs of a test's own."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import replays, requires
from tests.support.box import Box, copy_specs
from tests.support.detached import Containers, containers
from tests.support.host import unchanged
from tests.support.lab import Lab
from tests.support.lab import lab as make_lab
from tests.support.rootfs import make_rootfs
from tests.support.runner import Runner


@pytest.fixture(scope="session", autouse=True)
def _own_mounts(own_mounts: None) -> None:
    """All of these look at mounts."""


_WHO = ("anyone", "executor")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of the four pairs of user and executor each test runs in two, which have both users and both
    executors in them; by a test's name in the one two or the other, so that all of the tests
    together run in all four. Each case of one that is marked ``alternate`` runs in one of
    the four, in turn. NSRUN_MATRIX=1 (``make matrix``) runs each in every pair."""
    if os.environ.get("NSRUN_MATRIX") == "1":
        return
    left_out = [item for item in items if _is_left_out(item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]


def _is_left_out(item: pytest.Item) -> bool:
    params = getattr(getattr(item, "callspec", None), "params", {})
    if item.get_closest_marker("alternate") is not None and "anyone" in params:
        case = repr(sorted((k, str(v)) for k, v in params.items() if k not in _WHO))
        turn = zlib.crc32(case.encode())
        other_user = (params["anyone"] == "root") is bool(turn & 1)
        executor = params.get("executor")
        return other_user or ((executor == "native") is bool(turn & 2) and executor is not None)
    if "executor" not in params or "anyone" not in params:
        return False
    straight = (params["executor"] == "native") == (params["anyone"] == "root")
    name = item.nodeid.partition("[")[0].rpartition("::")[2]
    return straight is bool(zlib.crc32(name.encode()) & 1)


@pytest.fixture(params=["native", "python"])
def executor(request: pytest.FixtureRequest) -> str:
    """What a spec does is the same with both."""
    if request.param == "native":
        requires.check(("native",))
    return str(request.param)


@pytest.fixture
def both_executors(executor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Handmade plans are replayed by the one, then by the other."""
    monkeypatch.setattr(replays, "executor", executor)


@pytest.fixture
def box(anyone: Runner) -> Box:
    """Specs of the test's own, once as root and once as an ordinary user."""
    return Box(runner=anyone, folder=anyone.user.home)


@pytest.fixture
def root_box(root: Runner) -> Box:
    return Box(runner=root, folder=root.user.home)


@pytest.fixture
def user_box(ordinary: Runner) -> Box:
    return Box(runner=ordinary, folder=ordinary.user.home)


@pytest.fixture
def c(box: Box) -> Iterator[Containers]:
    """Containers that are left running, once as root and once as an ordinary user."""
    with unchanged(), containers(box) as made:
        yield made


@pytest.fixture
def root_c(root_box: Box) -> Iterator[Containers]:
    with unchanged(), containers(root_box) as made:
        yield made


@pytest.fixture
def lab() -> Iterator[Lab]:
    """A network of the test's own in the place of the host's."""
    requires.check(("root", "ip"))
    with make_lab() as made:
        yield made


@pytest.fixture
def seeds(anyone: Runner, area: Path) -> Path:
    """specs/seeds of a copy that belongs to the runner's user."""
    return copy_specs(area, anyone) / "seeds"


@pytest.fixture
def root_seeds(root: Runner, area: Path) -> Path:
    return copy_specs(area, root) / "seeds"


@pytest.fixture
def root_examples(root: Runner, area: Path) -> Path:
    return copy_specs(area, root)


@pytest.fixture
def examples(anyone: Runner, area: Path) -> Path:
    return copy_specs(area, anyone)


@pytest.fixture
def boxed(box: Box, rootfs: Path) -> Box:
    """A box with the shared busybox rootfs as its root, in namespaces of every common kind."""
    return box.with_(
        namespaces=["user", "mount", "pid", "ipc", "uts", "network"], rootfs=str(rootfs)
    )


@pytest.fixture
def own_root(box: Box) -> Path:
    """A busybox rootfs that belongs to the user of ``box``."""
    from tests.support.box import give

    return give(make_rootfs(box.folder / "rootfs"), box.runner)
