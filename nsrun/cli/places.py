"""Places of a plan that was read back: where the text that asked for a step ends.

A plan's text keeps where a place begins. To underline the whole of it, the spec is read once
more, and believed if it still is what was planned.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from nsrun.diag import Diagnostic, NsrunError, Span

if TYPE_CHECKING:
    from nsrun.plan.model import Source


def with_ends(found: Iterable[Diagnostic], source: Source) -> list[Diagnostic]:
    """``found``, with the ends of places that lack them; unchanged where they cannot be known."""
    diagnostics = list(found)
    if not any(_lacks_end(one, source) for one in diagnostics):
        return diagnostics
    from nsrun.spec.document import read_document

    try:
        document = read_document(source.file)
    except NsrunError:
        return diagnostics
    if document.sha256 != source.sha256:
        return diagnostics
    return [
        replace(one, span=_ended(one.span, document.spans.get(one.path)))
        if _lacks_end(one, source)
        else one
        for one in diagnostics
    ]


def _ended(span: Span | None, known: Span | None) -> Span | None:
    """The place as it is known now, if it begins where it did: a template's file is no spec."""
    same = known and span and (known.line, known.column) == (span.line, span.column)
    return known if same else span


def _lacks_end(one: Diagnostic, source: Source) -> bool:
    span = one.span
    return span is not None and span.file == source.file and not span.end_line
