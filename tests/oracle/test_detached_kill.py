"""SIGKILL of each process of ``nsrun run -d`` at each call of a kind: nothing is left but what
``nsrun rm`` and ``nsrun prune`` take away, and nobody waits."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.oracle import tally
from tests.support.box import Box, wait_for
from tests.support.detached import Containers, containers
from tests.support.host import snapshot, unchanged
from tests.support.requires import requires
from tests.support.runner import Runner

pytestmark = requires("strace")

# Calls of the monitor, of the launcher below it, and of the container; the command line itself
# makes some of them too. What it makes by the hundred while it imports is not among them.
CALLS = (
    "setsid", "fchdir", "dup3", "flock", "renameat2", "unlinkat", "ftruncate", "bind", "listen",
    "connect", "signalfd4", "socketpair", "clone3", "pidfd_open", "sendmsg", "recvmsg", "recvfrom",
    "ppoll", "waitid", "pidfd_send_signal", "move_mount", "seccomp",
)  # fmt: skip
# By its words the command is known.
COMMAND = ("/bin/sleep", "0.0517")
LIMIT = 20


def commands() -> list[str]:
    """The pids of all that runs the command."""
    wanted = "\0".join(COMMAND).encode()
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "cmdline").read_bytes().startswith(wanted):
                found.append(entry.name)
        except OSError:
            continue
    return found


def kills(c: Containers, trace: Path, name: str) -> Iterator[tuple[str, list[str]]]:
    """What is wrong after a kill at the Nth call, for N = 1, 2, ... until none is hit."""
    file = c.spec(list(COMMAND))
    for when in range(1, LIMIT):
        fault = f"inject={name}:signal=SIGKILL:when={when}"
        argv = ["strace", "-f", "-qq", "-o", str(trace), "-e", f"trace={name}", "-e", fault]
        said: list[str] = []
        run = subprocess.Popen(
            [*argv, *c.runner.argv("run", "-d", file)],
            cwd=c.runner.cwd,
            env=c.runner.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            # strace(1) ends with the last of them.
            run.wait(timeout=20)
        except subprocess.TimeoutExpired:
            said.append("the run hangs")
            run.kill()
            run.wait()
        hit = "+++ killed by SIGKILL +++" in trace.read_text()
        if not wait_for(lambda: not commands()):
            said.append(f"left: {commands()}")
        c("rm", "-f", "c")
        c("prune")
        names = [str(path) for path in c.state.rglob("*") if c.state.exists()]
        said += [f"left: {names}"] if names else []
        if not hit:
            break
        yield fault, said


def check(root: Runner, area: Path, names: tuple[str, ...]) -> None:
    wrong: list[tuple[str, list[str]]] = []
    judged: list[list[str]] = []
    with unchanged(), containers(Box(runner=root, folder=root.user.home)) as c:
        before = snapshot()
        for name in names:
            for fault, said in kills(c, area / "trace", name):
                said += [f"left: {what}" for what in before.differences(snapshot())]
                judged.append(said)
                wrong += [(fault, said)] if said else []
    executor = root.env["NSRUN_EXECUTOR"]
    tally.record("SIGKILL detached", executor, judged)
    assert not wrong, wrong
    # Python's own monitor calls others of some kinds.
    assert judged or executor == "python"


@pytest.mark.sweep
@pytest.mark.parametrize("name", CALLS)
def test_a_kill_at_every_call_of_a_detached_run(root: Runner, area: Path, name: str) -> None:
    check(root, area, (name,))
