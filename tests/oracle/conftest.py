"""The slow sweeps over all specs run where NSRUN_SWEEP=1 asks for them (``make sweep``)."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from tests.oracle import tally
from tests.support import requires


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "sweep: minutes long, for `make sweep` alone")
    if os.environ.get("NSRUN_SWEEP") == "1" and not hasattr(config, "workerinput"):
        fd, os.environ[tally.RECORDS] = tempfile.mkstemp(prefix="sweep-")
        os.close(fd)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    path = os.environ.get(tally.RECORDS)
    if not path or hasattr(terminalreporter.config, "workerinput"):
        return
    if shown := tally.shown(Path(path)):
        terminalreporter.section("faults on this kernel")
        terminalreporter.write_line(shown)
    Path(path).unlink(missing_ok=True)


# Ten seconds for each executor: the native one is the one that users run. The Python one is swept
# by `make sweep`, and on the simulated machine by tests/sim.
_NATIVE = ("test_a_fault_at_every_step_of_the_quickstart", "test_a_fault_at_the_steps_of_a_network")


def _is_slow(item: pytest.Item) -> bool:
    if item.get_closest_marker("sweep"):
        return True
    named = item.nodeid.rpartition("::")[2]
    return named.startswith(_NATIVE) and "[python" in named


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if os.environ.get("NSRUN_SWEEP") == "1":
        return
    slow = [item for item in items if _is_slow(item)]
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
