"""Handmade plans, and replaying them in a process of their own, by either executor."""

from __future__ import annotations

import os
import pickle
import select
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from nsrun.kernel import abi, calls, sockets
from nsrun.kernel.abi import CloneFlag
from nsrun.kernel.values import Call, Int, Reg, RegKind, Str, Strings
from nsrun.plan.binary import encode
from nsrun.plan.model import Action, Needs, Origin, Plan, Source, Track, UndoWhen
from nsrun.plan.ops import EXEC, Await, Clone, Op, Wait
from nsrun.replay import native
from nsrun.replay.engine import replay
from nsrun.replay.outcome import Outcome
from tests.support.paths import PYTHON

# What replays: set by a fixture (tests/kernel/conftest.py).
executor = "python"
PROGRAM = str(Path(PYTHON).parent / "nsrun")

OUTER, INNER = Reg("outer"), Reg("inner")
CHILD, PIDFD = Reg("child", RegKind.PID), Reg("pidfd")
SIGNALS = Reg("signals")
STATUS = Reg("status", RegKind.NUMBER)
SECOND = 10**9
PATIENCE = 20.0

AWAIT_EXEC = Wait(sync=EXEC, channel=OUTER, signals=SIGNALS)


def parent(
    *steps: Op, undo: tuple[Op, ...] = (), when: UndoWhen = UndoWhen.END, what: str = "parent"
) -> Action:
    return Action(
        track=Track.PARENT,
        what=what,
        origin=Origin(rule="test"),
        steps=steps,
        undo=undo,
        undo_when=when,
    )


def child(*steps: Op) -> Action:
    return Action(track=Track.CHILD, what="child", origin=Origin(rule="test"), steps=steps)


def plan(*actions: Action) -> Plan:
    return Plan(
        name="test",
        source=Source(file="test.yaml", sha256="0" * 64),
        needs=Needs(kernel="5.15", machine=os.uname().machine, root=False),
        actions=actions,
    )


def await_(
    *,
    stop_signal: int = signal.SIGTERM,
    stop_timeout: int = 10 * SECOND,
    timeout: int = 0,
    terminal: Reg | None = None,
) -> Await:
    return Await(
        child=CHILD,
        pidfd=PIDFD,
        signals=SIGNALS,
        status=STATUS,
        stop_signal=Int(stop_signal),
        stop_timeout=stop_timeout,
        timeout=timeout,
        terminal=terminal,
    )


def block_signals() -> Action:
    return parent(
        calls.rt_sigprocmask(abi.SigprocmaskHow.SIG_SETMASK, calls.ALL_SIGNALS),
        calls.signalfd4(
            calls.ALL_SIGNALS,
            abi.SignalfdFlag.SFD_CLOEXEC | abi.SignalfdFlag.SFD_NONBLOCK,
            save=SIGNALS,
        ),
        sockets.socketpair(first=OUTER, second=INNER),
        calls.prctl(abi.Prctl.PR_SET_CHILD_SUBREAPER, Int(1)),
    )


def clone(flags: int = 0) -> Action:
    return parent(
        Clone(
            flags=Int(flags | CloneFlag.CLONE_CLEAR_SIGHAND | CloneFlag.CLONE_PIDFD),
            exit_signal=Int(signal.SIGCHLD),
            pid=CHILD,
            pidfd=PIDFD,
        ),
        calls.close(INNER),
    )


def exec_(*argv: str) -> tuple[Op, ...]:
    return (
        calls.rt_sigprocmask(abi.SigprocmaskHow.SIG_SETMASK, 0),
        calls.execve(argv[0], argv, ("PATH=/usr/bin:/bin",)),
    )


def sh(script: str) -> tuple[Op, ...]:
    return exec_("/bin/busybox", "sh", "-c", script)


def command(
    *steps: Op,
    flags: int = 0,
    before: tuple[Action, ...] = (),
    middle: tuple[Action, ...] = (),
    supervise: Await | None = None,
) -> Plan:
    """The usual frame: the child runs ``steps``, the parent ``before`` and after the clone
    ``middle``, then awaits the execve and the end."""
    return plan(
        block_signals(),
        *before,
        clone(flags),
        child(calls.close(OUTER), *steps),
        *middle,
        parent(AWAIT_EXEC),
        parent(supervise or await_()),
    )


def call(name: str, *args: int | str | tuple[str, ...], **options: object) -> Call:
    """Any system call."""
    values = tuple(
        Int(a) if isinstance(a, int) else Str(a) if isinstance(a, str) else Strings(a) for a in args
    )
    return Call(name=name, args=values, **options)  # type: ignore[arg-type]


@dataclass
class Running:
    """A replay under way in a forked process ``pid``; ``output`` is what its stdout got.

    ``native``: the plan, and the file that the native executor writes its outcome to.
    """

    pid: int
    result: int
    stdout: int
    output: bytearray = field(default_factory=bytearray)
    native: tuple[Plan, int] | None = None

    def outcome(self) -> Outcome:
        """Wait for the end; fails the test when it does not come."""
        pickled = bytearray()
        deadline = time.monotonic() + PATIENCE
        open_ = {fd for fd in (self.result, self.stdout) if fd >= 0}
        while open_:
            ready, _, _ = select.select(open_, (), (), max(0.0, deadline - time.monotonic()))
            if not ready:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                raise AssertionError(f"the replay hangs; its output so far: {self.output!r}")
            for fd in ready:
                data = os.read(fd, 1 << 16)
                (pickled if fd == self.result else self.output).extend(data)
                if not data:
                    open_.discard(fd)
                    os.close(fd)
        os.waitpid(self.pid, 0)
        if self.native is not None and not pickled:
            the_plan, fd = self.native
            with os.fdopen(fd):
                return native.read_outcome(fd, the_plan)
        found = pickle.loads(pickled)  # noqa: S301 - from our own fork
        if isinstance(found, BaseException):
            raise found
        assert isinstance(found, Outcome)
        return found

    def wait_output(self, text: bytes) -> None:
        """Read stdout until ``text`` has come."""
        deadline = time.monotonic() + PATIENCE
        while text not in self.output:
            ready, _, _ = select.select([self.stdout], (), (), deadline - time.monotonic())
            assert ready, f"no {text!r} in {self.output!r}"
            data = os.read(self.stdout, 1 << 16)
            assert data, f"end of output without {text!r}: {self.output!r}"
            self.output += data


def start(the_plan: Plan, *, setup: Callable[[], object] | None = None) -> Running:
    """Begin a replay in a forked process; ``setup`` runs there first."""
    result_r, result_w = os.pipe()
    out_r, out_w = os.pipe()
    plan_fd, outcome_fd = _files(the_plan) if executor == "native" else (-1, -1)
    pid = os.fork()
    if pid == 0:
        found: object = AssertionError("nothing")
        try:
            os.close(result_r)
            os.close(out_r)
            os.dup2(out_w, 1)
            os.close(out_w)
            os.set_inheritable(result_w, False)
            # What a user's shell gives, whatever the tests were started with.
            for number in (signal.SIGINT, signal.SIGQUIT):
                signal.signal(number, signal.SIG_DFL)
            if setup is not None:
                setup()
            if executor == "native":
                os.execv(PROGRAM, [native.NAME, str(plan_fd), "t", str(outcome_fd)])
            found = replay(the_plan)
        except BaseException as error:
            found = AssertionError(f"{type(error).__name__}: {error}")
        finally:
            with os.fdopen(result_w, "wb") as file:
                file.write(pickle.dumps(found))
            os._exit(0)
    os.close(result_w)
    os.close(out_w)
    if executor != "native":
        return Running(pid, result_r, out_r)
    os.close(plan_fd)
    return Running(pid, result_r, out_r, native=(the_plan, outcome_fd))


def _files(the_plan: Plan) -> tuple[int, int]:
    """The plan's binary form and an empty file, both inherited by the native executor."""
    plan_fd = os.memfd_create("plan", 0)
    with open(plan_fd, "wb", closefd=False) as file:
        file.write(encode(the_plan))
    os.lseek(plan_fd, 0, os.SEEK_SET)
    return plan_fd, os.memfd_create("outcome", 0)


def run(the_plan: Plan, *, setup: Callable[[], object] | None = None) -> Outcome:
    return start(the_plan, setup=setup).outcome()


def output(the_plan: Plan) -> tuple[Outcome, str]:
    running = start(the_plan)
    outcome = running.outcome()
    return outcome, running.output.decode()


def gone(pid: int, patience: float = 3.0) -> bool:
    """Whether a process ends within ``patience`` seconds (a zombie has ended)."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        try:
            with open(f"/proc/{pid}/stat") as file:
                if file.read().rpartition(")")[2].split()[0] == "Z":
                    return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.01)
    return False


def python_only(reason: str) -> pytest.MarkDecorator:
    """For a test of what only the Python executor has; ``reason`` says what that is."""
    assert reason
    return pytest.mark.parametrize("executor", ["python"], indirect=True)
