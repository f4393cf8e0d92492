"""Other limits for a container that runs: a plan that is put back where one of them fails."""

from __future__ import annotations

import hashlib

from nsrun.diag import Diagnostic, NsrunError
from nsrun.host import cgroups, procfs
from nsrun.host.facts import gather
from nsrun.kernel.facts import Query
from nsrun.plan import update
from nsrun.plan.cgroup import group_name
from nsrun.plan.model import Plan
from nsrun.runtime.store import Container
from nsrun.spec.model import Resources, Spec


def plan_for(container: Container, resources: Resources) -> Plan:
    """Raises NsrunError (NS605 or NS401) for a container that does not run, or that was started
    without a group of its own for what is to be limited."""
    name = container.record.name
    if not container.alive:
        raise NsrunError(
            Diagnostic(code="NS605", summary=f"{name} does not run, and holds no resources")
        )
    spec = Spec(
        name=name,
        file=container.record.spec,
        sha256=hashlib.sha256(repr(resources).encode()).hexdigest(),
        resources=resources,
    )
    facts = gather(Query(cgroups=True))
    folders = tuple(_own(container))
    before = {
        path: text.strip()
        for path in update.limited_files(spec, facts, folders)
        if (text := procfs.read(path)) is not None
    }
    return update.plan_update(spec, facts, folders, before)


def _own(container: Container) -> list[str]:
    return cgroups.named(container.pid, group_name(container.record.name))
