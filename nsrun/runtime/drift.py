"""What of running containers is no longer as their stored plans have made it."""

from __future__ import annotations

from dataclasses import dataclass

from nsrun.diag import Diagnostic, NsrunError, Span
from nsrun.host.observe import observe
from nsrun.plan.difference import Difference, Note
from nsrun.plan.drift import compare, question, unseen, updated
from nsrun.plan.expected import expected
from nsrun.plan.model import Origin
from nsrun.runtime import life, stack_store, store, updates
from nsrun.runtime.stack_watched import watched
from nsrun.runtime.store import Container
from nsrun.spec.stack import Member

# Why a member of a stack is to run.
_UP = Origin(rule="nsrun up")


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """The differences of one container; ``notes``: what is to be known beside them. ``status``:
    as ps has it, "missing" for a container of a stack that is not there."""

    name: str
    status: str
    differences: tuple[Difference, ...]
    notes: tuple[Note, ...] = ()

    def as_data(self) -> dict[str, object]:
        """Plain data, as JSON has them."""
        return {
            "container": self.name,
            "status": self.status,
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
            "notes": [{"what": one.what, "why": one.why} for one in self.notes],
        }


def _span(one: Difference) -> Span | None:
    return one.origin.span if one.origin is not None else None


def _or_none(text: str) -> str | None:
    return None if text == "-" else text


def drifts(word: str) -> list[Drift]:
    """Of the container of this name or id, or of all of the stack of this name.

    Raises NsrunError (NS605) for neither, NS607 where nothing runs, and what :func:`look` raises.
    """
    stack = stack_store.containers(word)
    if not stack:
        one = store.find(word)
        if not one.running:
            raise life.not_running(one)
        return [look(one)]
    if not any(container.running for container in stack):
        raise life.not_running(stack[0])
    # As the last `up` has left them.
    members = {member.spec.name: member for member in watched(word).members}
    found = [
        look(one) if one.running else _resting(one, members.get(one.record.name)) for one in stack
    ]
    missing = members.keys() - {container.record.name for container in stack}
    return found + [
        Drift(name=name, status="missing", differences=(_not_there("-"),))
        for name in members
        if name in missing
    ]


def _resting(container: Container, member: Member | None) -> Drift:
    """A member that does not run: it should, but for one that has done what it was to do."""
    name, status = container.record.name, container.status.value
    ended = container.exit_status
    is_kept = container.record.holds_networks or (
        member is not None and member.restart.policy == "always"
    )
    if ended == 0 and not is_kept:
        note = Note(what="container", why="it has ended with exit status 0, nothing is compared")
        return Drift(name=name, status=status, differences=(), notes=(note,))
    found = status if ended is None else f"{status}, exit status {ended}"
    return Drift(name=name, status=status, differences=(_not_there(found),))


def _not_there(found: str) -> Difference:
    return Difference(what="container", expected="running", found=found, origin=_UP)


def look(container: Container) -> Drift:
    """Raises NsrunError (NS406, NS607) where it cannot be compared."""
    planned = expected(
        store.plan_needed(container, "what it was started with is what it is compared with")
    )
    with updates.held(container, change=False):
        wanted, notes = updated(planned, updates.limits_of(container))
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
    return Drift(
        name=container.record.name,
        status=container.status.value,
        differences=tuple(compare(wanted, seen)),
        notes=(*notes, *unseen(wanted, seen)),
    )
