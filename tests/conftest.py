"""Fixtures of every ring: a folder others can enter, users, runners, a rootfs."""

from __future__ import annotations

import ctypes
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import groups, host, requires
from tests.support.rootfs import make_rootfs
from tests.support.runner import Runner
from tests.support.users import User, ordinary_user, root_user


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "requires(*features): what the machine must have (tests/support/requires.py)"
    )


def pytest_sessionstart() -> None:
    host.adopt_orphans()


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("requires"):
        requires.check(mark.args)


@pytest.fixture(scope="session")
def own_mounts() -> None:
    """A mount namespace of the tests' own, where root may make one: what other programs of the
    machine mount meanwhile is no trace of nsrun's, and a failing test leaves nothing behind."""
    if os.geteuid() != 0:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    clone_newns, ms_rec, ms_private = 0x20000, 0x4000, 1 << 18
    # On one processor: ids of namespaces grow on each alone (test_seeds_pin.py).
    processors = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(processors)})
    if libc.unshare(clone_newns) != 0:
        raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWNS)")
    os.sched_setaffinity(0, processors)
    if libc.mount(None, b"/", None, ms_rec | ms_private, None) != 0:
        raise OSError(ctypes.get_errno(), "mount --make-rprivate /")
    # Containers of root have their folders there: each worker has its own.
    if libc.mount(b"tests", b"/run", b"tmpfs", 0, b"mode=755") != 0:
        raise OSError(ctypes.get_errno(), "mount a tmpfs on /run")


def _make_area() -> Path:
    # pytest's own tmp_path is below a folder of mode 0700, which no other user can enter.
    area = Path(tempfile.mkdtemp(prefix="nsrun-test-"))
    area.chmod(0o755)
    return area


def _remove_area(area: Path) -> None:
    shutil.rmtree(area)
    for cache in area.parent.glob(f"{area.name}-cache-*"):
        shutil.rmtree(cache)


@pytest.fixture
def area() -> Iterator[Path]:
    """A folder that every user can enter and that is gone afterwards."""
    made = _make_area()
    yield made
    _remove_area(made)


@pytest.fixture(scope="session")
def shared_area() -> Iterator[Path]:
    """The same for the whole session."""
    made = _make_area()
    yield made
    _remove_area(made)


@pytest.fixture(scope="session")
def rootfs(shared_area: Path) -> Path:
    """A busybox rootfs that tests share: not to be written to."""
    requires.check(("busybox",))
    return make_rootfs(shared_area / "rootfs")


@pytest.fixture
def own_rootfs(area: Path) -> Path:
    """A busybox rootfs of the test's own."""
    requires.check(("busybox",))
    return make_rootfs(area / "rootfs")


@pytest.fixture
def executor() -> str:
    """The executor that runners ask for; "" leaves the choice to nsrun."""
    return ""


@pytest.fixture
def root(area: Path, executor: str) -> Runner:
    """Runs nsrun as root, in the test's area."""
    requires.check(("root",))
    return Runner(user=root_user(area), cwd=area, env=_asking_for(executor))


@pytest.fixture
def user(area: Path) -> User:
    """An ordinary user with subordinate ids (where the machine can have them)."""
    requires.check(("userns",))
    return ordinary_user(area)


@pytest.fixture
def ordinary(area: Path, user: User, executor: str) -> Runner:
    """Runs nsrun as an ordinary user, in the test's area."""
    return Runner(user=user, cwd=area, env=_asking_for(executor))


def _asking_for(executor: str) -> dict[str, str]:
    return {"NSRUN_EXECUTOR": executor} if executor else {}


@pytest.fixture(params=["root", "ordinary"])
def anyone(request: pytest.FixtureRequest, executor: str) -> Runner:
    """Both, one after the other."""
    # The parameters of a fixture that is asked for by name must be known before.
    del executor
    runner = request.getfixturevalue(request.param)
    assert isinstance(runner, Runner)
    return runner


@pytest.fixture(autouse=True)
def _same_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture
def cgroups_alone() -> Iterator[None]:
    with groups.alone():
        yield
