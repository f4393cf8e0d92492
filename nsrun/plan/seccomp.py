"""Which system calls the command can make: the seccomp filter of a plan, and where it is set.

Sources: seccomp(2), the OCI runtime specification (config-linux.md, "Seccomp"), and for includes,
excludes and archMap Docker's profiles. The default profile's lists stand in seccomp_default.py.

The filter is the last thing before the command. An init that stays behind has one of its own, set
before: that of the command, with the calls added that it and the steps up to the command make.
"""

from __future__ import annotations

import dataclasses
import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nsrun.kernel import calls
from nsrun.kernel.abi import Capability, SeccompAction, SeccompFlag
from nsrun.kernel.facts import Facts
from nsrun.kernel.values import Reg
from nsrun.plan import seccomp_default as default
from nsrun.plan.draft import Draft
from nsrun.plan.listener import Listening, hand_over
from nsrun.spec.model import (
    NOTIFY,
    SeccompFilter,
    SeccompProfile,
    SeccompRule,
    SeccompWhen,
)

if TYPE_CHECKING:
    from nsrun.kernel.seccomp import Condition, Filter, Rule

# uname -m to OCI's name of the architecture, Go's, and those whose programs the kernel runs too.
_MACHINES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "x86_64": ("SCMP_ARCH_X86_64", "amd64", ("SCMP_ARCH_X86", "SCMP_ARCH_X32")),
    "aarch64": ("SCMP_ARCH_AARCH64", "arm64", ("SCMP_ARCH_ARM",)),
}
_ACTIONS: dict[str, SeccompAction] = {
    "SCMP_ACT_KILL": SeccompAction.SECCOMP_RET_KILL_THREAD,
    "SCMP_ACT_KILL_THREAD": SeccompAction.SECCOMP_RET_KILL_THREAD,
    "SCMP_ACT_KILL_PROCESS": SeccompAction.SECCOMP_RET_KILL_PROCESS,
    "SCMP_ACT_TRAP": SeccompAction.SECCOMP_RET_TRAP,
    "SCMP_ACT_ERRNO": SeccompAction.SECCOMP_RET_ERRNO,
    "SCMP_ACT_TRACE": SeccompAction.SECCOMP_RET_TRACE,
    "SCMP_ACT_ALLOW": SeccompAction.SECCOMP_RET_ALLOW,
    "SCMP_ACT_LOG": SeccompAction.SECCOMP_RET_LOG,
    NOTIFY: SeccompAction.SECCOMP_RET_USER_NOTIF,
}
_ALWAYS = SeccompWhen()
_ALLOW = SeccompAction.SECCOMP_RET_ALLOW
_REFUSE = SeccompAction.SECCOMP_RET_ERRNO | errno.EPERM
_NO_SUCH_CALL = SeccompAction.SECCOMP_RET_ERRNO | errno.ENOSYS
# What the low half of an action has where a profile says nothing; runc has it so for both.
_WITH_ERRNO = (SeccompAction.SECCOMP_RET_ERRNO, SeccompAction.SECCOMP_RET_TRACE)
_WORD = 0xFFFF_FFFF
# The first process's fork, its loop and its end; and the steps between it and the command.
_INIT_TEXT = """
    brk capset chdir clone clone3 close close_range dup3 execve exit exit_group futex getpid getppid
    getrandom gettid ioctl kill madvise mmap mprotect munmap poll ppoll prctl read recvfrom recvmsg
    rt_sigaction rt_sigprocmask rt_sigreturn rt_sigtimedwait sched_yield seccomp sendmsg sendto
    set_robust_list setsid sigaltstack umask wait4 waitid write
"""
_INIT = tuple(_INIT_TEXT.split())


@dataclass(frozen=True, slots=True, kw_only=True)
class Confinement:
    """``program`` is the command's, ``init`` that of an init, empty without one. ``given_up``:
    CAP_SYS_ADMIN is held until the filter is set, because no_new_privs does not allow it."""

    program: bytes
    init: bytes
    flags: int
    given_up: bool


def confinement(
    draft: Draft, facts: Facts, *, held: frozenset[int], effective: frozenset[int],
    available: frozenset[int],
) -> Confinement | None:
    """The filters of a spec, None where it wants none.

    ``held``: the capabilities that the command can ever have, ``effective`` those it starts with,
    ``available`` those that the plan may use.
    """
    wanted = draft.spec.seccomp
    if wanted == "unconfined":
        return None
    given_up = _needs_admin(draft, facts, effective, available)
    if isinstance(wanted, SeccompFilter):
        return Confinement(
            program=wanted.program, init=b"", flags=wanted.flags, given_up=given_up
        )
    if facts.machine not in _MACHINES:
        draft.refuse(
            "NS401", f"no seccomp profile for {facts.machine}", "seccomp",
            "write `seccomp: unconfined`",
        )  # fmt: skip
        return None
    try:
        # It loads a library: only plans with a filter to compile pay.
        from nsrun.kernel import seccomp
    except ImportError as error:
        draft.refuse(
            "NS401", "a seccomp filter cannot be compiled", "seccomp",
            "install libseccomp2 and pyseccomp, or write `seccomp: unconfined`", why=str(error),
        )  # fmt: skip
        return None
    if isinstance(wanted, SeccompProfile):
        rules = _settled(_counting(wanted.rules, facts, held))
        _refuse_contradictions(draft, rules)
        filter_ = _of_profile(wanted, rules, facts)
        flags = sum(int(SeccompFlag[name]) for name in wanted.flags)
    else:
        rules = ()
        filter_ = default_filter(facts.machine, held)
        flags = 0
    try:
        program = seccomp.compiled(filter_)
        init = seccomp.compiled(_for_init(filter_)) if draft.spec.init else b""
    except seccomp.CompileError as error:
        at = rules[error.rule].path if rules and error.rule is not None else "seccomp"
        draft.refuse(
            "NS318", f"the seccomp profile cannot be compiled: {error}", at,
            why="libseccomp refuses it; rules about one call may contradict each other",
        )  # fmt: skip
        return None
    return Confinement(program=program, init=init, flags=flags, given_up=given_up)


def _needs_admin(
    draft: Draft, facts: Facts, effective: frozenset[int], available: frozenset[int]
) -> bool:
    """seccomp(2): a filter needs no_new_privs or CAP_SYS_ADMIN."""
    admin = Capability.CAP_SYS_ADMIN
    if draft.spec.no_new_privileges or facts.no_new_privileges or admin in effective:
        return False
    why = "a filter needs no_new_privs or CAP_SYS_ADMIN"
    if admin not in available:
        draft.refuse(
            "NS402", "a seccomp filter cannot be set", "no_new_privileges",
            "leave `no_new_privileges` true, or write `seccomp: unconfined`", why=why,
        )  # fmt: skip
    elif draft.spec.init:
        draft.refuse(
            "NS318", "`init: true` with `no_new_privileges: false` and a seccomp filter",
            "no_new_privileges", "change one of the three",
            why=f"{why}, and the init would keep the capability",
        )  # fmt: skip
    return True


def confine_init(draft: Draft, confined: Confinement | None) -> None:
    """The first process's own filter, which is the command's first as well."""
    if confined is not None and draft.spec.init:
        _set(draft, "allow the init only the system calls of its filter", confined.init,
             confined.flags)  # fmt: skip


def confine(draft: Draft, confined: Confinement | None, listening: Listening | None) -> None:
    if confined is None:
        return
    what = "allow only the system calls of the filter"
    if listening is None:
        _set(draft, what, confined.program, confined.flags)
    else:
        _set(draft, what, confined.program, confined.flags, listening.listener)
        hand_over(draft, listening)


def _set(
    draft: Draft, what: str, program: bytes, flags: int, listener: Reg | None = None
) -> None:
    given = "seccomp" in draft.spec.spans
    draft.child(
        what,
        calls.seccomp_filter(program, flags, listener=listener),
        at="seccomp" if given else "",
        rule="" if given else "default seccomp",
    )


# --- the default profile -----------------------------------------------------------------------


def default_filter(machine: str, held: frozenset[int]) -> Filter:
    """The default profile for a container with the capabilities ``held``."""
    from nsrun.kernel.seccomp import Condition, Filter, Rule

    def low_word(argument: int, value: int, mask: int = _WORD) -> tuple[Condition, ...]:
        # The kernel takes these arguments as 32 bits: whatever stands above must not matter.
        return (Condition(argument, "SCMP_CMP_MASKED_EQ", mask, value),)

    admitted = [name for group in default.ALLOWED.values() for name in group]
    for capabilities, names in default.BY_CAPABILITY:
        if held.intersection(capabilities):
            admitted += names
    rules: list[Rule] = [Rule(tuple(admitted), _ALLOW)]
    missing = tuple(name for name in default.MISSING if name not in admitted)
    rules.append(Rule(missing, _NO_SUCH_CALL))
    for family, needed in default.FAMILIES:
        if needed is None or needed in held:
            rules.append(Rule(("socket",), _ALLOW, low_word(0, family)))
    for personality in default.PERSONALITIES:
        rules.append(Rule(("personality",), _ALLOW, low_word(0, personality)))
    if "clone" not in admitted:
        rules.append(Rule(("clone",), _ALLOW, low_word(0, 0, default.CLONE_NAMESPACES)))
        rules.append(Rule(("unshare",), _ALLOW, low_word(0, 0, default.UNSHARE_NAMESPACES)))
    return Filter(
        default=_REFUSE,
        architectures=(_MACHINES[machine][0],),
        rules=tuple(rules),
        newest=default.NEWEST,
    )


# --- profiles ----------------------------------------------------------------------------------


def _of_profile(
    profile: SeccompProfile, rules: tuple[SeccompRule, ...], facts: Facts
) -> Filter:
    from nsrun.kernel.seccomp import Condition, Filter, Rule

    native, _, others = _MACHINES[facts.machine]
    wanted = (*profile.architectures, *profile.arch_map.get(native, ()))
    refusal = _action(profile.default_action, profile.default_errno)
    bounded = (
        profile.default_action == "SCMP_ACT_ERRNO" and refusal != _NO_SUCH_CALL
    )
    return Filter(
        default=refusal,
        architectures=(native, *(name for name in others if name in wanted)),
        rules=tuple(
            Rule(
                rule.names,
                _action(rule.action, rule.errno),
                tuple(
                    Condition(a.index, a.op, a.value, a.value_two) for a in rule.arguments
                ),
            )
            for rule in rules
        ),
        newest=default.NEWEST if bounded else None,
    )


def _action(name: str, number: int | None) -> int:
    action = _ACTIONS[name]
    if action not in _WITH_ERRNO:
        return int(action)
    return action | (errno.EPERM if number is None else number)


def _counting(
    rules: tuple[SeccompRule, ...], facts: Facts, held: frozenset[int]
) -> tuple[SeccompRule, ...]:
    """The rules that count on this machine, for a container with these capabilities."""
    return tuple(
        rule
        for rule in rules
        if _includes(rule.includes, facts, held) and not _excludes(rule.excludes, facts, held)
    )


def _settled(rules: tuple[SeccompRule, ...]) -> tuple[SeccompRule, ...]:
    """The rules without what an earlier one has settled, for those with docker's conditions.

    The profile that podman ships allows setns to all, and refuses it further down to who has not
    CAP_SYS_ADMIN: libseccomp keeps the first, and so everything that reads this profile.
    """
    whole: set[str] = set()
    found = []
    for rule in rules:
        if rule.includes != _ALWAYS or rule.excludes != _ALWAYS:
            kept = tuple(name for name in rule.names if name not in whole)
            rule = dataclasses.replace(rule, names=kept)
        if not rule.arguments:
            whole.update(rule.names)
        found.append(rule)
    return tuple(found)


def _includes(when: SeccompWhen, facts: Facts, held: frozenset[int]) -> bool:
    return (
        all(Capability[name] in held for name in when.capabilities)
        and (not when.machines or _MACHINES[facts.machine][1] in when.machines)
        and (when.kernel is None or facts.kernel_version >= when.kernel)
    )


def _excludes(when: SeccompWhen, facts: Facts, held: frozenset[int]) -> bool:
    return (
        any(Capability[name] in held for name in when.capabilities)
        or _MACHINES[facts.machine][1] in when.machines
        or (when.kernel is not None and facts.kernel_version >= when.kernel)
    )


def _refuse_contradictions(draft: Draft, rules: tuple[SeccompRule, ...]) -> None:
    """libseccomp drops a rule about some arguments of a call where another is about all of them,
    and of two about all of them the second, without a word: what was meant would not hold."""
    whole: dict[str, SeccompRule] = {}
    for rule in rules:
        if not rule.arguments:
            whole |= {name: rule for name in rule.names if name not in whole}
    for rule in rules:
        for name in rule.names:
            other = whole.get(name, rule)
            if _action(other.action, other.errno) != _action(rule.action, rule.errno):
                draft.refuse(
                    "NS318", f"two rules of the seccomp profile contradict each other about {name}",
                    rule.path, "give each call one action, or conditions to both",
                    why=f"{other.path} is about every call of it",
                )  # fmt: skip


def _for_init(command: Filter) -> Filter:
    """The command's filter, with what an init needs. Nobody listens to it: what the command's own
    filter asks about is allowed here."""
    from nsrun.kernel.seccomp import Rule

    asked = SeccompAction.SECCOMP_RET_USER_NOTIF
    rest = (
        dataclasses.replace(
            rule,
            names=tuple(n for n in rule.names if n not in _INIT),
            action=int(_ALLOW) if rule.action == asked else rule.action,
        )
        for rule in command.rules
    )
    return dataclasses.replace(command, rules=(*rest, Rule(_INIT, _ALLOW)))
