"""Namespaces and ids that this kernel or user does not have."""

from __future__ import annotations

from errno import ENOENT, EPERM, errorcode

from nsrun.diag import Severity
from nsrun.host import hints, trial
from nsrun.kernel.facts import Facts
from nsrun.plan.build import OLDEST_KERNEL
from nsrun.plan.launch import CLONE_FLAGS, PROC_NAMES
from nsrun.runtime.subject import Problems, Subject
from nsrun.spec.model import Namespace, NamespaceType, Spec


def kernel_is_new_enough(subject: Subject) -> Problems:
    oldest = tuple(int(word) for word in OLDEST_KERNEL.split("."))
    if (0, 0) < subject.facts.kernel_version < oldest:
        yield subject.problem(
            "NS401",
            f"nsrun needs Linux {OLDEST_KERNEL}",
            "",
            why=(f"this is Linux {subject.facts.kernel}",),
        )


def namespaces_can_be_made(subject: Subject) -> Problems:
    if not subject.may_try:
        return
    user = subject.user_flag
    new = [(i, n) for i, n in enumerate(subject.spec.namespaces) if not n.joined]
    # A user namespace that cannot be made explains all the others.
    new.sort(key=lambda pair: pair[1].type is not NamespaceType.USER)
    for index, namespace in new:
        kind = namespace.type
        if subject.facts.namespaces and kind.value not in subject.facts.namespaces:
            continue
        flags = user | int(CLONE_FLAGS[kind])
        errno = trial.errno_of(trial.make_namespaces(flags))
        if not errno:
            continue
        name = errorcode.get(errno, "")
        why, tips = hints.explain("clone3", name, (flags,))
        yield subject.problem(
            "NS402" if errno == EPERM else "NS401",
            f"this user cannot make a {kind.value} namespace",
            f"namespaces[{index}]",
            why=why,
            help=tips,
            errno=errno,
        )
        if kind is NamespaceType.USER:
            return


def namespaces_can_be_joined(subject: Subject) -> Problems:
    """setns(2) in the plan's order: a user namespace gives the right to join what it owns."""
    paths: list[tuple[str, int]] = []
    joined = [(i, n) for i, n in enumerate(subject.spec.namespaces) if n.joined]
    joined.sort(key=lambda pair: pair[1].type is not NamespaceType.USER)
    for index, namespace in joined:
        path = _file(subject.facts, namespace)
        # What is not there has been said already.
        if path is None or trial.errno_of(trial.look_at(path)) == ENOENT:
            continue
        paths.append((path, int(CLONE_FLAGS[namespace.type])))
        errno = trial.errno_of(trial.join(paths))
        if not errno:
            continue
        paths.pop()
        why, tips = hints.explain("setns", errorcode.get(errno, ""), (path,))
        yield subject.problem(
            "NS404",
            f"cannot join the {namespace.type.value} namespace {path}",
            f"namespaces[{index}]",
            why=why,
            help=tips,
            errno=errno,
        )


def _file(facts: Facts, namespace: Namespace) -> str | None:
    if namespace.join_path is not None:
        return namespace.join_path
    pid = namespace.join_pid
    if namespace.join_container is not None:
        pid = facts.containers.get(namespace.join_container)
    return f"/proc/{pid}/ns/{PROC_NAMES[namespace.type]}" if pid else None


# --- ids -------------------------------------------------------------------------------------


def subordinate_ids_are_there(subject: Subject) -> Problems:
    """`auto` maps what there is: without subordinate ids, the caller alone."""
    spec, facts = subject.spec, subject.facts
    auto = spec.idmap is None or spec.idmap.kind == "auto"
    if not spec.new(NamespaceType.USER) or not auto or subject.privileged:
        return
    user = facts.user_name or str(facts.uid)
    why: list[str] = []
    tips: list[str] = []
    for file, ranges in (("/etc/subuid", facts.subuid), ("/etc/subgid", facts.subgid)):
        if not ranges:
            why.append(f"{file} has no line for {user}")
            tips.append(f"usermod --add-{file[5:]}s 100000-165535 {user}, as root")
    # Asked for by name, it is refused without its helpers.
    given = spec.idmap is not None
    if not why and not given and (facts.newuidmap is None or facts.newgidmap is None):
        missing = "newuidmap" if facts.newuidmap is None else "newgidmap"
        why.append(f"{missing} is not installed")
        tips.append("install the package uidmap (Debian, Ubuntu) or shadow-utils")
    if why:
        yield subject.problem(
            "NS403",
            "no id but the caller's own is mapped here",
            "idmap" if "idmap" in spec.spans else _place(spec, NamespaceType.USER),
            why=tuple(why),
            help=tuple(tips),
            severity=Severity.WARNING,
        )


def _place(spec: Spec, kind: NamespaceType) -> str:
    return next(f"namespaces[{i}]" for i, n in enumerate(spec.namespaces) if n.type is kind)


def pins_can_be_kept(subject: Subject) -> Problems:
    """A pin is a mount in the caller's own namespace, which outlives the run."""
    if subject.privileged:
        return
    for index, namespace in enumerate(subject.spec.namespaces):
        if namespace.pin is not None:
            yield subject.problem(
                "NS402",
                "this user cannot pin a namespace",
                f"namespaces[{index}]",
                why=(f"mount(2) needs CAP_SYS_ADMIN, which uid {subject.facts.uid} does not have",),
            )
