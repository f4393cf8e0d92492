"""The launcher's own preparations and the clone: which process makes or joins what, and when.

Usually one clone3(2) makes every namespace. A *stage*, a process between the launcher and
the command, is needed where the kernel has no other order:

- a joined pid namespace takes in only children of the process that joins it (setns(2)),
- the offsets of a time namespace are written before the first process is in it,
- namespaces of the caller are joined before a new user namespace takes the right to do so,
- namespaces made beside a joined user namespace belong to it only if made after joining.

The stage clones the final process as the launcher's own child (CLONE_PARENT), hands its
pidfd over and ends.

    launcher  ●── clone3 ──▶ stage ── join, offsets ── clone3(CLONE_PARENT) ──▶ command
"""

from __future__ import annotations

import dataclasses
import signal
from collections.abc import Iterable
from dataclasses import dataclass

from nsrun.kernel import abi, calls, sockets
from nsrun.kernel.abi import CloneFlag
from nsrun.kernel.facts import Facts
from nsrun.kernel.namespaces import FLAGS
from nsrun.kernel.namespaces import PROC_NAMES as NAMES
from nsrun.kernel.values import Fmt, Int, Reg, RegKind, Str
from nsrun.plan import cgroup
from nsrun.plan.draft import Draft
from nsrun.plan.identity import Identity, Maps, Writer
from nsrun.plan.labels import take_proc
from nsrun.plan.model import Action
from nsrun.plan.ops import Clone, Op, ReceiveFd, Signal, Spawn, Wait
from nsrun.plan.watch import attach_tracer
from nsrun.spec.model import IdRange, Namespace, NamespaceType, Spec

CLONE_FLAGS: dict[NamespaceType, CloneFlag] = {kind: FLAGS[kind.value] for kind in NamespaceType}
# The name of each kind below /proc/PID/ns.
PROC_NAMES: dict[NamespaceType, str] = {kind: NAMES[kind.value] for kind in NamespaceType}
_OOM_SCORE = "set the out-of-memory score to "
_SIGNALS_IGNORED_BY_PYTHON = (int(signal.SIGPIPE), int(signal.SIGXFSZ))


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """The registers that the later parts of a plan refer to.

    ``outer`` and ``inner``: the parent's and the child's end of the channel. ``child`` and
    ``pidfd``: the process that becomes the command. ``early``: the position in the draft just
    before the child is started, for what the launcher must have seen by then. ``proc``: the
    host's /proc in the child, where the command is to be labelled.
    """

    outer: Reg
    inner: Reg
    signals: Reg
    child: Reg
    pidfd: Reg
    name_socket: Reg
    early: int
    proc: Reg | None = None


def needs_stage(spec: Spec) -> bool:
    """Whether a process between launcher and command is needed (see above)."""
    joined = {n.type for n in spec.namespaces if n.joined}
    new = {n.type for n in spec.namespaces if not n.joined}
    return (
        NamespaceType.PID in joined
        or _has_offsets(spec)
        or (NamespaceType.USER in new and bool(joined))
        or (NamespaceType.USER in joined and bool(new))
    )


def joins(spec: Spec) -> bool:
    """Whether it enters namespaces that others are in."""
    return any(namespace.joined for namespace in spec.namespaces)


def _has_offsets(spec: Spec) -> bool:
    time = spec.namespace(NamespaceType.TIME)
    return time is not None and (time.boottime, time.monotonic) != (None, None)


def launch(
    draft: Draft,
    facts: Facts,
    identity: Identity,
    notify: str = "",
    tracer: tuple[str, ...] = (),
) -> Launch:
    """Everything from the first act of the launcher to the child in its namespaces, mapped.

    ``tracer``: the words of a program that is to trace what joins namespaces.
    """
    regs = _prepare(draft, facts)
    groups = cgroup.make_groups(draft, facts, notify)
    begin = _clone_through_stage if needs_stage(draft.spec) else _clone
    proc = begin(draft, facts, identity, regs, groups, tracer if joins(draft.spec) else ())
    return dataclasses.replace(regs, proc=proc)


# --- the launcher ----------------------------------------------------------------------------


def _prepare(draft: Draft, facts: Facts) -> Launch:
    outer, inner = draft.reg("chan"), draft.reg("peer")
    signals, name_socket = draft.reg("signals"), draft.reg("name")
    draft.parent(
        "block signals, to be read from a descriptor",
        calls.rt_sigprocmask(abi.SigprocmaskHow.SIG_SETMASK, calls.ALL_SIGNALS),
        calls.signalfd4(
            calls.ALL_SIGNALS,
            abi.SignalfdFlag.SFD_CLOEXEC | abi.SignalfdFlag.SFD_NONBLOCK,
            save=signals,
        ),
        rule="no signal is lost",
    )
    draft.parent(
        "open the control channel",
        sockets.socketpair(first=outer, second=inner),
        rule="control channel",
    )
    draft.parent(
        "adopt orphans",
        calls.prctl(abi.Prctl.PR_SET_CHILD_SUBREAPER, Int(1)),
        rule="no process is left behind",
    )
    draft.parent(
        f"reserve the name {draft.spec.name}",
        sockets.socket_unix(save=name_socket),
        # A second run of one name is not to be joined by it, but is no error.
        calls.allow(
            sockets.bind_abstract(name_socket, name_address(facts.uid, draft.spec.name)),
            accept=("EADDRINUSE",),
        ),
        at="name" if "name" in draft.spec.spans else "",
        rule="found by name while it runs",
    )
    return Launch(
        outer=outer,
        inner=inner,
        signals=signals,
        child=draft.reg("child", RegKind.PID),
        pidfd=draft.reg("pidfd"),
        name_socket=name_socket,
        early=len(draft.actions),
    )


def name_address(uid: int, name: str) -> str:
    """The abstract socket by which a running container of ``uid`` is found."""
    return f"nsrun/{uid}/{name}"


# --- clone -----------------------------------------------------------------------------------


def _clone(
    draft: Draft,
    facts: Facts,
    identity: Identity,
    regs: Launch,
    groups: tuple[Reg, ...],
    tracer: tuple[str, ...],
) -> Reg | None:
    spec = draft.spec
    new = [n for n in spec.namespaces if not n.joined]
    # clone(2): a new cgroup namespace has the group of the caller as its root.
    wanted = [n for n in new if not (groups and n.type is NamespaceType.CGROUP)]
    _first_clone(draft, wanted, regs.child, regs.pidfd)
    _child_begins(draft, regs, groups)
    proc = take_proc(draft, facts)
    if wanted != new:
        cgroup.new_namespace(draft)
    _claim_name(draft, regs)
    _maps_in_step(draft, facts, identity, regs, regs.child)
    _oom_score(draft)
    if tracer:
        attach_tracer(draft, regs, tracer, regs.child)
    _not_dumpable(draft)
    _join(draft, facts)
    return proc


def _clone_through_stage(
    draft: Draft,
    facts: Facts,
    identity: Identity,
    regs: Launch,
    groups: tuple[Reg, ...],
    tracer: tuple[str, ...],
) -> Reg | None:
    spec = draft.spec
    stage = draft.reg("stage", RegKind.PID)
    stagefd = draft.reg("stagefd")
    user = spec.namespace(NamespaceType.USER)
    early = [user] if user is not None and not user.joined and not joins(spec) else []
    later = [
        n
        for n in spec.namespaces
        if not n.joined and n not in early and n.type is not NamespaceType.TIME
    ]
    time = spec.namespace(NamespaceType.TIME)
    _first_clone(draft, early, stage, stagefd)
    _child_begins(draft, regs, groups)
    proc = take_proc(draft, facts)
    if early:
        _maps_in_step(draft, facts, identity, regs, stage)
    _oom_score(draft)
    # Both write to /proc/self, which belongs to root once the process is not dumpable; but
    # what is made beside a joined user namespace is made after joining.
    new_time = time is not None and not time.joined
    time_first = new_time and (user is None or not user.joined)
    if time is not None and time_first:
        _new_time(draft, time)
    if tracer:
        attach_tracer(draft, regs, tracer, stage)
    _not_dumpable(draft)
    _join(draft, facts)
    if time is not None and new_time and not time_first:
        _new_time(draft, time)
    _second_clone(draft, regs, later)
    draft.parent(
        "take over the process of the command",
        ReceiveFd(
            sync="cloned",
            channel=regs.outer,
            save=regs.pidfd,
            value=regs.child,
            signals=regs.signals,
        ),
        calls.waitid_reap(stagefd),
        rule="the command is the launcher's own child",
        undo=_kill(regs.pidfd),
    )
    _die_with_parent(draft)
    # ioctl_tty(2): only the leader of a session takes a terminal, and the stage leads its own.
    draft.child("lead a session of its own", calls.setsid(), rule="nothing is inherited")
    _claim_name(draft, regs)
    if identity.maps is not None and not early:
        draft.child(
            "open /proc/self for the id maps",
            calls.prctl(abi.Prctl.PR_SET_DUMPABLE, Int(1)),
            rule="the maps are written through /proc",
        )
        _maps_in_step(draft, facts, identity, regs, regs.child)
        _not_dumpable(draft)
    return proc


def _flags(namespaces: list[Namespace]) -> CloneFlag:
    value = CloneFlag(0)
    for namespace in namespaces:
        value |= CLONE_FLAGS[namespace.type]
    return value


def _first_clone(draft: Draft, made: list[Namespace], pid: Reg, pidfd: Reg) -> None:
    value = _flags(made) | CloneFlag.CLONE_CLEAR_SIGHAND
    text = abi.flag_text(int(value | CloneFlag.CLONE_PIDFD), CloneFlag)
    names = ", ".join(n.type.value for n in made)
    draft.parent(
        f"start the child with new namespaces: {names}" if made else "start the child",
        Clone(
            flags=Int(int(value | CloneFlag.CLONE_PIDFD), text),
            exit_signal=Int(int(signal.SIGCHLD), "SIGCHLD"),
            pid=pid,
            pidfd=pidfd,
        ),
        at="namespaces",
        undo=_kill(pidfd),
    )


def _kill(pidfd: Reg) -> tuple[Op, ...]:
    kill = calls.pidfd_send_signal(pidfd, Int(int(signal.SIGKILL), "SIGKILL"))
    return (calls.allow(kill, accept=("ESRCH",)),)


def _second_clone(draft: Draft, regs: Launch, made: list[Namespace]) -> None:
    # clone3(2): with CLONE_PARENT the exit signal is the caller's and must be given as 0.
    value = (
        _flags(made)
        | CloneFlag.CLONE_CLEAR_SIGHAND
        | CloneFlag.CLONE_PARENT
        | CloneFlag.CLONE_PIDFD
    )
    names = ", ".join(n.type.value for n in made)
    draft.child(
        f"go on in a new process with new namespaces: {names}"
        if made
        else "go on in a new process",
        Clone(
            flags=Int(int(value), abi.flag_text(int(value), CloneFlag)),
            exit_signal=Int(0),
            pid=draft.reg("inner", RegKind.PID),
            pidfd=draft.reg("innerfd"),
            hand_over=True,
            sync="cloned",
            channel=regs.inner,
        ),
        at="namespaces",
    )


def _child_begins(draft: Draft, regs: Launch, groups: tuple[Reg, ...]) -> None:
    draft.parent("keep one end of the channel", calls.close(regs.inner), rule="control channel")
    draft.child("keep one end of the channel", calls.close(regs.outer), rule="control channel")
    cgroup.enter(draft, groups)
    _die_with_parent(draft)
    draft.child(
        "leave the caller's keyring, session and mask",
        # ENOSYS: a kernel without keys has no keyring to leave.
        calls.allow(calls.keyctl_join_session(), accept=("ENOSYS",)),
        calls.setsid(),
        calls.umask(0),
        rule="nothing is inherited",
    )


def _die_with_parent(draft: Draft) -> None:
    draft.child(
        "end when the launcher ends",
        calls.prctl(abi.Prctl.PR_SET_PDEATHSIG, Int(int(signal.SIGKILL), "SIGKILL")),
        rule="no process is left behind",
    )


def _claim_name(draft: Draft, regs: Launch) -> None:
    draft.child(
        f"be found as {draft.spec.name}",
        # EINVAL: the name was taken, so the socket was not bound.
        calls.allow(sockets.listen(regs.name_socket, 4096), accept=("EINVAL",)),
        rule="found by name while it runs",
    )


def _not_dumpable(draft: Draft) -> None:
    # A process that is not dumpable cannot be traced, nor its /proc files be opened, by a
    # process of the namespaces it enters (CVE-2016-9962); execve makes it dumpable again.
    draft.child(
        "close /proc/self to others",
        calls.prctl(abi.Prctl.PR_SET_DUMPABLE, Int(0)),
        rule="no descriptor leaks while joining",
    )


def _oom_score(draft: Draft) -> None:
    score = draft.spec.oom_score_adj
    if score is not None:
        draft.child(
            f"{_OOM_SCORE}{score}",
            *_write_proc(draft.reg("oom"), "/proc/self/oom_score_adj", str(score)),
            at="oom_score_adj",
        )


def planned_oom_score(actions: Iterable[Action]) -> int | None:
    """The out-of-memory score of a plan that was made before, None where it sets none."""
    found = (a.what.removeprefix(_OOM_SCORE) for a in actions if a.what.startswith(_OOM_SCORE))
    return next(map(int, found), None)


# --- join ------------------------------------------------------------------------------------


def _join(draft: Draft, facts: Facts) -> None:
    """Open every file first (a joined mount namespace hides the rest), then enter, user first."""
    joined = sorted(
        (n for n in draft.spec.namespaces if n.joined),
        key=lambda n: (n.type is not NamespaceType.USER, n.type is NamespaceType.MOUNT),
    )
    opened: list[tuple[Namespace, Reg, str]] = []
    for namespace in joined:
        at = _place(draft.spec, namespace)
        path = _join_path(draft, facts, namespace, at)
        reg = draft.reg(f"{namespace.type.value}ns")
        draft.child(
            f"open the {namespace.type.value} namespace {path}",
            calls.openat(calls.CWD, path, abi.OpenFlag.O_CLOEXEC, save=reg),
            at=at,
        )
        opened.append((namespace, reg, at))
    for namespace, reg, at in opened:
        draft.child(
            f"join the {namespace.type.value} namespace",
            calls.setns(reg, int(CLONE_FLAGS[namespace.type])),
            calls.close(reg),
            at=at,
        )


def _place(spec: Spec, namespace: Namespace) -> str:
    return f"namespaces[{spec.namespaces.index(namespace)}]"


def _join_path(draft: Draft, facts: Facts, namespace: Namespace, at: str) -> str:
    if namespace.join_path is not None:
        return namespace.join_path
    pid = namespace.join_pid
    if namespace.join_container is not None:
        pid = facts.containers.get(namespace.join_container)
        if pid is None:
            draft.refuse(
                "NS404",
                f"no container {namespace.join_container} is running",
                at,
                f"start it first: nsrun {namespace.join_container}.yaml",
            )
    elif pid not in facts.pids:
        draft.refuse("NS404", f"no process {pid} is running", at)
    return f"/proc/{pid}/ns/{PROC_NAMES[namespace.type]}"


def _new_time(draft: Draft, time: Namespace) -> None:
    at = _place(draft.spec, time)
    steps: list[Op] = [calls.unshare(CloneFlag.CLONE_NEWTIME)]
    lines = [
        f"{clock} {offset // 10**9} {offset % 10**9}\n"
        for clock, offset in (("monotonic", time.monotonic), ("boottime", time.boottime))
        if offset is not None
    ]
    if lines:
        fd = draft.reg("offsets")
        steps += _write_proc(fd, "/proc/self/timens_offsets", "".join(lines))
    draft.child("make a time namespace with its offsets", *steps, at=at)


# --- id maps ---------------------------------------------------------------------------------


def _maps_in_step(
    draft: Draft, facts: Facts, identity: Identity, regs: Launch, process: Reg
) -> None:
    """The parent writes the maps while the child waits: it alone has the right to."""
    if identity.maps is None:
        return
    write_maps(draft, facts, identity.maps, process)
    rule = "" if "idmap" in draft.spec.spans else "default idmap"
    draft.parent(
        "tell the child that its ids are mapped",
        Signal(sync="mapped", channel=regs.outer),
        at="idmap",
        rule=rule,
    )
    wait = Wait(sync="mapped", channel=regs.inner)
    draft.child("wait for the id maps", wait, at="idmap", rule=rule)


def write_maps(draft: Draft, facts: Facts, maps: Maps, process: Reg) -> None:
    """setgroups, gid_map and uid_map of a process (user_namespaces(7))."""
    if maps.deny_setgroups:
        draft.parent(
            "deny setgroups, so that the gid map can be written",
            *_write_proc(draft.reg("setgroups"), _proc(process, "setgroups"), "deny"),
            rule="an unprivileged gid_map",
        )
    for kind, ranges, writer in (
        ("uid", maps.uid, maps.uid_writer),
        ("gid", maps.gid, maps.gid_writer),
    ):
        if not ranges:
            continue
        at = f"idmap.{kind}" if f"idmap.{kind}" in draft.spec.spans else "idmap"
        rule = "" if "idmap" in draft.spec.spans else "default idmap"
        what = f"map {kind}s {_in_words(ranges)}"
        if writer is Writer.DIRECT:
            text = "".join(f"{r.container} {r.host} {r.size}\n" for r in ranges)
            steps = _write_proc(draft.reg(f"{kind}map"), _proc(process, f"{kind}_map"), text)
        else:
            steps = [_helper(facts, kind, ranges, process)]
        draft.parent(what, *steps, at=at, rule=rule)


def _helper(facts: Facts, kind: str, ranges: tuple[IdRange, ...], process: Reg) -> Spawn:
    program = facts.newuidmap if kind == "uid" else facts.newgidmap
    numbers = [str(n) for r in ranges for n in (r.container, r.host, r.size)]
    return Spawn(
        argv=(Str(program or ""), Fmt((process,)), *(Str(n) for n in numbers)),
        timeout=30 * 10**9,
    )


def _in_words(ranges: tuple[IdRange, ...]) -> str:
    return ", ".join(
        f"{r.container}={r.host}" if r.size == 1 else f"{r.container}={r.host} ({r.size})"
        for r in ranges
    )


def _proc(process: Reg, name: str) -> Fmt:
    return Fmt(("/proc/", process, f"/{name}"))


def _write_proc(fd: Reg, path: str | Fmt, text: str) -> list[Op]:
    """Write to a file below /proc, having seen that it lies on procfs (CVE-2025-52881)."""
    return [
        calls.openat(calls.CWD, path, abi.OpenFlag.O_WRONLY | abi.OpenFlag.O_CLOEXEC, save=fd),
        calls.fstatfs(fd, abi.Magic.PROC_SUPER_MAGIC),
        calls.write(fd, text.encode()),
        calls.close(fd),
    ]


def python_ignores(facts: Facts) -> tuple[int, ...]:
    """Signals that are ignored where the child starts: the caller's, and Python's own two."""
    return tuple(sorted({*facts.ignored_signals, *_SIGNALS_IGNORED_BY_PYTHON}))
