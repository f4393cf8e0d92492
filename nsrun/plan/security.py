"""What the command may do: capabilities in all five sets, credentials, no_new_privs.

Sources: capabilities(7), credentials(7), prctl(2).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from nsrun.kernel import abi, calls
from nsrun.kernel.abi import Capability, PrCapAmbient, Prctl
from nsrun.kernel.facts import Facts
from nsrun.kernel.values import Int
from nsrun.plan.draft import Draft
from nsrun.plan.identity import Identity, words
from nsrun.plan.ops import Op
from nsrun.spec.model import Capabilities, NamespaceType

DEFAULT = frozenset(
    {
        Capability.CAP_CHOWN,
        Capability.CAP_DAC_OVERRIDE,
        Capability.CAP_FOWNER,
        Capability.CAP_FSETID,
        Capability.CAP_KILL,
        Capability.CAP_NET_BIND_SERVICE,
        Capability.CAP_SETFCAP,
        Capability.CAP_SETGID,
        Capability.CAP_SETPCAP,
        Capability.CAP_SETUID,
        Capability.CAP_SYS_CHROOT,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CapabilitySets:
    """The five sets of capabilities(7), as numbers."""

    bounding: frozenset[int]
    permitted: frozenset[int]
    effective: frozenset[int]
    inheritable: frozenset[int]
    ambient: frozenset[int]


def mask(numbers: frozenset[int]) -> int:
    return sum(1 << n for n in numbers)


def numbers(names: tuple[str, ...]) -> frozenset[int]:
    """Capability numbers of names; "ALL" is left to the caller."""
    return frozenset(int(Capability[n]) for n in names)


def available(draft: Draft, facts: Facts) -> frozenset[int]:
    """What the caller may give: everything, in a user namespace of the container's own."""
    every = frozenset(range(facts.last_cap + 1))
    if draft.spec.namespace(NamespaceType.USER) is not None:
        return every
    return facts.permitted & facts.bounding


def decide(draft: Draft, facts: Facts, identity: Identity) -> CapabilitySets:
    """The sets a spec asks for; what the caller cannot give is refused."""
    wanted = draft.spec.capabilities
    may_give = available(draft, facts)
    if wanted.sets is not None:
        return _explicit_sets(draft, wanted, may_give)
    chosen, demanded = _chosen(wanted, may_give)
    _require(draft, demanded, may_give)
    chosen &= may_give
    # Kernel: an unprivileged user keeps through execve only what is ambient. What a spec names
    # itself is meant to be had; the default set is only a bound.
    if identity.uid == 0 or (identity.uid is None and identity.maps is None):
        nothing = frozenset[int]()
        return CapabilitySets(
            bounding=chosen,
            permitted=chosen,
            effective=chosen,
            inheritable=nothing,
            ambient=nothing,
        )
    # What execve would take is given up now: the working directory is entered as the user.
    kept = demanded & chosen
    return CapabilitySets(
        bounding=chosen, permitted=kept, effective=kept, inheritable=kept, ambient=kept
    )


def _chosen(
    wanted: Capabilities, may_give: frozenset[int]
) -> tuple[frozenset[int], frozenset[int]]:
    """The wanted set, and the part of it that the spec names one by one."""
    if wanted.explicit is not None:
        named = numbers(wanted.explicit)
        return named, named
    base: frozenset[int] = frozenset()
    if wanted.base == "default":
        base = frozenset(int(c) for c in DEFAULT)
    elif wanted.base == "all":
        base = may_give
    added = may_give if "ALL" in wanted.add else numbers(wanted.add)
    if "ALL" in wanted.drop:
        base = frozenset()
        dropped = frozenset[int]()
    else:
        dropped = numbers(wanted.drop)
    return (base - dropped) | (added - dropped), added - dropped


def _require(draft: Draft, demanded: frozenset[int], may_give: frozenset[int]) -> None:
    lacking = sorted(demanded - may_give)
    if not lacking:
        return
    names = ", ".join(_capability(n).text or str(n) for n in lacking)
    draft.refuse(
        "NS402",
        f"{names} cannot be given",
        "capabilities",
        "list `user` under namespaces: its root holds every capability over the container",
        why="the caller does not hold it itself",
    )


def _explicit_sets(
    draft: Draft, wanted: Capabilities, may_give: frozenset[int]
) -> CapabilitySets:
    sets = {name: numbers(names) for name, names in (wanted.sets or {}).items()}
    for name in ("bounding", "permitted"):
        _require(draft, sets.get(name, frozenset()), may_give)
    permitted = sets.get("permitted", frozenset())
    for name in ("effective", "ambient"):
        extra = sets.get(name, frozenset()) - permitted
        if extra:
            draft.refuse(
                "NS318",
                f"{name} holds {Capability(min(extra)).name}, which permitted does not",
                f"capabilities.{name}",
            )
    unbound = sets.get("inheritable", frozenset()) - sets.get("bounding", frozenset())
    if unbound:
        draft.refuse(
            "NS318",
            f"inheritable holds {Capability(min(unbound)).name}, which bounding does not",
            "capabilities.inheritable",
            why="capset(2) adds to the inheritable set only what is in the bounding set",
        )
    if sets.get("ambient", frozenset()) - sets.get("inheritable", frozenset()):
        draft.refuse(
            "NS318",
            "ambient capabilities must be inheritable too",
            "capabilities.ambient",
            why="capabilities(7): the ambient set is part of permitted and inheritable",
        )
    return CapabilitySets(
        bounding=sets.get("bounding", frozenset()),
        permitted=permitted,
        effective=sets.get("effective", frozenset()),
        inheritable=sets.get("inheritable", frozenset()),
        ambient=sets.get("ambient", frozenset()),
    )


# --- steps -----------------------------------------------------------------------------------


def lasting(draft: Draft, facts: Facts, sets: CapabilitySets) -> frozenset[int]:
    """The capabilities that the command can ever have, whatever it executes."""
    if draft.spec.no_new_privileges or facts.no_new_privileges:
        return sets.permitted
    return sets.permitted | sets.bounding


def with_admin(sets: CapabilitySets) -> CapabilitySets:
    """``sets`` and CAP_SYS_ADMIN, to be given up again by :func:`set_capabilities`."""
    admin = {int(Capability.CAP_SYS_ADMIN)}
    return dataclasses.replace(
        sets, permitted=sets.permitted | admin, effective=sets.effective | admin
    )


def set_capabilities(sets: CapabilitySets) -> Op:
    return calls.capset(mask(sets.effective), mask(sets.permitted), mask(sets.inheritable))


def take_identity(draft: Draft, facts: Facts, identity: Identity, sets: CapabilitySets) -> None:
    """Bounding set, groups, gid, uid, the other sets: in the order that keeps each allowed."""
    at = "capabilities" if "capabilities" in draft.spec.spans else ""
    rule = "" if at else "default capabilities"
    _limit_bounding(draft, facts, sets, at, rule)
    _take_ids(draft, identity, sets)
    draft.child(
        "hold no other capabilities",
        calls.prctl(Prctl.PR_CAP_AMBIENT, Int(PrCapAmbient.PR_CAP_AMBIENT_CLEAR_ALL,
                                              "PR_CAP_AMBIENT_CLEAR_ALL")),
        set_capabilities(sets),
        *(_raise_ambient(n) for n in sorted(sets.ambient)),
        at=at,
        rule=rule,
    )


def _raise_ambient(number: int) -> Op:
    return calls.prctl(
        Prctl.PR_CAP_AMBIENT,
        Int(PrCapAmbient.PR_CAP_AMBIENT_RAISE, "PR_CAP_AMBIENT_RAISE"),
        _capability(number),
    )


def _limit_bounding(
    draft: Draft, facts: Facts, sets: CapabilitySets, at: str, rule: str
) -> None:
    in_user = draft.spec.namespace(NamespaceType.USER) is not None
    held = frozenset(range(facts.last_cap + 1)) if in_user else facts.bounding
    drop = sorted(held - sets.bounding)
    if not drop:
        return
    if not in_user and Capability.CAP_SETPCAP not in facts.permitted:
        # Without CAP_SETPCAP the bounding set stays; it bounds nothing where the caller holds
        # no capability and no_new_privs keeps execve from giving any.
        if draft.spec.no_new_privileges and not facts.permitted - sets.permitted:
            return
        draft.refuse(
            "NS402",
            "capabilities cannot be limited",
            "capabilities" if at else "no_new_privileges",
            "list `user` under namespaces, or set no_new_privileges: true",
            why="dropping from the bounding set needs CAP_SETPCAP, which the caller lacks",
        )
        return
    draft.child(
        "limit what execve can give",
        *(calls.prctl(Prctl.PR_CAPBSET_DROP, _capability(n)) for n in drop),
        at=at,
        rule=rule,
    )


# Kernels grow capabilities; one this table does not know is dropped by its number.
_CAPABILITIES = {int(c): c.name for c in Capability}


def _capability(number: int) -> Int:
    return Int(number, _CAPABILITIES.get(number, ""))


def _take_ids(draft: Draft, identity: Identity, sets: CapabilitySets) -> None:
    at = "user" if "user" in draft.spec.spans else ""
    rule = "" if at else "default user"
    steps: list[Op] = []
    if identity.groups is not None:
        set_groups = calls.setgroups(identity.groups)
        if identity.maps is None and identity.setup_uid is not None and not identity.groups:
            # A joined user namespace may deny setgroups for good; nothing can be dropped then.
            set_groups = calls.allow(set_groups, accept=("EPERM",))
        steps.append(set_groups)
    if identity.gid is not None:
        steps.append(calls.setresgid(identity.gid))
    if identity.uid is not None:
        if identity.uid != 0 and sets.permitted:
            steps.append(calls.prctl(Prctl.PR_SET_KEEPCAPS, Int(1)))
        steps.append(calls.setresuid(identity.uid))
    if steps:
        draft.child(f"become {words(identity.uid, identity.gid)}", *steps, at=at, rule=rule)


def set_no_new_privileges(draft: Draft) -> None:
    if draft.spec.no_new_privileges:
        given = "no_new_privileges" in draft.spec.spans
        draft.child(
            "keep execve from giving privileges",
            calls.prctl(Prctl.PR_SET_NO_NEW_PRIVS, Int(1)),
            at="no_new_privileges" if given else "",
            rule="" if given else "default no_new_privileges",
        )


def set_limits(draft: Draft, facts: Facts) -> None:
    """``rlimits``, before CAP_SYS_RESOURCE goes."""
    for limit in draft.spec.rlimits:
        at = f"rlimits.{limit.name}"
        resource = abi.RlimitResource[f"RLIMIT_{limit.name.upper()}"]
        hard_now = facts.limits.get(limit.name, (None, None))[1]
        raised = hard_now is not None and (limit.hard is None or limit.hard > hard_now)
        if raised and Capability.CAP_SYS_RESOURCE not in facts.permitted:
            draft.refuse(
                "NS402",
                f"the hard limit of {limit.name} cannot be raised to "
                f"{'unlimited' if limit.hard is None else limit.hard}",
                at,
                f"ask for {hard_now} at most",
                why=f"it is {hard_now}, and the caller does not have CAP_SYS_RESOURCE",
            )
        draft.child(
            f"limit {limit.name}", calls.prlimit(resource, limit.soft, limit.hard), at=at
        )
