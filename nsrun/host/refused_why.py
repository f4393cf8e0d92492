"""Which wall has answered a refused call: each is looked at, in the kernel's order."""

from __future__ import annotations

import errno as errnos
from dataclasses import replace

from nsrun.host import procfs, ptrace, refused, refused_files, refused_tasks
from nsrun.host.own_walls import OwnWalls
from nsrun.host.refused import UNKNOWN, Refused, Wall
from nsrun.host.refused_call import name_of
from nsrun.kernel import bpf
from nsrun.kernel.abi import SeccompAction

_AF_UNIX, _AF_INET, _AF_INET6 = 1, 2, 10
_ENDS = {
    int(SeccompAction.SECCOMP_RET_KILL_PROCESS): "the end of the process",
    int(SeccompAction.SECCOMP_RET_KILL_THREAD): "the end of the thread",
    int(SeccompAction.SECCOMP_RET_TRAP): "SIGSYS",
}


def by_filter(own: OwnWalls, entered: ptrace.Entered, errno: int) -> Wall | None:
    """seccomp, where the filters themselves answer the call with this errno."""
    if own.answer(entered) != int(SeccompAction.SECCOMP_RET_ERRNO) | errno:
        return None
    return _seccomp(name_of(entered), str(errnos.errorcode.get(errno, errno)))


def by_end(own: OwnWalls, entered: ptrace.Entered) -> Wall | None:
    """seccomp, where the filters answer the call with a signal."""
    word = _ENDS.get(own.answer(entered) & bpf.ACTION_MASK)
    return None if word is None else _seccomp(name_of(entered), word)


def _seccomp(name: str, answer: str) -> Wall:
    return Wall(
        kind="seccomp",
        why=f"the filter answers {name} with {answer}",
        path="seccomp",
        help=f"a profile under `seccomp` that allows {name}",
    )


def wall_of(call: Refused, own: OwnWalls, entered: ptrace.Entered, outer: int) -> Wall:
    """The wall that is seen; nothing is said where several could be or none is.

    ``outer``: the number of filters that were there before anything was looked at.
    """
    asked = own.is_asked(entered)
    try:
        who = refused.credentials(call.pid)
        found = refused.of_rights(call, who)
        if found is None and call.paths:
            found = refused_files.of_files(call, who)
        if found is None:
            found = _of_network(call) or refused_tasks.of_tasks(call)
    except (OSError, ValueError, KeyError, refused_files.Unseen):
        return Wall(kind="", why="what it is about cannot be looked at from outside")
    if found is not None:
        first = "; the filter's listener is asked before, and may have refused it already"
        return replace(found, why=f"{found.why}{first}") if asked else found
    beside = _unreadable(call.pid, outer)
    if beside:
        listener = ", and the filter's listener is asked about it" if asked else ""
        return Wall(kind="", why=f"{UNKNOWN.why}{listener}; {beside}")
    return _listener(call) if asked else UNKNOWN


def _listener(call: Refused) -> Wall:
    """seccomp_unotify(2): its answer is the call's, unless it lets the kernel go on. That it did
    is ruled out by the walls that the kernel would have refused it by."""
    name = errnos.errorcode.get(call.errno, str(call.errno))
    why = f"the filter asks its listener about {call.name}, and no other wall explains {name}"
    if call.errno == errnos.ENOSYS:
        why = (
            f"the filter asks its listener about {call.name}: it has answered {name}, or there is "
            "none any more, and the kernel answers so"
        )
    return Wall(kind="seccomp listener", why=why, path="seccomp.listenerPath")


def _unreadable(pid: int, outer: int) -> str:
    """The walls in force that nobody can read, "" where there are none."""
    if outer:
        return f"{outer} seccomp filters that nsrun itself runs under cannot be read"
    confined = _confined(pid)
    return f"it runs under {confined}" if confined else ""


def _of_network(call: Refused) -> Wall | None:
    """Landlock's rights on ports and its scope of abstract sockets (landlock(7), ABI 4 and 6)."""
    right = {"bind": 1, "connect": 2}.get(call.name)
    if right is None:
        return None
    inet = call.family in (_AF_INET, _AF_INET6) and call.errno == errnos.EACCES
    if inet and any(layer.network & right for layer in call.layers):
        return Wall(kind="Landlock", why=f"a ruleset handles {call.name} of TCP", path="landlock")
    unix = call.family == _AF_UNIX and call.errno == errnos.EPERM and not call.paths
    if unix and any(layer.scoped & 1 for layer in call.layers):
        return Wall(
            kind="Landlock",
            why="abstract sockets of processes outside are out of its scope",
            path="landlock",
        )
    return None


def _confined(pid: int) -> str:
    """What AppArmor or SELinux calls the process, "" where neither is in force."""
    active = (procfs.read("/sys/kernel/security/lsm") or "").strip().split(",")
    modules = [name for name in ("apparmor", "selinux", "smack") if name in active]
    label = (procfs.read(f"/proc/{pid}/attr/current") or "").strip("\0\n ")
    return f"{modules[0]}: {label}" if modules and label not in ("", "unconfined") else ""
