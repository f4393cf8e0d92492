"""Processes of a replay: handing over in a clone, PID 1, and what is left when it ends."""

from __future__ import annotations

import os
import signal
import struct
import time
from pathlib import Path

import pytest

from nsrun.kernel import calls
from nsrun.kernel.abi import CloneFlag
from nsrun.kernel.values import Bytes, Call, Fmt, Int, Reg, RegKind
from nsrun.plan.model import Action, Plan, Track
from nsrun.plan.ops import Clone, Init, Op, ReceiveFd, Signal, Wait
from nsrun.replay.outcome import Kind, State
from tests.support.replays import (
    AWAIT_EXEC,
    CHILD,
    INNER,
    OUTER,
    PIDFD,
    SIGNALS,
    await_,
    block_signals,
    call,
    child,
    command,
    gone,
    output,
    parent,
    plan,
    run,
    sh,
    start,
)

pytestmark = pytest.mark.usefixtures("both_executors")

STAGE, STAGEFD = Reg("stage", RegKind.PID), Reg("stagefd")
NEW, NEWFD = Reg("new", RegKind.PID), Reg("newfd")
PID_NS = int(CloneFlag.CLONE_NEWPID)


def hand_over(flags: int = 0, *, as_sibling: bool = True) -> Clone:
    # clone3(2): with CLONE_PARENT the exit signal is the caller's and must be given as 0.
    own = CloneFlag.CLONE_PARENT if as_sibling else 0
    return Clone(
        flags=Int(flags | own | CloneFlag.CLONE_PIDFD),
        exit_signal=Int(0 if as_sibling else signal.SIGCHLD),
        pid=NEW,
        pidfd=NEWFD,
        hand_over=True,
        sync="cloned",
        channel=INNER,
    )


def staged(
    *steps: Op,
    clone_op: Clone,
    before: tuple[Op, ...] = (),
    middle: tuple[Action, ...] = (),
    receive: bool = True,
) -> Plan:
    """A frame whose first child is only a stage on the way to the command."""
    received = parent(
        ReceiveFd(sync="cloned", channel=OUTER, save=PIDFD, value=CHILD, signals=SIGNALS),
        calls.waitid_reap(STAGEFD),
    )
    return plan(
        block_signals(),
        parent(
            Clone(
                flags=Int(CloneFlag.CLONE_CLEAR_SIGHAND),
                exit_signal=Int(signal.SIGCHLD),
                pid=STAGE,
                pidfd=STAGEFD,
            ),
            calls.close(INNER),
        ),
        child(calls.close(OUTER), *before, clone_op, *steps),
        *((received,) if receive else ()),
        *middle,
        parent(AWAIT_EXEC),
        parent(await_()),
    )


# --- hand over -------------------------------------------------------------------------------


@pytest.mark.parametrize("as_sibling", [True, False])
def test_the_new_process_goes_on_with_the_track(as_sibling: bool) -> None:
    """As a sibling (CLONE_PARENT) or as an orphan that the subreaper inherits."""
    outcome, text = output(
        staged(*sh("echo $$; exit 5"), clone_op=hand_over(PID_NS, as_sibling=as_sibling))
    )
    assert (outcome.status, outcome.failure, text) == (5, None, "1\n")
    assert [r.state for r in outcome.trace.results(Track.PARENT)] == [State.DONE] * 10
    children = outcome.trace.results(Track.CHILD)
    assert [r.state for r in children] == [State.DONE] * 3 + [State.ENTERED]
    # The clone's result is the new process, as the parent got it too.
    assert children[1].result > 1


def test_a_time_namespace_by_unshare_and_clone() -> None:
    """The offsets are written by a stage; the command is the first process in it."""
    fd = Reg("offsets")
    before = (
        calls.unshare(CloneFlag.CLONE_NEWTIME),
        call("openat", -100, "/proc/self/timens_offsets", os.O_WRONLY | os.O_CLOEXEC, save=fd),
        calls.write(fd, b"monotonic 172800 0\n"),
        calls.close(fd),
    )
    outcome, text = output(
        staged(*sh("cat /proc/self/timens_offsets"), clone_op=hand_over(), before=before)
    )
    assert (outcome.status, outcome.failure) == (0, None)
    assert text.split()[:2] == ["monotonic", "172800"]
    # Two days ahead inside, and yet the record's times of all processes are of one clock.
    times = [r.start for r in outcome.trace.results(Track.CHILD)]
    assert times == sorted(times)
    assert times[-1] - times[0] < 20 * 10**9


@pytest.mark.parametrize("stage", ["before", "after"])
def test_a_failure_on_either_side_of_the_hand_over(stage: str) -> None:
    fail = call("chdir", "/nonexistent")
    outcome = run(
        staged(
            *((fail,) if stage == "after" else ()),
            *sh("true"),
            clone_op=hand_over(PID_NS),
            before=(fail,) if stage == "before" else (),
        )
    )
    assert outcome.failure is not None
    assert (outcome.failure.track, outcome.failure.errno_name) == (Track.CHILD, "ENOENT")
    assert outcome.failure.index == (1 if stage == "before" else 2)
    assert outcome.status == 125


def test_a_hand_over_the_kernel_refuses() -> None:
    """CLONE_NEWNS beside CLONE_FS is EINVAL (clone(2))."""
    outcome = run(staged(*sh("true"), clone_op=hand_over(0x200 | CloneFlag.CLONE_NEWNS)))
    assert outcome.failure is not None
    assert (outcome.failure.address, outcome.failure.errno_name) == ("c1", "EINVAL")


def test_a_process_handed_over_but_not_received_is_ended(tmp_path: Path) -> None:
    """The parent fails before it has read the message: the pidfd in it is found and used."""
    mark = tmp_path / "pid"
    fd = Reg("mark")
    own = Reg("own", RegKind.PID)
    steps = (
        calls.getpid(save=own),
        call("openat", -100, str(mark), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600, save=fd),
        calls.write(fd, Fmt((own,))),
        Wait(sync="never", channel=INNER),
    )
    # struct timespec: time enough for the new process to write its pid
    patience = Bytes(struct.pack("=qq", 0, 300_000_000))
    poll = parent(
        Call(name="ppoll", args=(Int(0), Int(0), patience, Int(0), Int(0))),
        call("chdir", "/nonexistent"),
    )
    outcome = run(
        staged(
            *steps,
            *sh("true"),
            clone_op=hand_over(),
            middle=(parent(calls.waitid_reap(STAGEFD)), poll),
            receive=False,
        )
    )
    assert outcome.failure is not None
    assert (outcome.failure.track, outcome.failure.errno_name) == (Track.PARENT, "ENOENT")
    assert outcome.survivors == ()
    assert mark.read_text() and gone(int(mark.read_text()), 0.1)


def test_the_stage_dies_before_it_hands_over() -> None:
    own = Reg("own", RegKind.PID)
    outcome = run(
        staged(
            *sh("true"),
            clone_op=hand_over(),
            before=(calls.getpid(save=own), Call(name="kill", args=(own, Int(9)))),
        )
    )
    assert outcome.failure is not None
    assert (outcome.failure.kind, outcome.failure.value) == (Kind.ENDED, 137)
    assert outcome.failure.address == "c2"


# --- init ------------------------------------------------------------------------------------


def with_init(script: str, *, flags: int = PID_NS, before_exec: tuple[Op, ...] = ()) -> Plan:
    return command(Init(channel=INNER), *before_exec, *sh(script), flags=flags)


def test_init_is_pid_1_and_ends_with_the_commands_status() -> None:
    outcome, text = output(with_init("echo $$ $PPID; exit 9"))
    assert (outcome.status, outcome.failure, text) == (9, None, "2 1\n")
    results = outcome.trace.results(Track.CHILD)
    assert (results[1].state, results[1].result) == (State.DONE, 2)
    assert results[-1].state is State.ENTERED


def test_init_gives_128_and_the_signal() -> None:
    assert run(with_init("kill -TERM $$")).status == 128 + signal.SIGTERM


ORPHANS = "for i in 1 2 3 4 5; do (/bin/busybox sleep 0.05 &) ; done; sleep 0.4; "
ZOMBIES = ORPHANS + "cat /proc/[0-9]*/stat 2>/dev/null | grep -c ') Z '; true"


def own_proc(*steps: Op) -> tuple[Op, ...]:
    """A mount namespace with a /proc of the new pid namespace."""
    return (
        call("mount", "none", "/", 0, 0x4000 | 0x40000, 0),
        call("mount", "proc", "/proc", "proc", 0, 0),
        *steps,
    )


@pytest.mark.parametrize(("init", "zombies"), [(True, "0\n"), (False, "5\n")])
def test_init_reaps_orphans(init: bool, zombies: str) -> None:
    """Without it, PID 1 is a busybox that waits for nobody but its own: the control."""
    flags = PID_NS | CloneFlag.CLONE_NEWNS
    steps = own_proc(*((Init(channel=INNER),) if init else ()))
    # Without init a program that never waits is PID 1: a shell that execs another.
    script = ZOMBIES if init else "exec /bin/busybox awk 'BEGIN { " + _NEVER_WAITS + " }'"
    outcome, text = output(command(*steps, *sh(script), flags=int(flags)))
    assert (outcome.status, outcome.failure) == (0, None)
    assert text == zombies


_NEVER_WAITS = (
    'p = "for i in 1 2 3 4 5; do (/bin/busybox sleep 0.05 &) ; done; sleep 0.4; '
    'cat /proc/[0-9]*/stat 2>/dev/null | grep -c \\") Z \\"; true"; system(p)'
).replace("'", "'\\''")


def test_init_forwards_signals() -> None:
    running = start(with_init("trap 'echo caught; exit 3' USR1; echo ready; sleep 20 & wait"))
    running.wait_output(b"ready\n")
    os.kill(running.pid, signal.SIGUSR1)
    outcome = running.outcome()
    assert (outcome.status, bytes(running.output)) == (3, b"ready\ncaught\n")


def test_a_stop_reaches_a_command_behind_init() -> None:
    """SIGTERM has its default action there: the command is not PID 1, init is."""
    running = start(with_init("echo ready; exec /bin/busybox sleep 20"))
    running.wait_output(b"ready\n")
    os.kill(running.pid, signal.SIGTERM)
    outcome = running.outcome()
    assert (outcome.status, outcome.dropped_signal) == (128 + signal.SIGTERM, None)


def test_a_failure_behind_init_is_reported() -> None:
    outcome = run(with_init("true", before_exec=(call("chdir", "/nonexistent"),)))
    assert outcome.failure is not None
    assert (outcome.failure.address, outcome.failure.errno_name) == ("c2", "ENOENT")
    assert outcome.status == 125


def test_a_command_killed_behind_init_before_its_execve() -> None:
    own = Reg("own", RegKind.PID)
    kill = (calls.getpid(save=own), Call(name="kill", args=(own, Int(9))))
    outcome = run(with_init("true", before_exec=kill))
    assert outcome.failure is not None
    assert (outcome.failure.kind, outcome.failure.value) == (Kind.ENDED, 137)
    assert outcome.failure.address == "c3"


def test_init_holds_no_descriptor_but_the_first_three() -> None:
    leaked = Reg("leaked")
    flags = int(PID_NS | CloneFlag.CLONE_NEWNS)
    steps = own_proc(call("openat", -100, "/etc", os.O_RDONLY, save=leaked), Init(channel=INNER))
    script = "sleep 0.1; echo $(ls /proc/1/fd)"
    outcome, text = output(command(*steps, *sh(script), flags=flags))
    assert (outcome.status, text) == (0, "0 1 2\n")


def test_init_without_a_pid_namespace_ends_what_is_left(tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    subreaper = call("prctl", 36, 1)
    script = f"(/bin/busybox setsid sleep 100 & echo $! > {mark}); exit 6"
    outcome = run(command(subreaper, Init(channel=INNER), *sh(script)))
    assert (outcome.status, outcome.survivors) == (6, ())
    assert gone(int(mark.read_text()), 0.1)


# --- hold ------------------------------------------------------------------------------------

HOLDER, HOLDERFD = Reg("holder", RegKind.PID), Reg("holderfd")
HOLD = Clone(
    flags=Int(CloneFlag.CLONE_NEWUSER | CloneFlag.CLONE_PIDFD),
    exit_signal=Int(signal.SIGCHLD),
    pid=HOLDER,
    pidfd=HOLDERFD,
    hold=True,
)


def lends_its_maps(*, release: bool) -> Plan:
    """A holder with maps; the command reads them while, or after, it is there."""
    maps = Reg("maps")
    kill = calls.pidfd_send_signal(HOLDERFD, Int(signal.SIGKILL))
    middle = (
        parent(
            HOLD,
            undo=(
                calls.allow(kill, accept=("ESRCH",)),
                calls.allow(calls.waitid_reap(HOLDERFD), accept=("ECHILD",)),
            ),
        ),
        parent(
            calls.openat(calls.CWD, Fmt(("/proc/", HOLDER, "/uid_map")), os.O_WRONLY, save=maps),
            calls.write(maps, b"7 1000 1\n"),
            calls.close(maps),
            *((kill, calls.waitid_reap(HOLDERFD), calls.close(HOLDERFD)) if release else ()),
            Signal(sync="go", channel=OUTER, value=HOLDER),
        ),
    )
    return command(
        Wait(sync="go", channel=INNER), *sh("cat /proc/$PPID/task/*/children"), middle=middle
    )


def test_a_holder_keeps_its_namespace_and_is_ended() -> None:
    outcome, text = output(lends_its_maps(release=False))
    assert (outcome.status, outcome.failure, outcome.undo_failures) == (0, None, ())
    # Two children of nsrun while the command runs, the holder and the command.
    pids = [int(pid) for pid in text.split()]
    holder = outcome.trace.result(Track.PARENT, 6).result
    assert len(pids) == 2 and holder in pids
    assert not os.path.exists(f"/proc/{holder}")


def test_a_holder_released_by_the_plan() -> None:
    outcome, text = output(lends_its_maps(release=True))
    assert (outcome.status, outcome.failure) == (0, None)
    assert len(text.split()) == 1
    # Its descriptor is closed: what undoes the clone finds EBADF, and says so.
    assert {failure.errno_name for failure in outcome.undo_failures} == {"EBADF"}


def test_a_holder_has_no_descriptor_of_the_plan() -> None:
    wait = Wait(sync="never", channel=INNER)
    middle = (parent(HOLD, call("ppoll", 0, 0, 0, 0, 0)),)
    running = start(command(wait, *sh("true"), middle=middle))
    pids: list[int] = []
    deadline = time.monotonic() + 5
    while len(pids) < 2 and time.monotonic() < deadline:
        with open(f"/proc/{running.pid}/task/{running.pid}/children") as file:
            pids = [int(pid) for pid in file.read().split()]
        time.sleep(0.05)
    assert os.listdir(f"/proc/{pids[1]}/fd") == ["0"]
    # It ends with the launcher, though nobody is left to kill it.
    os.kill(running.pid, signal.SIGKILL)
    os.waitpid(running.pid, 0)
    os.close(running.result)
    os.close(running.stdout)
    assert all(gone(pid) for pid in pids)


# --- what is left ----------------------------------------------------------------------------


def test_a_tree_that_ignores_signals_is_ended(tmp_path: Path) -> None:
    """Orphans, in sessions of their own, that ignore all that can be ignored."""
    script = (
        "trap '' TERM INT HUP; "
        f"for i in 1 2 3; do (/bin/busybox setsid sh -c 'echo $$ >> {tmp_path}/pids; "
        "(sleep 100 &); sleep 100' &); done; sleep 0.3; exit 0"
    )
    started = time.monotonic()
    outcome = run(command(*sh(script)))
    assert (outcome.status, outcome.survivors) == (0, ())
    assert time.monotonic() - started < 2
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert len(pids) == 3 and all(gone(pid, 0.1) for pid in pids)


def test_without_a_child_nothing_is_waited_for() -> None:
    outcome = run(plan(block_signals(), parent(call("umask", 0))))
    assert (outcome.status, outcome.failure, outcome.survivors) == (0, None, ())
