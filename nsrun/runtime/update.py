"""Other limits for a container that runs: a plan that is put back where one of them fails."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

from nsrun.diag import Diagnostic, NsrunError
from nsrun.host import cgroups, procfs
from nsrun.host.facts import gather
from nsrun.kernel.facts import Query
from nsrun.plan import update
from nsrun.plan.cgroup_limits import group_name
from nsrun.plan.model import Plan
from nsrun.runtime.store import Container
from nsrun.spec.model import Resources, Spec

_UNLIMITED = 1 << 62


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """A plan, and by a control group's file the text that it writes."""

    plan: Plan
    limits: Mapping[str, str]


def plan_for(container: Container, resources: Resources) -> Update:
    """Raises NsrunError (NS605 or NS401) for a container that does not run, or that was started
    without a group of its own for what is to be limited."""
    name = container.record.name
    if not container.alive:
        raise NsrunError(
            Diagnostic(code="NS605", summary=f"{name} does not run, and holds no resources")
        )
    folders = tuple(_own(container))
    resources = with_memory(resources, folders)
    spec = Spec(
        name=name,
        file=container.record.spec,
        sha256=hashlib.sha256(repr(resources).encode()).hexdigest(),
        resources=resources,
    )
    facts = gather(Query(cgroups=True))
    limits = update.limited_files(spec, facts, folders)
    before = {path: text.strip() for path in limits if (text := procfs.read(path)) is not None}
    plan = update.plan_update(spec, facts, folders, before)
    return Update(plan=plan, limits=limits)


def with_memory(resources: Resources, folders: tuple[str, ...]) -> Resources:
    """With both of memory and swap where one is to change and a group in ``folders`` limits both.

    Version 1 limits the sum: without this a smaller memory would give more swap, and a larger one
    be refused. What is not to change stays what it is.
    """
    if (resources.memory is None) == (resources.memory_swap is None):
        return resources
    for folder in folders:
        memory, both = (
            procfs.read(f"{folder}/{file}")
            for file in ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes")
        )
        # No limit is the largest number of pages that a long can count (mm/page_counter.h).
        if memory is None or both is None or int(both) >= _UNLIMITED:
            continue
        if resources.memory is None:
            return replace(resources, memory=int(memory))
        return replace(resources, memory_swap=int(both) - int(memory))
    return resources


def _own(container: Container) -> list[str]:
    return cgroups.named(container.pid, group_name(container.record.name))
