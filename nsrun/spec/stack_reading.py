"""A stack's file while it is read: what its parts share, and what was found wrong."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from nsrun.diag import Collector, Diagnostic, NsrunError, Span
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
    """``inputs``: what the templates are given that containers extend, ``included``: in the place
    of those, by the names of containers of included files; ``profiles``: None for all; ``spans``:
    places in the containers' own documents; ``stacks``: the folder with a folder for each stack
    that is up; ``environ``: what secrets may be taken of; ``bases``: the files that containers
    extend, each read once with the same inputs; ``extended``: the values brought in by them.
    """

    document: Document
    profiles: frozenset[str] | None
    volumes_folder: str
    inputs: Inputs = NOTHING
    included: Mapping[str, Inputs] = field(default_factory=lambda: MappingProxyType({}))
    stacks: str = "/run/nsrun/stacks"
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    report: Collector = field(default_factory=Collector)
    spans: dict[str, Span] = field(default_factory=dict)
    bases: dict[tuple[str, int], Document | NsrunError] = field(default_factory=dict)
    extended: int = 0

    def place(self, path: str) -> Span | None:
        return self.document.spans.get(path) or self.document.key_spans.get(path)

    def folder(self, path: str) -> str:
        """Where relative paths at a place begin: the folder of the file that says it."""
        return self.folder_at(self.place(path))

    def folder_at(self, span: Span | None) -> str:
        base = os.path.dirname(os.path.abspath(self.document.file))
        return self.document.folders.get(span.file, base) if span is not None else base

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
