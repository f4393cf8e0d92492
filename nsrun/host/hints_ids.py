"""Why namespaces and ids are refused: limits, privileges, maps."""

from __future__ import annotations

import errno
import os
import resource

from nsrun.host import ids, nsfs, procfs, traced, trial
from nsrun.host.hint import Args, Hint, HintContext, number, text
from nsrun.host.syscalls import syscall
from nsrun.kernel.abi import CloneFlag, Ioctl
from nsrun.kernel.namespaces import PROC_NAMES

_SETGID, _SETUID, _SETFCAP = 6, 7, 31  # linux/capability.h


def namespace_limit(args: Args, context: HintContext) -> Hint | None:
    """namespaces(7), user_namespaces(7): the kinds of which the kernel makes no other one."""
    del context
    flags = number(args, 0) or 0
    user = flags & CloneFlag.CLONE_NEWUSER
    for flag, kind in nsfs.KINDS.items():
        if not flags & flag:
            continue
        refused = trial.errno_of(trial.make_namespaces(user | flag))
        if refused not in (errno.ENOSPC, errno.EUSERS):
            continue
        name = f"user.max_{PROC_NAMES[kind]}_namespaces"
        limit = procfs.sysctl(name)
        if limit == 0:
            return Hint((f"{name} is 0: nobody may make one",), (f"sysctl {name}=1000, as root",))
        nested = ", and 32 of them at most lie in each other" if kind in ("user", "pid") else ""
        return Hint(
            (f"the kernel makes no other {kind} namespace: {name} is {limit}{nested}",),
            (f"end what holds {kind} namespaces (lsns), or raise the limit, as root",),
        )
    return None


def namespaces_forbidden(args: Args, context: HintContext) -> Hint | None:
    """clone(2), EPERM: distributions' switches, a chroot, ids without a mapping, no privilege."""
    del context
    flags = number(args, 0) or 0
    if not flags & CloneFlag.CLONE_NEWUSER:
        return _unprivileged(flags)
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
    table = procfs.mounts()
    if table and not any(mount.target == "/" for mount in table):
        return Hint(
            ("nsrun runs in a chroot, where the kernel makes no user namespace (clone(2))",),
            ("enter the folder by pivot_root(2): use it as `rootfs`",),
        )
    for kind, own in (("uid", os.getuid()), ("gid", os.getgid())):
        lines = procfs.id_map(kind)
        if not any(line.inside <= own < line.inside + line.size for line in lines):
            return Hint((f"{kind} {own} of the caller is not mapped in its own user namespace",))
    return None


def _unprivileged(flags: int) -> Hint | None:
    if not flags or 21 in procfs.capabilities():
        return None
    return Hint(
        (f"making namespaces needs CAP_SYS_ADMIN, which uid {os.getuid()} does not have",),
        ("list `user` under namespaces",),
    )


def init_has_ended(args: Args, context: HintContext) -> Hint | None:
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


def _joined(args: Args, context: HintContext) -> str:
    """The file of the namespace that setns(2) was given."""
    word = text(args, 0)
    return (traced.host_path(context, word) or "") if word.startswith("%") else word


def cannot_enter(args: Args, context: HintContext) -> Hint | None:
    """setns(2), EINVAL: another type, the caller's own user namespace, a pid namespace above."""
    path = _joined(args, context)
    kind = nsfs.kind_of(path) if path else None
    wanted = nsfs.KINDS.get(number(args, 1) or 0)
    if kind is None:
        return None
    if wanted is not None and kind != wanted:
        return Hint((f"{path} is a {kind} namespace, not a {wanted} namespace",))
    own = f"/proc/self/ns/{PROC_NAMES[kind]}"
    if kind == "user" and nsfs.inode(path) == nsfs.inode(own):
        return Hint((f"{path} is the caller's own user namespace: it cannot be entered again",))
    if kind == "pid" and not _is_below(path, own):
        return Hint(
            (f"{path} is not below the caller's pid namespace, and only such can be joined",),
        )
    return None


def _is_below(path: str, own: str) -> bool:
    """ioctl_nsfs(2): NS_GET_PARENT ends at the caller's own."""
    return nsfs.inode(path) == nsfs.inode(own) or nsfs.has_ancestor(path, nsfs.inode(own) or 0)


def not_the_owner(args: Args, context: HintContext) -> Hint | None:
    """setns(2): joining needs CAP_SYS_ADMIN over the namespace's owner."""
    path = _joined(args, context)
    place = path or "it"
    tip = "join the user namespace that owns it as well: {type: user, path: ...}"
    if 21 not in procfs.capabilities():
        return Hint(
            (f"joining {place} needs CAP_SYS_ADMIN over it, which uid {os.getuid()} does not "
             "have",),
            (tip,),
        )  # fmt: skip
    owner = nsfs.related(path, Ioctl.NS_GET_USERNS) if path else None
    own = nsfs.inode("/proc/self/ns/user")
    entered = any(
        call == "setns" and number(step, 1) == CloneFlag.CLONE_NEWUSER
        for call, step, _ in context.before
    )
    if owner == own and (entered or traced.new_user_namespace(context)):
        return Hint(
            (f"{path} belongs to the caller's user namespace, over which one further in has no "
             "right",),
            ("leave `user` out of namespaces, or join a namespace that it owns",),
        )  # fmt: skip
    return None


# --- ids -------------------------------------------------------------------------------------


def map_refused(args: Args, context: HintContext) -> Hint | None:
    """write(2) to uid_map or gid_map: the rules of user_namespaces(7)."""
    opened = traced.made_by(context, text(args, 0))
    name = text(opened[1], 1).rpartition("/")[2] if opened is not None else ""
    if name not in ("uid_map", "gid_map"):
        return None
    kind, lines = name[:3], traced.triples(text(args, 1))
    own = procfs.id_map(kind)
    for _, outside, size in lines:
        if not any(m.inside <= outside and outside + size <= m.inside + m.size for m in own):
            return Hint(
                (f"host {kind}s {outside} to {outside + size - 1} are not all mapped in the "
                 "caller's own user namespace",),
            )  # fmt: skip
    held = procfs.capabilities()
    if any(outside == 0 for _, outside, _ in lines) and kind == "uid" and _SETFCAP not in held:
        return Hint(
            ("mapping uid 0 of the host needs CAP_SETFCAP, which the caller does not have",),
            ("run nsrun with CAP_SETFCAP, or map ids above 0: idmap: auto",),
        )
    needed = {"uid": _SETUID, "gid": _SETGID}[kind]
    caller = {"uid": os.geteuid(), "gid": os.getegid()}[kind]
    if needed not in held and (len(lines) != 1 or lines[0][1:] != (caller, 1)):
        return Hint(
            (f"without CAP_SET{kind.upper()} the caller may map its own {kind} {caller} alone",),
        )
    return None


def helper_failed(args: Args, context: HintContext) -> Hint | None:
    """newuidmap(1): its set-uid bit, what keeps that from working, and the lines of /etc/subuid."""
    del context
    program = text(args, 0)
    kind = {"newuidmap": "uid", "newgidmap": "gid"}.get(os.path.basename(program))
    if kind is None:
        return None
    lines = traced.triples(" ".join(map(str, args[2:])))
    return _not_privileged(program) or _not_in_file(kind, lines)


def _not_privileged(program: str) -> Hint | None:
    status = os.stat(program)
    capable = "security.capability" in os.listxattr(program)
    if os.getuid() == 0:
        return None
    if not capable and (not status.st_mode & 0o4000 or status.st_uid != 0):
        return Hint(
            (f"{program} is not set-uid root (mode 0{status.st_mode & 0o7777:o}, owner "
             f"{status.st_uid})",),
            (f"chown root {program} && chmod u+s {program}, as root",),
        )  # fmt: skip
    if procfs.status().get("NoNewPrivs") == "1":
        return Hint(
            (f"no_new_privs is set for nsrun, so that {program} gets no right of its own",),
            ("idmap: root, which needs no helper",),
        )
    mount = procfs.mount_of(program)
    if mount is not None and "nosuid" in mount.options:
        return Hint((f"{program} lies on {mount.target}, which is mounted nosuid",))
    return None


def _not_in_file(kind: str, lines: list[tuple[int, int, int]]) -> Hint | None:
    own = os.getuid() if kind == "uid" else os.getgid()
    name = ids.user_name(os.getuid()) or str(os.getuid())
    held = ids.subordinates(f"/etc/sub{kind}", os.getuid(), ids.user_name(os.getuid()))
    for _, outside, size in lines:
        if (outside, size) == (own, 1):
            continue
        if not any(r.start <= outside and outside + size <= r.start + r.size for r in held):
            return Hint(
                (f"/etc/sub{kind} has no line of {name} that holds {outside} to "
                 f"{outside + size - 1}",),
                (f"usermod --add-sub{kind}s {outside}-{outside + size - 1} {name}, as root",),
            )  # fmt: skip
    return None


def not_mapped(args: Args, context: HintContext) -> Hint | None:
    """setresuid(2): EINVAL is an id without a mapping."""
    del context
    ident = number(args, 0)
    return Hint((f"id {ident} is not mapped into the user namespace",)) if ident else None


def setgroups_denied(args: Args, context: HintContext) -> Hint | None:
    """user_namespaces(7): setgroups is denied for good in some namespaces."""
    del args, context
    if (procfs.read("/proc/self/setgroups") or "").strip() == "deny":
        return Hint(("/proc/self/setgroups says deny, for this namespace and all below it",))
    return None


def hard_limit(args: Args, context: HintContext) -> Hint | None:
    """setrlimit(2): raising a hard limit needs CAP_SYS_RESOURCE."""
    del context
    which = number(args, 1)
    if which is None or 24 in procfs.capabilities():
        return None
    hard = resource.getrlimit(which)[1]
    word = "unlimited" if hard == resource.RLIM_INFINITY else str(hard)
    return Hint((f"the hard limit is {word}, and raising it needs CAP_SYS_RESOURCE",))
