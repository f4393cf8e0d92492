"""What the sweep finds and nsrun does not mend by itself; docs/decisions says why."""

from __future__ import annotations

from tests.sim.replays import Finding

# The heir of a killed launcher is forked before the child is, and so knows no register set
# later: where the interface went. The kernel gives it back, under the name it had inside.
_PHYSICAL = ("specs/network/physical.yaml", "leaked", "left: ['away ")


def is_known(name: str, found: Finding) -> bool:
    plan, kind, what = _PHYSICAL
    killed = found.where.endswith("(launcher)")
    return name == plan and found.kind == kind and found.what.startswith(what) and killed
