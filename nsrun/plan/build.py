"""The order of a start, read top to bottom: a spec and facts become a plan.

Pure: no file is opened and no system call made. The same spec and facts give the same plan.

Inside the child the order is this: out of the caller's session and keyring · id maps · joins ·
sources taken as the caller · ids of the container's root · names, loopback · propagation ·
root, default mounts · interfaces, addresses, routes · sysctls · mounts, files, masks · into the
root · limits, label, bounding set, groups, ids, capabilities · death signal, and whether the
launcher still lives · no_new_privs · Landlock · working directory · init, terminal · descriptors,
signals · system calls · the command. The launcher makes its part of the interfaces while the
child mounts.
"""

from __future__ import annotations

from collections.abc import Mapping

from nsrun.kernel import abi, calls, sockets
from nsrun.kernel.facts import Facts, Kind
from nsrun.kernel.values import Call, Int, Reg
from nsrun.plan import assertions, files, masks, mounts, network, process, rootfs, security, usernet
from nsrun.plan.defaults import mount_defaults
from nsrun.plan.draft import Draft
from nsrun.plan.etc import name_files
from nsrun.plan.hooks import run_hooks, when_stopped
from nsrun.plan.identity import Identity, identity, words
from nsrun.plan.labels import name_command
from nsrun.plan.landlock import wall
from nsrun.plan.launch import Launch, joins, launch
from nsrun.plan.listener import listening
from nsrun.plan.model import Needs, Plan, Source, Track
from nsrun.plan.notify import tell_ready
from nsrun.plan.ops import EXEC, Clone, Op, SendFd, Signal, Wait
from nsrun.plan.pins import pin_namespaces
from nsrun.plan.seccomp import confine, confine_init, confinement
from nsrun.plan.tree import Tree
from nsrun.plan.verify import verify
from nsrun.plan.wanted import wanted
from nsrun.plan.watch import attach_tracer, be_readable
from nsrun.spec.model import Namespace, NamespaceType, Spec

OLDEST_KERNEL = "5.15"


def plan(
    spec: Spec,
    facts: Facts,
    *,
    notify: str = "",
    callers: Mapping[NamespaceType, int] | None = None,
    tracer: tuple[str, ...] = (),
) -> Plan:
    """The program that starts ``spec`` on the machine of ``facts``.

    ``notify``: the path of a socket that is told when the command runs, "" for none. ``callers``:
    in the command's place the spec's expectations are looked at; the inode numbers of the
    namespaces that its caller is in. ``tracer``: the words of a program that is to trace the
    command, to which its pid is added.
    Raises NsrunError (NS3xx, NS4xx) with everything that this machine or caller cannot do.
    """
    draft = Draft(spec)
    _require(draft, facts)
    who = identity(draft, facts)
    started = launch(draft, facts, who, notify, tracer)
    connected = network.connect(draft, facts, started)
    if callers is not None:
        assertions.look_at_namespaces(draft, callers)
    tree = _furnish(draft, facts, who, started, connected)
    pty = process.open_terminal(draft, who, started, tree)
    # Detached, a standard input that is to be held open is the monitor's to hold, for attach.
    held = bool(notify) and spec.stdin == "open"
    stdin = None if held else process.open_stdin(draft, started)
    _enter(draft, tree)
    looking = callers is not None
    _limit_and_run(draft, facts, who, started, pty, stdin, notify, looking=looking, tracer=tracer)
    return finished(draft, facts)


# --- what the machine must have --------------------------------------------------------------


def _require(draft: Draft, facts: Facts) -> None:
    for number, namespace in enumerate(draft.spec.namespaces):
        at = f"namespaces[{number}]"
        kind = namespace.type.value
        if facts.namespaces and kind not in facts.namespaces:
            draft.refuse("NS401", f"this kernel has no {kind} namespaces", at)
        else:
            _require_right(draft, facts, namespace, at)
    for device in draft.spec.devices:
        fact = facts.paths.get(device.source)
        if fact is not None and fact.kind is Kind.FILE and not fact.block + fact.character:
            draft.refuse("NS305", f"{device.source} is no device", device.path)


def _require_right(draft: Draft, facts: Facts, namespace: Namespace, at: str) -> None:
    user = draft.spec.namespace(NamespaceType.USER)
    if user is not None or abi.Capability.CAP_SYS_ADMIN in facts.permitted:
        return
    verb = "joining" if namespace.joined else "making"
    draft.refuse(
        "NS402",
        f"{verb} {namespace.type.one} is not permitted",
        at,
        "list `user` under namespaces: in a user namespace of its own the caller may",
        why=f"it needs CAP_SYS_ADMIN, which uid {facts.uid} does not have",
    )


# --- namespaces and mounts -------------------------------------------------------------------


def _furnish(
    draft: Draft, facts: Facts, who: Identity, started: Launch, connected: bool
) -> Tree | None:
    """From fresh namespaces to a tree with everything in it, not yet entered."""
    spec = draft.spec
    sources = mounts.Sources()
    taken: Reg | None = None
    new_mount = spec.new(NamespaceType.MOUNT)
    if new_mount:
        mounts.take_early(draft, facts, who, started, sources)
        if spec.rootfs is not None:
            taken = rootfs.take_rootfs(draft, facts, who, started, spec.rootfs)
    _become_root_inside(draft, who)
    process.set_names(draft)
    process.loopback_up(draft)
    if not new_mount:
        network.furnish(draft, started, connected)
        process.write_sysctls(draft, who, None)
        return None
    rootfs.enter_propagation(draft)
    if spec.rootfs is None:
        rootfs.ignore_file_privileges(draft)
    tree = _root(draft, facts, who, started, taken)
    if tree is not None:
        mount_defaults(draft, facts, who, tree)
    network.furnish(draft, started, connected)
    process.write_sysctls(draft, who, tree)
    if tree is None:
        return None
    for mount in spec.mounts:
        mounts.mount_entry(draft, facts, tree, mount, sources)
    files.make_files(draft, tree, name_files(spec, usernet.resolver(facts)))
    masks.mask(draft, facts, tree)
    masks.make_readonly(draft, tree)
    return tree


def _become_root_inside(draft: Draft, who: Identity) -> None:
    """Take ids that exist in the user namespace: what is made from here on belongs to them."""
    joined = who.maps is None
    accept = ("EINVAL", "EPERM") if joined else ()
    steps = []
    if who.setup_gid is not None:
        steps.append(calls.allow(calls.setresgid(who.setup_gid), accept=accept))
    if who.setup_uid is not None:
        steps.append(calls.allow(calls.setresuid(who.setup_uid), accept=accept))
    if not steps:
        return
    draft.child(
        "become the container's root"
        if who.setup_uid == 0
        else f"become {words(who.setup_uid, who.setup_gid)} of the user namespace",
        *steps,
        at="idmap" if "idmap" in draft.spec.spans else "namespaces",
        rule="" if "idmap" in draft.spec.spans else "default idmap",
    )


def _root(
    draft: Draft, facts: Facts, who: Identity, started: Launch, taken: Reg | None
) -> Tree | None:
    if taken is not None:
        return rootfs.make_root_tree(draft, facts, who, started, taken)
    spec = draft.spec
    given = spec.mounts or spec.files or name_files(spec)
    needed = given or isinstance(spec.masked_paths, tuple)
    if not needed and not isinstance(spec.readonly_paths, tuple):
        return None
    root = draft.reg("root")
    opened = abi.OpenFlag.O_PATH | abi.OpenFlag.O_DIRECTORY | abi.OpenFlag.O_CLOEXEC
    draft.child(
        "open the caller's tree",
        calls.openat(calls.CWD, "/", opened, save=root),
        rule="no rootfs",
    )
    return Tree(draft=draft, facts=facts, root=root, base="/", early=started.early)


def _enter(draft: Draft, tree: Tree | None) -> None:
    if tree is None:
        return
    if draft.spec.rootfs is not None:
        rootfs.enter_root(draft, tree.root)
        rootfs.finish_root(draft, tree.root)


# --- the parent's side, and the command ------------------------------------------------------


def _limit_and_run(
    draft: Draft,
    facts: Facts,
    who: Identity,
    started: Launch,
    pty: Reg | None,
    stdin: Reg | None,
    notify: str,
    *,
    looking: bool,
    tracer: tuple[str, ...],
) -> None:
    spec = draft.spec
    terminal: Reg | None = None
    late = bool(tracer) and not joins(spec)
    if late:
        # What the child has sent before is received before.
        terminal = process.receive_terminal(draft, started)
        attach_tracer(draft, started, tracer)
    asked = listening(draft, started)
    security.set_limits(draft, facts)
    sets = security.decide(draft, facts, who)
    confined = confinement(
        draft,
        facts,
        held=security.lasting(draft, facts, sets),
        effective=sets.effective,
        available=security.available(draft, facts),
    )
    early = confined is not None and confined.given_up
    name_command(draft, facts, started.proc)
    if not spec.no_new_privileges:
        # landlock_restrict_self(2): without no_new_privs it takes CAP_SYS_ADMIN.
        wall(draft, facts)
    security.take_identity(draft, facts, who, security.with_admin(sets) if early else sets)
    if late:
        be_readable(draft)
    draft.child(
        "end when the launcher ends, if it has not yet",
        # prctl(2): a change of credentials clears the death signal.
        calls.prctl(abi.Prctl.PR_SET_PDEATHSIG, Int(9, "SIGKILL")),
        sockets.peer_alive(started.inner),
        rule="no process is left behind",
    )
    security.set_no_new_privileges(draft)
    if spec.no_new_privileges:
        wall(draft, facts)
    process.go_to_work(draft)
    if not late:
        terminal = process.receive_terminal(draft, started)
    _parents_side(draft, facts, started)
    confine_init(draft, confined)
    process.become_init(draft, started)
    process.take_streams(draft, pty, stdin, forked=spec.init)
    process.last_steps(draft, facts)
    confine(draft, confined, asked if confined is not None else None)
    if early:
        draft.child(
            "give up the right to set a filter", security.set_capabilities(sets), at="seccomp"
        )
    if looking:
        assertions.look(draft)
    else:
        process.execute(draft, process.environment(spec, facts))
    draft.parent(
        "wait for the command to be executed",
        Wait(sync=EXEC, channel=started.outer, signals=started.signals),
        at="command",
    )
    if notify:
        tell_ready(draft, notify, started.child)
    run_hooks(draft, facts, "poststart", spec.hooks.poststart, started.child)
    process.supervise(draft, started, terminal)


def _parents_side(draft: Draft, facts: Facts, started: Launch) -> None:
    """What the launcher does while the child stands ready, and the child's release.

    The command does not run before everything else has succeeded: where the launcher has had
    anything to do since its last message, the child waits for it.
    """
    spec = draft.spec
    before = len(draft.actions)
    release = _may_fail_unseen(draft)
    pin_namespaces(draft, facts, started.child)
    run_hooks(draft, facts, "prestart", spec.hooks.prestart, started.child)
    if spec.hooks.poststop:
        draft.parent(
            "release the child, with hooks for the end",
            Signal(sync="go", channel=started.outer),
            at="hooks.poststop",
            undo=when_stopped(draft, facts, started.child),
        )
    elif release or len(draft.actions) > before:
        draft.parent(
            "release the child", Signal(sync="go", channel=started.outer), rule="order of a start"
        )
    if len(draft.actions) > before:
        draft.child(
            "wait for the launcher",
            Wait(sync="go", channel=started.inner),
            # unix(7): what the launcher sent stays to be read after its end, and hid that end from
            # the look at it after the death signal was set.
            sockets.peer_alive(started.inner),
            rule="order of a start",
        )


def _may_fail_unseen(draft: Draft) -> bool:
    """Whether the launcher, after its last message to the child, has a step that can fail."""
    steps = [op for a in draft.actions if a.track is Track.PARENT for op in a.steps]
    said = [n for n, op in enumerate(steps) if isinstance(op, Signal | SendFd | Clone)]
    after = steps[said[-1] + 1 :] if said else []
    return any(not isinstance(op, Call) or op.name != "close" for op in after)


def finished(draft: Draft, facts: Facts, *, root: bool = False) -> Plan:
    """The drafted actions as a plan that has been verified; raises NsrunError.

    ``root``: it takes root's rights, whatever the spec says of it.
    """
    draft.refused.raise_if_failed()
    spec = draft.spec
    made = Plan(
        name=spec.name,
        source=Source(file=spec.file, sha256=spec.sha256),
        needs=Needs(
            kernel=OLDEST_KERNEL,
            machine=facts.machine,
            root=root or _needs_root(draft),
            features=tuple(f"{n.type.value} namespaces" for n in spec.namespaces),
        ),
        actions=tuple(draft.actions),
    )
    verify(made)
    return made


def _needs_root(draft: Draft) -> bool:
    spec = draft.spec
    if spec.namespace(NamespaceType.USER) is None:
        return bool(spec.namespaces)
    return any(
        action.track is Track.PARENT and any(_takes_root(op) for op in action.steps)
        for action in draft.actions
    )


def _takes_root(op: Op) -> bool:
    taking = {"mount", "mount_setattr", "open_tree", "fchownat"}
    return isinstance(op, Call) and op.name in taking


__all__ = ["finished", "plan", "wanted"]
