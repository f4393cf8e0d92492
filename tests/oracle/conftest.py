"""The slow sweeps over all specs run where NSRUN_SWEEP=1 asks for them (``make sweep``)."""

from __future__ import annotations

import os

import pytest

from tests.support import requires


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "sweep: minutes long, for `make sweep` alone")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if os.environ.get("NSRUN_SWEEP") == "1":
        return
    slow = [item for item in items if item.get_closest_marker("sweep")]
    if slow:
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]


@pytest.fixture(scope="session", autouse=True)
def _own_mounts(own_mounts: None) -> None:
    """A sweep takes minutes, and after each run mounts and /run have to be as before."""


@pytest.fixture(params=["native", "python"])
def executor(request: pytest.FixtureRequest) -> str:
    """One contract: what strace sees of a replay is the plan with both."""
    if request.param == "native":
        requires.check(("native",))
    return str(request.param)
