"""Helpers and netlink requests of a plan, against real programs and the real kernel."""

from __future__ import annotations

import errno
import os
import signal
import struct
import time
from pathlib import Path

import pytest

from nsrun.kernel.abi import CloneFlag
from nsrun.kernel.values import Bytes, Call, Fmt, Hole, Int, Reg, RegKind, Str
from nsrun.plan.model import Track
from nsrun.plan.ops import Netlink, Op, Spawn
from nsrun.replay.outcome import Kind, Outcome, State
from tests.support.replays import (
    CHILD,
    SECOND,
    call,
    command,
    gone,
    output,
    parent,
    run,
    sh,
    start,
)

pytestmark = pytest.mark.usefixtures("both_executors")

# --- spawn -----------------------------------------------------------------------------------


def shell(
    script: str,
    *args: Str | Fmt,
    stdin: Bytes | Fmt | None = None,
    env: tuple[str, ...] = ("PATH=/usr/bin:/bin",),
    success: tuple[int, ...] = (0,),
    timeout: int = 0,
) -> Spawn:
    argv = (Str("/bin/busybox"), Str("sh"), Str("-c"), Str(script), *args)
    return Spawn(argv=argv, env=env, stdin=stdin, success=success, timeout=timeout)


def helped(*helpers: Op) -> Outcome:
    return run(command(*sh("sleep 0.1"), middle=(parent(*helpers),)))


def failure_of(outcome: Outcome) -> tuple[Kind, int, str, str]:
    assert outcome.status == 125 and outcome.failure is not None
    failure = outcome.failure
    assert failure.track is Track.PARENT
    return failure.kind, failure.value, failure.errno_name, failure.text


def test_a_helper_gets_its_arguments_environment_and_stdin(tmp_path: Path) -> None:
    script = f'(echo "$0"; env | grep -e ^A= -e ^B=; cat) > {tmp_path}/seen'
    stdin = Fmt(("the child is ", CHILD, "\n"))
    outcome = helped(shell(script, Fmt(("/proc/", CHILD)), stdin=stdin, env=("A=1", "B=x=y")))
    assert (outcome.status, outcome.failure) == (0, None)
    pid = outcome.trace.result(Track.PARENT, 4).result
    seen = (tmp_path / "seen").read_text().splitlines()
    assert seen == [f"/proc/{pid}", "A=1", "B=x=y", f"the child is {pid}"]


def test_a_helpers_stdin_of_bytes_with_a_register(tmp_path: Path) -> None:
    data = b"x" * 200_000 + bytes(4)
    stdin = Bytes(data, holes=(Hole(200_000, 4, CHILD),))
    outcome = helped(shell(f"cat > {tmp_path}/seen", stdin=stdin))
    assert outcome.status == 0
    pid = outcome.trace.result(Track.PARENT, 4).result
    assert (tmp_path / "seen").read_bytes() == data[:-4] + struct.pack("=I", pid)


def test_without_a_stdin_a_helper_reads_nothing() -> None:
    outcome = helped(shell('test -z "$(cat)"'))
    assert (outcome.status, outcome.failure) == (0, None)


def test_a_helper_starts_with_a_clean_mask_and_three_descriptors(tmp_path: Path) -> None:
    """The plan has blocked all signals and opened a signalfd and a channel."""
    leaked = call("openat", -100, "/etc", os.O_RDONLY, save=Reg("leaked"))
    script = (
        f"grep -e Sig[BI] /proc/self/status > {tmp_path}/status; ls /proc/self/fd > {tmp_path}/fd"
    )
    outcome = helped(leaked, shell(script))
    assert outcome.status == 0
    blocked, ignored = (tmp_path / "status").read_text().split()[1::2]
    # glibc's posix_spawn ignores 32 and 33, which it keeps to itself (spawni.c).
    assert (int(blocked, 16), int(ignored, 16) & ~(3 << 31)) == (0, 0)
    # 3 is ls's own, of the folder it lists; the shell's redirection took 1.
    assert (tmp_path / "fd").read_text().split() == ["0", "1", "2", "3"]


@pytest.mark.parametrize("status", [1, 77])
def test_a_helper_that_fails_says_why(status: int) -> None:
    outcome = helped(shell(f"echo out; echo 'no such range' >&2; exit {status}"))
    assert failure_of(outcome) == (Kind.SPAWN, status, "", "no such range\n")


def test_a_helper_that_speaks_on_stdout_only() -> None:
    assert failure_of(helped(shell("echo out; exit 1")))[3] == "out\n"


def test_other_statuses_can_be_success() -> None:
    outcome = helped(shell("exit 77", success=(0, 77)))
    assert (outcome.status, outcome.failure) == (0, None)
    assert outcome.trace.result(Track.PARENT, 6).result == 77


def test_a_helper_ended_by_a_signal() -> None:
    outcome = helped(shell("kill -SEGV $$"))
    assert failure_of(outcome)[:2] == (Kind.SPAWN, 128 + signal.SIGSEGV)


def test_a_helper_that_is_not_there() -> None:
    outcome = helped(Spawn(argv=(Str("/nonexistent/newuidmap"),)))
    assert failure_of(outcome)[:3] == (Kind.ERRNO, -1, "ENOENT")


def test_a_helper_over_its_time_is_killed(tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    script = f"echo $$ > {mark}; trap '' TERM; echo waiting >&2; while :; do :; done"
    began = time.monotonic()
    outcome = helped(shell(script, timeout=300_000_000))
    assert failure_of(outcome) == (Kind.SPAWN, 137, "ETIMEDOUT", "waiting\n")
    assert time.monotonic() - began < 3
    assert gone(int(mark.read_text()), 0.1)


def test_a_helpers_output_cannot_block_it() -> None:
    """Far more than a pipe holds, on both: all is read, the end is kept."""
    script = (
        "head -c 3000000 /dev/zero | tr '\\0' o; head -c 3000000 /dev/zero | tr '\\0' e >&2; "
        "echo last words >&2; exit 3"
    )
    kind, value, _, text = failure_of(helped(shell(script, timeout=20 * SECOND)))
    assert (kind, value, len(text)) == (Kind.SPAWN, 3, 4096)
    assert text.endswith("eee" + "last words\n")


def test_a_daemon_of_a_helper_does_not_hold_us(tmp_path: Path) -> None:
    """It keeps the pipes; the helper itself has ended well. It is swept at the end."""
    mark = tmp_path / "pid"
    began = time.monotonic()
    outcome = helped(shell(f"(/bin/busybox sleep 30 & echo $! > {mark}) ; exit 0"))
    assert (outcome.status, outcome.survivors) == (0, ())
    assert time.monotonic() - began < 3
    assert gone(int(mark.read_text()), 0.1)


def test_a_helper_can_undo(tmp_path: Path) -> None:
    bad = shell("echo cannot >&2; exit 2")
    good = shell(f"touch {tmp_path}/undone")
    outcome = run(command(*sh("exit 4"), middle=(parent(call("umask", 0), undo=(bad, good)),)))
    assert outcome.status == 4 and (tmp_path / "undone").exists()
    failure = outcome.undo_failures[0]
    assert (failure.kind, failure.value, failure.text) == (Kind.SPAWN, 2, "cannot\n")


def test_a_helper_leaves_no_process_and_no_descriptor() -> None:
    outcome, text = output(
        command(
            # The helpers run beside it: until they are over, however busy the machine is.
            *sh(
                "alone() { set -- $(cat /proc/$PPID/task/*/children); [ $# = 1 ]; }; n=0; sleep 0.1"
                "; until alone || [ $n = 50 ]; do n=$((n + 1)); sleep 0.1; done;"
                " ls /proc/$PPID/fd | wc -l; cat /proc/$PPID/task/*/children"
            ),
            middle=(parent(*(shell("true") for _ in range(5))),),
        )
    )
    assert outcome.status == 0
    few, *children = text.split()
    assert len(children) == 1
    bare, bare_text = output(command(*sh("sleep 0.1; ls /proc/$PPID/fd | wc -l")))
    assert bare.status == 0 and bare_text.split() == [few]


# --- netlink ---------------------------------------------------------------------------------

NETLINK, INDEX = Reg("netlink"), Reg("index", RegKind.IFINDEX)
NET_NS = int(CloneFlag.CLONE_NEWNET)
NLM_F_REQUEST, NLM_F_ACK = 1, 4
RTM_NEWLINK = 16
IFF_UP = 1


def socket_steps() -> tuple[Op, ...]:
    return (
        call("socket", 16, 3 | os.O_CLOEXEC, 0, save=NETLINK),
        # SOL_NETLINK, NETLINK_EXT_ACK
        Call(
            name="setsockopt",
            args=(NETLINK, Int(270), Int(11), Bytes(struct.pack("=i", 1)), Int(4)),
        ),
    )


def set_up(index: int, *, attributes: bytes = b"", hole: Reg | None = None) -> Bytes:
    """RTM_NEWLINK: struct ifinfomsg with IFF_UP set and meant."""
    body = struct.pack("=BxHiII", 0, 0, index, IFF_UP, IFF_UP) + attributes
    head = struct.pack("=IHHII", 16 + len(body), RTM_NEWLINK, NLM_F_REQUEST | NLM_F_ACK, 7, 0)
    holes = (Hole(16 + 4, 4, hole),) if hole is not None else ()
    return Bytes(head + body, holes=holes)


FLAGS = "cat /sys/class/net/lo/flags; ip -br link show lo"


def test_loopback_up_in_a_new_network_namespace() -> None:
    steps = (*socket_steps(), Netlink(socket=NETLINK, message=set_up(1)))
    outcome, text = output(command(*steps, *sh("ip link show lo"), flags=NET_NS))
    assert (outcome.status, outcome.failure) == (0, None)
    assert "LOOPBACK,UP" in text
    assert outcome.trace.result(Track.CHILD, 3).state is State.DONE
    # The control: without the message it is down.
    _, down = output(command(*sh("ip link show lo"), flags=NET_NS))
    assert "LOOPBACK" in down and "UP" not in down


def test_a_register_in_a_netlink_message() -> None:
    """An interface index known only at replay; -1 and nonsense would be refused."""
    one = Call(name="getppid", args=(), save=INDEX)
    # In a new pid namespace the parent's pid is 0 inside: no interface.
    steps = (*socket_steps(), one, Netlink(socket=NETLINK, message=set_up(0, hole=INDEX)))
    flags = NET_NS | int(CloneFlag.CLONE_NEWPID)
    outcome = run(command(*steps, *sh("true"), flags=flags))
    assert outcome.failure is not None and outcome.failure.errno == errno.ENODEV
    # And as PID 1 getpid is 1: the loopback.
    own = Call(name="getpid", args=(), save=INDEX)
    steps = (*socket_steps(), own, Netlink(socket=NETLINK, message=set_up(0, hole=INDEX)))
    outcome, text = output(command(*steps, *sh("ip link show lo"), flags=flags))
    assert outcome.status == 0 and "LOOPBACK,UP" in text


def test_the_kernels_own_words() -> None:
    """An attribute too short for its type: EXT_ACK says so in words."""
    # IFLA_MTU of one byte
    bad = struct.pack("=HHBxxx", 5, 4, 1)
    steps = (*socket_steps(), Netlink(socket=NETLINK, message=set_up(1, attributes=bad)))
    outcome = run(command(*steps, *sh("true"), flags=NET_NS))
    assert outcome.failure is not None
    assert (outcome.failure.address, outcome.failure.kind) == ("c3", Kind.ERRNO)
    assert outcome.failure.errno in (errno.ERANGE, errno.EINVAL)
    assert outcome.failure.text == "Attribute failed policy validation"


def test_netlink_errnos_can_be_accepted_or_end_the_action() -> None:
    no_such = set_up(4242)
    for options, state in (
        ({"accept": ("ENODEV",)}, State.ACCEPTED),
        ({"skip": ("ENODEV",)}, State.SKIPPED),
    ):
        netlink = Netlink(socket=NETLINK, message=no_such, **options)
        outcome = run(
            command(
                *sh("sleep 0.1"),
                middle=(parent(*socket_steps(), netlink),),
            )
        )
        assert (outcome.status, outcome.failure) == (0, None)
        result = outcome.trace.result(Track.PARENT, 8)
        assert (result.state, result.errno_name) == (state, "ENODEV")
    failed = run(
        command(
            *sh("true"), before=(parent(*socket_steps(), Netlink(socket=NETLINK, message=no_such)),)
        )
    )
    assert failed.failure is not None and failed.failure.errno_name == "ENODEV"


def test_netlink_on_something_else_does_not_hang() -> None:
    """A datagram socket that takes the bytes and never answers."""
    pair = Reg("pair")
    steps = (
        Call(name="socket", args=(Int(2), Int(2 | os.O_CLOEXEC), Int(0)), save=pair),
        Netlink(socket=pair, message=set_up(1)),
    )
    outcome = run(command(*steps, *sh("true")))
    assert outcome.failure is not None
    assert outcome.failure.errno_name in ("EDESTADDRREQ", "ENOTCONN")


# --- the file system context's own words -----------------------------------------------------


def test_the_log_of_fsopen() -> None:
    context = Reg("context")
    bad = Call(
        name="fsconfig",
        args=(context, Int(1), Str("no_such_option"), Str("1"), Int(0)),
        log=context,
    )
    outcome = run(command(call("fsopen", "tmpfs", 1, save=context), bad, *sh("true")))
    assert outcome.failure is not None
    assert outcome.failure.errno_name == "EINVAL"
    assert "Unknown parameter 'no_such_option'" in outcome.failure.text


def test_a_plan_can_be_replayed_from_a_process_that_ignores_sigchld() -> None:
    """With SIGCHLD ignored the kernel would reap helpers and command behind our back."""

    def ignore() -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)

    running = start(command(*sh("exit 3"), middle=(parent(shell("true")),)), setup=ignore)
    assert running.outcome().status == 3
