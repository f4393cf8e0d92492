"""Limits of a plan that will not be what holds: a group above allows less."""

from __future__ import annotations

from collections.abc import Iterator

from nsrun.diag import Diagnostic, Severity
from nsrun.host import ceilings
from nsrun.plan.model import Plan
from nsrun.plan.planned_limits import planned_limits
from nsrun.runtime.subject import Problems, Subject


def limits_are_the_lowest(subject: Subject) -> Problems:
    """The rule of a preflight."""
    if subject.plan is not None:
        yield from warnings(subject.plan)


def warnings(plan: Plan) -> Iterator[Diagnostic]:
    """NS413, by what the groups above say now."""
    for limit in planned_limits(plan):
        above = ceilings.lowest(limit.folder, limit.file)
        if above is None or above[1] >= limit.value:
            continue
        group, value = above
        allowed = ceilings.words(limit.file, value)
        yield Diagnostic(
            code="NS413",
            severity=Severity.WARNING,
            summary=f"a limit of {ceilings.words(limit.file, limit.value)} will not be reached: "
            f"{allowed} hold",
            span=limit.origin.span,
            path=limit.origin.path,
            why=(f"{group}, in which nsrun runs, has {value} in {limit.file}",),
            help=(f"ask for {allowed} at most, or start nsrun in another group",),
        )
