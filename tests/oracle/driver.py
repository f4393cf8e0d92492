"""Replays one spec's plan many times, each in a process of its own that stops before it begins.

``python -m tests.oracle.driver SPEC``, with the executor that NSRUN_EXECUTOR says. On stdin
``go FILE`` lines, or ``native FILE`` and ``python FILE`` for one of both executors; on stdout for
each of them ``stopped PID``, and ``ended STATUS`` when that process has ended. It is continued by
SIGCONT when strace(1) has attached, so that what strace counts begins with the replay. What the
run prints goes to FILE.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import pkgutil
import signal
import sys
from typing import NoReturn

import nsrun
from nsrun.cli import process
from nsrun.cli.inputs import load_spec
from nsrun.cli.output import report
from nsrun.cli.run import conclude, native_executor
from nsrun.plan.binary import encode
from nsrun.plan.codec import dumps
from nsrun.plan.model import Plan
from nsrun.replay import native
from nsrun.replay.outcome import NSRUN_FAILED
from nsrun.runtime import launch

_PR_SET_PTRACER, _PR_SET_PTRACER_ANY = 0x59616D61, -1


def _import_all() -> None:
    """Before the stop: imports made while telling of a failure are no part of the replay."""
    for module in pkgutil.walk_packages(nsrun.__path__, "nsrun."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def main(spec: str) -> int:
    _import_all()
    plan = launch.plan_for(load_spec(spec, None))
    text = dumps(plan)
    sys.stdout.write(f"plan {len(text.encode())}\n{text}")
    sys.stdout.flush()
    for line in sys.stdin:
        executor, file = line.rstrip("\n").split(" ", 1)
        if executor != "go":
            os.environ["NSRUN_EXECUTOR"] = executor
        program = native_executor()
        plan_fd, outcome_fd = _files(plan) if program else (-1, -1)
        pid = os.fork()
        if pid == 0:
            _redirect(file)
            # prctl(2): Yama lets a process that is no ancestor attach only when told so.
            ctypes.CDLL(None).prctl(_PR_SET_PTRACER, _PR_SET_PTRACER_ANY, 0, 0, 0)
            if program:
                os.execv(program, [native.NAME, str(plan_fd), "s", str(outcome_fd)])
            os.kill(os.getpid(), signal.SIGSTOP)
            _end(plan)
        os.waitpid(pid, os.WUNTRACED)
        print(f"stopped {pid}", flush=True)
        _, status = os.waitpid(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        if program:
            _tell(plan, plan_fd, outcome_fd, file)
        print(f"ended {code if code >= 0 else 128 - code}", flush=True)
    return 0


def _files(plan: Plan) -> tuple[int, int]:
    """The plan in its binary form, and where the outcome goes; inherited by the program."""
    plan_fd = os.memfd_create("plan", 0)
    with open(plan_fd, "wb", closefd=False) as file:
        file.write(encode(plan))
    return plan_fd, os.memfd_create("outcome", 0)


def _tell(plan: Plan, plan_fd: int, outcome_fd: int, file: str) -> None:
    """What the launcher leaves to Python, which is not traced here: words for the outcome."""
    pid = os.fork()
    if pid == 0:
        errors = os.open(f"{file}.err", os.O_WRONLY | os.O_APPEND)
        os.dup2(errors, 2)
        # One that was killed could not write any.
        with contextlib.suppress(native.OutcomeError):
            conclude(plan, native.read_outcome(outcome_fd, plan))
        sys.stderr.flush()
        os._exit(0)
    os.waitpid(pid, 0)
    os.close(plan_fd)
    os.close(outcome_fd)


def _end(plan: Plan) -> NoReturn:
    """Replay and end as the command line does (nsrun/cli/__init__.py)."""
    try:
        status = conclude(plan, launch.replay_plan(plan))
    except Exception as error:
        report([process.fault(error)])
        status = NSRUN_FAILED
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _redirect(file: str) -> None:
    null = os.open("/dev/null", os.O_RDONLY)
    out = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    errors = os.open(f"{file}.err", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for fd, new in ((null, 0), (out, 1), (errors, 2)):
        os.dup2(fd, new)
        os.close(fd)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
