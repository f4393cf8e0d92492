"""``tty``, ``init`` and ``hooks``: what the launcher and the child do for each other."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nsrun.kernel.values import Fmt
from nsrun.plan.model import Plan, Track, UndoWhen
from nsrun.plan.ops import Await, Init, ReceiveFd, SendFd, Spawn
from tests.support.planning import (
    ORDINARY,
    ROOT,
    WITH_IDS,
    folder,
    has,
    knowing,
    lines,
    only,
    order,
    planned,
    refused,
    why,
)

SPACES = ["user", "mount", "pid"]


def test_the_terminals_other_end_goes_to_the_launcher() -> None:
    plan = planned(ORDINARY, namespaces=SPACES, tty=True)
    opened = only(plan, "open a pseudo-terminal")
    assert lines(opened) == [
        'openat(AT_FDCWD, "/dev/ptmx", O_RDWR|O_NOCTTY|O_CLOEXEC)',
        "ioctl(%master, TIOCSPTLCK, [0])",
        # By descriptor, whatever stands at its path (CVE-2025-52565).
        "ioctl(%master, TIOCGPTPEER, O_RDWR|O_NOCTTY|O_CLOEXEC)",
        "fstatfs(%pty, {f_type == DEVPTS_SUPER_MAGIC})",
        "send #terminal %master",
        "close(%master)",
    ]
    send, (receive,) = opened.steps[4], only(plan, "take the terminal's other end").steps
    assert isinstance(send, SendFd) and isinstance(receive, ReceiveFd)
    assert send.sync == receive.sync
    (await_,) = only(plan, "supervise").steps
    assert isinstance(await_, Await) and await_.terminal == receive.save
    assert why(opened) == "tty"


def test_the_command_owns_its_terminal() -> None:
    plan = planned(ORDINARY, namespaces=SPACES, tty=True)
    (taken,) = (a for a in plan.actions if a.what == "take the terminal")
    assert lines(taken) == [
        "ioctl(%pty, TIOCSCTTY, 0)", "dup3(%pty, 0, 0)", "dup3(%pty, 1, 0)", "dup3(%pty, 2, 0)",
    ]  # fmt: skip
    order(plan, Track.CHILD, "open a pseudo-terminal", "become 0:0", "stay in", "pass on no")
    other = planned(WITH_IDS, namespaces=SPACES, tty=True, user="7:8")
    assert lines(only(other, "open a pseudo"))[-1] == "fchown(%pty, 7, -1)"


def test_nothing_is_echoed_where_nobody_types() -> None:
    quiet = only(planned(ORDINARY, namespaces=SPACES, tty=True), "echo nothing")
    assert lines(quiet) == [
        "ioctl(0, TCGETS, {it is no terminal})",
        "ioctl(%pty, TCSETS, {c_lflag=ISIG|ICANON|ECHOE|ECHOK|ECHOCTL|ECHOKE|IEXTEN})",
    ]
    assert why(quiet) == "(standard input is no terminal)"
    assert "ENOTTY" in getattr(quiet.steps[0], "accept", ())


def test_in_a_rootfs_the_terminal_is_of_its_own_devpts_and_the_console() -> None:
    facts = knowing(ORDINARY, {"/r": folder(1000)})
    plan = planned(facts, namespaces=SPACES, rootfs="/r", tty=True)
    first, second = lines(only(plan, "open a pseudo"))[:2]
    assert first.startswith('openat2(%rootfs, "dev/pts/ptmx", {O_RDWR|O_NOCTTY|O_CLOEXEC, ')
    assert second == "fstatfs(%master, {f_type == DEVPTS_SUPER_MAGIC})"
    assert 'mknodat(%dev2, "console", S_IFREG|0600, 0)' in lines(only(plan, "bind the terminal on"))
    order(plan, Track.CHILD, "mount devpts", "open a pseudo", "bind the terminal on", "enter the")


def test_without_a_terminal_there_is_none() -> None:
    plan = planned(ORDINARY, namespaces=SPACES)
    assert not any("terminal" in a.what for a in plan.actions)


# --- init ----------------------------------------------------------------------------------------


def test_init_stays_behind_before_the_streams_are_taken() -> None:
    plan = planned(ORDINARY, namespaces=SPACES, init=True, tty=True)
    left = only(plan, "leave an init behind")
    assert isinstance(left.steps[0], Init)
    # fork(2) clears the death signal.
    assert lines(left)[1:] == ["prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)"]
    (taken,) = (a for a in plan.actions if a.what == "take the terminal")
    # A forked process leads no session, and only a leader takes a terminal.
    assert lines(taken)[:2] == ["setsid()", "ioctl(%pty, TIOCSCTTY, 0)"]
    assert plan.actions.index(left) < plan.actions.index(taken)
    assert why(left) == "init"


# --- hooks ---------------------------------------------------------------------------------------

HOOKS = {
    "prestart": [{"path": "/bin/pre", "args": ["pre", "x"], "timeout": "2s"}],
    "poststart": [{"path": "/bin/post", "env": ["A=b"]}],
    "poststop": [{"path": "/bin/stop"}, {"path": "/bin/stop2"}],
}


def hooked() -> Plan:
    return planned(ROOT, name="web", namespaces=["uts"], hooks=HOOKS, labels={"k": "v"})


def state(op: object) -> dict[str, object]:
    """What a hook reads, the child's pid being 42."""
    assert isinstance(op, Spawn) and isinstance(op.stdin, Fmt)
    text = "".join(part if isinstance(part, str) else "42" for part in op.stdin.parts)
    found = json.loads(text)
    assert isinstance(found, dict)
    return found


def test_hooks_run_around_the_command() -> None:
    plan = hooked()
    order(plan, Track.PARENT, "run the prestart hook", "release the child", "wait for the command",
          "run the poststart hook", "supervise")  # fmt: skip
    order(plan, Track.CHILD, "wait for the launcher", "run /bin/true")
    assert why(only(plan, "run the prestart")) == "hooks.prestart[0]"


def test_what_a_hook_is_given() -> None:
    plan = hooked()
    (pre,) = only(plan, "run the prestart hook").steps
    assert isinstance(pre, Spawn)
    assert [getattr(a, "value", "") for a in pre.argv] == ["/bin/pre", "x"]
    assert (pre.timeout, pre.env) == (2 * 10**9, ())
    assert state(pre) == {
        "ociVersion": "1.2.0", "id": "web", "status": "created", "bundle": "/here", "pid": 42,
        "annotations": {"k": "v"},
    }  # fmt: skip
    (post,) = only(plan, "run the poststart hook").steps
    assert isinstance(post, Spawn) and post.env == ("A=b",)
    assert state(post)["status"] == "running"


def test_hooks_for_the_end_run_however_the_run_ends() -> None:
    released = only(hooked(), "release the child")
    assert released.undo_when is UndoWhen.END
    paths = [getattr(op.argv[0], "value", "") for op in released.undo if isinstance(op, Spawn)]
    assert paths == ["/bin/stop", "/bin/stop2"]
    for op in released.undo:
        assert state(op)["status"] == "stopped" and "pid" not in state(op)


@pytest.mark.parametrize(
    ("keys", "reached"),
    [
        ({}, False),
        ({"rootfs": "/root/fs"}, False),
        ({"rootfs": "/hooks"}, True),
        ({"rootfs": {"path": "/hooks", "readonly": True}}, False),
        ({"rootfs": {"path": "/hooks", "overlay": "ephemeral"}}, False),
        ({"mounts": ["/hooks:/mnt"]}, True),
        ({"mounts": ["/hooks/run:/mnt"]}, True),
        ({"mounts": ["/ho:/mnt", "/hooks/other:/srv", "/hooks:/opt:ro"]}, False),
    ],
)
def test_a_hook_is_out_of_the_containers_reach(keys: dict[str, Any], reached: bool) -> None:
    facts = knowing(ROOT, paths={path: folder() for path in ("/root/fs", "/hooks")})
    for stage in HOOKS:
        hooks = {stage: [{"path": "/hooks/run"}]}
        given = {"namespaces": ["mount"], "hooks": hooks, **keys}
        if reached:
            assert refused(facts, **given) == [("NS318", f"hooks.{stage}[0]")]
        else:
            planned(facts, **given)


def test_without_hooks_nobody_waits() -> None:
    plan = planned(ROOT, namespaces=["uts"])
    assert not has(plan, "release the child") and not has(plan, "wait for the launcher")
