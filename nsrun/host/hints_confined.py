"""What nsrun itself is confined by: a seccomp filter or Landlock rules that it was started under.

Neither can be read, so each is tried, in a process of its own that ends at once.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable

from nsrun.host import procfs, traced, trial
from nsrun.host.hint import Args, Hint, HintContext
from nsrun.host.syscalls import syscall
from nsrun.kernel.abi import CloneFlag, LandlockAccessFs, UnknownSyscallError

_BAD = 0xFFFF_FFFF
# Arguments that the kernel refuses as invalid before it asks for any right (EINVAL, EBADF, EFAULT).
_INVALID: dict[str, tuple[int, ...]] = {
    "clone3": (0, 0),
    "openat2": (_BAD, 0, 0, 0),
    "open_tree": (_BAD, 0, _BAD),
    "mount": (0, 0, 0, 0, 0),
    "umount2": (0, _BAD),
    "mount_setattr": (_BAD, 0, _BAD, 0, 0),
    "setns": (_BAD, 0),
    "fsconfig": (_BAD, _BAD, 0, 0, 0),
    "landlock_create_ruleset": (0, 0, _BAD),
    "seccomp": (_BAD, 0, 0),
    "capset": (0, 0),
    "keyctl": (_BAD, 0, 0, 0, 0),
    "bpf": (_BAD, 0, 0),
}
# These ask for CAP_SYS_ADMIN over the mount namespace first: tried where that is held.
_INVALID_WITH_RIGHT: dict[str, tuple[int, ...]] = {
    "pivot_root": (0, 0),
    "move_mount": (_BAD, 0, _BAD, 0, _BAD),
    "fsopen": (0, _BAD),
    "fsmount": (_BAD, _BAD, 0),
}
_NAMESPACES = CloneFlag.CLONE_NEWUSER | CloneFlag.CLONE_NEWNS
# An undefined flag of unshare(2) (it is of no CLONE_* that the call knows): EINVAL.
_UNKNOWN_FLAG = 1
# bpf(2) may ask for a right first: see hints_bpf.
CALLS = (*(call for call in _INVALID if call != "bpf"), *_INVALID_WITH_RIGHT, "unshare")
# landlock_restrict_self(2), E2BIG: as many rulesets may lie over each other.
_LAYERS_MAX = 16
_PR_SET_NO_NEW_PRIVS = 38
# Those that give processes labels.
_MODULES = {"apparmor": "AppArmor", "selinux": "SELinux", "smack": "Smack", "tomoyo": "TOMOYO"}
_FILTERED = "2"


def by_filter(call: str) -> Callable[[Args, HintContext], Hint | None]:
    """seccomp(2): the filter answers before the kernel looks at the arguments."""

    def explainer(args: Args, context: HintContext) -> Hint | None:
        if procfs.status().get("Seccomp") != _FILTERED:
            return None
        answer = _answer(call, args, context)
        # A kernel may be without keys; it is never without the others.
        lacking = () if call == "keyctl" else (errno.ENOSYS,)
        if answer is None or answer not in (errno.EPERM, errno.EACCES, *lacking):
            return None
        name = errno.errorcode[answer]
        return Hint(
            (f"nsrun itself runs under a seccomp filter, which answers {call} with {name}, even "
             "where the kernel would find it invalid",),
            ("start nsrun outside of that container, or give that one another filter, as "
             "`seccomp: unconfined`",),
        )  # fmt: skip

    return explainer


def _answer(call: str, args: Args, context: HintContext) -> int | None:
    """The errno of an invalid ``call``."""
    if call == "unshare":
        flags = args[0] if args and isinstance(args[0], int) else 0
        return trial.errno_of(lambda: syscall("unshare", flags | _UNKNOWN_FLAG))
    if call in _INVALID:
        return trial.errno_of(lambda: syscall(call, *_INVALID[call]))
    rights = 0 if 21 in procfs.capabilities() and not _new_user(context) else _NAMESPACES
    return trial.errno_of(lambda: syscall(call, *_INVALID_WITH_RIGHT[call]), int(rights))


def _new_user(context: HintContext) -> bool:
    return traced.new_user_namespace(context)


def by_landlock(args: Args, context: HintContext) -> Hint | None:
    """landlock(7): whoever is under rules about files changes no mount."""
    del args, context
    count = layers()
    if not count or trial.errno_of(_change_mounts, int(_NAMESPACES)) != errno.EPERM:
        return None
    what = "a Landlock ruleset" if count == 1 else f"{count} Landlock rulesets"
    return Hint(
        (f"nsrun itself runs under {what}, under which no mount can be changed",),
        ("start nsrun outside of that sandbox",),
    )


def by_label(args: Args, context: HintContext) -> Hint | None:
    """Who has all rights over namespaces of its own is refused there by a security module alone,
    where neither a filter nor Landlock does it. Which one, its label says (lsm(7))."""
    del args, context
    label = (procfs.read("/proc/self/attr/current") or "").strip("\0\n ")
    if label in ("", "unconfined") or layers() or procfs.status().get("Seccomp") == _FILTERED:
        return None
    answer = trial.errno_of(_change_mounts, int(_NAMESPACES))
    if answer not in (errno.EPERM, errno.EACCES):
        return None
    active = (procfs.read("/sys/kernel/security/lsm") or "").strip().split(",")
    module = next((_MODULES[name] for name in active if name in _MODULES), "a security module")
    return Hint(
        (f"nsrun itself is confined by {module} as {label}, and may change no mount even in "
         "namespaces of its own",),
        (f"start nsrun outside of that confinement, or let {label} mount",),
    )  # fmt: skip


def _change_mounts() -> None:
    # MS_REC|MS_PRIVATE, in a mount namespace of its own.
    syscall("mount", b"none", b"/", 0, 0x4000 | 0x40000, 0)


def layers() -> int:
    """The Landlock rulesets that this process is under, by how many more it could take."""
    added = trial.errno_of(_fill)
    return 0 if added is None else _LAYERS_MAX - (added - 1)


def _fill() -> None:
    """Add rulesets until there can be no more, and fail with their number and 1 as an errno."""
    attr = struct.pack("=Q", int(LandlockAccessFs.MAKE_SOCK))
    try:
        ruleset = syscall("landlock_create_ruleset", attr, len(attr), 0)
        syscall("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    except (OSError, UnknownSyscallError):
        raise OSError(_LAYERS_MAX + 1, "") from None
    count = 0
    try:
        while count < _LAYERS_MAX:
            syscall("landlock_restrict_self", ruleset, 0)
            count += 1
    except OSError as error:
        if error.errno != errno.E2BIG:
            raise OSError(_LAYERS_MAX + 1, "") from None
    raise OSError(count + 1, "")
