"""What is there and what a stack wants, compared by plans: what `up` keeps, makes and removes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nsrun.diag import NsrunError
from nsrun.runtime import detached, stack_store, store
from nsrun.runtime.stack_networks import bridges_of, network_name, network_plan
from nsrun.runtime.store import Container
from nsrun.spec.stack import Member, Stack

if TYPE_CHECKING:
    from nsrun.plan.model import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """``same``: names of containers that run by the plan they should have, ``renamed``: those of
    them for which only the names of others differ; ``removed``: those that have another plan,
    have ended, or are of no use any more."""

    same: tuple[str, ...]
    renamed: tuple[str, ...]
    changed: tuple[str, ...]
    made: tuple[str, ...]
    removed: tuple[Container, ...]
    networks_changed: bool


def plan_changes(stack: Stack) -> Changes:
    """What `up` would do, compared by plans. Raises NsrunError where one cannot be planned."""
    from nsrun.runtime import names

    wanted = {m.spec.name: m for m in stack.members}
    present = {c.record.name: c for c in stack_store.containers(stack.name)}
    networks = bridges_of(stack)
    holder = present.pop(network_name(stack.name), None)
    networks_same = (
        holder is not None
        and holder.running
        and not _differs(holder, network_plan(networks, detached.socket_of(holder.folder)), {""})
        if networks.bridges
        else holder is None
    )
    same: list[str] = []
    renamed: list[str] = []
    # In the order of starting: who joins another comes after it.
    for name, member in wanted.items():
        container = present.get(name)
        if container is None or not container.alive or not networks_same:
            continue
        if joined(member, wanted) - set(same):
            # Its pid will be another one, and the namespaces that it shares.
            continue
        logging = member.spec.logging
        kept = (container.record.log_size, container.record.log_files)
        if kept != (logging.max_size, logging.files):
            # The monitor has these, no plan does.
            continue
        made = detached.planned(member.spec, detached.socket_of(container.folder))
        differs = _differs(container, made.plan)
        if differs is not None and differs <= {names.ORIGIN}:
            same.append(name)
            if differs:
                renamed.append(name)
    gone = [c for name, c in present.items() if name not in same]
    if holder is not None and not networks_same:
        gone.insert(0, holder)
    return Changes(
        same=tuple(same),
        renamed=tuple(renamed),
        changed=tuple(n for n in present if n in wanted and n not in same),
        made=tuple(n for n in wanted if n not in present),
        # The networks go last: what is on them goes first.
        removed=tuple(reversed(gone)),
        networks_changed=not networks_same,
    )


def joined(member: Member, wanted: Mapping[str, Member]) -> set[str]:
    """The containers of the stack whose namespaces a member shares, or has an interface's other
    end in."""
    others = {n.join_container or "" for n in member.spec.namespaces}
    if member.spec.network is not None:
        others |= {i.peer.container or "" for i in member.spec.network.interfaces}
    return others.intersection(wanted)


def _differs(container: Container, plan: Plan, unknown: set[str] | None = None) -> set[str] | None:
    """The places in the spec of all that differs from the stored plan; ``unknown`` where there is
    none to compare with, or where it is about the whole plan."""
    from nsrun.plan.diff import diff, without_mount_points

    try:
        stored = store.plan_of(container)
    except (OSError, NsrunError):
        return unknown
    found = diff(without_mount_points(stored), without_mount_points(plan))
    return unknown if found.settings else {c.action.origin.path for c in found.changes}


def plans(stack: Stack) -> Iterator[Plan]:
    """The plans that `up` replays, in its order. Raises NsrunError."""
    networks = bridges_of(stack)
    folder = store.folder()
    if networks.bridges:
        place = os.path.join(folder, network_name(stack.name))
        yield network_plan(networks, detached.socket_of(place))
    for member in stack.members:
        place = os.path.join(folder, member.spec.name)
        yield detached.planned(member.spec, detached.socket_of(place)).plan
