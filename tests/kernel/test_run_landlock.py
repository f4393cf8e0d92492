"""``landlock`` in the kernel: what a command can reach, and what it could without."""

from __future__ import annotations

import pytest

from tests.support.box import Box
from tests.support.detached import Containers
from tests.support.requires import requires

pytestmark = requires("landlock")

NAMESPACES = ["user", "mount", "pid", "ipc", "uts"]
MOUNTS = [
    {"type": "proc", "target": "/proc"},
    {"type": "tmpfs", "target": "/tmp", "options": ["mode=1777"]},
    {"type": "tmpfs", "target": "/srv", "options": ["mode=1777"]},
]
SYSTEM = ["/usr", "/bin", "/lib", "/lib64", "/etc"]


@pytest.fixture
def walled(box: Box) -> Box:
    return box.with_(namespaces=NAMESPACES, mounts=MOUNTS)


def test_only_what_is_allowed_is_read_and_written(walled: Box) -> None:
    script = (
        "echo a >/tmp/a && cat /tmp/a; echo b >/srv/b; ls /srv; cat /etc/hostname >/dev/null; "
        "echo >/dev/null; echo end"
    )
    control = walled.run(script)
    assert (control.status, control.stdout, control.stderr) == (0, "a\nb\nend\n", "")
    result = walled.run(script, landlock={"read": SYSTEM, "write": ["/tmp"], "required": True})
    assert result.stdout == "a\nend\n"
    assert "/srv/b" in result.stderr
    assert "ermission denied" in result.stderr


def test_what_cannot_be_executed(walled: Box) -> None:
    result = walled.run(["/bin/true"], landlock={"read": ["/etc"], "write": []})
    assert result.status == 126
    assert walled.run(["/bin/true"], landlock={"read": SYSTEM}).status == 0


def test_what_is_written_cannot_be_executed_beside_a_list_of_what_may(walled: Box) -> None:
    """A program of the list runs, a script of it, and what a shell reads of what was written."""
    script = (
        "for d in /tmp /dev/shm; do cp /bin/true $d/own && chmod +x $d/own && $d/own; echo $?; "
        "rm -f $d/own; done; echo 'echo read' >/tmp/script && . /tmp/script"
    )
    wall = {"read": SYSTEM, "write": ["/tmp"]}
    shm = [*MOUNTS, {"type": "tmpfs", "target": "/dev/shm", "options": ["mode=1777"]}]
    assert walled.run(script, mounts=shm, landlock=wall).stdout == "126\n126\nread\n"
    assert walled.run(script, mounts=shm, landlock={"write": ["/tmp"]}).stdout == "0\n0\nread\n"
    wall["read"] = [*SYSTEM, "/tmp"]
    assert walled.run(script, mounts=shm, landlock=wall).stdout == "0\n126\nread\n"
    assert walled.run(["/usr/bin/ldd", "/bin/true"], landlock=wall).status == 0


def test_what_an_optional_mount_would_bring_may_be_missing(walled: Box) -> None:
    bind = {"type": "bind", "source": "/srv/none", "target": "/nope", "optional": True}
    wall = {"read": [*SYSTEM, "/nope"], "write": ["/nope/a"]}
    assert walled.run(["/bin/true"], mounts=[*MOUNTS, bind], landlock=wall).status == 0


def test_an_abstract_socket_outside_is_out_of_reach(walled: Box) -> None:
    """Of the network namespace that is shared with the caller."""
    import os
    import socket

    name = f"nsrun-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as outside:
        outside.bind(f"\0{name}")
        outside.listen(8)
        program = f"import socket; socket.socket(socket.AF_UNIX).connect('\\0{name}')"
        command = ["/usr/bin/python3", "-c", program]
        assert walled.run(command).status == 0
        result = walled.run(command, landlock="required")
        assert "PermissionError" in result.stderr


def test_without_new_privileges_or_with(walled: Box) -> None:
    wall = {"read": SYSTEM, "write": ["/tmp"]}
    result = walled.run("touch /srv/x", landlock=wall, no_new_privileges=False,
                        seccomp="unconfined")  # fmt: skip
    assert result.status != 0
    result = walled.run("touch /srv/x", landlock=wall, init=True)
    assert result.status != 0


def test_a_path_that_is_not_there_is_named(walled: Box) -> None:
    result = walled.run(["/bin/true"], landlock={"read": ["/nope"]})
    assert result.status == 125
    assert "cannot allow reading in /nope" in result.stderr
    assert "= why: /nope does not exist" in result.stderr


def test_another_command_stands_behind_the_same_wall(c: Containers) -> None:
    c.up(["sleep", "60"], mounts=MOUNTS, namespaces=NAMESPACES,
         landlock={"read": SYSTEM, "write": ["/tmp"]})  # fmt: skip
    assert c("exec", "c", "--", "touch", "/tmp/x").status == 0
    result = c("exec", "c", "--", "touch", "/srv/x")
    assert result.status != 0
    assert "denied" in result.stderr
    c.ok("kill", "c")
