"""Attacks on the machine from inside: files of the kernel, devices, sockets, namespaces.

What refuses is not the filter of system calls alone: it is off where nothing else is said.
"""

from __future__ import annotations

import glob
import json
import os
import socket
import subprocess
from pathlib import Path

from tests.support.box import Box
from tests.support.requires import requires

ALL = ["user", "mount", "pid", "ipc", "uts", "network"]
PYTHON = "/usr/bin/python3"
# Opens each of argv[2:] for writing or reading (argv[1]), and closes it: nothing is changed.
OPEN = r"""
import json, os, sys
flags = os.O_WRONLY if sys.argv[1] == "w" else os.O_RDONLY
found = []
for path in sys.argv[2:]:
    try:
        fd = os.open(path, flags | os.O_NONBLOCK)
        if flags == os.O_RDONLY and not os.path.isdir(path):
            if not os.read(fd, 64):
                raise OSError
        if os.path.isdir(path) and not os.listdir(path):
            raise OSError
        found.append(path)
        os.close(fd)
    except OSError:
        pass
print(json.dumps(found))
"""
WRITE = [
    "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/kernel/hotplug",
    "/proc/sys/vm/panic_on_oom", "/proc/sys/fs/protected_symlinks", "/proc/sysrq-trigger",
    "/proc/irq/default_smp_affinity", "/proc/sys/fs/binfmt_misc/register",
    "/sys/kernel/uevent_helper", "/sys/kernel/mm/ksm/run", "/sys/power/state",
    "/sys/module/kernel/parameters/panic", *glob.glob("/sys/fs/cgroup/*/release_agent"),
]  # fmt: skip
READ = [
    "/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/interrupts", "/proc/sched_debug",
    "/proc/acpi", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
    *glob.glob("/sys/devices/system/cpu/cpu0/thermal_throttle"),
]  # fmt: skip


def opened(argv: list[str], box: Box) -> set[str]:
    done = subprocess.run(argv, capture_output=True, text=True, check=True, cwd=box.folder)
    return set(json.loads(done.stdout))


@requires("root")
def test_files_of_the_kernel_without_a_user_namespace(root_box: Box, own_rootfs: Path) -> None:
    """CVE-2022-0492 (release_agent), core_pattern, modprobe, sysrq, and leaks of the machine."""
    for name in ("usr", "lib", "lib64"):
        (own_rootfs / name).mkdir(exist_ok=True)
    keys = {
        "rootfs": str(own_rootfs), "namespaces": [n for n in ALL if n != "user"],
        "mounts": [f"/{name}:/{name}:ro" for name in ("usr", "lib", "lib64")],
        "seccomp": "unconfined", "capabilities": "default",
    }  # fmt: skip
    for letter, paths in (("w", WRITE), ("r", READ)):
        words = [PYTHON, "-Ic", OPEN, letter, *paths]
        assert len(opened(words, root_box)) >= 3, "the control: root outside opens them"
        assert json.loads(root_box.out(words, **keys)) == []


def test_files_of_the_kernel_where_nothing_is_hidden(box: Box) -> None:
    """Ids of a user namespace have no right to them, whatever is mounted; by root its ids are
    others than the host's (idmap: auto), as ids of the host's root they are open."""
    words = [PYTHON, "-Ic", OPEN, "w", *WRITE]
    keys = {"namespaces": ["user"], "seccomp": "unconfined", "capabilities": "all"}
    assert json.loads(box.out(words, **keys)) == []
    if box.runner.user.uid == 0:
        assert json.loads(box.out(words, **keys, idmap="root")), "the control"


# socket(AF_PACKET, SOCK_RAW), a nested user namespace, mknod of the kernel's memory: 0 or an errno.
TRY = r"""
import ctypes, json, os, socket
libc = ctypes.CDLL(None, use_errno=True)
def errno(call, *arguments):
    return 0 if call(*arguments) >= 0 else ctypes.get_errno()
found = {}
try:
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close()
    found["packet"] = 0
except OSError as error:
    found["packet"] = error.errno
found["mknod"] = errno(libc.mknod, b"/dev/shm/mem", 0o20600, os.makedev(1, 1))
found["device"] = errno(libc.open, b"/dev/shm/mem", os.O_RDONLY)
found["userns"] = errno(libc.unshare, 0x10000000)
print(json.dumps(found))
"""
EPERM, ENOENT = 1, 2


def test_sockets_devices_and_nested_namespaces(box: Box) -> None:
    """AF_PACKET without need, mknod, CVE-2024-1086 (nested user namespaces)."""
    shm = [{"type": "tmpfs", "target": "/dev/shm"}]
    keys = {"namespaces": ALL, "mounts": shm}
    refused = {"packet": EPERM, "mknod": EPERM, "device": ENOENT, "userns": EPERM}
    command = [PYTHON, "-Ic", TRY]
    assert json.loads(box.out(command, **keys)) == refused
    found = json.loads(box.out(command, **keys, profile="strict"))
    assert (found["packet"], found["userns"]) == (EPERM, EPERM)
    free = {"capabilities": {"add": ["NET_RAW", "MKNOD"]}, "seccomp": "unconfined"}
    found = json.loads(box.out(command, **keys, **free))
    assert (found["packet"], found["userns"]) == (0, 0), "the control"


def test_abstract_sockets_of_the_host(box: Box) -> None:
    """CVE-2020-15257: what listens for the host's root is not met in a network of its own."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as outside:
        name = f"nsrun-attack-{os.getpid()}"
        outside.bind(f"\0{name}")
        outside.listen(4)
        code = f"import socket; socket.socket(socket.AF_UNIX).connect('\\0{name}')"
        command = [PYTHON, "-Ic", code]
        shared = [n for n in ALL if n != "network"]
        assert box.run(command, namespaces=shared).status == 0, "the control"
        assert "ConnectionRefused" in box.run(command, namespaces=ALL).stderr


def test_mounts_do_not_reach_the_host(box: Box) -> None:
    """Where the host's / is shared, what is mounted inside stays there (mount_namespaces(7))."""
    script = "mount -t tmpfs nsrun-leak /mnt && grep -c nsrun-leak /proc/self/mountinfo"
    keys = {"namespaces": ["user", "mount"], "capabilities": "all", "seccomp": "unconfined"}
    naive = "unshare -m --propagation unchanged sh -c 'mount -t tmpfs nsrun-leak /mnt'"
    count = "grep -c nsrun-leak /proc/self/mountinfo || true"
    file = box.spec(command=script, **keys)
    shared = box.runner.with_(mounts="shared")
    words = shared.argv(file)
    # Both in one mount namespace that is shared as a whole, and gone afterwards.
    done = subprocess.run(
        ["unshare", "-m", "--propagation", "shared", "sh", "-c",
         f'"$@"; {count}; {naive}; {count}', "sh", *words],
        capture_output=True, text=True, env=box.runner.environment(), cwd=box.folder, check=False,
    ) if box.runner.user.uid == 0 else None  # fmt: skip
    if done is None:
        assert box.out(script, **keys) == "1"
        return
    assert done.stdout.split() == ["1", "0", "1"], done.stderr
