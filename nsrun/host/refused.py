"""A system call that was refused to a traced process, and the wall that has refused it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass, field

from nsrun.host import nsfs, procfs
from nsrun.host.actor import Actor
from nsrun.kernel.abi import CloneFlag, Ioctl
from nsrun.kernel.namespaces import PROC_NAMES

# ioctl_nsfs(2): the initial user namespace has this number (PROC_USER_INIT_INO).
_INITIAL_USER = 0xEFFFFFFD


@dataclass(frozen=True, slots=True, kw_only=True)
class Wall:
    """``kind``: its name for people, "" where none was found; ``why``: what was seen; ``path``: the
    key of a spec that it comes from, ``target``: a path inside that it is about; ``help``."""

    kind: str
    why: str
    path: str = ""
    target: str = ""
    help: str = ""


UNKNOWN = Wall(kind="", why="no wall that can be seen from outside explains it")


@dataclass(frozen=True, slots=True)
class Rules:
    """A Landlock ruleset: the rights it handles, on files and of the network, its scopes, and by
    (device, inode) what is allowed below."""

    handled: int
    network: int = 0
    scoped: int = 0
    allowed: dict[tuple[int, int], int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """``pid`` is stopped at the end of the call. ``paths``: the container's paths that it names, as
    they are from the root. ``layers``: the Landlock rulesets it is under."""

    pid: int
    name: str
    arguments: tuple[int, ...]
    errno: int
    paths: tuple[str, ...] = ()
    flags: int = 0
    layers: tuple[Rules, ...] = ()
    family: int | None = None
    port: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Of a process, in the ids of who looks."""

    actor: Actor
    effective: frozenset[int]
    bounding: frozenset[int]
    own_user_namespace: bool
    uids: tuple[tuple[int, int, int], ...]
    gids: tuple[tuple[int, int, int], ...]


def credentials(pid: int) -> Credentials:
    """Raises OSError, KeyError or ValueError where they cannot be read."""
    status = procfs.status(str(pid))
    uids = tuple((m.inside, m.outside, m.size) for m in procfs.id_map("uid", str(pid)))
    gids = tuple((m.inside, m.outside, m.size) for m in procfs.id_map("gid", str(pid)))
    # Of the four ids the last is that of file accesses (proc_pid_status(5)).
    uid, gid = (int(status[name].split()[3]) for name in ("Uid", "Gid"))
    effective = procfs.bits(status["CapEff"])
    own = os.stat(f"/proc/{pid}/ns/user").st_ino != _INITIAL_USER
    return Credentials(
        actor=Actor(
            uid=uid,
            gid=gid,
            groups=tuple(int(word) for word in status["Groups"].split()),
            shown=inside(uids, uid),
            # CAP_DAC_OVERRIDE
            capable=1 in effective,
            uids=list(uids) if own else None,
            gids=list(gids) if own else None,
        ),
        effective=effective,
        bounding=procfs.bits(status["CapBnd"]),
        own_user_namespace=own,
        uids=uids,
        gids=gids,
    )


def inside(lines: tuple[tuple[int, int, int], ...], outside: int) -> int:
    """The container's id of a host's, the host's own without a mapping."""
    for first, start, size in lines:
        if start <= outside < start + size:
            return first + outside - start
    return outside


def is_mapped(lines: tuple[tuple[int, int, int], ...], ident: int) -> bool:
    """Whether the container has an id, which is one of its own."""
    return any(first <= ident < first + size for first, _, size in lines)


_CAP = {
    "CHOWN": 0, "FOWNER": 3, "KILL": 5, "SETGID": 6, "SETUID": 7, "SETPCAP": 8,
    "NET_BIND_SERVICE": 10, "NET_ADMIN": 12, "NET_RAW": 13, "IPC_LOCK": 14, "SYS_MODULE": 16,
    "SYS_RAWIO": 17, "SYS_CHROOT": 18, "SYS_PTRACE": 19, "SYS_PACCT": 20, "SYS_ADMIN": 21,
    "SYS_BOOT": 22, "SYS_NICE": 23, "SYS_RESOURCE": 24, "SYS_TIME": 25, "MKNOD": 27,
    "SYSLOG": 34,
}  # fmt: skip
# What the kernel asks for (capabilities(7), and each call's page), and whether it must be held in
# the initial user namespace (capable(), not ns_capable()).
_ASKED: dict[str, tuple[str, bool]] = {
    **dict.fromkeys(
        ("mount", "umount2", "pivot_root", "move_mount", "fsopen", "fsmount", "fspick",
         "mount_setattr", "sethostname", "setdomainname", "setns"), ("SYS_ADMIN", False),
    ),
    **dict.fromkeys(("swapon", "swapoff", "quotactl", "fanotify_init"), ("SYS_ADMIN", True)),
    **dict.fromkeys(
        ("settimeofday", "clock_settime", "adjtimex", "clock_adjtime"), ("SYS_TIME", True)
    ),
    **dict.fromkeys(("init_module", "finit_module", "delete_module"), ("SYS_MODULE", True)),
    **dict.fromkeys(("iopl", "ioperm"), ("SYS_RAWIO", True)),
    **dict.fromkeys(("setuid", "setreuid", "setresuid"), ("SETUID", False)),
    **dict.fromkeys(("setgid", "setregid", "setresgid", "setgroups"), ("SETGID", False)),
    **dict.fromkeys(
        ("setpriority", "sched_setscheduler", "sched_setparam", "sched_setattr"),
        ("SYS_NICE", True),
    ),
    **dict.fromkeys(("setrlimit", "prlimit64"), ("SYS_RESOURCE", True)),
    "acct": ("SYS_PACCT", True),
    "syslog": ("SYSLOG", True),
    "reboot": ("SYS_BOOT", False),
    "chroot": ("SYS_CHROOT", False),
}  # fmt: skip
_MOUNTING = ("mount", "umount2", "pivot_root", "move_mount", "fsmount", "mount_setattr")
_NAMESPACES = sum(
    int(flag)
    for flag in (
        CloneFlag.CLONE_NEWNS, CloneFlag.CLONE_NEWUTS, CloneFlag.CLONE_NEWIPC,
        CloneFlag.CLONE_NEWPID, CloneFlag.CLONE_NEWNET, CloneFlag.CLONE_NEWCGROUP,
    )
)  # fmt: skip
# Of these EACCES is an answer to a lack of capability as well.
_EITHER = ("bind", "setpriority")
_OWNED = ("chmod", "fchmod", "fchmodat", "fchmodat2", "utime", "utimes", "utimensat", "futimesat")
_CHOWN = ("chown", "lchown", "fchown", "fchownat")
_AF_INET, _AF_INET6, _AF_PACKET, _SOCK_RAW = 2, 10, 17, 3
# asm-generic/socket.h: SO_SNDBUFFORCE, SO_RCVBUFFORCE
_SOL_SOCKET, _SO_ADMIN = 1, (32, 33)
# linux/landlock.h: LANDLOCK_SCOPE_SIGNAL
_SIGNALS = 2
_DEVICE = (0o020000, 0o060000)


def of_rights(call: Refused, who: Credentials) -> Wall | None:
    """The capability that the kernel asks for, and the caller has not, or not where it counts;
    and ids that the user namespace does not have."""
    return _unmapped(call, who) or _lacking(call, who)


def _unmapped(call: Refused, who: Credentials) -> Wall | None:
    if call.errno != errno.EINVAL:
        return None
    for kind, ident in _ids(call):
        lines = who.uids if kind == "uid" else who.gids
        if ident != 0xFFFF_FFFF and lines and not is_mapped(lines, ident):
            return Wall(
                kind="user namespace",
                why=f"{kind} {ident} is not mapped in its user namespace",
                path="idmap",
                help=f"a map that holds {kind} {ident} under `idmap`",
            )
    return None


def _ids(call: Refused) -> Iterator[tuple[str, int]]:
    numbers = [value & 0xFFFF_FFFF for value in call.arguments]
    match call.name:
        case "chown" | "lchown" | "fchown":
            yield from (("uid", numbers[1]), ("gid", numbers[2]))
        case "fchownat":
            yield from (("uid", numbers[2]), ("gid", numbers[3]))
        case "setuid" | "setreuid" | "setresuid":
            count = {"setuid": 1, "setreuid": 2, "setresuid": 3}[call.name]
            yield from (("uid", number) for number in numbers[:count])
        case "setgid" | "setregid" | "setresgid":
            count = {"setgid": 1, "setregid": 2, "setresgid": 3}[call.name]
            yield from (("gid", number) for number in numbers[:count])
        case _:
            return


def _asked(call: Refused) -> tuple[str, bool] | None:
    first, second = call.arguments[0], call.arguments[1]
    match call.name:
        case "socket" if first == _AF_PACKET or second & 0xF == _SOCK_RAW:
            return "NET_RAW", False
        case "bind" if call.port and call.port < _first_free_port(call.pid):
            return "NET_BIND_SERVICE", False
        case "unshare" | "clone" if first & _NAMESPACES and not first & CloneFlag.CLONE_NEWUSER:
            return "SYS_ADMIN", False
        case "mknod" if second & 0o170000 in _DEVICE:
            return "MKNOD", True
        case "mknodat" if call.arguments[2] & 0o170000 in _DEVICE:
            return "MKNOD", True
        case "setsockopt" if second == _SOL_SOCKET and call.arguments[2] in _SO_ADMIN:
            return "NET_ADMIN", False
        case "kill" | "tgkill" | "tkill" if not any(r.scoped & _SIGNALS for r in call.layers):
            return "KILL", False
        case name if name in _CHOWN:
            return "CHOWN", False
        case _:
            return _ASKED.get(call.name)


def _first_free_port(pid: int) -> int:
    """net.ipv4.ip_unprivileged_port_start of the network namespace: what it is for us, if it is
    the same one."""
    try:
        if not os.path.samefile(f"/proc/{pid}/ns/net", "/proc/self/ns/net"):
            return 1024
    except OSError:
        return 0
    return procfs.sysctl("net.ipv4.ip_unprivileged_port_start") or 0


def _lacking(call: Refused, who: Credentials) -> Wall | None:
    wanted = _asked(call)
    errnos = (errno.EPERM, errno.EACCES) if call.name in _EITHER else (errno.EPERM,)
    if wanted is None or call.errno not in errnos:
        return None
    name, initial = f"CAP_{wanted[0]}", wanted[1]
    if _CAP[wanted[0]] not in who.effective:
        return _not_held(name, who, useless=initial and who.own_user_namespace)
    kind = _over(call, wanted[0])
    if kind and not initial and _is_outer(call.pid, kind):
        return Wall(
            kind="user namespace",
            why=f"{name} does not count over its {kind} namespace, which belongs to another user "
            "namespace",
            path="namespaces",
            help=f"`{kind}` in the list `namespaces`",
        )
    if initial and who.own_user_namespace:
        return Wall(
            kind="user namespace",
            why=f"{name} of a user namespace does not count: the kernel asks for the host's",
            path="namespaces",
        )
    return None


def _not_held(name: str, who: Credentials, *, useless: bool) -> Wall:
    """``useless``: the capability would not count here if it were held."""
    why = f"it needs {name}, which the process does not have in its effective set"
    if _CAP[name.removeprefix("CAP_")] in who.bounding and who.actor.shown:
        # capabilities(7): a change from uid 0 to another takes all that is effective.
        return Wall(
            kind="capability",
            why=f"{why}: it is another user than root, uid {who.actor.shown}",
            path="user",
            help="" if useless else "root inside for what takes it",
        )
    return Wall(
        kind="capability",
        why=why,
        path="capabilities",
        help="" if useless else f"capabilities: {{add: [{name}]}}",
    )


def _over(call: Refused, capability: str) -> str:
    """The kind of the namespace over whose owner a capability is asked for, "" for others."""
    if capability.startswith("NET_"):
        return "network"
    if call.name in ("sethostname", "setdomainname"):
        return "uts"
    return "mount" if call.name in _MOUNTING else ""


def _is_outer(pid: int, kind: str) -> bool:
    """Whether a namespace of ``pid`` belongs to another user namespace than it is in itself."""
    folder = f"/proc/{pid}/ns"
    owner = nsfs.related(f"{folder}/{PROC_NAMES[kind]}", Ioctl.NS_GET_USERNS)
    own = nsfs.inode(f"{folder}/user")
    return None not in (owner, own) and owner != own


def is_chown(name: str) -> bool:
    """A call that takes CAP_CHOWN over the file (capable_wrt_inode_uidgid)."""
    return name in _CHOWN


def is_owners(name: str) -> bool:
    """A call that is the file's owner's (inode_owner_or_capable), or CAP_FOWNER's."""
    return name in _OWNED
