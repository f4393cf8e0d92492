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
from tests.support.stacks import own_stacks, stacks  # noqa: F401 -- fixtures


@pytest.fixture(scope="session", autouse=True)
def _own_mounts(own_mounts: None) -> None:
    """All of these look at mounts."""


_WHO = ("anyone", "executor")
_MANY = 3


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of the four pairs of user and executor each test runs in two, which have both users and both
    executors in them; by a test's name in the one two or the other, so that all of the tests
    together run in all four. One with three cases or more runs each case in one of the four,
    in turn. NSRUN_MATRIX=1 (``make matrix``) runs each in every pair."""
    leave_out(config, items, Path(__file__).parent)


def leave_out(config: pytest.Config, items: list[pytest.Item], folder: Path) -> None:
    """Of the tests below ``folder``, those pairs in which they do not run."""
    if os.environ.get("NSRUN_MATRIX") == "1":
        return
    here = [item for item in items if folder in item.path.parents]
    turns = _turns(here)
    deselect(config, items, {item for item in here if _is_left_out(item, turns)})


def deselect(config: pytest.Config, items: list[pytest.Item], left_out: set[pytest.Item]) -> None:
    """As pytest's own -k does."""
    if left_out:
        config.hook.pytest_deselected(items=[item for item in items if item in left_out])
        items[:] = [item for item in items if item not in left_out]


def _turns(items: list[pytest.Item]) -> dict[tuple[str, str], int]:
    """For each case of each test that has many, by which of the pairs it runs."""
    cases: dict[str, dict[str, None]] = {}
    for item in items:
        cases.setdefault(_test(item), {})[_case(item)] = None
    return {
        (test, case): turn
        for test, found in cases.items()
        if len(found) >= _MANY
        for turn, case in enumerate(found, zlib.crc32(test.encode()))
    }


def _params(item: pytest.Item) -> dict[str, object]:
    return dict(getattr(getattr(item, "callspec", None), "params", {}))


def _test(item: pytest.Item) -> str:
    return item.nodeid.partition("[")[0].rpartition("::")[2]


def _case(item: pytest.Item) -> str:
    return repr(sorted((k, str(v)) for k, v in _params(item).items() if k not in _WHO))


def _is_left_out(item: pytest.Item, turns: dict[tuple[str, str], int]) -> bool:
    params = _params(item)
    user, executor = params.get("anyone"), params.get("executor")
    turn = turns.get((_test(item), _case(item)))
    if turn is not None:
        other_user = user is not None and (user == "root") is bool(turn & 1)
        # Of one user only: in turn all the same.
        bit = 2 if user is not None else 1
        return other_user or (executor is not None and (executor == "native") is bool(turn & bit))
    if executor is None or user is None:
        return False
    straight = (executor == "native") == (user == "root")
    return straight is bool(zlib.crc32(_test(item).encode()) & 1)


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
