"""SCMP_ACT_NOTIFY: a program outside is asked about system calls, as OCI has it."""

from __future__ import annotations

import array
import fcntl
import json
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support.box import Box
from tests.support.detached import Containers

# linux/seccomp.h: SECCOMP_IOCTL_NOTIF_RECV and _SEND, struct seccomp_notif and _notif_resp.
_RECEIVE, _SEND = 0xC0502100, 0xC0182101
_NOTIFICATION, _ANSWER = struct.Struct("=QIIi"), struct.Struct("=QqiI")
_MKDIR, _MKDIRAT = 83, 258
PROFILE = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}],
}


@dataclass
class Asked:
    """Who is asked: what it got, and what it answers (-errno, or 1 to let the call go on)."""

    path: Path
    answer: int
    state: dict[str, Any] = field(default_factory=dict)
    comm: str = ""
    calls: list[int] = field(default_factory=list)

    def serve(self, server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            data, control, _, _ = connection.recvmsg(1 << 16, socket.CMSG_SPACE(64))
        (fd,) = array.array("i", control[0][2])
        self.state = json.loads(data)
        self.comm = Path(f"/proc/{self.state['pid']}/stat").read_text().split()[1]
        try:
            self._answer(fd)
        finally:
            os.close(fd)

    def _answer(self, fd: int) -> None:
        while True:
            buffer = bytearray(80)
            try:
                fcntl.ioctl(fd, _RECEIVE, buffer)
            except OSError:
                return  # the last process with the filter has ended
            number, _, _, call = _NOTIFICATION.unpack_from(buffer)
            self.calls.append(call)
            flags = 1 if self.answer == 1 else 0
            error = 0 if flags else self.answer
            fcntl.ioctl(fd, _SEND, bytearray(_ANSWER.pack(number, 0, error, flags)))


@contextmanager
def asked(box: Box, answer: int) -> Iterator[Asked]:
    path = box.folder / f"asked{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        os.chmod(path, 0o777)
        server.listen()
        server.settimeout(20)
        made = Asked(path, answer)
        thread = threading.Thread(target=made.serve, args=(server,))
        thread.start()
        try:
            yield made
        finally:
            thread.join(20)
            path.unlink()
            assert not thread.is_alive()


@pytest.mark.parametrize("init", [False, True])
def test_the_answer_is_the_calls(box: Box, init: bool) -> None:
    keys: dict[str, Any] = {
        "name": "asking",
        "namespaces": ["user", "mount", "pid"],
        "init": init,
        "mounts": [{"type": "tmpfs", "target": "/srv"}, {"type": "proc", "target": "/proc"}],
    }
    for answer, words in ((-17, "File exists"), (1, "made")):
        with asked(box, answer) as who:
            profile = {**PROFILE, "listenerPath": str(who.path), "listenerMetadata": 'of "web"'}
            said = box.out("mkdir /srv/a 2>&1 && echo made; true", seccomp=profile, **keys)
        assert words in said
        assert set(who.calls) <= {_MKDIR, _MKDIRAT} and len(who.calls) == 1
        state = who.state.pop("state")
        assert state["id"] == "asking" and state["status"] == "creating"
        assert state["pid"] == who.state.pop("pid") > 0
        assert who.state.pop("ociVersion") == state["ociVersion"]
        assert who.state == {"fds": ["seccompFd"], "metadata": 'of "web"'}


def test_the_answer_is_told_as_the_wall(box: Box) -> None:
    """A wall of the kernel's that would refuse the call in any case is told before."""
    mounts = [
        {"type": "tmpfs", "target": "/srv"},
        {"type": "tmpfs", "target": "/mnt", "options": ["ro"]},
        {"type": "proc", "target": "/proc"},
    ]
    with asked(box, -30) as who:
        profile = {**PROFILE, "listenerPath": str(who.path)}
        spec = box.spec(
            command="mkdir /srv/a; mkdir /mnt/b; true",
            seccomp=profile, namespaces=["user", "mount", "pid"], mounts=mounts,
        )  # fmt: skip
        done = box.runner.run("run", "--why", spec)
    assert done.status == 0
    listener, mount = (part.splitlines() for part in done.stderr.split("  mkdir: ")[1:])
    assert listener[0] == 'mkdir("/srv/a") = EROFS'
    assert listener[1].endswith(
        "seccomp listener: the filter asks its listener about mkdir, and no other wall explains "
        "EROFS"
    )
    assert f"what listens at {who.path} decides (" in listener[2]
    assert "wall: read-only mount: " in mount[1] and "listener is asked before" in mount[1]


def test_nobody_is_there_to_be_asked(box: Box) -> None:
    profile = {**PROFILE, "listenerPath": str(box.folder / "nobody")}
    told = box.refused("true", seccomp=profile, namespaces=["user", "mount"])
    assert "cannot connect to who is asked about system calls" in told
    assert "(ENOENT)" in told and "listenerPath" in told


def test_who_is_asked_hangs_up(box: Box) -> None:
    """The command does not run where nobody would answer."""
    path = box.folder / "hangs-up"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        os.chmod(path, 0o777)
        server.listen()
        thread = threading.Thread(target=lambda: server.accept()[0].close())
        thread.start()
        profile = {**PROFILE, "listenerPath": str(path)}
        spec = box.spec(command="echo ran", seccomp=profile, namespaces=["user", "mount"])
        done = box.runner.run(spec)
        thread.join(20)
    # Either the launcher learns of it as it sends, or the message has gone into a queue that is
    # not read any more: then the call finds no listener, and is refused (ENOSYS).
    if done.status == 125:
        assert "cannot pass the filter's listener on" in done.stderr and not done.stdout
    else:
        assert (done.status, done.stdout) == (0, "ran\n")
    path.unlink()


def test_another_command_has_nobody_to_ask(c: Containers) -> None:
    """Its calls are refused as if they did not exist."""
    with asked(c.box, 1) as who:
        profile = {**PROFILE, "listenerPath": str(who.path)}
        c.up("echo up; sleep 60", seccomp=profile)
        c.until_said("up")
        done = c("exec", "c", "--", "mkdir", "/tmp/asked-by-exec")
        assert done.status != 0 and "not implemented" in done.stderr
        c.ok("kill", "c")


_ACT: Callable[[dict[str, Any]], dict[str, Any]] = lambda change: {**PROFILE, **change}  # noqa: E731


@pytest.mark.parametrize(
    ("profile", "words"),
    [
        (_ACT({}), "SCMP_ACT_NOTIFY without `listenerPath`"),
        (_ACT({"listenerPath": "/a", "defaultAction": "SCMP_ACT_NOTIFY"}), "for every call"),
        (_ACT({"listenerPath": "/a", "syscalls": []}), "and no action is SCMP_ACT_NOTIFY"),
        (_ACT({"listenerPath": "/" + "a" * 120}), "a path of at most 107 bytes"),
        (_ACT({"syscalls": [], "listenerMetadata": "a"}), "without `listenerPath`"),
        (
            _ACT({"listenerPath": "/a", "flags": ["SECCOMP_FILTER_FLAG_TSYNC"]}),
            "a listener and SECCOMP_FILTER_FLAG_TSYNC",
        ),
        (
            _ACT(
                {
                    "listenerPath": "/a",
                    "syscalls": [{"names": ["sendmsg"], "action": "SCMP_ACT_NOTIFY"}],
                }
            ),
            "SCMP_ACT_NOTIFY for sendmsg",
        ),
    ],
)
def test_what_cannot_be(user_box: Box, profile: dict[str, Any], words: str) -> None:
    assert words in user_box.refused("true", seccomp=profile, namespaces=["user", "mount"])
