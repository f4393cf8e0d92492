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


def connect(draft: Draft, facts: Facts, started: Launch) -> None:
    """The launcher's part, while the child mounts; the child waits for it in ``furnish``."""
    network = _network(draft)
    if network is None:
        return
    before = len(draft.actions)
    if network.interfaces:
        # pyroute2 takes longer to import than all the rest: only who has interfaces pays.
        from nsrun.plan import links

        links.connect(draft, facts, started, network)
    nat.translate(draft, facts, network)
    usernet.attach(draft, facts, started, network)
    if len(draft.actions) > before:
        draft.parent(
            "tell the child that its network is there",
            Signal(sync="linked", channel=started.outer),
            at="network",
        )


def furnish(draft: Draft, started: Launch) -> None:
    """The child's part: what it makes itself, addresses and routes."""
    network = _network(draft)
    if network is None:
        return
    if any(isinstance(op, Signal) and op.sync == "linked" for a in draft.actions for op in a.steps):
        draft.child(
            "wait for the network", Wait(sync="linked", channel=started.inner), at="network"
        )
    if network.interfaces or network.routes:
        from nsrun.plan import links

        links.furnish(draft, network)
