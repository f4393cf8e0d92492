"""The bridges of a stack: a plan of their own, kept by a monitor as a container's is."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from nsrun.diag import Diagnostic, NsrunError
from nsrun.runtime import detached, stack_store, store
from nsrun.runtime.detached import Planned, Started
from nsrun.runtime.store import Record
from nsrun.spec.stack import BRIDGE_PREFIX, Stack, StackNetwork

if TYPE_CHECKING:
    from nsrun.plan.bridges import Bridges
    from nsrun.plan.model import Plan


def network_name(stack: str) -> str:
    return f"{stack}.{stack_store.NETWORKS}"


def bridges_of(stack: Stack) -> Bridges:
    from nsrun.plan.bridges import Bridge, Bridges

    return Bridges(
        name=stack.name,
        file=stack.file,
        sha256=stack.sha256,
        spans=stack.spans,
        bridges=tuple(
            Bridge(
                name=n.bridge,
                path=n.path,
                addresses=n.gateways,
                masquerade=n.masquerade,
                internal=n.internal,
                mtu=n.mtu,
            )
            for n in stack.networks
            if not n.external
        ),
    )


def network_plan(wanted: Bridges, socket: str) -> Plan:
    """Raises NsrunError."""
    from nsrun.host.facts import gather
    from nsrun.kernel.facts import Query
    from nsrun.plan.bridges import plan_bridges

    translates = any(b.masquerade for b in wanted.bridges)
    filters = translates or any(b.internal for b in wanted.bridges)
    query = Query(helpers=("nft",) if filters else (), forwarding=translates)
    facts = replace(gather(query), ignored_signals=detached.IGNORED)
    return plan_bridges(wanted, facts, notify=socket)


def require_free(stack: Stack) -> None:
    """Raise NsrunError (NS318) where a network's addresses are another's of this host.

    Of two routes to the same addresses the kernel takes one, and who is on the other network is
    not reached. A part of a larger network may be a stack's: the longer prefix wins.
    """
    from nsrun.host import links

    own = {n.bridge for n in stack.networks}
    known = stack_store.record(stack.name) or {}
    # Those of the last `up` go before these are made.
    own |= {str(n.get("bridge")) for n in known.get("networks", ()) if isinstance(n, dict)}
    try:
        there = [(name, net) for name, net in links.networks() if name not in own]
    except OSError:
        return
    wrong = [
        _overlap(stack, network, gateway.network, name)
        for network in stack.networks
        for gateway in network.gateways
        for name, net in there
        if not network.external
        and net.version == gateway.version
        and (net == gateway.network or (_is_stacks(name) and net.overlaps(gateway.network)))
    ]
    if wrong:
        raise NsrunError(wrong)


def _is_stacks(link: str) -> bool:
    return link.startswith(BRIDGE_PREFIX)


def _overlap(stack: Stack, network: StackNetwork, subnet: object, name: str) -> Diagnostic:
    path = f"{network.path}.subnet"
    span = stack.spans.get(path)
    return Diagnostic(
        code="NS318",
        summary=f"{subnet} has addresses of the network of {name}",
        span=span or stack.spans.get(network.path),
        path=path if span is not None else network.path,
        help=("give it another `subnet`",),
    )


def start_networks(stack: Stack) -> Started:
    """Make the bridges; returns when they are there, or cannot be. Raises NsrunError."""
    return detached.run_plan(
        lambda socket: Planned(plan=network_plan(bridges_of(stack), socket)),
        _network_record(stack),
    )


def _network_record(stack: Stack) -> Record:
    return Record(
        id=store.new_id(),
        name=network_name(stack.name),
        spec=os.path.abspath(stack.file),
        sha256=stack.sha256,
        command=(),
        created=time.time_ns(),
        stack=stack.name,
        service=f"({stack_store.NETWORKS})",
        stop_timeout=0,
    )
