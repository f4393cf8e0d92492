"""What a security module of the host is to call the command: AppArmor's profile, SELinux's label.

Both modules take the name for the next execve(2) through a file of the process's own in /proc, and
decide only at the execve whether it is allowed; with no_new_privs, that is, whatever order the two
were set in. runc sets AppArmor's before no_new_privs and SELinux's after; here both are the last
step for which the rights of the container's root are still there, before Landlock, which knows no
file of the host's /proc. Until then the child executes nothing; an init (which never executes)
passes the name on to the process that it forks.

A container can have its own mounts over /proc, so that the name is written somewhere else
(CVE-2019-16884, CVE-2025-52881). The host's /proc is therefore taken before anything is joined or
mounted, and walked without leaving that one mount.

Sources: the kernel's fs/proc/base.c (proc_pid_attr_write), Documentation/admin-guide/LSM,
security/selinux/hooks.c, apparmor(7), the OCI runtime spec's config.md (apparmorProfile,
selinuxLabel) and config-linux.md (mountLabel).
"""

from __future__ import annotations

from collections.abc import Iterable

from nsrun.kernel import abi, calls
from nsrun.kernel.abi import OpenFlag, ResolveFlag
from nsrun.kernel.facts import Facts
from nsrun.kernel.values import Bytes, Call, Reg
from nsrun.plan.draft import Draft
from nsrun.plan.model import Action
from nsrun.plan.ops import Op
from nsrun.spec.model import Selinux

UNCONFINED = "unconfined"
_EXEC = b"exec "
_APPARMOR = "take AppArmor's profile"
_SELINUX = "take SELinux's label"
# Since Linux 5.8 AppArmor has its own folder there; attr/exec is the first module's.
_FILES = {"apparmor": "thread-self/attr/apparmor/exec", "selinux": "thread-self/attr/exec"}
# In a user namespace SELinux takes a mount's context for these alone (EACCES); proc and sysfs are
# labelled file by file, by its policy, and cgroup and cgroup2 have one superblock for many. The
# root of an mqueue is given the label when it is mounted, as runc does it.
_LABELLED = frozenset({"tmpfs", "ramfs", "devpts", "overlay"})


def take_proc(draft: Draft, facts: Facts) -> Reg | None:
    """The host's /proc, before the child joins or mounts anything; None where it is not needed.

    What the host does not have is refused: a wall that cannot be set up is an error.
    """
    spec = draft.spec
    _require(draft, facts)
    profile = spec.apparmor is not None and "apparmor" in facts.labels
    if not profile and spec.selinux.label is None:
        return None
    proc = draft.reg("attributes")
    oflags = OpenFlag.O_PATH | OpenFlag.O_DIRECTORY | OpenFlag.O_NOFOLLOW | OpenFlag.O_CLOEXEC
    draft.child(
        "take the host's /proc",
        calls.openat(calls.CWD, "/proc", oflags, save=proc),
        calls.fstatfs(proc, abi.Magic.PROC_SUPER_MAGIC),
        at="apparmor" if profile else "selinux",
    )
    return proc


def _require(draft: Draft, facts: Facts) -> None:
    spec = draft.spec
    if spec.apparmor not in (None, UNCONFINED) and "apparmor" not in facts.labels:
        _refuse(draft, facts, "AppArmor", "apparmor")
    if spec.selinux != Selinux() and "selinux" not in facts.labels:
        _refuse(draft, facts, "SELinux", "selinux")


def _refuse(draft: Draft, facts: Facts, name: str, key: str) -> None:
    active = ", ".join(sorted(facts.labels))
    draft.refuse(
        "NS401",
        f"{name} is not in force on this host",
        key,
        f"leave `{key}` away here: seccomp, Landlock and the mounts forbid what they forbid all "
        "the same",
        why=f"of the modules that label processes it has {active or 'none'} (`nsrun doctor`)",
    )


def name_command(draft: Draft, facts: Facts, proc: Reg | None) -> None:
    """What the execve that follows is to be confined by. ``proc``: from :func:`take_proc`."""
    if proc is None:
        return
    spec = draft.spec
    if spec.apparmor is not None and "apparmor" in facts.labels:
        text = _EXEC + calls.os_bytes(spec.apparmor)
        written = _write(draft, proc, "apparmor", text)
        draft.child(f"{_APPARMOR} {spec.apparmor}", *written, at="apparmor")
    if spec.selinux.label is not None:
        text = calls.os_bytes(spec.selinux.label)
        written = _write(draft, proc, "selinux", text)
        draft.child(f"{_SELINUX} {spec.selinux.label}", *written, at="selinux.label")
    at = "apparmor" if spec.apparmor is not None else "selinux"
    draft.child("leave the host's /proc", calls.close(proc), at=at)


def _write(draft: Draft, proc: Reg, module: str, text: bytes) -> list[Op]:
    fd = draft.reg(f"{module}_exec")
    # thread-self is a plain symbolic link; anything mounted on the way is EXDEV.
    how = ResolveFlag.RESOLVE_NO_XDEV | ResolveFlag.RESOLVE_NO_MAGICLINKS
    oflags = OpenFlag.O_WRONLY | OpenFlag.O_CLOEXEC
    return [
        calls.openat2(proc, _FILES[module], oflags, how, save=fd),
        calls.fstatfs(fd, abi.Magic.PROC_SUPER_MAGIC),
        calls.write(fd, text),
        calls.close(fd),
    ]


def mount_context(draft: Draft, context: Reg, fstype: str, options: Iterable[str] = ()) -> list[Op]:
    """The label of a new file system, unless its ``options`` name one."""
    label = draft.spec.selinux.mount_label
    if label is None or fstype not in _LABELLED or _has_own(options):
        return []
    return [calls.fsconfig_string(context, "context", label)]


def root_label(draft: Draft, mount: Reg, fstype: str, options: Iterable[str] = ()) -> list[Op]:
    """The label of a mount's first folder, of the one kind that takes it there."""
    label = draft.spec.selinux.mount_label
    if label is None or fstype != "mqueue" or _has_own(options):
        return []
    root = draft.reg("mqueue_root")
    # What fsmount(2) gives is a place alone (O_PATH), through which no attribute is set (EBADF).
    oflags = OpenFlag.O_DIRECTORY | OpenFlag.O_CLOEXEC
    return [
        calls.openat(mount, ".", oflags, save=root),
        calls.fsetxattr(root, "security.selinux", calls.os_bytes(label)),
        calls.close(root),
    ]


def _has_own(options: Iterable[str]) -> bool:
    return any(option.startswith("context=") for option in options)


def planned_labels(actions: Iterable[Action]) -> tuple[str | None, Selinux]:
    """Profile and label of a plan that was made before, for another command beside its own."""
    profile: str | None = None
    label: str | None = None
    for action in actions:
        for op in action.steps:
            match op:
                case Call(name="write", args=(_, Bytes(value=text), *_)):
                    if action.what.startswith(_APPARMOR):
                        profile = text.removeprefix(_EXEC).decode("utf-8", "surrogateescape")
                    elif action.what.startswith(_SELINUX):
                        label = text.decode("utf-8", "surrogateescape")
                case _:
                    pass
    return profile, Selinux(label=label)
