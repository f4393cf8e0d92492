"""Why the kernel does not take the program of device rules, or not for a group (bpf(2))."""

from __future__ import annotations

import errno
import os

from nsrun.host import nsfs, procfs, trial
from nsrun.host.bpf import device_programs
from nsrun.host.hint import Args, Hint, HintContext, number, text
from nsrun.host.hints_confined import by_filter
from nsrun.host.syscalls import syscall
from nsrun.kernel.abi import BpfCommand

# linux/capability.h
_NET_ADMIN, _SYS_ADMIN, _BPF = 12, 21, 39
# ioctl_nsfs(2): the initial user namespace has this number (PROC_USER_INIT_INO).
_INITIAL_USER = 0xEFFFFFFD
_BAD = 0xFFFF_FFFF
_OTHERS_BELOW = 1 | 2  # BPF_F_ALLOW_OVERRIDE, BPF_F_ALLOW_MULTI


def not_taken(args: Args, context: HintContext) -> Hint | None:
    """BPF_PROG_LOAD and BPF_PROG_ATTACH, ENOSYS and EPERM: no such call, a filter, no right."""
    answer = trial.errno_of(lambda: syscall("bpf", _BAD, 0, 0))
    if answer == errno.ENOSYS and procfs.status().get("Seccomp") == "0":
        return Hint(("this kernel has no bpf(2) (CONFIG_BPF_SYSCALL)",))
    if context.errno != "EPERM":
        return by_filter("bpf")(args, context)
    held = procfs.capabilities()
    what = "rules of devices of cgroup v2 are a program"
    if nsfs.inode("/proc/self/ns/user") != _INITIAL_USER:
        return Hint(
            (f"{what}, which takes rights of the initial user namespace: nsrun runs in another",),
            ("leave `permissions` away, or give `rw`: then there are no rules",),
        )
    if _SYS_ADMIN not in held and not {_BPF, _NET_ADMIN} <= held:
        return Hint(
            (f"{what}, which takes CAP_BPF and CAP_NET_ADMIN, and uid {os.getuid()} has not both",),
            ("leave `permissions` away, or give `rw`: then there are no rules",),
        )
    return by_filter("bpf")(args, context) if _SYS_ADMIN in held else None


def not_attached(args: Args, context: HintContext) -> Hint | None:
    """BPF_PROG_ATTACH: a kernel without programs of groups (EINVAL), or a group above with a
    program that lets none be below it (EPERM)."""
    if number(args, 0) != BpfCommand.BPF_PROG_ATTACH:
        return None
    opened = [
        text(values, 1)
        for call, values, _ in context.before
        if call == "openat" and text(values, 1).startswith("/sys/fs/cgroup")
    ]
    folder = opened[-1] if opened else ""
    while folder and os.path.exists(f"{folder}/cgroup.procs"):
        try:
            count, flags = device_programs(folder)
        except OSError as error:
            why = "this kernel asks no program about devices (CONFIG_CGROUP_BPF)"
            is_it = error.errno == errno.EINVAL and context.errno == "EINVAL"
            return Hint((why,)) if is_it else None
        if context.errno == "EPERM" and count and not flags & _OTHERS_BELOW:
            return Hint(
                (f"{folder} has a program for devices that lets no group below have another",),
                ("start nsrun in another group, or leave `permissions` away",),
            )
        folder = os.path.dirname(folder)
    return None
