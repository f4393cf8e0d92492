"""Who the command is: the id maps of a user namespace, and the final user and groups.

Sources: user_namespaces(7), newuidmap(1), subuid(5).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum

from nsrun.kernel.abi import ID_MAX, Capability
from nsrun.kernel.facts import ALL_IDS, Facts, MapLine, SubIds
from nsrun.plan.draft import Draft
from nsrun.plan.users import find_user
from nsrun.spec.model import IdMap, IdRange, NamespaceType, Spec

# systemd's range for containers (its UIDS-GIDS.md), in blocks of 65536: no distribution hands
# these ids to people or, as /etc/subuid's usual 100000, to an ordinary user's containers.
_BLOCKS_FROM, _BLOCKS_TO, _BLOCK = 0x00080000, 0x6FFF0000, 0x10000


class Writer(StrEnum):
    """Who writes the maps: the caller into procfs, or the set-uid helpers of shadow."""

    DIRECT = "direct"
    HELPER = "helper"


@dataclass(frozen=True, slots=True, kw_only=True)
class Maps:
    """The maps of the new user namespace, and how they come to be written."""

    uid: tuple[IdRange, ...]
    gid: tuple[IdRange, ...]
    uid_writer: Writer
    gid_writer: Writer
    deny_setgroups: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """``uid`` and ``gid`` are what the command runs as, None: as it stands after joining, or
    where the map is empty and no id can be taken.

    ``setup_uid`` and ``setup_gid``: who makes the mounts, None where the ids stay.
    ``groups`` is None where the kernel does not let the caller set any.
    """

    maps: Maps | None
    uid: int | None
    gid: int | None
    groups: tuple[int, ...] | None
    setup_uid: int | None
    setup_gid: int | None
    # The host-side ids are others than the caller's: what the caller owns is foreign inside.
    displaced: bool


def contains(ranges: tuple[IdRange, ...], ident: int) -> bool:
    """Whether a container id is mapped."""
    return any(r.container <= ident < r.container + r.size for r in ranges)


def to_host(ranges: tuple[IdRange, ...], ident: int) -> int | None:
    """The host's id of a container id."""
    for r in ranges:
        if r.container <= ident < r.container + r.size:
            return r.host + ident - r.container
    return None


def from_host(ranges: tuple[IdRange, ...], ident: int) -> int | None:
    """The container's id of a host id, None where it is not mapped."""
    for r in ranges:
        if r.host <= ident < r.host + r.size:
            return r.container + ident - r.host
    return None


def words(uid: int | None, gid: int | None) -> str:
    """``1000:100``; ``-`` for an id that stays."""
    return ":".join("-" if ident is None else str(ident) for ident in (uid, gid))


def identity(draft: Draft, facts: Facts) -> Identity:
    """Decide maps and final ids; ids the caller may not map or take are refused."""
    spec = draft.spec
    if spec.new(NamespaceType.USER):
        return _in_new_user_namespace(draft, facts)
    wanted = find_user(draft, facts)
    if spec.namespace(NamespaceType.USER) is not None:
        return Identity(
            maps=None,
            uid=wanted.uid,
            gid=wanted.gid,
            groups=wanted.groups,
            setup_uid=0,
            setup_gid=0,
            displaced=True,
        )
    return _without_user_namespace(draft, facts)


def may_set_ids(facts: Facts) -> bool:
    return {Capability.CAP_SETUID, Capability.CAP_SETGID} <= facts.permitted


def _without_user_namespace(draft: Draft, facts: Facts) -> Identity:
    wanted = find_user(draft, facts)
    privileged = may_set_ids(facts)
    uid = wanted.uid if wanted.uid is not None else facts.uid
    gid = wanted.gid if wanted.gid is not None else facts.gid
    if not privileged and (uid != facts.uid or gid not in {facts.gid, *facts.groups}):
        draft.refuse(
            "NS402",
            f"cannot run as {uid}:{gid}: the caller is {facts.uid}:{facts.gid}",
            "user",
            "list `user` under namespaces, where ids can be chosen",
            why="changing ids needs CAP_SETUID and CAP_SETGID, which the caller does not have",
        )
    if not privileged and wanted.groups:
        _refuse_groups(draft, "the caller does not have CAP_SETGID")
    return Identity(
        maps=None,
        uid=uid,
        gid=gid,
        groups=wanted.groups if privileged else None,
        setup_uid=None,
        setup_gid=None,
        displaced=False,
    )


def map_help(draft: Draft, facts: Facts, kind: str, ident: int) -> str:
    """What would map an id that is not mapped."""
    given = draft.spec.idmap
    if given is not None and given.kind == "explicit":
        return f"add a line for {ident} to idmap.{kind}"
    mapping = f"a mapping with a line for {ident}"
    if given is None or given.kind == "auto":
        return f"give `idmap` {mapping}"
    subordinate, own = (
        (facts.subuid, facts.uid_map) if kind == "uid" else (facts.subgid, facts.gid_map)
    )
    auto = (
        _privileged_range(draft.spec, subordinate, own)
        if may_set_ids(facts)
        else _caller_and_subordinates(facts.uid, subordinate)
    )
    word = "`idmap: auto`, or " if contains(auto, ident) else ""
    return f"{word}{mapping} in place of `{given.kind}`"


def _refuse_groups(draft: Draft, why: str) -> None:
    draft.refuse("NS402", "cannot set supplementary groups", "user.groups", why=why)


def _in_new_user_namespace(draft: Draft, facts: Facts) -> Identity:
    maps = decide_maps(draft, facts)
    wanted = find_user(draft, facts)
    uid = _default_id(wanted.uid, maps.uid, facts.uid)
    gid = _default_id(wanted.gid, maps.gid, facts.gid)
    for kind, ident, ranges in (("uid", uid, maps.uid), ("gid", gid, maps.gid)):
        if ident is not None and not contains(ranges, ident):
            draft.refuse(
                "NS403",
                f"{kind} {ident} is not mapped into the user namespace",
                "user",
                map_help(draft, facts, kind, ident),
                why=f"mapped are {_words(ranges) or 'none'}",
            )
    groups: tuple[int, ...] | None = wanted.groups
    if not maps.gid:
        # user_namespaces(7): without a gid_map setgroups(2) fails, and keeps what the caller has.
        groups = None if not wanted.groups else groups
        if may_set_ids(facts) and set(facts.groups) - {facts.gid}:
            draft.refuse(
                "NS403",
                "the caller's supplementary groups cannot be dropped",
                "idmap.gid",
                "map a gid, or run nsrun without them: setpriv --clear-groups nsrun ...",
                why="setgroups(2) needs a gid map; the command would keep the rights of "
                + ", ".join(str(group) for group in sorted(set(facts.groups) - {facts.gid})),
            )
    elif maps.deny_setgroups:
        if wanted.groups:
            _refuse_groups(
                draft, "without /etc/subgid ranges the kernel wants setgroups(2) denied"
            )
        groups = None
    for group in groups or ():
        if not contains(maps.gid, group):
            draft.refuse(
                "NS403", f"group {group} is not mapped into the user namespace", "user.groups"
            )
    return Identity(
        maps=maps,
        uid=uid,
        gid=gid,
        groups=groups,
        setup_uid=0 if contains(maps.uid, 0) else uid,
        setup_gid=0 if contains(maps.gid, 0) else gid,
        # Without a map the ids cannot be changed, and stay the caller's on the host.
        displaced=bool(maps.uid) and from_host(maps.uid, facts.uid) is None,
    )


def _default_id(given: int | None, ranges: tuple[IdRange, ...], callers: int) -> int | None:
    if given is not None or not ranges:
        return given
    if contains(ranges, 0):
        return 0
    own = from_host(ranges, callers)
    return own if own is not None else ranges[0].container


def _words(ranges: tuple[IdRange, ...]) -> str:
    return ", ".join(
        str(r.container) if r.size == 1 else f"{r.container}-{r.container + r.size - 1}"
        for r in ranges
    )


# --- maps ------------------------------------------------------------------------------------


def decide_maps(draft: Draft, facts: Facts) -> Maps:
    """The maps that ``idmap`` asks for, or the default: auto, else root."""
    spec = draft.spec
    given = spec.idmap or IdMap(kind="auto")
    match given.kind:
        case "explicit":
            return _explicit(draft, facts, given)
        case "root":
            return _single(facts, 0, 0)
        case "keep":
            return _single(facts, facts.uid, facts.gid)
        case "auto":
            return _auto(draft, facts)


def _single(facts: Facts, uid: int, gid: int) -> Maps:
    return Maps(
        uid=(IdRange(container=uid, host=facts.uid, size=1),),
        gid=(IdRange(container=gid, host=facts.gid, size=1),),
        uid_writer=Writer.DIRECT,
        gid_writer=Writer.DIRECT,
        # Unprivileged, gid_map can only be written once setgroups is denied (CVE-2014-8989).
        deny_setgroups=not may_set_ids(facts),
    )


def _auto(draft: Draft, facts: Facts) -> Maps:
    if may_set_ids(facts):
        return Maps(
            uid=_privileged_range(draft.spec, facts.subuid, facts.uid_map),
            gid=_privileged_range(draft.spec, facts.subgid, facts.gid_map),
            uid_writer=Writer.DIRECT,
            gid_writer=Writer.DIRECT,
            deny_setgroups=False,
        )
    if not facts.subuid or not facts.subgid:
        return _single(facts, 0, 0)
    if facts.newuidmap is None or facts.newgidmap is None:
        if draft.spec.idmap is None:
            return _single(facts, 0, 0)
        _refuse_without_helper(draft, facts)
    return Maps(
        uid=_caller_and_subordinates(facts.uid, facts.subuid),
        gid=_caller_and_subordinates(facts.gid, facts.subgid),
        uid_writer=Writer.HELPER,
        gid_writer=Writer.HELPER,
        deny_setgroups=False,
    )


def _privileged_range(
    spec: Spec, subordinate: tuple[SubIds, ...], own: tuple[MapLine, ...]
) -> tuple[IdRange, ...]:
    if own != ALL_IDS:
        # Inside a user namespace the caller's ids are already others than the host's, and
        # only they can be mapped on (user_namespaces(7)).
        return tuple(IdRange(container=m.inside, host=m.inside, size=m.size) for m in own)
    if subordinate:
        first = subordinate[0]
        return (IdRange(container=0, host=first.start, size=first.size),)
    blocks = (_BLOCKS_TO - _BLOCKS_FROM) // _BLOCK
    digest = hashlib.sha256(spec.name.encode("utf-8", "surrogateescape")).digest()
    block = int.from_bytes(digest[:8], "big") % blocks
    return (IdRange(container=0, host=_BLOCKS_FROM + block * _BLOCK, size=_BLOCK),)


def _caller_and_subordinates(own: int, ranges: tuple[SubIds, ...]) -> tuple[IdRange, ...]:
    lines = [IdRange(container=0, host=own, size=1)]
    after = 1
    for r in ranges:
        lines.append(IdRange(container=after, host=r.start, size=r.size))
        after += r.size
    return tuple(lines)


def _refuse_without_helper(draft: Draft, facts: Facts) -> None:
    missing = "newuidmap" if facts.newuidmap is None else "newgidmap"
    draft.refuse(
        "NS403",
        f"{missing} is not installed",
        "idmap",
        "install the package uidmap (Debian, Ubuntu) or shadow-utils",
        "or `idmap: root`, which maps the caller alone and needs no helper",
        why="mapping subordinate ids without privilege is done by this set-uid program",
    )


def _explicit(draft: Draft, facts: Facts, given: IdMap) -> Maps:
    uid, gid = given.uid, given.gid
    if may_set_ids(facts):
        _require_in_own(draft, "uid", uid, facts.uid_map)
        _require_in_own(draft, "gid", gid, facts.gid_map)
        return Maps(
            uid=uid,
            gid=gid,
            uid_writer=Writer.DIRECT,
            gid_writer=Writer.DIRECT,
            deny_setgroups=False,
        )
    uid_writer = _unprivileged_writer(draft, facts, "uid", uid, facts.uid, facts.subuid)
    gid_writer = _unprivileged_writer(draft, facts, "gid", gid, facts.gid, facts.subgid)
    return Maps(
        uid=uid,
        gid=gid,
        uid_writer=uid_writer,
        gid_writer=gid_writer,
        deny_setgroups=bool(gid) and gid_writer is Writer.DIRECT,
    )


def _require_in_own(
    draft: Draft, kind: str, ranges: tuple[IdRange, ...], own: tuple[MapLine, ...]
) -> None:
    for number, r in enumerate(ranges):
        if any(m.inside <= r.host and r.host + r.size <= m.inside + m.size for m in own):
            continue
        draft.refuse(
            "NS403",
            f"host {kind}s {r.host} to {min(r.host + r.size - 1, ID_MAX)} cannot be mapped",
            f"idmap.{kind}[{number}]",
            why=f"the caller's own user namespace holds {_own_words(own)} only",
        )


def _own_words(own: tuple[MapLine, ...]) -> str:
    return ", ".join(f"{m.inside}-{m.inside + m.size - 1}" for m in own)


def _unprivileged_writer(
    draft: Draft,
    facts: Facts,
    kind: str,
    ranges: tuple[IdRange, ...],
    own: int,
    subordinate: tuple[SubIds, ...],
) -> Writer:
    if not ranges or (len(ranges) == 1 and ranges[0].host == own and ranges[0].size == 1):
        return Writer.DIRECT
    for number, r in enumerate(ranges):
        is_own = r.host == own and r.size == 1
        if is_own or any(s.start <= r.host and r.host + r.size <= s.start + s.size
                         for s in subordinate):
            continue
        held = ", ".join(f"{s.start}-{s.start + s.size - 1}" for s in subordinate) or "none"
        draft.refuse(
            "NS403",
            f"host {kind}s {r.host} to {r.host + r.size - 1} are not the caller's to map",
            f"idmap.{kind}[{number}]",
            f"add the range to /etc/sub{kind} (usermod --add-sub{kind}s), or map {own} alone",
            why=f"the caller is {kind} {own}; its ranges in /etc/sub{kind}: {held}",
        )
    if (facts.newuidmap if kind == "uid" else facts.newgidmap) is None:
        _refuse_without_helper(draft, facts)
    return Writer.HELPER
