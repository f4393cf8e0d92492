"""``nsrun run --why``: which wall has refused a call of the command."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from nsrun.host import cgroups
from tests.support.box import Box
from tests.support.detached import Containers
from tests.support.host import unchanged
from tests.support.requires import requires

KINDS = ["user", "mount", "pid", "ipc", "uts"]
PROC = {"type": "proc", "target": "/proc"}
TMP = {"type": "tmpfs", "target": "/tmp", "options": ["mode=1777"]}
READABLE = ["/usr", "/bin", "/lib", "/lib64", "/etc", "/proc", "/dev"]
PYTHON = "/usr/bin/python3 -I -S -c"


@dataclass(frozen=True)
class Told:
    call: str
    wall: str
    help: str


def why(box: Box, executor: str, script: str, status: int = 0, /, **keys: object) -> list[Told]:
    file = box.spec(command=script, **keys)
    runner = box.runner.with_(env={"NSRUN_EXECUTOR": executor})
    with unchanged(box.folder):
        done = runner.run("run", "--why", file)
    assert done.status == status, str(done)
    return list(_told(done.stderr))


def _told(text: str) -> Iterator[Told]:
    found = re.findall(
        r"^  \S+: (.+)\n    wall: (.+)\n(?:    (?:try|at): +(.+)\n)?", text, re.MULTILINE
    )
    yield from (Told(*parts) for parts in found)


def one(told: list[Told], start: str) -> Told:
    found = [row for row in told if row.call.startswith(start)]
    assert len(found) == 1, told
    return found[0]


@requires("landlock")
def test_walls_told_apart(box: Box, executor: str) -> None:
    told = why(
        box,
        executor,
        "echo a >/tmp/a; echo b >/srv/b; ls /var >/dev/null; hostname x; chown 77777777 /tmp/a;"
        f"{PYTHON} 'import socket; socket.socket(2, 3, 1)'; echo c >/etc/no; cat /nowhere; exit 3",
        3,
        namespaces=KINDS,
        mounts=[PROC, TMP, {"type": "tmpfs", "target": "/srv", "options": ["ro"]}],
        landlock={"read": READABLE, "write": ["/tmp"]},
    )
    readonly = one(told, 'openat("/srv/b", O_WRONLY|O_CREAT|O_TRUNC) = EROFS')
    assert readonly.wall == "read-only mount: /srv lies on /srv, which is mounted read-only"
    assert ".yaml:" in readonly.help
    landlock = one(told, 'openat("/var", O_RDONLY|O_DIRECTORY) = EACCES')
    assert landlock.wall == "Landlock: no rule gives READ_DIR on /var or a folder above it"
    assert landlock.help.startswith("`/var` in the list landlock.read")
    seccomp = one(told, "sethostname(")
    assert seccomp.wall == "seccomp: the filter answers sethostname with EPERM"
    assert seccomp.help.startswith("CAP_SYS_ADMIN under `capabilities`")
    unmapped = one(told, 'fchownat("/tmp/a") = EINVAL')
    assert unmapped.wall == "user namespace: uid 77777777 is not mapped in its user namespace"
    raw = one(told, "socket(2")
    assert raw.wall.startswith("capability: it needs CAP_NET_RAW")
    assert raw.help == "capabilities: {add: [CAP_NET_RAW]}"
    # Root of a user namespace has no right over what belongs to the host's.
    foreign = one(told, 'openat("/etc/no"')
    assert foreign.wall.startswith("user namespace: uid 0, which is ")
    # What is not there was refused by nobody.
    assert "nowhere" not in str(told)
    assert len(told) == 6, told


def test_what_is_advised_helps(box: Box, executor: str) -> None:
    script = f"hostname x; {PYTHON} 'import socket; socket.socket(17, 3)'"
    keys = {"namespaces": [*KINDS, "network"], "mounts": [PROC]}
    before = why(box, executor, script, 1, **keys)
    assert {row.help.partition(" ")[0] for row in before} == {"CAP_SYS_ADMIN", "CAP_NET_RAW"}
    added = {"add": ["CAP_SYS_ADMIN", "CAP_NET_RAW"]}
    assert why(box, executor, script, capabilities=added, **keys) == []


def test_a_capability_that_does_not_count(box: Box, executor: str) -> None:
    script = f"{PYTHON} 'import socket; socket.socket().bind((\"127.0.0.1\", 81))'"
    told = why(box, executor, script, 1, namespaces=KINDS, mounts=[PROC])
    assert one(told, "bind(port 81)").wall == (
        "user namespace: CAP_NET_BIND_SERVICE does not count over its network namespace, which "
        "belongs to another user namespace"
    )
    assert why(box, executor, script, namespaces=[*KINDS, "network"], mounts=[PROC]) == []


def test_what_the_payload_sets_itself(box: Box, executor: str) -> None:
    """A profile of the spec with an errno of its own, and one that ends a thread's process; a
    command in children of an init."""
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [
            {"names": ["getpgid"], "action": "SCMP_ACT_KILL_PROCESS"},
            {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 97},
        ],
    }
    told = why(
        box, executor,
        "mkdir /tmp/x; mkdir /tmp/x;"
        f"{PYTHON} 'import os, threading as t; t.Thread(target=os.getpgid, args=[0]).start()';"
        "exit 4", 4,
        namespaces=KINDS, mounts=[PROC, TMP], seccomp=profile, init=True, tty=False,
    )  # fmt: skip
    made = one(told, "mkdir")
    assert made.call.endswith('("/tmp/x") = EAFNOSUPPORT (2 times)')
    assert made.wall.startswith("seccomp: the filter answers mkdir")
    ended = one(told, "getpgid(0")
    assert " = SIGSYS" in ended.call
    assert ended.wall == "seccomp: the filter answers getpgid with the end of the process"
    assert ".yaml:" in ended.help


def test_modes_and_mounts(root_box: Box, executor: str) -> None:
    node = root_box.folder / "node"
    os.mknod(node, stat.S_IFCHR | 0o666, os.makedev(10, 1))
    told = why(
        root_box, executor,
        "cat /etc/shadow; cat /srv/node", 1,
        namespaces=["mount", "pid"], user="65534:65534", init=True,
        mounts=[
            PROC, {"type": "tmpfs", "target": "/srv"},
            {"type": "bind", "source": str(node), "target": "/srv/node", "options": ["nodev"]},
        ],
    )  # fmt: skip
    shadow = one(told, 'openat("/etc/shadow"')
    assert shadow.wall.startswith("file mode: uid 65534 may not read /etc/shadow (mode 06")
    opened = one(told, 'openat("/srv/node"')
    assert opened.wall.startswith("nodev mount: /srv/node lies on /srv/node")


def test_an_owner_without_a_mapping_counts_for_who_holds_a_capability(
    user_box: Box, executor: str
) -> None:
    """Of the host's root: the mode alone is in the way of who holds no capability."""
    script = "echo a >/srv/x; chmod 0700 /srv; cat /etc/shadow >/dev/null; true"
    keys = {"namespaces": KINDS, "mounts": [PROC]}
    calls = ('openat("/srv/x"', 'fchmodat("/srv"', 'openat("/etc/shadow"')
    for capabilities, kind in (("none", "file mode"), ("default", "user namespace")):
        told = why(user_box, executor, script, capabilities=capabilities, **keys)
        for call in calls:
            found = one(told, call)
            assert found.wall.startswith(f"{kind}: "), (capabilities, found)
            assert ("is not mapped" in found.wall) == (capabilities == "default")
            assert ("`idmap`" in found.help) == (capabilities == "default")


def test_device_rules_and_rights_given_up(root_box: Box, executor: str) -> None:
    """A list of cgroup v1 is read; what a user has lost by not being root, and a sticky folder."""
    if cgroups.look().v1.get("devices") is None:
        pytest.skip("no hierarchy of cgroup v1 with devices")
    other = "setpriv --reuid 65534 --clear-groups"
    told = why(
        root_box, executor,
        f"echo a >/dev/zero; touch /tmp/own; {other} rm -f /tmp/own; {other} chown 1 /tmp/own", 1,
        namespaces=["user", "mount", "pid"], mounts=[PROC, TMP],
        devices=[{"path": "/dev/zero", "permissions": "r"}],
    )  # fmt: skip
    opened = one(told, 'openat("/dev/zero"')
    assert re.fullmatch(r"device cgroup: no line of /.*/devices.list allows c 1:5 w", opened.wall)
    assert opened.help.startswith("`w` in the permissions of /dev/zero")
    removed = one(told, 'unlinkat("/tmp/own")')
    assert removed.wall.startswith("file mode: uid 65534, which is ")
    given = one(told, 'fchownat("/tmp/own")')
    assert "it needs CAP_CHOWN" in given.wall
    assert "another user than root, uid 65534" in given.wall


def test_no_more_processes(root_box: Box, executor: str) -> None:
    """Of the control group, and of the user."""
    pids = cgroups.look().v1.get("pids")
    if pids is None or not pids.writable:
        pytest.skip("no hierarchy of cgroup v1 with pids")
    keys = {"name": "few", "namespaces": ["mount", "pid"], "mounts": [PROC]}
    script = "sleep 1 & sleep 1 & echo no"
    forked = one(why(root_box, executor, script, 2, resources={"pids": 2}, **keys), "clone(")
    full = f"pids.max is 2, 2 processes are in it ({pids.path}/nsrun-few)"
    assert " = EAGAIN" in forked.call
    assert forked.wall == f"cgroup: {full}"
    assert re.fullmatch(r"more `pids` under `resources` \(.*\.yaml:\d+\)", forked.help)
    held = {"rlimits": {"nproc": 1}, "user": "54321:54321"}
    forked = one(why(root_box, executor, script, 2, **held, **keys), "clone(")
    assert forked.wall == (
        "resource limit: nproc: uid 54321 of the host has 1 threads and may have 1"
    )
    assert re.fullmatch(r"a larger `nproc` under `rlimits` \(.*\.yaml:\d+\)", forked.help)


def test_a_run_as_without_it(box: Box, executor: str) -> None:
    """The status of a command that is killed; what a run that fails says."""
    keys = {"namespaces": KINDS, "mounts": [PROC]}
    assert why(box, executor, "kill -TERM $$; sleep 5", 143, init=True, **keys) == []
    assert why(box, executor, "exec /usr/bin/nothing", 127, **keys) == []


@requires("landlock")
def test_a_command_beside_it(c: Containers) -> None:
    """Traced before it joins what others are in, to whom it stays closed until it is executed."""
    c.up(
        "echo up; sleep 60", namespaces=["user", "mount", "pid", "uts"], mounts=[PROC, TMP],
        landlock={"read": READABLE, "write": ["/tmp"]},
    )  # fmt: skip
    c.until_said("up")
    script = (
        "hostname x; ls /var; echo a >/tmp/a; mkdir /etc/no; readlink /proc/self/ns/pid; exit 3"
    )
    done = c("exec", "--why", "c", "--", "sh", "-c", script)
    assert done.status == 3
    assert done.stdout.strip() == os.readlink(f"/proc/{c.pid()}/ns/pid")
    told = list(_told(done.stderr))
    assert one(told, "sethostname(").wall == "seccomp: the filter answers sethostname with EPERM"
    assert one(told, 'openat("/var"').wall.startswith("Landlock: no rule gives READ_DIR on /var")
    assert one(told, 'mkdir("/etc/no"').wall.startswith(("Landlock: ", "user namespace: "))
    assert len(told) == 3
    printed = c.ok("exec", "--why", "--plan", "c", "--", "true").splitlines()
    attached, closed, entered = (
        next(number for number, line in enumerate(printed) if word in line)
        for word in ("await #traced", "prctl(SET_DUMPABLE, 0)", "setns(")
    )
    assert attached < closed < entered
    assert not any("prctl(SET_DUMPABLE, 1)" in line for line in printed)
    c.ok("kill", "c")


def test_a_run_that_joins(root_box: Box, executor: str) -> None:
    """Without a process between the launcher and the command, and where it could not be run."""
    joined = [{"type": "uts", "path": "/proc/self/ns/uts"}, "mount"]
    told = why(root_box, executor, "hostname $(hostname); exit 3", 3, namespaces=joined)
    assert one(told, "sethostname(").wall.startswith("seccomp: ")
    assert why(root_box, executor, "exec /usr/bin/nothing", 127, namespaces=joined) == []
    refused = root_box.runner.run("run", "-d", "--why", root_box.spec(command="true"))
    assert refused.status == 125 and "nsrun exec --why CONTAINER COMMAND" in refused.stderr


def test_the_plan_that_is_printed_has_the_tracer(box: Box) -> None:
    file = box.spec(command="true", namespaces=KINDS)
    printed = box.runner.run("plan", "--why", file).ok()
    assert printed.count("·  --why") == 7
    assert "--why" not in box.runner.run("plan", file).ok()


def test_a_filter_that_lets_nobody_end(box: Box, executor: str) -> None:
    """A traced PID 1 takes no fault as its end."""
    nothing = {"defaultAction": "SCMP_ACT_ERRNO"}
    keys = {"namespaces": ["user", "pid"], "seccomp": nothing}
    file = box.spec(command=["true"], **keys)
    with unchanged(box.folder):
        done = box.runner.with_(env={"NSRUN_EXECUTOR": executor}).run("run", "--why", file)
    assert done.status == 126
    assert "the filter of the spec answers execve with EPERM" in done.stderr
