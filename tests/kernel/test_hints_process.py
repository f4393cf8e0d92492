"""What a process cannot be given, and mounts that cannot be made or taken away, and why."""

from __future__ import annotations

import ctypes
import os
import struct
import time
from dataclasses import replace
from pathlib import Path

import pytest

from nsrun.host import bpf, cgroups
from nsrun.host.hint import HintContext
from nsrun.host.hints import explain
from nsrun.host.syscalls import syscall
from nsrun.kernel.abi import BpfAttachType, BpfCommand, BpfProgType
from nsrun.plan.device_program import device_program
from tests.support.box import Box
from tests.support.hints import run_after, said
from tests.support.requires import requires

_OWN = int(Path("/proc/self/oom_score_adj").read_text(encoding="ascii"))


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        (
            {"oom_score_adj": _OWN - 1},
            f"nsrun's own score is {_OWN}: a lower one takes the host's CAP_SYS_RESOURCE",
        ),
        (
            {"namespaces": ["user", {"type": "time", "boottime": "-4000000000s"}]},
            "s, and with -4000000000 s it would be below 0",
        ),
        (
            {"mounts": [{"type": "ext4", "source": "/dev/zero", "target": "/mnt"}]},
            "the kernel mounts no ext4 for a user namespace",
        ),
        ({"mounts": [{"type": "umount", "target": "/usr"}]}, "nothing is mounted on /usr"),
        (
            {"mounts": [{"type": "umount", "target": "/proc"}]},
            "/proc was mounted outside: in a user namespace that mount is locked",
        ),
        (
            {
                "masked_paths": "none",
                "readonly_paths": "none",
                "mounts": [
                    {"target": "/", "options": ["ro"], "remount": True},
                    {"type": "tmpfs", "target": "/not-there"},
                ],
            },
            "/not-there is missing in /, which an earlier entry has made read-only",
        ),
    ],
)
def test_what_a_user_namespace_may_not(box: Box, keys: dict[str, object], why: str) -> None:
    known = Path("/proc/filesystems").read_text(encoding="ascii")
    if "ext4" in str(keys) and "\text4\n" not in known:
        pytest.skip("no ext4 in this kernel")
    result = box.run("true", **{"namespaces": ["user", "mount"], **keys})
    assert result.status == 125, str(result)
    found = said(result)
    assert why in found.why, found.text
    assert found.tips


def test_a_working_directory_that_is_closed(root_box: Box) -> None:
    closed = root_box.folder / "closed"
    (closed / "in").mkdir(parents=True)
    os.chmod(root_box.folder, 0o700)
    keys = {"namespaces": ["mount"], "cwd": str(closed / "in"), "user": "33:33"}
    found = said(root_box.run("true", **keys))
    assert found.why == f"uid 33 may not enter {root_box.folder} (mode 0700, owner 0:0)"
    assert root_box.run("true", **{**keys, "user": "0:0"}).status == 0


def test_a_process_with_more_rights(root_box: Box) -> None:
    """ptrace(2): the files of its namespaces are closed as it is."""
    keys = {"namespaces": ["mount", {"type": "uts", "pid": os.getpid()}]}
    fewer = ("setpriv", "--bounding-set", "-sys_ptrace,-sys_time")
    found = said(replace(root_box, runner=root_box.runner.with_(wrapper=fewer)).run("true", **keys))
    assert f"process {os.getpid()} holds CAP_SYS_PTRACE, CAP_SYS_TIME" in found.why
    assert "it takes CAP_SYS_PTRACE to look into it" in found.why
    assert root_box.run("true", **keys).status == 0


def test_flags_that_are_locked(box: Box) -> None:
    """Of a mount that an earlier entry of the spec has put there."""
    source = box.folder / "source"
    source.mkdir()
    mounts = [
        {"type": "bind", "source": str(source), "target": "/mnt"},
        {"target": "/mnt", "options": ["suid"], "remount": True},
    ]
    spec = box.spec(command="true", namespaces=["user", "mount"], mounts=mounts)
    found = said(run_after(box.runner, f"mount -t tmpfs -o nosuid none {source}", spec))
    assert found.why == f"{source} is mounted nosuid, and a user namespace may not take that away"


def test_a_clock_that_is_in_range_has_no_why() -> None:
    before = (("openat", ("AT_FDCWD", "/proc/self/timens_offsets"), "%offsets"),)
    context = HintContext(before=before)
    now = int(time.clock_gettime(time.CLOCK_BOOTTIME))
    for offset, told in ((-now + 60, False), (-now - 60, True)):
        args = ("%offsets", f"boottime {offset} 0\n", 20)
        assert bool(explain("write", "ERANGE", args, context)[0]) is told


@requires("root")
def test_a_group_above_lets_no_program_be_below_it() -> None:
    """A program that is attached without flags; its group in the hierarchy of version 2."""
    found = cgroups.look().v2
    if found is None or not found.writable:
        pytest.skip("no writable hierarchy of cgroup v2")
    above = f"{found.path}/test-above-{os.getpid()}"
    os.makedirs(f"{above}/own")
    context = HintContext(before=(("openat", ("AT_FDCWD", f"{above}/own"), "%base"),))
    args = (int(BpfCommand.BPF_PROG_ATTACH), "", 16)
    try:
        assert explain("bpf", "EPERM", args, context)[0] == ()
        _attach(above)
        assert bpf.device_programs(above) == (1, 0)
        why, _ = explain("bpf", "EPERM", args, context)
        assert why == (f"{above} has a program for devices that lets no group below have another",)
        assert explain("bpf", "EINVAL", args, context)[0] == ()
    finally:
        os.rmdir(f"{above}/own")
        os.rmdir(above)


def _attach(folder: str) -> None:
    """Without flags: the only one from here down. It goes with the group, which nobody is in."""
    code = ctypes.create_string_buffer(device_program(()))
    licence = ctypes.create_string_buffer(b"GPL")
    kind, count = int(BpfProgType.BPF_PROG_TYPE_CGROUP_DEVICE), (len(code) - 1) // 8
    places = (ctypes.addressof(code), ctypes.addressof(licence))
    load = struct.pack("=IIQQ", kind, count, *places)
    program = syscall("bpf", int(BpfCommand.BPF_PROG_LOAD), load, len(load))
    group = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    attach = struct.pack("=IIII", group, program, int(BpfAttachType.BPF_CGROUP_DEVICE), 0)
    syscall("bpf", int(BpfCommand.BPF_PROG_ATTACH), attach, len(attach))
    os.close(group)
    os.close(program)
