"""``nsrun start``: containers that have ended run again, by their stored plans."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from nsrun.cli.parser import examples

if TYPE_CHECKING:
    from nsrun.diag import Diagnostic
    from nsrun.runtime.store import Container, Record


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Replays the stored plan of each container. A spec that has changed since is said; "
        "`nsrun run -d --replace` plans anew."
    )
    parser.add_argument("container", nargs="+", metavar="CONTAINER", help="a name or id")
    examples(parser, "nsrun start web")


def main(args: argparse.Namespace) -> int:
    from nsrun.cli.each import each

    return each(args.container, begin)


def begin(container: Container) -> None:
    """Start one; raises NsrunError where it runs, or does not start."""
    from nsrun.diag import Diagnostic, NsrunError
    from nsrun.runtime import detached, stack_store

    record = container.record
    if container.alive:
        raise NsrunError(
            Diagnostic(code="NS606", summary=f"the container {record.name} is running already")
        )
    if _has_changed(record):
        from nsrun.cli.output import report

        report([changed(record)])
    stack_store.tell(container, stack_store.AWAIT)
    is_begun = False
    try:
        started = detached.again(container)
        is_begun = started.status == 0
    finally:
        stack_store.tell(container, stack_store.ADOPT if is_begun else stack_store.HOLD)
    if started.status:
        raise SystemExit(started.status)


def changed(record: Record) -> Diagnostic:
    """NS608, a warning."""
    from nsrun.diag import Diagnostic, Severity

    anew = f"nsrun up -d {record.spec}" if record.stack else "nsrun run -d --replace"
    return Diagnostic(
        code="NS608",
        severity=Severity.WARNING,
        summary=f"{record.spec} has changed since {record.name} was made",
        help=(f"the stored plan is replayed; `{anew}` plans anew",),
    )


def _has_changed(record: Record) -> bool:
    """Whether the spec is another one now; a template's, with what it was given then."""
    from nsrun.cli.inputs import inputs_of_words
    from nsrun.diag import NsrunError
    from nsrun.spec.source import read_source

    if record.spec == "-" or (record.spec.endswith(".j2") and not record.words):
        # Read once from a pipe; a container of a stack does not know what its template was given.
        return False
    try:
        inputs = inputs_of_words(record.words, record.cwd)
        return read_source(record.spec, inputs).sha256 != record.sha256
    except NsrunError:
        return True
