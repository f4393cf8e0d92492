"""`nsrun verify`: what a spec expects is looked at inside, behind every wall."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.box import Box
from tests.support.host import unchanged

NEW = ["user", "mount", "pid", "network", "ipc", "uts"]


def verify(box: Box, expected_status: int, expect: dict[str, Any], **keys: Any) -> dict[str, str]:
    """What was found: ``yes`` or ``no`` and why, by what was expected."""
    with unchanged():
        spec = box.spec(command=["false"], expect=expect, **keys)
        done = box.runner.run("verify", "--json", spec)
    assert done.status == expected_status, done.stderr
    found = json.loads(done.stdout)
    lines = [row["line"] for row in found]
    assert all(lines), lines
    assert done.stderr.count("error[NS620]") == 0
    return {row["expected"]: ("yes: " if row["holds"] else "no: ") + row["why"] for row in found}


def test_paths(box: Box, executor: str, rootfs: Path, tmp_path: Path) -> None:
    found = verify(
        box,
        1,
        {
            "unreadable": ["/proc/interrupts", "/nowhere", "/srv/empty", "/etc/passwd"],
            "readable": ["/etc/passwd", "/etc", "/etc/nothing"],
            "read_only": ["/", "/etc/passwd", "/proc/sys/kernel/core_pattern", "/srv", "/no"],
            "writable": ["/srv", "/dev/null", "/srv/file", "/etc"],
        },
        namespaces=NEW,
        rootfs={"path": str(rootfs), "readonly": True, "overlay": "ephemeral"},
        mounts=[
            {"type": "tmpfs", "target": "/srv"},
            {"type": "tmpfs", "target": "/srv/empty", "options": ["ro"]},
        ],
        files={"/srv/file": {"content": "here"}},
    )
    assert found.pop("unreadable /proc/interrupts") in (
        "yes: there is nothing in it",
        "yes: open: EACCES",
    )
    # Who may not write a file is told so before its mount is looked at.
    for path in ("/etc/passwd", "/proc/sys/kernel/core_pattern"):
        assert found.pop(f"read_only {path}") in ("yes: open: EROFS", "yes: open: EACCES")
    assert found == {
        "unreadable /nowhere": "yes: open: ENOENT",
        "unreadable /srv/empty": "yes: an empty folder",
        "unreadable /etc/passwd": "no: it can be read",
        "readable /etc/passwd": "yes: it can be read",
        "readable /etc": "yes: its entries can be read",
        "readable /etc/nothing": "no: open: ENOENT",
        "read_only /": "yes: mkdir: EROFS",
        "read_only /srv": "no: a folder can be made in it",
        "read_only /no": "no: there is no such path",
        "writable /srv": "yes: a folder can be made in it",
        "writable /dev/null": "yes: it can be opened for writing",
        "writable /srv/file": "yes: it can be opened for writing",
        "writable /etc": "no: mkdir: EROFS",
    }


def test_the_walls_of_landlock_and_of_system_calls(box: Box, rootfs: Path) -> None:
    """No mount and no id stands in the way here."""
    expect = {
        "unreadable": ["/bin/busybox"],
        "read_only": ["/srv"],
        "unreachable": ["127.0.0.1:1"],
    }
    keys: dict[str, Any] = {
        "namespaces": NEW,
        "rootfs": str(rootfs),
        "mounts": [{"type": "tmpfs", "target": "/srv"}],
    }
    control = verify(box, 1, expect, **keys)
    assert control == {
        "unreachable 127.0.0.1:1": "yes: connect: ECONNREFUSED",
        "unreadable /bin/busybox": "no: it can be read",
        "read_only /srv": "no: a folder can be made in it",
    }
    seccomp = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}],
    }
    landlock = {"read": ["/etc"], "write": ["/dev"]}
    assert verify(box, 0, expect, seccomp=seccomp, landlock=landlock, **keys) == {
        "unreachable 127.0.0.1:1": "yes: socket: ENOSYS",
        "unreadable /bin/busybox": "yes: open: EACCES",
        "read_only /srv": "yes: mkdir: EACCES",
    }


@pytest.fixture
def listening() -> Iterator[tuple[int, str]]:
    """A TCP port of the host's loopback and an abstract socket that accept connections."""
    tcp = socket.create_server(("127.0.0.1", 0))
    name = f"nsrun-test-verify-{os.getpid()}"
    unix = socket.socket(socket.AF_UNIX)
    unix.bind(f"\0{name}")
    unix.listen()
    with tcp, unix:
        yield tcp.getsockname()[1], name


def test_connections(box: Box, listening: tuple[int, str]) -> None:
    port, name = listening
    ends = [f"127.0.0.1:{port}", f"unix:@{name}"]
    answers = {f"{key} {end}" for key in ("reachable", "unreachable") for end in ends}
    expect = {"reachable": ends, "unreachable": ends}
    for namespaces, words in (
        (["user", "mount"], "a connection is accepted"),
        (["user", "mount", "network"], "connect: ECONNREFUSED"),
    ):
        found = verify(box, 1, expect, namespaces=namespaces)
        assert set(found) == answers
        outside = "network" not in namespaces
        for what, how in found.items():
            assert how == f"{'yes' if what.startswith('reach') is outside else 'no'}: {words}"


def test_a_connection_that_nobody_answers(box: Box) -> None:
    """A listener whose queue is full lets others wait."""
    name = f"nsrun-test-full-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as full, socket.socket(socket.AF_UNIX) as first:
        full.bind(f"\0{name}")
        full.listen(0)
        first.connect(f"\0{name}")
        expect = {"unreachable": [f"unix:@{name}"]}
        found = verify(box, 0, expect, namespaces=["user", "mount"])
    assert found == {f"unreachable unix:@{name}": "yes: no answer within 1 s"}


def test_namespaces(box: Box, executor: str) -> None:
    found = verify(
        box,
        1,
        {"namespaces_new": ["user", "mount", "pid", "time", "network", "cgroup"]},
        namespaces=["user", "mount", "pid", "time"],
        init=executor == "native",
    )
    assert found == {
        f"a new {kind} namespace": "yes: not the caller's"
        if kind not in ("network", "cgroup")
        else "no: it is the caller's"
        for kind in ("user", "mount", "pid", "time", "network", "cgroup")
    }


@pytest.mark.parametrize(
    ("capabilities", "expected", "answer"),
    [
        ("none", [], "yes: exactly these"),
        (["CHOWN"], ["chown"], "yes: exactly these"),
        (["CHOWN", "NET_RAW"], ["chown", "kill"], "no: also CAP_NET_RAW; not CAP_KILL"),
    ],
)
def test_capabilities(box: Box, capabilities: Any, expected: list[str], answer: str) -> None:
    status = 0 if answer.startswith("yes") else 1
    (found,) = verify(
        box,
        status,
        {"capabilities": expected},
        namespaces=["user", "mount"],
        capabilities=capabilities,
    ).values()
    assert found == answer


def test_what_an_execve_could_still_give_counts(root_box: Box) -> None:
    """Without no_new_privileges a set-user-ID program has the whole bounding set."""
    sets = {"bounding": ["CAP_KILL"], "effective": [], "permitted": []}
    keys: dict[str, Any] = {"namespaces": ["mount"], "capabilities": sets, "user": "1000:1000"}
    (found,) = verify(root_box, 0, {"capabilities": []}, **keys).values()
    assert found == "yes: exactly these"
    keys |= {"no_new_privileges": False}
    (found,) = verify(root_box, 1, {"capabilities": []}, **keys).values()
    assert found == "no: also CAP_KILL"


def test_in_words(box: Box) -> None:
    spec = box.spec(
        command=["sh", "-c", "echo ran >$HOME/ran"],
        namespaces=["user", "mount"],
        expect={"readable": ["/etc/passwd"], "read_only": ["/tmp"]},
    )
    done = box.runner.run("verify", spec)
    assert done.status == 1
    assert "holds  readable /etc/passwd" in done.stdout
    assert "FAILS  read_only /tmp" in done.stdout
    assert "error[NS620]: expected read_only /tmp: it does not hold" in done.stderr
    assert not (box.runner.user.home / "ran").exists()
    plan = box.runner.run("verify", "--plan", spec).ok()
    assert 'openat(cwd, "/etc/passwd"' in plan and "exit_group(0)" in plan
    assert "execve" not in plan


def test_beside_the_container_itself(box: Box) -> None:
    """The copy has another name, and no pins."""
    keys: dict[str, Any] = {"name": "app", "namespaces": ["user", "mount", "uts"]}
    with box.running("echo ready; read x", **keys) as run:
        assert run.line() == "ready"
        assert verify(box, 0, {"namespaces_new": ["uts"]}, **keys)


def test_what_cannot_be_looked_at_is_no_success(box: Box) -> None:
    spec = box.spec(
        command=["true"],
        namespaces=["user", "mount"],
        mounts=[f"{box.folder}/nowhere:/srv"],
        expect={"unreadable": ["/nowhere"]},
    )
    assert box.runner.run("verify", spec).status == 125
    nothing = box.spec(command=["true"], namespaces=["user", "mount"], expect={"readable": []})
    done = box.runner.run("verify", nothing)
    assert (done.status, "error[NS621]" in done.stderr) == (125, True)
    # A filter that ends the process at the first look.
    killed = box.spec(
        command=["true"],
        namespaces=["user", "mount"],
        seccomp={
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["mkdirat"], "action": "SCMP_ACT_KILL_PROCESS"}],
        },
        expect={"read_only": ["/tmp"]},
    )
    assert box.runner.run("verify", killed).status >= 125


def test_every_expectation_of_the_build_sandbox_holds(examples: Path, box: Box) -> None:
    done = box.runner.run("verify", examples / "build.yaml")
    assert done.status == 0, done.stdout + done.stderr
