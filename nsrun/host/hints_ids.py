"""Why namespaces and ids are refused: limits, privileges, maps."""

from __future__ import annotations

import errno
import os
import resource

from nsrun.host import nsfs, procfs
from nsrun.host.hint import Hint, HintContext, number, text
from nsrun.host.syscalls import syscall
from nsrun.kernel.abi import CloneFlag

_KINDS = ("user", "mnt", "pid", "net", "ipc", "uts", "cgroup", "time")


def namespace_limit(args: tuple[str | int, ...], context: HintContext) -> Hint | None:
    """user_namespaces(7): a limit of /proc/sys/user is reached."""
    del args, context
    for kind in _KINDS:
        if procfs.sysctl(f"user.max_{kind}_namespaces") == 0:
            name = f"user.max_{kind}_namespaces"
            return Hint((f"{name} is 0: nobody may make one",), (f"sysctl {name}=1000, as root",))
    return None


def namespaces_forbidden(args: tuple[str | int, ...], context: HintContext) -> Hint | None:
    """Distributions' switches against user namespaces of ordinary users."""
    del args, context
    if procfs.sysctl("kernel.unprivileged_userns_clone") == 0:
        name = "kernel.unprivileged_userns_clone"
        return Hint(
            (f"{name} is 0: only root may make user namespaces",), (f"sysctl {name}=1, as root",)
        )
    if procfs.sysctl("kernel.apparmor_restrict_unprivileged_userns") == 1 and os.getuid():
        return Hint(
            ("kernel.apparmor_restrict_unprivileged_userns is 1: AppArmor forbids it",),
            ("give nsrun an AppArmor profile with `userns,`",),
        )
    return None


def init_has_ended(args: tuple[str | int, ...], context: HintContext) -> Hint | None:
    """pid_namespaces(7): no process can be made in a namespace whose init has ended."""
    del args
    path = context.pid_namespace
    if path is None or _can_start_in(path) != errno.ENOMEM:
        return None
    return Hint(
        (f"the init of {path} has ended: nothing can be started in it any more",),
        ("unpin it and make a new one",),
    )


def _can_start_in(path: str) -> int | None:
    """Try it in a short-lived child: 0, the errno of fork(2), or None where it cannot be tried."""
    pid = os.fork()
    if pid == 0:
        status = 255
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            syscall("setns", fd, CloneFlag.CLONE_NEWPID)
            status = 254
            if os.fork() == 0:
                os._exit(0)
            status = 0
        except OSError as error:
            status = (error.errno or 255) if status == 254 else 255
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return status if 0 <= status < 254 else None


def wrong_type(args: tuple[str | int, ...], context: HintContext) -> Hint | None:
    """setns(2): the file is of another type."""
    del context
    path = text(args, 0)
    kind = nsfs.kind_of(path) if path.startswith("/") else None
    return Hint((f"{path} is a {kind} namespace",)) if kind else None


def not_the_owner(args: tuple[str | int, ...], context: HintContext) -> Hint | None:
    """setns(2): joining needs CAP_SYS_ADMIN over the namespace's owner."""
    del args, context
    if 21 in procfs.capabilities():
        return None
    return Hint(
        (f"joining needs CAP_SYS_ADMIN over it, which uid {os.getuid()} does not have",),
        ("join the user namespace that owns it as well: {type: user, path: ...}",),
    )


def not_mapped(args: tuple[str | int, ...], context: HintContext) -> Hint | None:
    """setresuid(2): EINVAL is an id without a mapping."""
    del context
    ident = number(args, 0)
    return Hint((f"id {ident} is not mapped into the user namespace",)) if ident else None


def setgroups_denied(args: tuple[str | int, ...], context: HintContext) -> Hint | None:
    """user_namespaces(7): setgroups is denied for good in some namespaces."""
    del args, context
    if (procfs.read("/proc/self/setgroups") or "").strip() == "deny":
        return Hint(("/proc/self/setgroups says deny, for this namespace and all below it",))
    return None


def hard_limit(args: tuple[str | int, ...], context: HintContext) -> Hint | None:
    """setrlimit(2): raising a hard limit needs CAP_SYS_RESOURCE."""
    del context
    which = number(args, 1)
    if which is None or 24 in procfs.capabilities():
        return None
    hard = resource.getrlimit(which)[1]
    word = "unlimited" if hard == resource.RLIM_INFINITY else str(hard)
    return Hint((f"the hard limit is {word}, and raising it needs CAP_SYS_RESOURCE",))
