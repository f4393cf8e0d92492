"""The system calls a command can make: the default profile, profiles of users, and the control.

Each call is made by the same program under ``seccomp: unconfined``, where it has to get past the
door: what refuses it under the default profile is the filter.
"""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from tests.support.box import Box
from tests.support.detached import Containers
from tests.support.requires import requires

ALL = ["user", "mount", "pid", "ipc", "uts", "network"]
PYTHON = "/usr/bin/python3"
EPERM, ENOSYS, EAFNOSUPPORT = 1, 38, 97

# Makes the calls of argv[1], a list of [number, argument...], and prints the errno of each, 0 for
# success. A call as of a 32-bit program is made by int 0x80 and has a negative number.
CALLS = r"""
import ctypes, json, mmap, sys
libc = ctypes.CDLL(None, use_errno=True)
def old(number):
    code = mmap.mmap(-1, 4096, prot=7)
    # push rbx; mov eax, number; int 0x80; pop rbx; ret
    code.write(b"\x53\xb8" + number.to_bytes(4, "little") + b"\xcd\x80\x5b\xc3")
    result = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))()
    return -result if result < 0 else 0
def new(number, *arguments):
    result = libc.syscall(ctypes.c_long(number), *map(ctypes.c_long, arguments))
    return ctypes.get_errno() if result == -1 else 0
print(json.dumps([old(-n) if n < 0 else new(n, *a) for n, *a in json.loads(sys.argv[1])]))
"""


def errnos(box: Box, calls: dict[str, list[int]], **keys: object) -> dict[str, int]:
    """The errno of each call, made by a command in a box."""
    command = [PYTHON, "-Ic", CALLS, json.dumps(list(calls.values()))]
    found = box.out(command, **{"namespaces": ALL, **keys})
    return dict(zip(calls, json.loads(found), strict=True))


NEWUSER, NEWNET, CLONE_THREAD = 0x10000000, 0x40000000, 0x10000
# By x86_64's numbers, with arguments that the kernel itself takes, or answers by another errno.
REFUSED = {
    "keyctl: the session keyring": [250, 0, -3, 0],
    "add_key": [248, 0, 0, 0, 0, 0],
    "request_key": [249, 0, 0, 0, 0],
    "clone: a bit above 31 beside": [56, 1 << 32 | NEWUSER | CLONE_THREAD, 0],
    "setns": [308, -1, 0],
    "mount": [165, 0, 0, 0, 0, 0],
    "umount2": [166, 0, 0],
    "pivot_root": [155, 0, 0],
    "open_tree": [428, -1, 0, 0],
    "fsopen": [430, 0, 0],
    "io_uring_setup": [425, 0, 0],
    "userfaultfd": [323, 1],
    "bpf": [321, 99, 0, 0],
    "perf_event_open": [298, 0, 0, -1, -1, 0],
    "ptrace": [101, 99, 0, 0, 0],
    "process_vm_readv": [310, 0, 0, 0, 0, 0, 99],
    "kexec_load": [246, 0, 0, 0, 99],
    "personality: no randomisation": [135, 0x40000],
    "socket: AF_ALG": [41, 38, 5, 0],
    "socket: AF_ALG, a bit above 31": [41, 1 << 32 | 38, 5, 0],
    "socket: AF_VSOCK": [41, 40, 1, 0],
    "modify_ldt": [154, 0, 0, 0],
    "unshare: a user namespace": [272, NEWUSER],
}
# Not there for anybody: x32, a number that is too new, and a 32-bit program's getpid.
ABSENT = {
    "clone3": [435, 0, 0],
    "cachestat": [451, -1, 0, 0, 0],
    "int 0x80": [-20],
}
ALLOWED = {
    "getpid": [39],
    "socket: AF_UNIX": [41, 1, 1, 0],
    "socket: AF_INET": [41, 2, 1, 0],
    "socket: AF_NETLINK": [41, 16, 3, 0],
    "unshare: files": [272, 0x400],
    "personality: which": [135, 0xFFFFFFFF],
}


@pytest.fixture(autouse=True)
def _x86_64() -> None:
    if os.uname().machine != "x86_64":
        pytest.skip("the numbers are those of x86_64")


def test_what_the_default_profile_refuses(box: Box) -> None:
    calls = {**REFUSED, **ABSENT, **ALLOWED}
    found = errnos(box, calls, seccomp="default")
    expected = dict.fromkeys(REFUSED, EPERM) | dict.fromkeys(ABSENT, ENOSYS)
    assert found == expected | dict.fromkeys(ALLOWED, 0)
    # The control: without the filter every one of them is answered otherwise; a module that the
    # kernel lacks, or what needs a capability over the host, is all that is left.
    free = errnos(box, calls, seccomp="unconfined")
    same = {name for name in calls if free[name] == found[name] and name not in ALLOWED}
    assert {free["unshare: a user namespace"], free["userfaultfd"], free["int 0x80"]} == {0}
    assert same <= KERNEL_REFUSES, same


# Without capabilities in the first user namespace the kernel refuses these by itself.
KERNEL_REFUSES = {
    "mount", "umount2", "pivot_root", "open_tree", "fsopen", "kexec_load", "bpf",
    "perf_event_open", "setns",
}  # fmt: skip


def test_capabilities_open_what_they_are_for(box: Box) -> None:
    calls = {"umount2": [166, 0, 99], "unshare": [272, NEWNET], "ptrace": [101, 99, 0, 0, 0],
             "clone3": [435, 0, 0], "keyctl": [250, 0, -3, 0],
             "io_uring_setup": [425, 0, 0]}  # fmt: skip
    found = errnos(box, calls, capabilities={"add": ["SYS_ADMIN"]}, seccomp="default")
    refused = {"ptrace", "keyctl", "io_uring_setup"}
    assert {name for name, number in found.items() if number == EPERM} == refused
    assert found["unshare"] == 0
    found = errnos(box, calls, capabilities={"add": ["SYS_PTRACE"]}, seccomp="default")
    assert found["ptrace"] != EPERM
    assert found["unshare"] == EPERM


@pytest.mark.parametrize("init", [False, True])
def test_programs_run(box: Box, own_root: Path, init: bool) -> None:
    """A shell with a pipe and a subshell, in a rootfs, and PID 1 under a filter as well."""
    script = "grep Seccomp: /proc/1/status; (sleep 0; echo $(echo a | cat)) & wait; echo $?"
    out = box.out(
        script, namespaces=ALL, rootfs=str(own_root), init=init, seccomp="default", hostname="h"
    )
    assert out.split() == ["Seccomp:", "2", "a", "0"]


def test_python_with_threads_and_processes(box: Box) -> None:
    code = (
        "import threading, subprocess, socket, tempfile, multiprocessing.pool as p\n"
        "t = [threading.Thread(target=lambda: None) for _ in range(4)]\n"
        "[x.start() for x in t]; [x.join() for x in t]\n"
        "a, b = socket.socketpair(); a.send(b'x'); b.recv(1)\n"
        "with p.ThreadPool(2) as pool: print(pool.map(abs, [-1, 2]))\n"
        "print(subprocess.run(['true']).returncode)"
    )
    assert box.out([PYTHON, "-Ic", code], namespaces=ALL, seccomp="default") == "[1, 2]\n0"


def test_ping_of_itself(box: Box) -> None:
    out = box.out(["ping", "-c1", "-W2", "127.0.0.1"], namespaces=ALL, seccomp="default")
    assert " 0% packet loss" in out


def test_without_no_new_privs(box: Box) -> None:
    """Set by CAP_SYS_ADMIN, which is gone when the command starts."""
    words = ["grep", "-E", "^(NoNewPrivs|Seccomp|CapEff|CapPrm):", "/proc/self/status"]
    for extra in ({}, {"user": "0:0", "idmap": "root"}):
        out = box.out(
            words, namespaces=ALL, no_new_privileges=False, seccomp="default", **extra
        )
        held = dict(line.split(":\t") for line in out.splitlines())
        assert (held["NoNewPrivs"], held["Seccomp"]) == ("0", "2")
        assert not int(held["CapEff"], 16) & 1 << 21 and held["CapEff"] == held["CapPrm"]


PROFILE = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28},
        {"names": ["uname"], "action": "SCMP_ACT_KILL_PROCESS"},
    ],
}


def test_a_profile_of_a_file(box: Box) -> None:
    file = box.folder / "profile.json"
    file.write_text(json.dumps(PROFILE))
    calls = {"mkdir": [83, 0, 0], "keyctl": [250, 0, -3, 0]}
    for profile in ("./profile.json", PROFILE):
        found = errnos(box, calls, seccomp=profile)
        assert found["mkdir"] == 28
        assert found["keyctl"] not in (EPERM, ENOSYS)
    killed = box.run(["uname"], namespaces=ALL, seccomp="./profile.json")
    assert killed.status == 128 + 31
    # A changed file is a changed plan, also where that of the last run was kept.
    changed = {**PROFILE, "syscalls": PROFILE["syscalls"][1:]}
    file.write_text(json.dumps(changed))
    assert errnos(box, calls, seccomp="./profile.json")["mkdir"] == 14


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ('{"defaultAction": "SCMP_ACT_ALOW"}', ":1:19", "did you mean `SCMP_ACT_ALLOW`?"),
        ('{"defaultAction": "SCMP_ACT_LOG",\n "sycalls": []}', ":2:2", "did you mean `syscalls`?"),
        (
            '{"defaultAction": "SCMP_ACT_LOG",\n "syscalls": [{"names": ["opn"],\n'
            '  "action": "SCMP_ACT_ALLOW"}]}',
            ":2:26",
            "did you mean `open`?",
        ),
        (
            '{"defaultAction": "SCMP_ACT_LOG", "syscalls": [{"names": ["read"],\n'
            ' "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 1, "op": "EQ"}]}]}',
            ":2:",
            "SCMP_CMP_EQ",
        ),
        ('{"defaultAction": "SCMP_ACT_NOTIFY"}', ":1:19", "for every call"),
        ("[]", ":1:1", "an OCI seccomp object"),
        ("{", ":1:", "error"),
    ],
)
def test_what_is_wrong_in_a_profile_is_said_at_its_place(
    user_box: Box, text: str, place: str, words: str
) -> None:
    (user_box.folder / "profile.json").write_text(text)
    said = user_box.refused(namespaces=ALL, seccomp="./profile.json")
    assert f"profile.json{place}" in said
    assert words in said


def test_a_profile_that_is_not_there(user_box: Box) -> None:
    said = user_box.refused(namespaces=ALL, seccomp="./none.json")
    assert "none.json" in said and "no such file" in said
    assert "did you mean `default`?" in user_box.refused(namespaces=ALL, seccomp="defalt")


@requires("root")
def test_another_command_has_the_filter_of_the_first(root_c: Containers) -> None:
    for profile, expected in ((PROFILE, [28, 0]), ("unconfined", [14, 0])):
        name = root_c.up(["sleep", "60"], seccomp=profile)
        command = [PYTHON, "-Ic", CALLS, json.dumps([[83, 0, 0], [250, 0, -3, 0]])]
        assert json.loads(root_c.ok("exec", name, "--", *command)) == expected
        root_c.ok("rm", "-f", name)


def ending(*names: str, action: str = "SCMP_ACT_KILL_PROCESS") -> dict[str, object]:
    rules = [{"names": list(names), "action": action}]
    return {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}


@pytest.mark.parametrize("action", ["SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP"])
def test_a_command_that_its_filter_has_ended_is_told(box: Box, action: str) -> None:
    result = box.run(["uname"], namespaces=ALL, seccomp=ending("uname", action=action))
    assert result.status == 128 + signal.SIGSYS
    assert "warning[NS611]: the seccomp filter has ended the command for a " in result.stderr
    assert "`nsrun run --why` tells which call it was" in result.stderr


def test_a_filter_that_ends_who_executes_anything_is_told(box: Box) -> None:
    result = box.run(["uname"], namespaces=ALL, seccomp=ending("execve"))
    assert result.status == 128 + signal.SIGSYS
    assert "has ended the command at its execve: it was never executed" in result.stderr
    assert result.stdout == ""


def test_control_sigsys_of_somebody_else_is_not_the_filters(box: Box) -> None:
    for seccomp in ("default", ending("uname", action="SCMP_ACT_ERRNO")):
        result = box.run("kill -SYS $$", namespaces=["user", "mount"], seccomp=seccomp)
        assert result.status == 128 + signal.SIGSYS
        assert result.stderr == ""


@pytest.mark.parametrize("init", [False, True], ids=["plain", "init"])
def test_a_filter_that_lets_nobody_end(box: Box, init: bool) -> None:
    """exit_group(2) is refused as well to who could not execute the command."""
    nothing = {"defaultAction": "SCMP_ACT_ERRNO"}
    result = box.run(["true"], namespaces=ALL, init=init, seccomp=nothing)
    assert result.status == 126
    assert "error[NS602]: cannot run " in result.stderr
    assert "the filter of the spec answers execve with EPERM" in result.stderr
