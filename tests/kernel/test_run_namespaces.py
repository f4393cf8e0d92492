"""All eight namespaces: new, joined by file, process and container, and refused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from nsrun.spec.model import NamespaceType
from tests.support.box import Box, namespaces, wait_for
from tests.support.requires import requires

# The spec's word and the name below /proc/PID/ns.
KINDS = {
    "user": "user",
    "mount": "mnt",
    "pid": "pid",
    "network": "net",
    "ipc": "ipc",
    "uts": "uts",
    "cgroup": "cgroup",
    "time": "time",
}
LINK = "readlink /proc/self/ns/{}"
ALL_LINKS = "for n in cgroup ipc mnt net pid time user uts; do readlink /proc/self/ns/$n; done"


@contextmanager
def holder(*flags: str) -> Iterator[int]:
    """A process in new namespaces of unshare(1)'s ``flags``; it sleeps."""
    before = namespaces()
    # --kill-child forks, as --fork does.
    kill = ["--kill-child"] if "--fork" in flags else []
    command = ["unshare", *flags, *kill, "sleep", "60"]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        pid = process.pid
        if "--fork" in flags:
            children = f"/proc/{pid}/task/{pid}/children"
            assert wait_for(lambda: open_text(children).strip())
            pid = int(open_text(children))
        assert wait_for(lambda: open_text(f"/proc/{pid}/comm") == "sleep\n")
        assert namespaces(pid) != before
        yield pid
    finally:
        process.kill()
        process.wait()


def open_text(path: str) -> str:
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return ""


# --- new -------------------------------------------------------------------------------------


def test_no_namespaces_at_all(box: Box) -> None:
    outside = namespaces()
    inside = box.out(ALL_LINKS, namespaces=[]).split()
    wanted = [outside[n] for n in ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")]
    if not box.runner.user.is_caller:  # started in a copy of our mount namespace
        inside[2] = wanted[2]
    assert inside == wanted


@pytest.mark.parametrize("kind", KINDS)
def test_one_new_namespace(root_box: Box, kind: str) -> None:
    inside = root_box.out(ALL_LINKS, namespaces=[kind]).split()
    outside = namespaces()
    names = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")
    different = [n for n, link in zip(names, inside, strict=True) if link != outside[n]]
    assert different == [KINDS[kind]]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "user"])
def test_one_new_namespace_beside_user(user_box: Box, kind: str) -> None:
    inside = user_box.out(LINK.format(KINDS[kind]), namespaces=["user", kind])
    assert inside != os.readlink(f"/proc/self/ns/{KINDS[kind]}")


def test_all_eight(box: Box) -> None:
    inside = set(box.out(ALL_LINKS, namespaces=list(KINDS)).split())
    assert len(inside) == 8
    assert not inside & set(namespaces().values())


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "user"])
def test_without_user_an_ordinary_user_is_told(user_box: Box, kind: str) -> None:
    said = user_box.refused(namespaces=[kind])
    assert f"making {NamespaceType(kind).one} is not permitted" in said
    assert "CAP_SYS_ADMIN" in said
    assert "list `user` under namespaces" in said


def test_the_command_is_process_1(box: Box) -> None:
    assert box.out("echo $$ $PPID", namespaces=["user", "mount", "pid"]) == "1 0"


def test_nested_levels_of_pids(root_box: Box) -> None:
    """NSpid has a column a level (proc_pid_status(5))."""
    proc = [{"type": "proc", "target": "/proc"}]
    grep = ["grep", "NSpid", "/proc/self/status"]
    outer_level = root_box.out(grep, namespaces=["pid"], mounts=None)
    columns = len(open_text("/proc/self/status").partition("NSpid:")[2].split("\n")[0].split())
    assert len(outer_level.split()) - 1 == columns + 1
    assert root_box.out(grep, namespaces=["pid", "mount"], mounts=proc) == "NSpid:\t1"


def test_a_pid_namespace_ends_with_its_init(box: Box) -> None:
    """The kernel kills what is left in it (pid_namespaces(7)); unchanged() sees no survivor."""
    command = "sleep 300 & setsid sleep 300 & exit 3"
    assert box.run(command, namespaces=["user", "pid"]).status == 3


def test_two_containers_listen_on_one_port(root_box: Box) -> None:
    code = (
        "import socket;s=socket.socket();s.bind(('127.0.0.1',80));s.listen();"
        "print('bound',flush=True);input()"
    )
    command = ["/usr/bin/env", "python3", "-S", "-c", code]
    keys = {"namespaces": ["user", "network"]}
    with root_box.running(command, **keys) as first, root_box.running(command, **keys) as second:
        assert first.line() == second.line() == "bound"
        for running in (first, second):
            running.process.stdin.write("\n")
            running.process.stdin.flush()


def test_abstract_sockets_are_of_the_network_namespace(root_box: Box) -> None:
    code = (
        "import socket;s=socket.socket(socket.AF_UNIX);s.settimeout(2)\n"
        "try: s.connect('\\0nsrun-test-abstract'); print('reached')\n"
        "except OSError as e: print(e.errno)"
    )
    command = ["/usr/bin/env", "python3", "-S", "-c", code]
    import socket

    with socket.socket(socket.AF_UNIX) as server:
        server.bind("\0nsrun-test-abstract")
        server.listen()
        assert root_box.out(command, namespaces=["user"]) == "reached", "the control"
        assert root_box.out(command, namespaces=["user", "network"]) == "111"


def test_mqueues_are_of_the_ipc_namespace(boxed: Box) -> None:
    assert boxed.out("ls /dev/mqueue | wc -l; touch /dev/mqueue/mine; ls /dev/mqueue") == "0\nmine"
    assert boxed.out("ls /dev/mqueue | wc -l") == "0"


# --- offsets ---------------------------------------------------------------------------------


@requires("timens")
@pytest.mark.parametrize("others", [["user"], ["user", "pid", "mount"]])
def test_clock_offsets(box: Box, others: list[str]) -> None:
    offsets = {"type": "time", "boottime": "2h", "monotonic": "1m30s"}
    text = box.out("cat /proc/self/timens_offsets", namespaces=[*others, offsets])
    assert [line.split() for line in text.splitlines()] == [
        ["monotonic", "90", "0"],
        ["boottime", "7200", "0"],
    ]


@requires("timens")
def test_an_offset_below_zero(root_box: Box) -> None:
    offsets = {"type": "time", "monotonic": "-500ms"}
    text = root_box.out("head -n 1 /proc/self/timens_offsets", namespaces=[offsets])
    # Kernel: seconds and nanoseconds of a negative time, the latter always positive.
    assert text.split() == ["monotonic", "-1", "500000000"]


@requires("timens")
def test_an_offset_before_the_boot_is_refused_by_the_kernel(root_box: Box) -> None:
    result = root_box.run("true", namespaces=[{"type": "time", "boottime": "-100000h"}])
    assert result.status == 125
    assert "ERANGE" in result.stderr
    assert "timens_offsets" in result.stderr or "offsets" in result.stderr


# --- joined ----------------------------------------------------------------------------------

JOINED = ["network", "ipc", "uts", "cgroup"]


@pytest.mark.parametrize("kind", JOINED)
@pytest.mark.parametrize("way", ["pid", "path"])
def test_join(root_box: Box, kind: str, way: str) -> None:
    flag = {"network": "--net"}.get(kind, f"--{kind}")
    with holder(flag) as pid:
        name = KINDS[kind]
        to = {"pid": pid} if way == "pid" else {"path": f"/proc/{pid}/ns/{name}"}
        inside = root_box.out(LINK.format(name), namespaces=[{"type": kind, **to}])
        assert inside == namespaces(pid)[name] != namespaces()[name]


def test_join_a_mount_namespace(root_box: Box) -> None:
    with holder("--mount") as pid:
        subprocess.run(
            ["nsenter", f"--mount=/proc/{pid}/ns/mnt", "mount", "-t", "tmpfs", "seen-here", "/mnt"],
            check=True,
        )
        command = "readlink /proc/self/ns/mnt; tail -n 1 /proc/self/mountinfo"
        link, line = root_box.out(
            command, namespaces=[{"type": "mount", "pid": pid}], cwd="/"
        ).splitlines()
        assert link == namespaces(pid)["mnt"]
        assert "seen-here" in line


def test_join_a_pid_namespace(root_box: Box) -> None:
    with holder("--pid", "--fork") as pid:
        command = "echo $$; readlink /proc/self/ns/pid"
        number, link = root_box.out(command, namespaces=[{"type": "pid", "pid": pid}]).split()
        assert link == namespaces(pid)["pid"]
        assert 1 < int(number) < 20, "not a number of the joined namespace"


def test_join_a_user_namespace_and_make_others_in_it(box: Box) -> None:
    user = box.runner.user
    flags = ["--user", "--map-root-user"]
    argv = ["unshare", *flags, "sleep", "60"]
    if not user.is_caller:
        ids = [f"--reuid={user.uid}", f"--regid={user.gid}", "--clear-groups"]
        argv = ["setpriv", *ids, "--", *argv]
    process = subprocess.Popen(argv)
    try:
        assert wait_for(lambda: open_text(f"/proc/{process.pid}/comm") == "sleep\n")
        joined = {"type": "user", "pid": process.pid}
        command = "id -u; readlink /proc/self/ns/user; hostname; echo $$"
        printed = box.out(
            command, namespaces=[joined, "uts", "pid"], hostname="made-in-it"
        ).split()
        assert printed == ["0", namespaces(process.pid)["user"], "made-in-it", "1"]
    finally:
        process.kill()
        process.wait()


def test_join_a_container_by_its_name(box: Box) -> None:
    keys = {"namespaces": ["user", "uts"], "hostname": "of-first", "name": "first"}
    with box.running("hostname; read x", **keys) as first:
        assert first.line() == "of-first"
        joined = [{"type": t, "container": "first"} for t in ("user", "uts")]
        second = box.runner.run(box.spec(command="hostname", namespaces=joined))
        assert second.ok() == "of-first\n"
        first.process.stdin.write("\n")
        assert first.end().status == 0
    said = box.refused(namespaces=joined)
    assert "no container first is running" in said


def test_containers_of_others_are_not_joined(root_box: Box, user_box: Box) -> None:
    keys = {"namespaces": ["user", "uts"], "name": "mine-alone"}
    with root_box.running("echo up; read x", **keys) as running:
        assert running.line() == "up"
        joined = [{"type": t, "container": "mine-alone"} for t in ("user", "uts")]
        result = user_box.runner.run(user_box.spec(command="true", namespaces=joined))
        assert result.status == 125
        assert "no container mine-alone is running" in result.stderr


@requires("timens")
def test_join_a_time_namespace(root_box: Box) -> None:
    with holder("--time", "--fork", "--boottime", "7777") as pid:
        command = "readlink /proc/self/ns/time; cat /proc/self/timens_offsets"
        link, *offsets = root_box.out(
            command, namespaces=[{"type": "time", "pid": pid}]
        ).splitlines()
        assert link == namespaces(pid)["time"]
        assert "7777" in offsets[1]


def test_join_several_at_once_and_make_one(root_box: Box) -> None:
    with holder("--net", "--ipc") as pid:
        spaces = [{"type": "network", "pid": pid}, {"type": "ipc", "pid": pid}, "uts"]
        command = ";".join(LINK.format(n) for n in ("net", "ipc")) + "; hostname"
        printed = root_box.out(command, namespaces=spaces, hostname="third").split()
        theirs = namespaces(pid)
        assert printed == [theirs["net"], theirs["ipc"], "third"]


def test_join_beside_a_new_user_namespace(root_box: Box) -> None:
    """The caller's right to join is gone once it is in a user namespace of its own."""
    with holder("--net") as pid:
        spaces = ["user", {"type": "network", "pid": pid}, "uts"]
        command = "id -u; readlink /proc/self/ns/net; hostname"
        printed = root_box.out(command, namespaces=spaces, hostname="inner").split()
        assert printed == ["0", namespaces(pid)["net"], "inner"]


# --- what cannot be joined -------------------------------------------------------------------


def test_a_pid_namespace_whose_init_has_ended(root_box: Box) -> None:
    """fork(2) in it fails with ENOMEM; nsrun says what that means."""
    pid = start_orphaned_namespace()
    try:
        joined = {"type": "pid", "path": f"/proc/{pid}/ns/pid_for_children"}
        result = root_box.run("true", namespaces=[joined])
        assert result.status == 125
        assert "init" in result.stderr and "ended" in result.stderr
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def start_orphaned_namespace() -> int:
    """A process whose pid namespace for children has had an init that has ended."""
    code = (
        "import os,time\n"
        "os.unshare(os.CLONE_NEWPID) if hasattr(os,'unshare') else __import__('ctypes').CDLL(None)"
        ".unshare(0x20000000)\n"
        "pid=os.fork()\n"
        "if pid==0: os._exit(0)\n"
        "os.waitpid(pid,0); print('ready',flush=True); time.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", code], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.stdout.close()
    pid = process.pid
    process.returncode = 0  # it is waited for by number
    return pid


def test_a_file_of_the_wrong_kind(root_box: Box) -> None:
    said = root_box.refused(namespaces=[{"type": "network", "path": "/proc/self/ns/uts"}])
    assert "uts namespace" in said and "network" in said
    assert "NS309" in said


def test_a_file_that_is_no_namespace(root_box: Box) -> None:
    assert "is not a namespace" in root_box.refused(
        namespaces=[{"type": "network", "path": "/etc/passwd"}]
    )


def test_a_process_that_is_not_there(root_box: Box) -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    said = root_box.refused(namespaces=[{"type": "uts", "pid": process.pid}])
    assert f"no process {process.pid}" in said


def test_the_ordinary_user_joins_no_namespace_of_root(user_box: Box) -> None:
    with holder("--uts") as pid:
        result = user_box.run("true", namespaces=["user", {"type": "uts", "pid": pid}])
        assert result.status == 125
        assert "EACCES" in result.stderr or "EPERM" in result.stderr or "NS40" in result.stderr


# --- the host --------------------------------------------------------------------------------


def test_root_inside_cannot_name_the_host(box: Box) -> None:
    result = box.run("hostname intruder", namespaces=["user"], capabilities="all")
    assert result.status != 0
    assert os.uname().nodename != "intruder"


def test_the_inner_process_cannot_signal_the_outer(box: Box) -> None:
    keys = {"namespaces": ["user", "mount", "pid"], "capabilities": "all"}
    mounts = [{"type": "proc", "target": "/proc"}]
    code = f"kill -0 {os.getpid()}"
    result = box.run(code, mounts=mounts, **keys)
    assert result.status != 0
    assert "No such process" in result.stderr


def test_siblings_do_not_reach_each_other(box: Box) -> None:
    """A process number of one container is none in the other, nor can it be traced."""
    keys = {"namespaces": ["user", "mount", "pid"], "capabilities": "all"}
    keys["mounts"] = [{"type": "proc", "target": "/proc"}]
    ids = "readlink /proc/1/ns/pid; ls -d /proc/[0-9]* | wc -l"
    with box.running(f"{ids}; read x", **keys) as first:
        seen = first.line(), int(first.line())
        other = box.out(ids, **keys).splitlines()
        # Each has itself for process 1, and sees its own shell, ls and wc alone (wc may not
        # have begun).
        assert other[0] != seen[0]
        assert int(other[1]) <= 3 and seen[1] <= 3


def test_the_same_uid_inside_is_another_outside(root_box: Box) -> None:
    """Two containers with maps of their own: uid 0 in both, apart on the host."""
    uids = []
    for host in (700_000, 800_000):
        maps = {"uid": [f"0:{host}:10"], "gid": [f"0:{host}:10"]}
        keys = {"namespaces": ["user"], "idmap": maps}
        with root_box.running("id -u; read x", **keys) as running:
            assert running.line() == "0"
            pid = running.process.pid
            children = open_text(f"/proc/{pid}/task/{pid}/children").split()
            status = open_text(f"/proc/{children[0]}/status")
            uids.append(status.partition("Uid:\t")[2].split()[0])
    assert uids == ["700000", "800000"]
