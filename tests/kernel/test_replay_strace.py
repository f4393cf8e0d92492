"""strace as the judge: a replay makes the plan's calls, in order, and next to nothing else."""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nsrun.kernel import abi, calls
from nsrun.kernel.abi import CloneFlag
from nsrun.kernel.values import Call, Reg
from nsrun.plan.model import Plan, Track
from nsrun.plan.ops import Clone, Init, SendFd, Signal, Wait
from nsrun.replay.outcome import Outcome
from tests.support.replays import (
    INNER,
    OUTER,
    call,
    command,
    exec_,
    parent,
    sh,
)

STRACE = "/usr/bin/strace"
pytestmark = pytest.mark.skipif(not os.access(STRACE, os.X_OK), reason="strace is not installed")

ROOT = Path(__file__).parents[2]
# What an interpreter's memory and locks cost, and PyOS_AfterFork_Child's look at its thread;
# no plan is about these.
INTERPRETER = frozenset(
    {"brk", "mmap", "munmap", "mremap", "madvise", "futex", "getrandom", "gettid"}
)
LINE = re.compile(r"^(\d+) +(\w+)\((.*)$")
# Operations that are no call, as the calls they are made of.
MESSAGE = {Signal: "sendmsg", SendFd: "sendmsg", Wait: "recvmsg", Clone: "clone3", Init: "clone3"}

DRIVER = """
import os, pickle, sys
sys.path.insert(0, sys.argv[1])
from nsrun.replay.engine import replay
plan = pickle.load(open(sys.argv[2], "rb"))
outcome = replay(plan)
with open(sys.argv[3], "wb") as file:
    pickle.dump(outcome, file)
os._exit(outcome.status)
"""


def interpreter() -> str:
    """The program itself: a shim would be another process under strace."""
    return os.path.realpath(sys.executable)


def strace(the_plan: Plan, tmp_path: Path, *options: str) -> tuple[Outcome, list[str]]:
    """The outcome of a replay and strace's lines, each beginning with a pid."""
    pickled, log, result = tmp_path / "plan", tmp_path / "log", tmp_path / "outcome"
    pickled.write_bytes(pickle.dumps(the_plan))
    tracer = [STRACE, "-f", "-qq", "-v", "-s", "200", *options, "-o", str(log)]
    driver = [interpreter(), "-I", "-S", "-c", DRIVER, str(ROOT), str(pickled), str(result)]
    done = subprocess.run([*tracer, *driver], check=False, capture_output=True, timeout=60)
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    outcome = pickle.loads(result.read_bytes())  # noqa: S301 - written by the driver
    assert isinstance(outcome, Outcome)
    assert done.returncode == outcome.status
    return outcome, log.read_text().splitlines()


def tracks(lines: list[str]) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """(call, rest) of the launcher, and of the first other process up to its execve."""
    launcher, kid = "", ""
    parents: list[tuple[str, str]] = []
    children: list[tuple[str, str]] = []
    for pid, name, rest in calls_of(lines):
        launcher = launcher or pid
        if pid == launcher:
            parents.append((name, rest))
        elif not kid or pid == kid:
            kid = pid
            children.append((name, rest))
            if name == "execve":
                kid = "ended"
    return parents, children


def calls_of(lines: list[str]) -> Iterator[tuple[str, str, str]]:
    """(pid, call, rest) of each call once: where strace has split a line, its first half."""
    for line in lines:
        match = LINE.match(line)
        if match and match[2] not in INTERPRETER:
            yield match[1], match[2], match[3]


def expected(the_plan: Plan, track: Track) -> list[str]:
    """The calls that a track's steps are."""
    names: list[str] = []
    for placed in the_plan.track(track):
        op = placed.op
        names.append(op.name if isinstance(op, Call) else MESSAGE[type(op)])
    return names


def rich(tmp_path: Path) -> Plan:
    """A child that does a little of everything."""
    fd, context, tree = Reg("fd"), Reg("context"), Reg("tree")
    (tmp_path / "at").mkdir()
    return command(
        Wait(sync="go", channel=INNER),
        call("setsid"),
        call("umask", 0o22),
        call("mount", "none", "/", 0, 0x4000 | 0x40000, 0),
        call("fsopen", "tmpfs", 1, save=context),
        calls.fsconfig_string(context, "size", "64k"),
        calls.fsconfig_create(context),
        calls.fsmount(context, 0, save=tree),
        calls.move_mount(tree, "", calls.CWD, str(tmp_path / "at"), 4),
        call("openat", -100, "/nonexistent", 0, accept=("ENOENT",), save=fd),
        call("chdir", str(tmp_path / "at")),
        calls.pivot_root(".", "."),
        call("umount2", ".", 2, accept=("EINVAL",)),
        call("prctl", 38, 1, 0, 0, 0),
        calls.close_range(3, abi.UINT_MAX, 4),
        *exec_("/bin/busybox", "true"),
        flags=int(CloneFlag.CLONE_NEWNS | CloneFlag.CLONE_NEWUTS),
        middle=(parent(Signal(sync="go", channel=OUTER)),),
    )


def test_the_childs_calls_are_the_plans(tmp_path: Path) -> None:
    """All of them, in order, and nothing between. The root has no program: execve fails, and
    the report is the one call more."""
    the_plan = rich(tmp_path)
    outcome, lines = strace(the_plan, tmp_path)
    assert outcome.status == 127
    _, children = tracks(lines)
    names = [name for name, _ in children]
    wanted = expected(the_plan, Track.CHILD)
    assert names[: len(wanted)] == wanted
    # tracks() ends at execve: what follows is looked at in the raw lines.
    kid = next(line.split()[0] for line in lines if "pivot_root(" in line)
    after = [n for pid, n, _ in calls_of(lines) if pid == kid][len(wanted) :]
    # The launcher kills a child that has reported, which may not come to its own end.
    assert after in (["sendmsg", "exit_group"], ["sendmsg"])


def test_the_childs_arguments_are_the_plans(tmp_path: Path) -> None:
    _, lines = strace(rich(tmp_path), tmp_path)
    rest = dict(tracks(lines)[1])
    assert rest["fsopen"].startswith('"tmpfs", FSOPEN_CLOEXEC)')
    assert re.match(r'"\.", "\."\) += 0', rest["pivot_root"])
    assert rest["execve"].startswith('"/bin/busybox", ["/bin/busybox", "true"], ["PATH=')
    assert rest["prctl"].startswith("PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)")
    assert '"size", "64k", 0' in " ".join(r for n, r in tracks(lines)[1] if n == "fsconfig")


def test_the_parents_calls_are_the_plans_too(tmp_path: Path) -> None:
    """In order; what the executor adds is watching, forking safely, and ending well."""
    the_plan = command(*sh("exit 3"))
    outcome, lines = strace(the_plan, tmp_path)
    assert outcome.status == 3
    names = [name for name, _ in tracks(lines)[0]]
    first = next(i for i, n in enumerate(names) if n == "socketpair") - 2
    ran = names[first:]
    wanted = ["rt_sigprocmask", "signalfd4", "socketpair", "prctl", "clone3", "close"]
    wanted += ["recvmsg", "waitid"]
    remaining = iter(ran)
    assert all(name in remaining for name in wanted), ran
    extra = set(ran) - set(wanted)
    # The thread count's listing, polls, the sweep for leftovers, closing what is held, and
    # the driver's own file.
    listing = {"openat", "newfstatat", "fstat", "getdents64"}
    ending = {"poll", "read", "wait4", "pidfd_send_signal", "exit_group"}
    assert extra <= listing | ending | {"write", "ioctl", "lseek"}, extra


def test_the_child_opens_no_code(tmp_path: Path) -> None:
    """Neither after the pivot nor before: no module, no library, no codec, no file at all."""
    _, lines = strace(rich(tmp_path), tmp_path)
    _, children = tracks(lines)
    opened = [rest for name, rest in children if name in ("open", "openat", "openat2")]
    assert [o for o in opened if "/nonexistent" not in o] == []
    looked = [n for n, _ in children if n in ("stat", "newfstatat", "statx", "readlink", "access")]
    assert looked == []


def test_a_failing_child_opens_no_code_either(tmp_path: Path) -> None:
    """Formatting, an exception of its own, the report: all from what is loaded."""
    the_plan = command(
        call("openat", -100, "/nonexistent", 0, accept=("ENOENT",), save=Reg("fd")),
        calls.close(Reg("never")),
        *sh("true"),
    )
    outcome, lines = strace(the_plan, tmp_path)
    assert outcome.status == 125
    _, children = tracks(lines)
    names = [name for name, _ in children]
    assert names == ["close", "openat", "sendmsg", "exit_group"]


@pytest.mark.parametrize("staged", [False, True])
def test_init_and_hand_over_open_no_code(staged: bool, tmp_path: Path) -> None:
    from tests.kernel.test_replay_processes import hand_over
    from tests.kernel.test_replay_processes import staged as staged_plan

    if staged:
        the_plan = staged_plan(*sh("exit 3"), clone_op=hand_over(int(CloneFlag.CLONE_NEWPID)))
    else:
        the_plan = command(Init(channel=INNER), *sh("exit 3"), flags=int(CloneFlag.CLONE_NEWPID))
    outcome, lines = strace(the_plan, tmp_path)
    assert outcome.status == 3
    launcher = lines[0].split()[0]
    executed: set[str] = set()
    for pid, name, rest in calls_of(lines):
        if pid == launcher or pid in executed:
            continue
        assert name not in ("open", "openat", "openat2", "newfstatat", "readlink"), rest
        if name == "execve":
            executed.add(pid)


@pytest.mark.parametrize("error", ["EPERM", "ENOMEM", "EINTR"])
@pytest.mark.parametrize("name", ["setsid", "fsconfig", "pivot_root", "close_range"])
def test_a_fault_in_a_step_of_the_child(name: str, error: str, tmp_path: Path) -> None:
    """Injected by the tracer: reported as it is, EINTR too, and the call is made once."""
    the_plan = rich(tmp_path)
    index = next(
        placed.index
        for placed in the_plan.track(Track.CHILD)
        if isinstance(placed.op, Call) and placed.op.name == name
    )
    outcome, lines = strace(the_plan, tmp_path, "-e", f"inject={name}:error={error}:when=1")
    assert any("INJECTED" in line for line in lines)
    failure = outcome.failure
    assert failure is not None and outcome.status == 125
    assert (failure.track, failure.index, failure.errno_name) == (Track.CHILD, index, error)
    assert sum(1 for _, made, _ in calls_of(lines) if made == name) == 1


@pytest.mark.parametrize("name", ["signalfd4", "socketpair", "clone3"])
def test_a_fault_in_a_step_of_the_parent(name: str, tmp_path: Path) -> None:
    the_plan = command(*sh("exit 3"))
    outcome, lines = strace(the_plan, tmp_path, "-e", f"inject={name}:error=EMFILE:when=1")
    assert any("INJECTED" in line for line in lines)
    failure = outcome.failure
    assert failure is not None and outcome.status == 125
    assert (failure.track, failure.errno_name) == (Track.PARENT, "EMFILE")
