"""A stack's file while it is read: what its parts share, and what was found wrong."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from nsrun.diag import Collector, Diagnostic, Span
from nsrun.spec.document import Document
from nsrun.spec.tree import Tree
from nsrun.spec.values import NOTHING, Inputs
from nsrun.spec.words import quote


@dataclass(slots=True)
class Service:
    """A container of the file before it is multiplied."""

    name: str
    path: str
    tree: Tree
    folders: dict[str, str]
    broken: bool = False
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Reading:
    """``profiles``: None for all; ``spans``: places in the containers' own documents."""

    document: Document
    profiles: frozenset[str] | None
    volumes_folder: str
    inputs: Inputs = NOTHING
    report: Collector = field(default_factory=Collector)
    spans: dict[str, Span] = field(default_factory=dict)

    def place(self, path: str) -> Span | None:
        return self.document.spans.get(path) or self.document.key_spans.get(path)

    def problem(
        self,
        code: str,
        path: str,
        summary: str,
        *help_: str,
        label: str = "",
        key: bool = False,
        span: Span | None = None,
    ) -> None:
        places = self.document.key_spans if key else self.document.spans
        self.report.add(
            Diagnostic(
                code=code,
                summary=summary,
                span=span or places.get(path) or self.spans.get(path),
                path=path,
                label=label,
                help=tuple(h for h in help_ if h),
            )
        )


def plain(tree: Tree) -> dict[str, Any]:
    def value(one: Tree) -> Any:
        if one.entries is not None:
            return {k: value(v) for k, v in one.entries.items()}
        if one.items is not None:
            return [value(v) for v in one.items]
        return one.value

    found = value(tree)
    return found if isinstance(found, dict) else {}


def close_match(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean {quote(close[0])}?" if close else ""
