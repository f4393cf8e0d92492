"""What this kernel and this user can do, each tried where trying is harmless.

A trial runs in a forked child that ends at once: nothing of the host is touched.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from dataclasses import dataclass

from nsrun.host import ids, linkkinds, nsfs, procfs
from nsrun.host.syscalls import syscall
from nsrun.kernel.abi import AT_FDCWD, CloneFlag, ResolveFlag, UnknownSyscallError
from nsrun.kernel.namespaces import FLAGS

# The Linux release that brought each kind (namespaces(7)).
_SINCE = {
    "mount": "2.4.19",
    "uts": "2.6.19",
    "ipc": "2.6.19",
    "pid": "2.6.24",
    "network": "2.6.29",
    "user": "3.8",
    "cgroup": "4.6",
    "time": "5.6",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """Something a spec may rely on, whether it works here, and what was seen."""

    name: str
    ok: bool
    detail: str


def features() -> tuple[Feature, ...]:
    """Every feature, tried now by this user."""
    return (
        *(_namespace(kind) for kind in _SINCE),
        *(row() for row in _ROWS),
        *(_link(kind) for kind in linkkinds.KINDS),
        *(_helper(*words) for words in _HELPERS),
    )


def _link(kind: str) -> Feature:
    found = linkkinds.has(kind)
    detail = {
        True: "in this kernel",
        False: "not in this kernel, and no module to load",
        None: "cannot be tried here",
    }[found]
    return Feature(name=f"{kind} interface", ok=found is True, detail=detail)


def _helper(name: str, package: str, use: str) -> Feature:
    path = ids.helper(name)
    if path is None:
        return Feature(name=name, ok=False, detail=f"{use}; missing: package {package}")
    return Feature(name=name, ok=True, detail=f"{use}; {path}")


def _namespace(kind: str) -> Feature:
    since = f"since Linux {_SINCE[kind]}"
    name = f"{kind} namespace"
    if kind not in nsfs.supported():
        return Feature(name=name, ok=False, detail=f"{since}; not in this kernel")
    flags = FLAGS[kind]
    privileged = 21 in procfs.capabilities()
    if not privileged:
        flags |= CloneFlag.CLONE_NEWUSER
    error = _tried(lambda: syscall("unshare", int(flags)))
    how = "" if privileged or kind == "user" else ", inside a user namespace"
    if error:
        return Feature(name=name, ok=False, detail=f"{since}; {error}")
    return Feature(name=name, ok=True, detail=f"{since}{how}")


def _tried(trial: Callable[[], object]) -> str:
    """ "" where the trial works in a child of its own, else the error's name."""
    pid = os.fork()
    if pid == 0:
        status = 0
        try:
            trial()
        except OSError as error:
            status = min(error.errno or 254, 254)
        except BaseException:
            status = 255
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return "" if status == 0 else os.strerror(status) if 0 < status < 255 else "it cannot be tried"


def _call(name: str, since: str, trial: Callable[[], object]) -> Feature:
    error = _tried(trial)
    detail = f"since Linux {since}; {error}" if error else f"since Linux {since}"
    return Feature(name=name, ok=not error, detail=detail)


def _in_namespaces(trial: Callable[[], object]) -> Callable[[], object]:
    """The trial in mount and, where that takes one, user namespaces of its own."""

    def inside() -> object:
        flags = CloneFlag.CLONE_NEWNS
        if 21 not in procfs.capabilities():
            flags |= CloneFlag.CLONE_NEWUSER
        syscall("unshare", int(flags))
        return trial()

    return inside


def _fsopen(fstype: str) -> int:
    fd = syscall("fsopen", os.fsencode(fstype), 1)
    syscall("fsconfig", fd, 6, 0, 0, 0)
    return syscall("fsmount", fd, 1, 0)


def _openat2() -> int:
    how = struct.pack("=QQQ", os.O_PATH | os.O_CLOEXEC, 0, int(ResolveFlag.RESOLVE_IN_ROOT))
    return syscall("openat2", AT_FDCWD, b".", how, len(how))


def _mount_setattr() -> int:
    # OPEN_TREE_CLONE and AT_RECURSIVE: in a user namespace's own mount namespace the mounts below
    # are locked to /, and a copy of it alone is EINVAL (fs/namespace.c: has_locked_children()).
    tree = syscall("open_tree", AT_FDCWD, b"/", os.O_CLOEXEC | 0x1 | 0x8000)
    attr = struct.pack("=QQQQ", 1, 0, 0, 0)
    return syscall("mount_setattr", tree, b"", 0x1000, attr, len(attr))


def _overlay() -> Feature:
    known = "overlay" in procfs.filesystems()
    return Feature(
        name="overlay",
        ok=known,
        detail="since Linux 3.18" if known else "not in /proc/filesystems: modprobe overlay",
    )


def _unprivileged() -> Feature:
    name = "user namespaces for ordinary users"
    if procfs.sysctl("user.max_user_namespaces") == 0:
        return Feature(name=name, ok=False, detail="user.max_user_namespaces is 0")
    if procfs.sysctl("kernel.unprivileged_userns_clone") == 0:
        return Feature(name=name, ok=False, detail="kernel.unprivileged_userns_clone is 0")
    if procfs.sysctl("kernel.apparmor_restrict_unprivileged_userns") == 1:
        return Feature(name=name, ok=False, detail="AppArmor restricts them")
    return Feature(name=name, ok=True, detail="no switch forbids them")


def _subordinate() -> Feature:
    uid = os.getuid()
    name = ids.user_name(uid)
    missing = [p for p in ("newuidmap", "newgidmap") if ids.helper(p) is None]
    ranges = [ids.subordinates(f, uid, name) for f in ("/etc/subuid", "/etc/subgid")]
    title = "subordinate ids"
    if not all(ranges):
        detail = f"no range for uid {uid} in /etc/subuid and /etc/subgid: idmap is `root`"
        return Feature(name=title, ok=uid == 0, detail="not needed by root" if not uid else detail)
    if missing and uid:
        return Feature(name=title, ok=False, detail=f"{missing[0]} is missing: package uidmap")
    count = sum(r.size for r in ranges[0])
    return Feature(name=title, ok=True, detail=f"{count} ids")


def _cgroups() -> Feature:
    kinds = {m.fstype for m in procfs.mounts() if m.fstype in ("cgroup", "cgroup2")}
    layout = {
        frozenset({"cgroup"}): "v1",
        frozenset({"cgroup2"}): "v2",
        frozenset({"cgroup", "cgroup2"}): "hybrid (v1 and v2)",
    }.get(frozenset(kinds), "not mounted")
    return Feature(name="cgroups", ok=bool(kinds), detail=layout)


def landlock_abi() -> int:
    """The version of Landlock's ABI (landlock(7)), 0 where it is missing or not enabled."""
    try:
        return syscall("landlock_create_ruleset", 0, 0, 1)
    except (OSError, UnknownSyscallError):
        return 0


def _landlock() -> Feature:
    found = landlock_abi()
    if not found:
        return Feature(name="landlock", ok=False, detail="since Linux 5.13; not enabled")
    return Feature(name="landlock", ok=True, detail=f"ABI {found}")


def _security_module() -> Feature:
    active = sorted(procfs.labelling_modules())
    return Feature(name="AppArmor or SELinux", ok=bool(active), detail=", ".join(active) or "none")


# What nsrun runs where a spec asks for it: the program, Debian's package, what for.
_HELPERS = (
    ("nft", "nftables", "masquerade and ports"),
    ("pasta", "passt", "a network in user mode"),
    ("slirp4netns", "slirp4netns", "a network in user mode, where pasta is missing"),
)

_ROWS: tuple[Callable[[], Feature], ...] = (
    lambda: _call("openat2", "5.6", _openat2),
    lambda: _call("fsopen of tmpfs", "5.2", _in_namespaces(lambda: _fsopen("tmpfs"))),
    lambda: _call("mount_setattr", "5.12", _in_namespaces(_mount_setattr)),
    lambda: _call("close_range", "5.9", lambda: syscall("close_range", 1000, 1001, 4)),
    lambda: _call("pidfd_open", "5.3", lambda: syscall("pidfd_open", os.getpid(), 0)),
    _overlay,
    _unprivileged,
    _subordinate,
    _cgroups,
    _landlock,
    _security_module,
)
