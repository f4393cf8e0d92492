"""Another command inside a running container: a spec made from the container as it lives.

Its namespaces, capabilities, ids, limits and variables are those of the container's process, as
/proc shows them now; what runs then is a plan like any other.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from nsrun.diag import Diagnostic, NsrunError
from nsrun.host import groups, paths, procfs
from nsrun.kernel.abi import ID_MAX, Capability, RlimitResource, SeccompFlag
from nsrun.kernel.calls import seccomp_programs
from nsrun.kernel.values import Call
from nsrun.plan.labels import planned_labels
from nsrun.plan.landlock import planned_rules
from nsrun.plan.launch import PROC_NAMES, planned_oom_score
from nsrun.plan.model import Plan, Track
from nsrun.runtime.store import Container, plan_needed
from nsrun.spec.model import (
    Capabilities,
    Namespace,
    NamespaceType,
    Rlimit,
    Seccomp,
    SeccompFilter,
    Spec,
    User,
)

# OCI's names of the five sets, and those of /proc/PID/status (proc_pid_status(5)).
_SETS = {
    "bounding": "CapBnd",
    "effective": "CapEff",
    "inheritable": "CapInh",
    "permitted": "CapPrm",
    "ambient": "CapAmb",
}
_LIMIT_NAMES = {
    "Max cpu time": RlimitResource.RLIMIT_CPU,
    "Max file size": RlimitResource.RLIMIT_FSIZE,
    "Max data size": RlimitResource.RLIMIT_DATA,
    "Max stack size": RlimitResource.RLIMIT_STACK,
    "Max core file size": RlimitResource.RLIMIT_CORE,
    "Max resident set": RlimitResource.RLIMIT_RSS,
    "Max processes": RlimitResource.RLIMIT_NPROC,
    "Max open files": RlimitResource.RLIMIT_NOFILE,
    "Max locked memory": RlimitResource.RLIMIT_MEMLOCK,
    "Max address space": RlimitResource.RLIMIT_AS,
    "Max file locks": RlimitResource.RLIMIT_LOCKS,
    "Max pending signals": RlimitResource.RLIMIT_SIGPENDING,
    "Max msgqueue size": RlimitResource.RLIMIT_MSGQUEUE,
    "Max nice priority": RlimitResource.RLIMIT_NICE,
    "Max realtime priority": RlimitResource.RLIMIT_RTPRIO,
    "Max realtime timeout": RlimitResource.RLIMIT_RTTIME,
}

# Of an id.
_DIGITS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """``user``: uid[:gid] or names of the container's own files; ``env`` replaces or adds, None
    passes the caller's value on. ``kinds``: the namespaces to enter, None for all."""

    command: tuple[str, ...]
    user: str | None = None
    env: Mapping[str, str | None] = field(default_factory=dict)
    cwd: str | None = None
    tty: bool = False
    stdin: bool = False
    kinds: Sequence[NamespaceType] | None = None


def spec_for(container: Container, wanted: Wanted) -> Spec:
    """Raises NsrunError where the container cannot be looked into."""
    pid = container.pid
    status = procfs.status(str(pid))
    if not status:
        raise _gone(container)
    own = container.groups()
    if any(map(groups.is_stopped, own)):
        raise _paused(container)
    ids = _user(container, wanted.user, status)
    plan = plan_needed(
        container, "another command in it gets the filter and the rules of the first"
    )
    apparmor, selinux = planned_labels(plan.actions)
    return Spec(
        name=f"{container.record.name}.exec",
        file=container.record.spec,
        sha256=container.record.sha256,
        namespaces=tuple(_namespaces(container, wanted.kinds)),
        cgroups=tuple(own),
        command=wanted.command,
        env={**_environment(pid), **wanted.env},
        cwd=wanted.cwd or "/",
        user=ids,
        tty=wanted.tty,
        stdin="inherit" if wanted.stdin or wanted.tty else "closed",
        capabilities=_capabilities(status),
        no_new_privileges=status.get("NoNewPrivs") == "1",
        seccomp=_seccomp(plan),
        landlock=planned_rules(plan.actions),
        apparmor=apparmor,
        selinux=selinux,
        rlimits=tuple(_limits(pid)),
        oom_score_adj=_oom_score(plan),
        masked_paths="none",
        readonly_paths="none",
    )


def _gone(container: Container) -> NsrunError:
    return NsrunError(
        Diagnostic(code="NS607", summary=f"the container {container.record.name} has just ended")
    )


def _paused(container: Container) -> NsrunError:
    """It would be stopped in the group before it is executed."""
    name = container.record.name
    return NsrunError(
        Diagnostic(
            code="NS607", summary=f"the container {name} is paused", help=(f"nsrun unpause {name}",)
        )
    )


def _namespaces(container: Container, kinds: Sequence[NamespaceType] | None) -> list[Namespace]:
    """Those of its process that are others than the caller's."""
    found = []
    for kind in NamespaceType:
        name = PROC_NAMES[kind]
        try:
            theirs = os.stat(f"/proc/{container.pid}/ns/{name}").st_ino
            ours = os.stat(f"/proc/self/ns/{name}").st_ino
        except OSError:
            continue
        # The right over the others comes from the user namespace.
        wanted = kinds is None or kind in kinds or kind is NamespaceType.USER
        if theirs != ours and wanted:
            found.append(Namespace(type=kind, join_pid=container.pid))
    return found


def _oom_score(plan: Plan) -> int | None:
    """That of its own command. proc_pid_oom_score_adj(5): to lower it may take a right; without it
    the command keeps the caller's, and is killed the earlier."""
    planned, own = planned_oom_score(plan.actions), procfs.number("/proc/self/oom_score_adj")
    lowers = planned is not None and own is not None and planned < own
    return None if lowers and Capability.CAP_SYS_RESOURCE not in procfs.capabilities() else planned


def _seccomp(plan: Plan) -> Seccomp:
    """The filter that its own command was started with. Nobody is asked about another command's
    calls: what has no listener is refused by the kernel (ENOSYS)."""
    asking = SeccompFlag.SECCOMP_FILTER_FLAG_NEW_LISTENER
    filters = [
        SeccompFilter(program=program, flags=flags & ~asking)
        for placed in plan.track(Track.CHILD)
        if isinstance(placed.op, Call)
        for program, flags in seccomp_programs(placed.op)
    ]
    return filters[-1] if filters else "unconfined"


def _environment(pid: int) -> dict[str, str | None]:
    data = procfs.read(f"/proc/{pid}/environ") or ""
    pairs = (word.partition("=") for word in data.split("\0") if "=" in word)
    return {name: value for name, _, value in pairs}


def _capabilities(status: Mapping[str, str]) -> Capabilities:
    known = {int(c): c.name for c in Capability}
    return Capabilities(
        sets={
            oci: tuple(known[n] for n in sorted(procfs.bits(status.get(name, ""))) if n in known)
            for oci, name in _SETS.items()
        }
    )


def _limits(pid: int) -> list[Rlimit]:
    found = []
    for line in (procfs.read(f"/proc/{pid}/limits") or "").splitlines()[1:]:
        name, rest = line[:26].strip(), line[26:].split()
        if name in _LIMIT_NAMES and len(rest) >= 2:
            soft, hard = (None if word == "unlimited" else int(word) for word in rest[:2])
            short = _LIMIT_NAMES[name].name.removeprefix("RLIMIT_").lower()
            found.append(Rlimit(name=short, soft=soft, hard=hard))
    return found


# --- who -------------------------------------------------------------------------------------


def _user(container: Container, word: str | None, status: Mapping[str, str]) -> User:
    """Numbers as they are inside."""
    if word is None:
        # Of the four of a line, real, effective, saved and file system, the first.
        own = [int(status.get(key, "0").split()[0]) for key in ("Uid", "Gid")]
        inside = (_inside(container.pid, "uid", own[0]), _inside(container.pid, "gid", own[1]))
        groups = [_inside(container.pid, "gid", int(g)) for g in status.get("Groups", "").split()]
        return User(uid=inside[0], gid=inside[1], groups=tuple(groups))
    name, colon, group = word.partition(":")
    passwd, groups_text = _names(container)
    uid: int | None
    if _is_digits(name):
        # Never a name (CVE-2016-3697): only the group of a line with that number is taken.
        uid = _number(name)
        entry = next((f for f in passwd if _number(f[2]) == uid), None)
    else:
        entry = next((f for f in passwd if f[0] == name), None)
        uid = _number(entry[2]) if entry is not None else None
    if uid is None:
        raise _unknown(container, "user", name, "passwd")
    gid: int | None = uid
    if colon:
        line = next((f for f in groups_text if f[0] == group), None)
        gid = _number(group if _is_digits(group) else line[2] if line is not None else "")
    elif entry is not None:
        gid = _number(entry[3])
    if gid is None:
        raise _unknown(container, "group", group or name, "group" if colon else "passwd")
    return User(uid=uid, gid=gid)


def _is_digits(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _number(text: str) -> int | None:
    """None for what is no id: the kernel would take the lower 32 bits, which may be root's
    (CVE-2024-40635), or -1 for the id that is there."""
    if not _is_digits(text) or len(text) > _DIGITS:
        return None
    return int(text) if int(text) <= ID_MAX else None


def _inside(pid: int, kind: str, ident: int) -> int:
    """The container's id of one that /proc shows as the caller's user namespace has it."""
    if os.stat(f"/proc/{pid}/ns/user").st_ino == os.stat("/proc/self/ns/user").st_ino:
        return ident
    for line in procfs.id_map(kind, str(pid)):
        if line.outside <= ident < line.outside + line.size:
            return line.inside + ident - line.outside
    return ident


def _names(container: Container) -> tuple[list[list[str]], list[list[str]]]:
    root = os.open(f"/proc/{container.pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        texts = [paths.read_inside(root, f"/etc/{name}") or "" for name in ("passwd", "group")]
    finally:
        os.close(root)
    passwd, group = ([f for line in t.split("\n") if len(f := line.split(":")) > 3] for t in texts)
    return passwd, group


def _unknown(container: Container, kind: str, name: str, file: str) -> NsrunError:
    numeric = _is_digits(name)
    return NsrunError(
        Diagnostic(
            code="NS317",
            summary=f"{kind} {name} is not known",
            why=(
                f"an id is at most {ID_MAX}"
                if numeric
                else f"it is not in the /etc/{file} of {container.record.name}, with a number",
            ),
            help=() if numeric else ("give the number instead",),
        )
    )
