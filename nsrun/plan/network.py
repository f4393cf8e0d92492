"""The ``network`` block, in order: what is done outside, inside, and the files of names.

Interfaces are :mod:`nsrun.plan.links`'s, addresses translated for the outside
:mod:`nsrun.plan.nat`'s, the network without privilege :mod:`nsrun.plan.usernet`'s.
"""

from __future__ import annotations

from nsrun.kernel.facts import Facts
from nsrun.plan import nat, usernet
from nsrun.plan.draft import Draft
from nsrun.plan.launch import Launch
from nsrun.plan.ops import Signal, Wait
from nsrun.spec.model import NamespaceType, Network


def _network(draft: Draft) -> Network | None:
    """What is to be set up: nothing in a namespace of others, or in the caller's own."""
    return draft.spec.network if draft.spec.new(NamespaceType.NETWORK) else None


def connect(draft: Draft, facts: Facts, started: Launch) -> bool:
    """The launcher's part, while the child mounts. Whether there is one, which the child has to
    wait for in ``furnish``."""
    network = _network(draft)
    if network is None:
        return False
    before = len(draft.actions)
    if network.interfaces:
        # pyroute2 takes longer to import than all the rest: only who has interfaces pays.
        from nsrun.plan import links

        links.connect(draft, facts, started, network)
    nat.translate(draft, facts, network)
    usernet.attach(draft, facts, started, network)
    return len(draft.actions) > before


def furnish(draft: Draft, started: Launch, connected: bool) -> None:
    """The child's part: what it makes itself, addresses and routes."""
    network = _network(draft)
    if network is None:
        return
    if connected:
        # Here, not in `connect`: trees of the host are sent before it, and taken in that order.
        draft.parent(
            "tell the child that its network is there",
            Signal(sync="linked", channel=started.outer),
            at="network",
        )
        draft.child(
            "wait for the network", Wait(sync="linked", channel=started.inner), at="network"
        )
    if network.interfaces or network.routes:
        from nsrun.plan import links

        links.furnish(draft, network)
