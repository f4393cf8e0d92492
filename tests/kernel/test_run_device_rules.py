"""Device rules of cgroup v2, on the machine's own v2 hierarchy: a program asked at each open.

The runs are in a mount namespace without version 1's hierarchy of devices, where nsrun would have
its rules otherwise. The virtual machine's tests (tests/vm) have version 2 alone.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import struct
from pathlib import Path

import pytest

from nsrun.host import cgroups
from nsrun.kernel.abi import syscall_number
from tests.support.box import Box, wait_for
from tests.support.detached import containers
from tests.support.requires import requires

pytestmark = requires("root")

SCRIPT = "head -c 1 /dev/zero | wc -c; echo a >/dev/zero && echo written; echo a >/dev/null"
NARROWED = {"path": "/dev/zero", "permissions": "r"}
# linux/bpf.h
_BPF_PROG_DETACH, _BPF_PROG_GET_FD_BY_ID, _BPF_PROG_QUERY, _BPF_CGROUP_DEVICE = 9, 13, 16, 6


@pytest.fixture
def ruled(root_box: Box) -> Box:
    found = cgroups.look()
    if found.v2 is None or not found.v2.writable:
        pytest.skip("no hierarchy of cgroup v2 to be written to")
    box = root_box.with_(
        name="ruled",
        namespaces=["user", "mount", "pid", "ipc", "uts"],
        mounts=[{"type": "proc", "target": "/proc"}],
    )
    old = found.v1.get("devices")
    if old is None:
        return box
    return box.as_(
        mounts="private", wrapper=("/bin/sh", "-c", f'umount -l {old.path} && exec "$@"', "sh")
    )


def bpf(command: int, attribute: bytearray) -> int:
    """bpf(2); -1 where it fails."""
    buffer = (ctypes.c_char * len(attribute)).from_buffer(attribute)
    number = syscall_number("bpf", platform.machine())
    return int(ctypes.CDLL(None).syscall(number, command, buffer, len(attribute)))


def programs(group: Path) -> list[int]:
    """The ids of the device programs that a group has itself."""
    ids = (ctypes.c_uint32 * 8)()
    folder = os.open(group, os.O_RDONLY)
    try:
        # target_fd, attach_type, query_flags, attach_flags, prog_ids, prog_cnt
        attribute = bytearray(
            struct.pack("=IIIIQI28x", folder, _BPF_CGROUP_DEVICE, 0, 0, ctypes.addressof(ids), 8)
        )
        assert bpf(_BPF_PROG_QUERY, attribute) == 0
    finally:
        os.close(folder)
    return list(ids)[: struct.unpack_from("=I", attribute, 24)[0]]


def is_loaded(program: int) -> bool:
    found = bpf(_BPF_PROG_GET_FD_BY_ID, bytearray(struct.pack("=II8x", program, 0)))
    if found >= 0:
        os.close(found)
    return found >= 0


def test_a_device_is_what_its_permissions_let_it(ruled: Box) -> None:
    control = ruled.run(SCRIPT, devices=["/dev/zero"]).ok()
    assert control.split() == ["1", "written"]
    result = ruled.run(SCRIPT, devices=[NARROWED])
    assert result.stdout.split() == ["1"]
    assert "/dev/zero: Operation not permitted" in result.stderr
    # What it was not given it cannot make for itself either, and what is usual is there.
    result = ruled.run(
        "mknod /tmp/n c 1 3 && echo made; mknod /tmp/kmsg c 1 11; head -c 1 /dev/urandom | wc -c",
        devices=[NARROWED],
        namespaces=["mount", "pid"],
        mounts=[{"type": "proc", "target": "/proc"}, {"type": "tmpfs", "target": "/tmp"}],
        capabilities="all",
        seccomp="unconfined",
    )
    assert result.stdout.split() == ["made", "1"]
    assert "/tmp/kmsg" in result.stderr and "Operation not permitted" in result.stderr


def test_the_program_goes_with_the_group(ruled: Box) -> None:
    place = cgroups.look().v2
    assert place is not None
    group = Path(place.path, "nsrun-ruled")
    with ruled.running("echo there; read x", devices=[NARROWED]) as running:
        assert running.line() == "there"
        (program,) = programs(group)
        assert is_loaded(program)
        assert running.end().status == 1
    assert not group.exists()
    assert wait_for(lambda: not is_loaded(program))


@pytest.mark.parametrize("executor", ["native"], indirect=True)
def test_drift_counts_the_programs(ruled: Box) -> None:
    place = cgroups.look().v2
    assert place is not None
    name = f"drift{os.getpid()}"
    group = Path(place.path, f"nsrun-{name}")
    with containers(ruled) as c:
        c.up(["sleep", "60"], name=name, devices=[NARROWED], namespaces=["mount"], mounts=[])
        assert c.ok("drift", name) == "no difference\n"
        (program,) = programs(group)
        folder = os.open(group, os.O_RDONLY)
        own = bpf(_BPF_PROG_GET_FD_BY_ID, bytearray(struct.pack("=II8x", program, 0)))
        attribute = bytearray(struct.pack("=III4x", folder, own, _BPF_CGROUP_DEVICE))
        assert bpf(_BPF_PROG_DETACH, attribute) == 0
        os.close(folder)
        os.close(own)
        (found,) = json.loads(c("drift", "--json", name).stdout)
        (one,) = found["differences"]
        assert (one["what"], one["expected"], one["found"]) == ("device programs", "1", "0")
        assert one["path"] == "devices"
