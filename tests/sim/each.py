"""One plan of all, in a process of its own.

A module of its own too: what a package's ``__main__`` has is not found by a spawned process.
"""

from __future__ import annotations

from tests.sim.plans import plans
from tests.sim.replays import Tally, sweep


def sweep_one(name: str) -> tuple[str, dict[str, Tally]]:
    """The plan of a name, swept; the replaced modules are one set a process."""
    tallies: dict[str, Tally] = {}
    sweep(dict(plans())[name], tallies)
    return name, tallies
