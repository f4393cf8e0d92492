"""How many processes there are, and may be: of a control group, of a user, of the machine.

Sources: clone(2), EAGAIN; the kernel's Documentation/admin-guide/cgroup-v1/pids.rst and
cgroup-v2.rst, "PID"; getrlimit(2), RLIMIT_NPROC.
"""

from __future__ import annotations

import os

from nsrun.host import nsfs, procfs
from nsrun.kernel.abi import Capability
from nsrun.kernel.facts import GROUP_PREFIX

_UNCOUNTED = frozenset({Capability.CAP_SYS_ADMIN, Capability.CAP_SYS_RESOURCE})


def full_group(folder: str, more: int = 1) -> tuple[str, int, int] | None:
    """The group of ``folder``, or the one above it, that has no room for ``more`` processes, how
    many it has and how many it may have; None where there is room."""
    while os.path.exists(f"{folder}/cgroup.procs"):
        now, most = (procfs.number(f"{folder}/pids.{name}") for name in ("current", "max"))
        if now is not None and most is not None and now + more > most:
            return folder, now, most
        folder = os.path.dirname(folder)
    return None


def of_container(folder: str) -> str:
    """The container that a group was made for, "" for another group."""
    name = os.path.basename(folder)
    return name.removeprefix(GROUP_PREFIX) if name.startswith(GROUP_PREFIX) else ""


def words(now: int, most: int, folder: str) -> str:
    """``pids.max is 2, 5 processes are in it (/sys/fs/cgroup/pids/nsrun-web)``"""
    are = "process is" if now == 1 else "processes are"
    return f"pids.max is {most}, {now} {are} in it ({folder})"


def user_is_full(process: str = "self") -> tuple[int, int, int] | None:
    """The real uid of a process whose user has no room for another thread, how many it has and may
    have. Kernel: root of the host, and who has one of two of its capabilities, is not asked."""
    status, soft = procfs.status(process), _soft_limit(process)
    if soft is None or "Uid" not in status:
        return None
    uid = int(status["Uid"].split()[0])
    own = nsfs.inode(f"/proc/{process}/ns/user")
    # A user is counted in each user namespace for itself, and in those above it.
    below = own != nsfs.inode("/proc/self/ns/user")
    held = procfs.bits(status.get("CapEff", "")) & _UNCOUNTED
    if uid == 0 or (held and not below):
        return None
    count = _threads(uid, own if below else None)
    return (uid, count, soft) if count >= soft else None


def _soft_limit(process: str) -> int | None:
    for line in (procfs.read(f"/proc/{process}/limits") or "").splitlines():
        if line.startswith("Max processes"):
            word = line.split()[2]
            return int(word) if word.isdigit() else None
    return None


def _threads(uid: int, namespace: int | None) -> int:
    """Those of a user, None for any user namespace."""
    count = 0
    for entry in os.scandir("/proc"):
        try:
            if not entry.name.isdigit():
                continue
            real = procfs.status(entry.name).get("Uid", "").split()[:1]
            if real == [str(uid)] and namespace in (None, nsfs.inode(f"{entry.path}/ns/user")):
                count += len(os.listdir(f"{entry.path}/task"))
        except OSError:
            continue
    return count


def machine_is_full() -> str:
    """The sysctl that allows no more threads, and what it is, "" where there is room."""
    # proc_loadavg(5): runnable/all.
    all_ = (procfs.read("/proc/loadavg") or "").split()[3:4]
    there = int(all_[0].partition("/")[2]) if all_ else 0
    for name in ("kernel.threads-max", "kernel.pid_max"):
        most = procfs.sysctl(name)
        if most is not None and there >= most:
            return f"{name} is {most}, and there are {there} threads"
    return ""
