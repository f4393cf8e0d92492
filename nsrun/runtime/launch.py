"""From a spec to its end: facts are gathered, a plan is made and proved, and it is replayed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsrun.plan.model import Plan
from nsrun.spec.model import NamespaceType, Spec

if TYPE_CHECKING:
    from nsrun.host.hint import HintContext
    from nsrun.replay.outcome import Outcome


def plan_for(spec: Spec) -> Plan:
    """The plan of ``spec`` for this machine and caller; nothing is made.

    Raises NsrunError where the machine or the caller cannot do what the spec asks.
    """
    from nsrun.host.facts import gather
    from nsrun.plan.build import plan, wanted

    return plan(spec, gather(wanted(spec)))


def hint_context(spec: Spec) -> HintContext:
    """What the explainers of a failed step have to know of the spec."""
    from nsrun.host.hint import HintContext

    pid = spec.namespace(NamespaceType.PID)
    path = pid.join_path if pid is not None else None
    if pid is not None and pid.join_pid is not None:
        path = f"/proc/{pid.join_pid}/ns/pid"
    return HintContext(rootfs=spec.rootfs.path if spec.rootfs else None, pid_namespace=path)


def unpin_plan(path: str) -> Plan:
    """The plan that lets go of the namespace pinned on the host file ``path``.

    Raises NsrunError where nothing is pinned there.
    """
    import os

    from nsrun.host.facts import gather
    from nsrun.kernel.facts import Query
    from nsrun.plan.unpin import plan_unpin

    path = os.path.abspath(path)
    return plan_unpin(path, gather(Query(paths=(path,))))


def replay_plan(plan: Plan) -> Outcome:
    """Replay a verified plan to its end.

    The command inherits descriptors 0 to 2, so what Python has buffered for them goes out first.
    """
    import sys

    from nsrun.replay.engine import replay

    sys.stdout.flush()
    sys.stderr.flush()
    return replay(plan)
