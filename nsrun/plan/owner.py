"""Whose a file of nsrun's own is that a container with a user namespace has a bind of.

It belongs to the caller when the plan begins. chown(2) to others takes CAP_CHOWN over the old
owner and the new one: the launcher has it as root; otherwise the child has it, over the ids that
are mapped into its user namespace, once the maps are written (user_namespaces(7)).
"""

from __future__ import annotations

from nsrun.kernel import calls
from nsrun.kernel.abi import AtFlag, Capability
from nsrun.kernel.facts import Facts
from nsrun.kernel.values import Reg
from nsrun.plan.draft import Draft
from nsrun.plan.identity import Identity, contains, from_host, map_help, to_host
from nsrun.plan.ops import Op
from nsrun.spec.model import IdRange, Mount, Owner


def give_away(draft: Draft, facts: Facts, who: Identity, mount: Mount, tree: Reg) -> tuple[Op, ...]:
    """The child's steps, for the tree it has taken; the launcher's are drafted."""
    if mount.owner is None:
        return ()
    privileged = Capability.CAP_CHOWN in facts.permitted
    if who.maps is None:
        return _in_joined(draft, mount, mount.owner, tree, privileged=privileged)
    uid = _inside(draft, facts, mount, "uid", mount.owner.uid, who.maps.uid)
    gid = _inside(draft, facts, mount, "gid", mount.owner.gid, who.maps.gid)
    host = to_host(who.maps.uid, uid), to_host(who.maps.gid, gid)
    if all(now in (None, own) for now, own in zip(host, (facts.uid, facts.gid), strict=True)):
        return ()
    if privileged:
        new = tuple(-1 if ident is None else ident for ident in host)
        draft.parent(
            f"give {mount.target} its owner",
            calls.fchownat(calls.CWD, mount.source, new[0], new[1], AtFlag.AT_SYMLINK_NOFOLLOW),
            at=mount.path,
        )
        return ()
    if from_host(who.maps.uid, facts.uid) is None or from_host(who.maps.gid, facts.gid) is None:
        draft.refuse(
            "NS403",
            f"{mount.target} cannot get another owner: the caller is not mapped",
            mount.path,
            f"map {facts.uid}:{facts.gid} as well, or leave out `uid` and `gid`",
            why="changing an owner takes rights over the old one, which has no id inside",
        )
    return (calls.fchownat(tree, "", uid, gid, AtFlag.AT_EMPTY_PATH),)


def _inside(
    draft: Draft,
    facts: Facts,
    mount: Mount,
    kind: str,
    given: int | None,
    ranges: tuple[IdRange, ...],
) -> int:
    """An id of the container, -1 where the caller's stays."""
    if given is None:
        return 0 if contains(ranges, 0) else -1
    if not contains(ranges, given):
        draft.refuse(
            "NS403",
            f"{kind} {given} of {mount.target} is not mapped into the user namespace",
            mount.path,
            map_help(draft, facts, kind, given),
        )
    return given


def _in_joined(
    draft: Draft, mount: Mount, owner: Owner, tree: Reg, *, privileged: bool
) -> tuple[Op, ...]:
    if owner == Owner():
        return ()
    if privileged:
        draft.refuse(
            "NS403",
            f"`uid` and `gid` of {mount.target} in a joined user namespace take an ordinary user",
            mount.path,
            "leave them out: everybody inside may read it, unless `mode` says otherwise",
            why="root's own file has no id in that namespace, so that none inside may change it",
        )
    uid, gid = (-1 if ident is None else ident for ident in (owner.uid, owner.gid))
    return (calls.fchownat(tree, "", uid, gid, AtFlag.AT_EMPTY_PATH),)
