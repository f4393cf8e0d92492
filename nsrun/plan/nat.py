"""``masquerade`` and ``ports``."""

from __future__ import annotations

from nsrun.kernel.facts import Facts
from nsrun.plan.draft import Draft
from nsrun.spec.model import Network


def translate(draft: Draft, facts: Facts, network: Network) -> None:
    pass
