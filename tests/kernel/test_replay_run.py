"""Replays of handmade plans against the kernel: ends, failures, undo and the record."""

from __future__ import annotations

import errno
import os
import resource
import signal
from pathlib import Path

import pytest

from nsrun.kernel import calls
from nsrun.kernel.values import Call, Expect, Fmt, Hole, Int, Out, Reg, RegKind, Str
from nsrun.plan.model import Plan, Track, UndoWhen
from nsrun.plan.ops import Op, Signal, Wait
from nsrun.replay.engine import replay
from nsrun.replay.outcome import Kind, Outcome, State, Trace
from tests.support.replays import (
    AWAIT_EXEC,
    CHILD,
    INNER,
    OUTER,
    SIGNALS,
    await_,
    block_signals,
    call,
    child,
    clone,
    command,
    exec_,
    gone,
    output,
    parent,
    plan,
    python_only,
    run,
    sh,
    start,
)

pytestmark = pytest.mark.usefixtures("both_executors")

NEVER = Reg("never")


def opened(path: str, save: Reg, *, flags: int = os.O_RDONLY, **options: object) -> Call:
    return call("openat", -100, path, flags | os.O_CLOEXEC, 0o600, save=save, **options)


def made(path: Path) -> tuple[Call, Call]:
    """A step that makes a folder, and the one that removes it."""
    return call("mkdirat", -100, str(path), 0o700), call("unlinkat", -100, str(path), 0x200)


def noted(path: Path, text: str) -> tuple[Op, ...]:
    """Undo steps that append to a file."""
    fd = Reg(f"note_{text}")
    return (
        opened(str(path), fd, flags=os.O_WRONLY | os.O_CREAT | os.O_APPEND),
        calls.write(fd, text.encode()),
        calls.close(fd),
    )


# --- how the command ends --------------------------------------------------------------------


@pytest.mark.parametrize("status", [0, 1, 7, 125, 255])
def test_exit_status_is_the_commands(status: int) -> None:
    outcome = run(command(*sh(f"exit {status}")))
    assert (outcome.status, outcome.started, outcome.failure) == (status, True, None)
    assert outcome.undo_failures == ()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_a_signal_is_128_and_its_number(number: int) -> None:
    outcome = run(command(*sh(f"kill -{int(number)} $$")))
    assert (outcome.status, outcome.signal) == (128 + number, number)
    assert outcome.started and outcome.failure is None


@pytest.mark.parametrize(
    ("path", "status", "name"),
    [
        ("/nonexistent/program", 127, "ENOENT"),
        ("/etc/passwd/program", 127, "ENOTDIR"),
        ("/etc/passwd", 126, "EACCES"),
        ("/tmp", 126, "EACCES"),
    ],
)
def test_failed_execve(path: str, status: int, name: str) -> None:
    outcome = run(command(*exec_(path)))
    assert outcome.status == status and not outcome.started
    assert outcome.failure is not None
    assert (outcome.failure.address, outcome.failure.errno_name) == ("c2", name)
    assert outcome.failure.kind is Kind.ERRNO


def test_not_executable_format(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"\0no format\n")
    program.chmod(0o755)
    outcome = run(command(*exec_(str(program))))
    assert outcome.failure is not None
    assert (outcome.status, outcome.failure.errno_name) == (126, "ENOEXEC")


def candidates(*paths: str) -> tuple[Call, ...]:
    accept = ("ENOENT", "ENOTDIR", "EACCES")
    steps = [calls.execve(path, ("program",), ()) for path in paths]
    return (*(calls.allow(step, accept=accept) for step in steps[:-1]), steps[-1])


def test_candidates_go_on_to_the_first_that_runs() -> None:
    outcome = run(command(*candidates("/nope/true", "/etc/passwd", "/bin/true", "/never")))
    assert (outcome.status, outcome.failure) == (0, None)
    states = [result.state for result in outcome.trace.results(Track.CHILD)]
    assert states == [
        State.DONE,
        State.ACCEPTED,
        State.ACCEPTED,
        State.ENTERED,
        State.NOT_REACHED,
    ]
    assert outcome.trace.result(Track.CHILD, 2).errno_name == "EACCES"


def test_a_candidate_found_but_refused_is_the_cause() -> None:
    outcome = run(command(*candidates("/nope/program", "/etc/passwd", "/nope/program")))
    assert outcome.failure is not None
    assert (outcome.status, outcome.failure.address) == (126, "c2")
    assert outcome.failure.errno == errno.EACCES


def test_candidates_that_are_all_missing() -> None:
    outcome = run(command(*candidates("/nope/program", "/nope2/program")))
    assert outcome.failure is not None
    assert (outcome.status, outcome.failure.address) == (127, "c2")


# --- failures at each step -------------------------------------------------------------------


@pytest.mark.parametrize("at", range(4))
def test_every_step_of_the_child_can_fail(at: int, tmp_path: Path) -> None:
    """Whichever step fails, it is the one reported, and the parent's folder is gone."""
    fail = call("chdir", "/nonexistent")
    steps: list[Op] = [call("umask", 0o77), call("chdir", "/"), opened("/etc", Reg("etc"))]
    steps.insert(at, fail)
    make, remove = made(tmp_path / "made")
    outcome = run(command(*steps, *sh("true"), before=(parent(make, undo=(remove,)),)))
    assert outcome.failure is not None
    assert (outcome.failure.track, outcome.failure.index) == (Track.CHILD, at + 1)
    assert (outcome.failure.errno_name, outcome.status) == ("ENOENT", 125)
    assert outcome.undo_failures == ()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("after_clone", [False, True])
def test_a_step_of_the_parent_can_fail(after_clone: bool, tmp_path: Path) -> None:
    make, remove = made(tmp_path / "made")
    fail = (parent(make, undo=(remove,)), parent(call("chdir", "/nonexistent")))
    steps = (Wait(sync="never", channel=INNER), *sh("true"))
    if after_clone:
        outcome = run(command(*steps, middle=fail))
    else:
        outcome = run(command(*steps, before=fail))
    assert outcome.failure is not None
    assert (outcome.failure.track, outcome.failure.errno_name) == (Track.PARENT, "ENOENT")
    assert outcome.status == 125
    assert list(tmp_path.iterdir()) == []


def test_emfile(tmp_path: Path) -> None:
    make, remove = made(tmp_path / "made")

    def few_descriptors() -> None:
        used = {int(fd) for fd in os.listdir("/proc/self/fd")}
        # Six are free: three for the frame, and some for the steps that open more.
        limit = [fd for fd in range(max(used) + 10) if fd not in used][6]
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))

    fds = tuple(opened("/etc", Reg(f"fd{n}")) for n in range(16))
    outcome = run(
        command(*sh("true"), before=(parent(make, undo=(remove,)), parent(*fds))),
        setup=few_descriptors,
    )
    assert outcome.failure is not None
    assert (outcome.failure.errno_name, outcome.status) == ("EMFILE", 125)
    assert list(tmp_path.iterdir()) == []


def test_result_that_is_not_the_only_right_one(tmp_path: Path) -> None:
    fd = Reg("full")
    short = Call(name="write", args=(fd, Str("abc"), Int(3)), result=4)
    outcome = run(command(opened("/dev/null", fd, flags=os.O_WRONLY), short, *sh("true")))
    assert outcome.failure is not None
    assert (outcome.failure.kind, outcome.failure.value) == (Kind.RESULT, 3)
    assert outcome.trace.result(Track.CHILD, outcome.failure.index).state is State.FAILED


def device(path: str, minor: int, otherwise: str = "fail") -> tuple[Op, ...]:
    """statx(2) of a path, expecting a character device 1:minor (stx_rdev_major, _minor)."""
    fd = Reg(f"dev{path[5:]}")
    out = Out(
        256,
        expects=(
            Expect(28, 2, 0o170000, 0o020000, "S_IFCHR"),
            Expect(128, 4, 0xFFFFFFFF, 1, "major == 1"),
            Expect(132, 4, 0xFFFFFFFF, minor, f"minor == {minor}", otherwise),
        ),
    )
    statx = Call(name="statx", args=(fd, Str(""), Int(0x1000), Int(0x7FF), out))
    return (opened(path, fd), statx)


def test_expectations_hold() -> None:
    assert run(command(*device("/dev/null", 3), *sh("true"))).status == 0


def test_an_expectation_that_does_not_hold_says_which() -> None:
    outcome = run(command(*device("/dev/zero", 3), *sh("true")))
    assert outcome.failure is not None
    assert outcome.failure.kind is Kind.EXPECT
    assert (outcome.failure.expect, outcome.failure.value) == (2, 5)
    assert (outcome.failure.address, outcome.status) == ("c2", 125)


def test_an_expectation_can_end_its_action() -> None:
    frame = (
        block_signals(),
        clone(),
        child(calls.close(OUTER)),
        child(*device("/dev/zero", 3, "skip"), call("chdir", "/nonexistent")),
        child(*sh("true")),
        parent(AWAIT_EXEC, await_()),
    )
    outcome = run(plan(*frame))
    assert (outcome.status, outcome.failure) == (0, None)
    states = [result.state for result in outcome.trace.results(Track.CHILD)[:4]]
    assert states == [State.DONE, State.DONE, State.SKIPPED, State.LEFT_OUT]


def test_an_errno_can_end_its_action_or_be_accepted() -> None:
    frame = (
        block_signals(),
        clone(),
        child(calls.close(OUTER)),
        child(call("chdir", "/nonexistent", skip=("ENOENT",)), call("chdir", "/nope")),
        child(opened("/nonexistent", NEVER, accept=("ENOENT",))),
        # The register an accepted errno left at -1 is passed as it is.
        child(calls.allow(calls.close(NEVER), accept=("EBADF",))),
        child(*sh("true")),
        parent(AWAIT_EXEC, await_()),
    )
    outcome = run(plan(*frame))
    assert (outcome.status, outcome.failure) == (0, None)
    found = [(r.state, r.errno_name) for r in outcome.trace.results(Track.CHILD)[1:5]]
    assert found == [
        (State.SKIPPED, "ENOENT"),
        (State.LEFT_OUT, ""),
        (State.ACCEPTED, "ENOENT"),
        (State.ACCEPTED, "EBADF"),
    ]


def test_64_bit_arguments_pass_unharmed() -> None:
    """lseek(2) gives back what it was given: 2^33+5 is not cut to 5, and -1 is refused."""
    fd = Reg("fd")
    outcome = run(
        command(
            opened("/proc/self/mem", fd),
            call("lseek", 0, 0, 0, accept=("ESPIPE", "EBADF")),
            Call(name="lseek", args=(fd, Int(2**33 + 5), Int(0)), result=2**33 + 5),
            call("prctl", 2**64 - 1, accept=("EINVAL",)),
            *sh("true"),
        )
    )
    assert (outcome.status, outcome.failure) == (0, None)
    assert outcome.trace.result(Track.CHILD, 3).result == 2**33 + 5


def test_an_internal_fault_is_reported_without_a_traceback(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """A register that no step has written is the plan's fault: errno 0, kind internal."""
    outcome = run(command(calls.close(NEVER), *sh("true")))
    assert outcome.failure is not None
    assert (outcome.failure.kind, outcome.failure.errno) == (Kind.INTERNAL, 0)
    assert (outcome.failure.address, outcome.status) == ("c1", 125)
    assert outcome.failure.text.endswith("was never set")
    assert "Traceback" not in capfd.readouterr().err


@python_only("an exception")
def test_an_exception_in_the_child_is_reported(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from nsrun.replay import child as child_module

    def broken() -> None:
        raise ZeroDivisionError("a fault of the executor")

    monkeypatch.setattr(child_module, "_forget_imports", broken)
    outcome = run(command(*sh("true")))
    assert outcome.failure is not None and outcome.failure.kind is Kind.INTERNAL
    assert outcome.failure.text.startswith("ZeroDivisionError: a fault of the executor (broken:")
    assert outcome.status == 125
    assert "Traceback" not in capfd.readouterr().err


def test_a_pid_of_minus_one_is_never_passed_on() -> None:
    """kill(-1) would be everybody."""
    pid = Reg("pid", RegKind.PID)
    outcome = run(
        command(
            opened("/nope", pid, accept=("ENOENT",)),
            Call(name="kill", args=(pid, Int(0))),
            *sh("true"),
        )
    )
    assert outcome.failure is not None
    assert outcome.failure.kind is Kind.INTERNAL
    assert "holds no process" in outcome.failure.text


@python_only("the native form of a plan is of one machine: tests/kernel/test_native.py")
def test_a_plan_for_another_machine_is_refused() -> None:
    import dataclasses

    the_plan = command(*sh("true"))
    the_plan = dataclasses.replace(
        the_plan, needs=dataclasses.replace(the_plan.needs, machine="m68k")
    )
    outcome = run(the_plan)
    assert outcome.status == 125 and outcome.failure is not None
    assert (outcome.failure.index, outcome.failure.kind) == (-1, Kind.INTERNAL)
    assert "m68k" in outcome.failure.text


@python_only("threads end at the execve of the native program")
def test_more_than_one_thread_is_refused() -> None:
    import threading

    def another_thread() -> None:
        threading.Thread(target=threading.Event().wait, daemon=True).start()

    outcome = run(command(*sh("true")), setup=another_thread)
    assert outcome.failure is not None
    assert outcome.failure.text == "the launcher has more than one thread"


# --- registers, formats and buffers ----------------------------------------------------------


def test_formats_take_registers(tmp_path: Path) -> None:
    proc, fd = Reg("proc"), Reg("fd")
    path = Fmt(("/proc/", CHILD, "/status"))
    steps = (
        calls.openat(calls.CWD, path, os.O_RDONLY | os.O_CLOEXEC, save=proc),
        opened(str(tmp_path / "pid"), fd, flags=os.O_WRONLY | os.O_CREAT),
        calls.write(fd, Fmt(("pid ", CHILD, "\n"))),
        Signal(sync="go", channel=OUTER, value=CHILD),
    )
    value = Reg("value", RegKind.PID)
    own = Reg("own", RegKind.PID)
    inside = (
        Wait(sync="go", channel=INNER, save=value),
        calls.getpid(save=own),
        # The value that travelled is the child's own pid: a signal 0 to it succeeds.
        Call(name="kill", args=(value, Int(0))),
    )
    the_plan = command(*inside, *sh("true"), middle=(parent(*steps),))
    outcome = run(the_plan)
    assert (outcome.status, outcome.failure) == (0, None)
    results = outcome.trace.results(Track.CHILD)
    assert results[1].result == results[2].result > 1
    assert (tmp_path / "pid").read_text() == f"pid {results[1].result}\n"


def test_registers_in_a_buffer_and_out_of_one() -> None:
    """pipe2's descriptors come out of a buffer; poll(2) takes one in a hole of another."""
    from nsrun.kernel.values import Bytes

    read_end, write_end = Reg("read_end"), Reg("write_end")
    pipe = Call(
        name="pipe2", args=(Out(8, saves=(Hole(0, 4, read_end), Hole(4, 4, write_end))), Int(0))
    )
    # struct pollfd: fd, events (POLLIN 1), revents
    pollfd = Bytes(b"\0\0\0\0\1\0\0\0", holes=(Hole(0, 4, read_end),))
    poll = Call(name="ppoll", args=(pollfd, Int(1), Int(0), Int(0), Int(0)), result=1)
    write = calls.write(write_end, b"x")
    outcome = run(command(pipe, write, poll, *sh("true")))
    assert (outcome.status, outcome.failure) == (0, None)


def test_bytes_that_are_not_utf8_reach_the_kernel(tmp_path: Path) -> None:
    name = os.fsdecode(bytes(tmp_path) + b"/caf\xe9")
    outcome = run(command(call("mkdirat", -100, name, 0o700), *sh("true")))
    assert outcome.status == 0
    assert os.listdir(bytes(tmp_path)) == [b"caf\xe9"]


# --- the record ------------------------------------------------------------------------------


def test_the_record_of_both_tracks() -> None:
    outcome = run(command(call("umask", 0o27), call("umask", 0), *sh("true")))
    parents = outcome.trace.results(Track.PARENT)
    children = outcome.trace.results(Track.CHILD)
    assert [r.state for r in parents] == [State.DONE] * len(parents)
    assert [r.state for r in children[:-1]] == [State.DONE] * (len(children) - 1)
    assert children[-1].state is State.ENTERED
    assert children[2].result == 0o27
    for track in (parents, children[:-1]):
        times = [t for r in track for t in (r.start, r.end)]
        assert times == sorted(times) and times[0] > 0
    with pytest.raises(IndexError):
        outcome.trace.result(Track.CHILD, len(children))


def test_on_started_sees_the_record_once(tmp_path: Path) -> None:
    path = tmp_path / "started"

    def note(trace: Trace) -> None:
        with path.open("a") as file:
            file.write(f"{trace.result(Track.CHILD, 2).state.name}\n")

    def body(the_plan: Plan) -> Outcome:
        return replay(the_plan, on_started=note)

    pid = os.fork()
    if pid == 0:
        os._exit(body(command(*sh("exit 3"))).status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
    assert path.read_text() == "ENTERED\n"


# --- first failure wins, and children that vanish --------------------------------------------


def test_the_childs_report_wins_over_the_parents_epipe() -> None:
    """The child fails and is gone before the parent signals it: EPIPE is not the news."""
    outcome = run(
        command(
            call("chdir", "/nonexistent"),
            Wait(sync="go", channel=INNER),
            *sh("true"),
            middle=(parent(calls.waitid_reap(Reg("pidfd")), Signal(sync="go", channel=OUTER)),),
        )
    )
    assert outcome.failure is not None
    assert (outcome.failure.address, outcome.failure.errno_name) == ("c1", "ENOENT")
    # The control: the parent's own step did fail.
    assert outcome.trace.result(Track.PARENT, 7).errno_name in ("EPIPE", "ECONNRESET")


def test_a_report_that_cannot_be_sent_is_still_known() -> None:
    """The child has closed its end: the shared record holds the errno."""
    outcome = run(command(calls.close(INNER), call("chdir", "/nonexistent"), *sh("true")))
    assert outcome.failure is not None
    assert (outcome.failure.address, outcome.failure.errno_name) == ("c2", "ENOENT")
    assert (outcome.failure.kind, outcome.status) == (Kind.ERRNO, 125)


@pytest.mark.parametrize("waits_for", ["sync", "exec"])
def test_a_child_killed_before_its_command(waits_for: str) -> None:
    own = Reg("own", RegKind.PID)
    steps = (
        calls.getpid(save=own),
        Call(name="kill", args=(own, Int(signal.SIGKILL))),
        *sh("true"),
    )
    middle = (parent(Wait(sync="never", channel=OUTER)),) if waits_for == "sync" else ()
    outcome = run(command(*steps, middle=middle))
    assert outcome.failure is not None
    assert outcome.failure.kind is Kind.ENDED
    assert (outcome.failure.address, outcome.failure.value) == ("c2", 128 + signal.SIGKILL)
    assert (outcome.status, outcome.started) == (125, False)


def test_a_child_that_exits_before_its_command() -> None:
    outcome = run(command(call("exit", 9), *sh("true")))
    assert outcome.failure is not None
    assert (outcome.failure.kind, outcome.failure.value) == (Kind.ENDED, 9)
    assert outcome.failure.address == "c1"


def test_without_a_wait_for_the_execve_a_failure_is_still_one() -> None:
    the_plan = plan(
        block_signals(),
        clone(),
        child(calls.close(OUTER), call("chdir", "/nonexistent"), *sh("true")),
        # The channel is named by some operation of each track.
        child(Wait(sync="never", channel=INNER)),
        parent(Signal(sync="early", channel=OUTER)),
        parent(await_()),
    )
    outcome = run(the_plan)
    assert outcome.failure is not None
    assert (outcome.failure.address, outcome.failure.errno_name) == ("c1", "ENOENT")
    assert not outcome.started and outcome.status == 125


def test_messages_out_of_order_are_an_internal_failure() -> None:
    outcome = run(
        command(
            Signal(sync="second", channel=INNER),
            Wait(sync="never", channel=INNER),
            *sh("true"),
            middle=(parent(Wait(sync="first", channel=OUTER)),),
        )
    )
    assert outcome.failure is not None
    assert outcome.failure.kind is Kind.INTERNAL
    assert outcome.failure.text == "waited for first, got second"


def test_a_descriptor_travels() -> None:
    from nsrun.plan.ops import ReceiveFd, SendFd

    here, there = Reg("here"), Reg("there")
    outcome = run(
        command(
            opened("/dev/null", here),
            SendFd(sync="null", channel=INNER, fd=here),
            *sh("true"),
            middle=(
                parent(
                    ReceiveFd(sync="null", channel=OUTER, save=there, signals=SIGNALS),
                    # F_GETFD: close-on-exec
                    Call(name="fcntl", args=(there, Int(1)), result=1),
                ),
            ),
        )
    )
    assert (outcome.status, outcome.failure) == (0, None)


def test_the_child_vanishes_with_its_parent(tmp_path: Path) -> None:
    """SIGKILL to nsrun while the child waits: end of file ends it, without a word."""
    fd = Reg("comm")
    mark = tmp_path / "pid"
    note = (
        opened(str(mark), fd, flags=os.O_WRONLY | os.O_CREAT),
        calls.write(fd, Fmt((CHILD,))),
        call("ppoll", 0, 0, 0, 0, 0),
    )
    running = start(
        command(Wait(sync="never", channel=INNER), *sh("true"), middle=(parent(*note),))
    )
    for _ in range(500):
        if mark.exists() and mark.read_text():
            break
        signal.sigtimedwait((), 0.01)
    pid = int(mark.read_text())
    os.kill(pid, 0)
    os.kill(running.pid, signal.SIGKILL)
    os.waitpid(running.pid, 0)
    os.close(running.result)
    os.close(running.stdout)
    assert gone(pid)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_interrupted_before_the_command(number: int, tmp_path: Path) -> None:
    make, remove = made(tmp_path / "made")
    only_failed, removes = made(tmp_path / "failed")
    running = start(
        command(
            Wait(sync="never", channel=INNER),
            *sh("true"),
            before=(
                parent(make, undo=(remove,)),
                parent(only_failed, undo=(removes,), when=UndoWhen.FAILURE),
            ),
        )
    )
    for _ in range(500):
        if (tmp_path / "failed").exists():
            break
        signal.sigtimedwait((), 0.01)
    os.kill(running.pid, number)
    outcome = running.outcome()
    assert (outcome.status, outcome.interrupted) == (128 + number, True)
    assert (outcome.signal, outcome.started, outcome.failure) == (number, False, None)
    assert list(tmp_path.iterdir()) == []


# --- undo ------------------------------------------------------------------------------------


def undo_plan(tmp_path: Path, *last: Op) -> Plan:
    log = tmp_path / "log"
    return command(
        *last,
        before=(
            parent(call("umask", 0o77), undo=noted(log, "a")),
            parent(call("umask", 0o77), undo=noted(log, "F"), when=UndoWhen.FAILURE),
            # Left out as a whole: nothing was made, nothing is undone.
            parent(call("chdir", "/nope", skip=("ENOENT",)), undo=noted(log, "never")),
            # Ended early after a step had an effect.
            parent(
                call("umask", 0o77),
                call("chdir", "/nope", skip=("ENOENT",)),
                opened("/etc", NEVER),
                undo=(calls.close(NEVER), *noted(log, "b")),
            ),
            parent(call("umask", 0o77), undo=(call("chdir", "/nope"), *noted(log, "c"))),
        ),
    )


def test_undo_runs_last_first_whichever_step_fails(tmp_path: Path) -> None:
    outcome = run(undo_plan(tmp_path, *sh("exit 4")))
    assert outcome.status == 4
    assert (tmp_path / "log").read_text() == "cba"
    assert len(outcome.undo_failures) == 1
    failure = outcome.undo_failures[0]
    assert (failure.action, failure.step, failure.errno_name) == (5, 0, "ENOENT")


def test_undo_for_failures_runs_only_then(tmp_path: Path) -> None:
    outcome = run(undo_plan(tmp_path, call("chdir", "/nope"), *sh("true")))
    assert outcome.status == 125
    assert (tmp_path / "log").read_text() == "cbFa"


def test_an_action_that_fails_half_way_is_not_undone(tmp_path: Path) -> None:
    log = tmp_path / "log"
    outcome = run(
        command(
            *sh("true"),
            before=(
                parent(call("umask", 0), undo=noted(log, "a")),
                parent(call("umask", 0), call("chdir", "/nope"), undo=noted(log, "b")),
            ),
        )
    )
    assert outcome.status == 125
    assert log.read_text() == "a"


def test_undo_runs_after_the_child_is_gone(tmp_path: Path) -> None:
    """A process that outlives the command is ended before anything is taken back."""
    mark = tmp_path / "pid"
    script = f"/bin/busybox setsid sleep 100 & echo $! > {mark}; exit 0"
    seen = Reg("seen")
    outcome = run(
        command(
            *sh(script),
            before=(
                parent(
                    call("umask", 0o22),
                    undo=(opened(f"{tmp_path}/after", seen, flags=os.O_CREAT | os.O_WRONLY),),
                ),
            ),
        )
    )
    assert (outcome.status, outcome.survivors, outcome.undo_failures) == (0, (), ())
    assert (tmp_path / "after").exists()
    assert gone(int(mark.read_text()), 0.1)


def test_no_descriptor_is_left_open() -> None:
    def body() -> list[str]:
        before = os.listdir("/proc/self/fd")
        outcome = replay(command(opened("/etc", Reg("etc")), *sh("true")))
        assert outcome.status == 0
        return sorted(set(os.listdir("/proc/self/fd")) - set(before))

    pid = os.fork()
    if pid == 0:
        os._exit(len(body()))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_children_of_another_making_are_left_alone() -> None:
    import subprocess

    other: list[int] = []

    def with_a_child() -> None:
        process = subprocess.Popen(["/bin/busybox", "sleep", "20"], stdin=subprocess.DEVNULL)
        os.write(1, b"%d\n" % process.pid)
        other.append(process.pid)

    running = start(command(*sh("true")), setup=with_a_child)
    running.wait_output(b"\n")
    pid = int(running.output.split()[0])
    # The sleeping process holds the output open: the outcome comes without it.
    os.close(running.stdout)
    running.stdout = -1
    assert running.outcome().status == 0
    try:
        with open(f"/proc/{pid}/stat") as file:
            assert file.read().rpartition(")")[2].split()[0] != "Z"
    finally:
        os.kill(pid, signal.SIGKILL)


def test_output_of_the_command_is_its_own() -> None:
    outcome, text = output(command(*sh("echo one; echo two")))
    assert (outcome.status, text) == (0, "one\ntwo\n")
