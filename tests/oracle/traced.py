"""Runs of a driver under strace: what the processes of a replay call, and with a fault put in."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from nsrun.plan.codec import loads
from nsrun.plan.model import Plan
from tests.oracle.strace import Traced, parse
from tests.support.paths import PYTHON
from tests.support.runner import Runner

# No run may take longer, whatever fails in it.
PATIENCE = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """``launcher`` is the pid of nsrun's own process; ``seconds`` the time until its end."""

    status: int
    stdout: str
    stderr: str
    calls: list[Traced]
    launcher: int
    seconds: float
    trace: Path

    def of(self, pid: int) -> list[Traced]:
        return [call for call in self.calls if call.pid == pid]


@dataclass(slots=True, kw_only=True)
class Driver:
    """A driver process for one spec; ``plan`` is the plan that it replays, ``executor`` the one
    of its environment; ``ran`` is called after each run whose command was heard."""

    plan: Plan
    executor: str
    process: subprocess.Popen[bytes]
    folder: Path
    numbers: Iterator[int]
    ran: Callable[[], None]

    def run(self, *options: str, executor: str = "go") -> Run:
        """One replay under ``strace -f OPTIONS``, by the executor of the driver's environment or by
        "native" or "python". Fails where it does not end in time."""
        number = next(self.numbers)
        out, trace = self.folder / f"out{number}", self.folder / f"trace{number}"
        self._tell(f"{executor} {out}")
        pid = int(self._line().split()[1])
        strace = ["strace", "-f", "-qq", "-s", "256", "-o", str(trace), *options, "-p", str(pid)]
        tracer = subprocess.Popen(strace, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            _wait_until_traced(pid, tracer)
            begun = time.monotonic()
            os.kill(pid, signal.SIGCONT)
            status = int(self._line(pid).split()[1])
            seconds = time.monotonic() - begun
        finally:
            if tracer.stderr is not None:
                tracer.stderr.close()
            tracer.wait(timeout=10)
        stdout = out.read_text()
        if stdout:
            self.ran()
        return Run(
            status=status,
            stdout=stdout,
            stderr=out.with_suffix(".err").read_text(),
            calls=parse(trace),
            launcher=pid,
            seconds=seconds,
            trace=trace,
        )

    def _tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())
        self.process.stdin.flush()

    def _line(self, hanging: int = 0) -> str:
        """The driver's next line; ``hanging`` is killed where it does not come in time."""
        import select

        stdout = self.process.stdout
        assert stdout is not None
        ready, _, _ = select.select([stdout], [], [], 15 * PATIENCE)
        if not ready and hanging:
            where = "\n".join(_where(self.process.pid))
            os.kill(hanging, signal.SIGKILL)
            raise AssertionError(f"the run hangs:\n{where}")
        line = stdout.readline().decode()
        assert line, "the driver has ended"
        return line


def _where(top: int) -> Iterator[str]:
    """The process and all below it: in which call each is (proc_pid_syscall(5)), and why."""
    folder = Path(f"/proc/{top}")
    try:
        words = (folder / "cmdline").read_text().replace("\0", " ")[:80]
        state = (folder / "stat").read_text().rpartition(") ")[2][:1]
        waits, call = (folder / "wchan").read_text(), (folder / "syscall").read_text().split()[:4]
        children = (folder / f"task/{top}/children").read_text().split()
    except OSError:
        return
    yield f"{top} {words} {state} in {waits}, call {' '.join(call)}"
    for child in children:
        yield from _where(int(child))


def _wait_until_traced(pid: int, tracer: subprocess.Popen[bytes]) -> None:
    """proc_pid_status(5): TracerPid, and strace's first line, written when it goes on."""
    deadline = time.monotonic() + 10
    while True:
        status = Path(f"/proc/{pid}/status").read_text()
        if f"TracerPid:\t{tracer.pid}\n" in status:
            return
        if tracer.poll() is not None or time.monotonic() > deadline:
            said = tracer.stderr.read().decode() if tracer.stderr else ""
            raise AssertionError(f"strace does not attach: {said}")
        time.sleep(0.002)


@contextmanager
def driver(
    runner: Runner, spec: Path, folder: Path, ran: Callable[[], None] = lambda: None
) -> Iterator[Driver]:
    """A driver for ``spec`` as the runner's user; traces go to ``folder``, which is its own."""
    argv = runner.argv_of(PYTHON, "-P", "-m", "tests.oracle.driver", str(spec))
    process = subprocess.Popen(
        argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=runner.cwd,
        env={**runner.environment(), "PYTHONHASHSEED": "0"},
        bufsize=0,
    )
    try:
        yield Driver(
            plan=_read_plan(process.stdout),
            executor=runner.environment().get("NSRUN_EXECUTOR", "native"),
            process=process,
            folder=folder,
            numbers=itertools.count(),
            ran=ran,
        )
    finally:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.close()
        process.stdout.close()
        process.wait(timeout=10)


def _read_plan(stdout: IO[bytes] | None) -> Plan:
    assert stdout is not None
    head = stdout.readline().split()
    assert head and head[0] == b"plan", "the driver could not plan the spec"
    left, text = int(head[1]), b""
    while left:
        piece = stdout.read(left)
        assert piece
        text += piece
        left -= len(piece)
    return loads(text.decode(), file="driver")
