"""What of running containers is no longer as their stored plans have made it."""

from __future__ import annotations

from dataclasses import dataclass

from nsrun.diag import Diagnostic, NsrunError, Span
from nsrun.host.observe import observe
from nsrun.plan.drift import Difference, compare, question
from nsrun.plan.expected import expected
from nsrun.runtime import life, store
from nsrun.runtime.store import Container


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """The differences of one container."""

    name: str
    differences: tuple[Difference, ...]

    def as_data(self) -> dict[str, object]:
        """Plain data, as JSON has them."""
        return {
            "container": self.name,
            "differences": [
                {
                    "what": one.what,
                    "expected": _or_none(one.expected),
                    "found": _or_none(one.found),
                    "path": (one.origin.path if one.origin is not None else "") or None,
                    "rule": (one.origin.rule if one.origin is not None else "") or None,
                    "file": span.file if (span := _span(one)) is not None else None,
                    "line": span.line if span is not None else None,
                }
                for one in self.differences
            ],
        }


def _span(one: Difference) -> Span | None:
    return one.origin.span if one.origin is not None else None


def _or_none(text: str) -> str | None:
    return None if text == "-" else text


def chosen(word: str) -> list[Container]:
    """The container of this name or id, or all of the stack of this name; of those the ones that
    do not run are left out where there are others.

    Raises NsrunError (NS605) for neither, NS607 where nothing runs.
    """
    stack = [c for c in store.everything() if c.record.stack == word]
    if not stack:
        stack = [store.find(word)]
    running = [c for c in stack if c.running]
    if not running:
        raise life.not_running(stack[0])
    return running


def look(container: Container) -> Drift:
    """Raises NsrunError (NS406, NS607) where it cannot be compared."""
    wanted = expected(
        store.plan_needed(container, "what it was started with is what it is compared with")
    )
    seen = observe(container.pid, question(wanted))
    if not seen.namespaces or not seen.mounts:
        now = store.load(container.folder)
        if now is None or now.pid != container.pid:
            raise life.not_running(container)
        raise NsrunError(
            Diagnostic(
                code="NS402",
                summary=f"{container.record.name} cannot be looked into",
                why=(f"/proc/{container.pid}/ns and /proc/{container.pid}/mountinfo are closed",),
            )
        )
    found = tuple(compare(wanted, seen))
    return Drift(name=container.record.name, differences=found)
