"""Where a value of a spec comes from: its line, and what its template was given."""

from __future__ import annotations

from dataclasses import dataclass

from nsrun.diag import Diagnostic, NsrunError, Span
from nsrun.spec.document import Document
from nsrun.spec.linemap import TemplateSpan
from nsrun.spec.path import parent_path
from nsrun.spec.schema import is_stack
from nsrun.spec.source import read_source
from nsrun.spec.tree import Tree, document_of, tree_of
from nsrun.spec.values import NOTHING, Inputs
from nsrun.spec.words import did_you_mean, quote


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """``value`` at ``path``, the place that says it, and the values of the template that stand in
    it, each with where it was given."""

    path: str
    value: object
    span: Span | None
    given: tuple[tuple[str, str], ...] = ()


def provenance(file: str, path: str, inputs: Inputs = NOTHING) -> Provenance:
    """Where the value at ``path`` (``mounts[0].target``) of the spec in ``file`` comes from.

    In a stack a container's values may come from what it extends, or all of it from an included
    file. Raises NsrunError where the file cannot be read as YAML, and NS002 where it has no such
    value.
    """
    document = read_source(file, inputs)
    whole = document
    if is_stack(document):
        from nsrun.spec.stack_include import with_includes
        from nsrun.spec.stack_load import extended

        included = with_includes(document, inputs)
        tree = extended(included.document, inputs, included.inputs)
        whole = document_of(tree, document, {})
    path = path.removeprefix(".")
    if path not in whole.spans:
        raise NsrunError(_unknown(whole, path))
    span = whole.spans[path]
    given = span.values if isinstance(span, TemplateSpan) else ()
    return Provenance(path=path, value=_plain(tree_of(whole, path)), span=span, given=given)


def _plain(tree: Tree) -> object:
    if tree.entries is not None:
        return {key: _plain(value) for key, value in tree.entries.items()}
    if tree.items is not None:
        return [_plain(item) for item in tree.items]
    return tree.value


def _unknown(document: Document, path: str) -> Diagnostic:
    parent = parent_path(path)
    while parent and parent not in document.spans:
        parent = parent_path(parent)
    beside = [p for p in document.spans if p and parent_path(p) == parent]
    close = did_you_mean(path, beside)
    return Diagnostic(
        code="NS002",
        summary=f"{document.file} has no value {quote(path, 200)}",
        span=document.spans.get(parent) if parent else None,
        help=(close,) if close else (),
    )
