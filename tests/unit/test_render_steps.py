"""One operation as text: short for the listing, full as strace prints it."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings

from nsrun.kernel import abi, calls, sockets
from nsrun.kernel.values import (
    NULL,
    Arg,
    Bytes,
    Call,
    Fmt,
    Hole,
    Int,
    Length,
    Out,
    Reg,
    Str,
    Strings,
)
from nsrun.plan.ops import Await, Netlink, Op, Spawn
from nsrun.render.steps import arg_text, call_text, step_text
from nsrun.render.text import cells, duration, quoted, shorten, visible
from tests.support import plans

FD = Reg("fd")
OPEN_TREE = calls.open_tree(
    calls.CWD,
    "/srv/data",
    abi.OpenTreeFlag.OPEN_TREE_CLONE | abi.OpenTreeFlag.AT_RECURSIVE,
    save=FD,
)


@pytest.mark.parametrize(
    ("call", "short", "full"),
    [
        (
            OPEN_TREE,
            'open_tree(cwd, "/srv/data", CLONE|RECURSIVE)',
            'open_tree(AT_FDCWD, "/srv/data", OPEN_TREE_CLONE|AT_RECURSIVE)',
        ),
        (
            calls.mount(None, "/", None, abi.MountFlag.MS_REC | abi.MountFlag.MS_PRIVATE),
            'mount(-, "/", -, REC|PRIVATE, -)',
            'mount(NULL, "/", NULL, MS_REC|MS_PRIVATE, NULL)',
        ),
        (
            calls.move_mount(FD, "", calls.CWD, "/mnt", abi.MoveMountFlag.MOVE_MOUNT_F_EMPTY_PATH),
            'move_mount(%fd, -, cwd, "/mnt", F_EMPTY_PATH)',
            'move_mount(%fd, "", AT_FDCWD, "/mnt", MOVE_MOUNT_F_EMPTY_PATH)',
        ),
        (calls.sethostname("web"), 'sethostname("web")', 'sethostname("web", 3)'),
        (
            calls.write(FD, Fmt(("x", FD))),
            'write(%fd, "x%fd")',
            'write(%fd, "x%fd", length of "x%fd")',
        ),
        (
            sockets.socketpair(first=FD, second=Reg("b")),
            "socketpair(AF_UNIX, SEQPACKET|CLOEXEC, 0)",
            "socketpair(AF_UNIX, SOCK_SEQPACKET|SOCK_CLOEXEC, 0, {%fd, %b})",
        ),
        (
            calls.prctl(abi.Prctl.PR_SET_DUMPABLE, Int(0)),
            "prctl(SET_DUMPABLE, 0)",
            "prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)",
        ),
        (
            calls.fsconfig_create(FD),
            "fsconfig(%fd, CMD_CREATE)",
            "fsconfig(%fd, FSCONFIG_CMD_CREATE, NULL, NULL, 0)",
        ),
        (
            calls.execve("/bin/sh", ("sh",), ("SECRET=1",)),
            'execve("/bin/sh", ["sh"], 1 variable)',
            'execve("/bin/sh", ["sh"], /* 1 var */)',
        ),
        (
            calls.allow(
                calls.mkdirat(FD, "a", 0o755), accept=("EEXIST", "EROFS"), skip=("ENOENT",)
            ),
            'mkdirat(%fd, "a", 0755)  [or EEXIST, or EROFS, ENOENT skips]',
            'mkdirat(%fd, "a", 0755)',
        ),
        (
            sockets.ioctl_interface_up(FD, "lo"),
            'ioctl(%fd, SIOCSIFFLAGS, {"lo", UP})',
            'ioctl(%fd, SIOCSIFFLAGS, {"lo", IFF_UP})',
        ),
        (
            calls.fstatfs(FD, abi.Magic.PROC_SUPER_MAGIC),
            "fstatfs(%fd, {f_type == PROC_SUPER_MAGIC})",
            "fstatfs(%fd, {f_type == PROC_SUPER_MAGIC})",
        ),
    ],
    ids=lambda value: value.name if isinstance(value, Call) else "",
)
def test_calls(call: Call, short: str, full: str) -> None:
    assert call_text(call) == short
    assert call_text(call, full=True) == full


@pytest.mark.parametrize(
    ("arg", "short", "full"),
    [
        (Int(7), "7", "7"),
        (NULL, "-", "NULL"),
        (Int(4294967295, "UINT_MAX"), "MAX", "UINT_MAX"),
        (Int(9, "SIGKILL"), "SIGKILL", "SIGKILL"),
        (Int(21, "CAP_SYS_ADMIN"), "CAP_SYS_ADMIN", "CAP_SYS_ADMIN"),
        (Int(0o644, "S_IFREG|0644"), "IFREG|0644", "S_IFREG|0644"),
        (Str('a"\\\n\t\x01'), r'"a\"\\\n\t\x01"', r'"a\"\\\n\t\x01"'),
        (Str("\udcff"), r'"\xff"', r'"\xff"'),
        (Bytes(b"a\xff\0", "a\\xff\x00"), r'"a\xff\0"', r'"a\xff\0"'),
        (Bytes(b"MS_REC"), '"MS_REC"', '"MS_REC"'),
        (Bytes(b"MS_REC", "MS_REC"), '"MS_REC"', '"MS_REC"'),
        (Bytes(b"\1" * 8, "", (Hole(0, 4, FD),)), "{8 bytes}", "{8 bytes}"),
        (Bytes(b"\1", '{"MS_REC", MS_REC}'), '{"MS_REC", REC}', '{"MS_REC", MS_REC}'),
        (Length(Fmt(("a",))), 'length of "a"', 'length of "a"'),
        (Out(128, text="siginfo"), "{siginfo}", "{siginfo}"),
        (Out(1), "{1 byte}", "{1 byte}"),
        (Strings(()), "[]", "[]"),
    ],
)
def test_arguments(arg: Arg, short: str, full: str) -> None:
    assert arg_text(arg) == short
    assert arg_text(arg, full=True) == full


def test_long_values_are_cut_in_the_middle_only_when_short() -> None:
    path = Str("/start/" + "x" * 100 + "/end")
    assert cells(arg_text(path)) == 38
    assert arg_text(path).startswith('"/start/') and arg_text(path).endswith('/end"')
    assert arg_text(path, full=True) == f'"{path.value}"'


def test_long_vectors_keep_their_start_and_end() -> None:
    words = Strings(tuple(f"argument-{n}" for n in range(20)))
    short = arg_text(words)
    assert short == '["argument-0", "argument-1", … 17 more, "argument-19"]'
    assert arg_text(words, full=True).count("argument-") == 20


def test_a_length_that_is_not_of_the_buffer_before_is_shown() -> None:
    call = Call(name="write", args=(FD, Bytes(b"abc", "abc"), Int(2)))
    assert call_text(call) == 'write(%fd, "abc", 2)'


SPAWN = Spawn(argv=(Str("/bin/x"), Fmt((FD,))))
AWAIT = Await(
    child=plans.CHILD,
    pidfd=plans.PIDFD,
    signals=plans.SIGNALS,
    status=plans.STATUS,
    stop_signal=Int(15, "SIGTERM"),
    stop_timeout=0,
)


@pytest.mark.parametrize(
    ("op", "short", "full"),
    [
        (OPEN_TREE, "%fd = " + call_text(OPEN_TREE), call_text(OPEN_TREE, full=True)),
        (SPAWN, 'spawn(["/bin/x", "%fd"])', 'spawn(["/bin/x", "%fd"])'),
        (
            dataclasses.replace(SPAWN, stdin=Fmt(("a", FD)), success=(0, 2)),
            'spawn(["/bin/x", "%fd"], stdin="a%fd")  [or status 2]',
            'spawn(["/bin/x", "%fd"], stdin="a%fd")',
        ),
        (
            Netlink(socket=FD, message=Bytes(b"\1\2"), accept=("EEXIST",)),
            "netlink 2 bytes  [or EEXIST]",
            "netlink 2 bytes",
        ),
        (
            AWAIT,
            "%status = supervise(%pidfd, stop=SIGTERM, kill_after=0s)",
            "supervise(%pidfd, stop=SIGTERM, kill_after=0s)",
        ),
    ],
)
def test_operations(op: Op, short: str, full: str) -> None:
    assert step_text(op) == short
    assert step_text(op, full=True) == full


@settings(max_examples=200, deadline=None)
@given(plans.ops)
def test_any_operation_is_one_printable_line(op: Op) -> None:
    for full in (False, True):
        text = step_text(op, full=full)
        assert text
        assert visible(text) == text
        assert len(text.splitlines()) == 1


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0s"),
        (1, "1ns"),
        (12_000, "12µs"),
        (500_000_000, "500ms"),
        (1_500_000_000, "1500ms"),
        (90_000_000_000, "1m30s"),
        (7_200_000_000_000, "2h"),
    ],
)
def test_durations(nanoseconds: int, text: str) -> None:
    assert duration(nanoseconds) == text


def test_cells_and_cuts() -> None:
    assert cells("漢字") == 4
    assert cells("e\u0301") == 1
    assert shorten("漢" * 10, 7) == "漢…漢"
    assert shorten("abc", 3) == "abc"
    # An escape is one piece and is never cut through.
    assert quoted("\x1b" * 10, 10) == '"\\x1b…\\x1b"'
