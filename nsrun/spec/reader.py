"""What the builders of a spec's parts share: where they are, and what they found wrong."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from nsrun.diag import Collector, Diagnostic
from nsrun.spec.document import Document
from nsrun.spec.path import item_path, key_path, parent_path
from nsrun.spec.words import quote, quote_path

# Plain values of a document that its schema has been held against.
Value = Any
T = TypeVar("T")

# linux/limits.h, PATH_MAX less the NUL
_PATH_MAX = 4095
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(slots=True)
class Reader:
    """One document being built: ``base`` is the folder relative host paths start at.

    ``unread``: the places of entries that do not fit the schema, and are left out.
    """

    document: Document
    base: str
    report: Collector = field(default_factory=Collector)
    unread: frozenset[str] = frozenset()

    def problem(
        self,
        code: str,
        path: str,
        summary: str,
        *,
        label: str = "",
        help: Iterable[str] = (),
        key: bool = False,
    ) -> None:
        """Report an error at ``path``, of its ``key`` or else of the value under it; empty texts
        in ``help`` are left out."""
        spans = self.document.key_spans if key else self.document.spans
        self.report.add(
            Diagnostic(
                code=code,
                summary=summary,
                span=spans.get(path),
                path=path,
                label=label,
                help=tuple(text for text in help if text),
            )
        )

    def each(
        self, value: Value, path: str, make: Callable[[Any, Value, str], T]
    ) -> list[tuple[Any, T]]:
        """``make(name, entry, place)`` of each entry of a mapping, ``name`` its key, or of a
        list, ``name`` its index; the entries in which something is wrong are left out."""
        places: list[tuple[Any, Value, str]]
        if isinstance(value, list):
            places = [(i, entry, item_path(path, i)) for i, entry in enumerate(value)]
        else:
            places = [(key, entry, key_path(path, key)) for key, entry in value.items()]
        made = []
        for name, entry, place in places:
            if place in self.unread:
                continue
            before = len(self.report.diagnostics)
            result = make(name, entry, place)
            if len(self.report.diagnostics) == before:
                made.append((name, result))
        return made

    def text(self, value: Value, path: str) -> str:
        """A scalar as the file writes it: ``1.10`` stays ``1.10``."""
        text = value if isinstance(value, str) else self.document.literals.get(path, str(value))
        if "\0" in text:
            self.problem("NS203", path, "a NUL character in a value that cannot hold one")
        return str(text)

    def attempt(self, make: Callable[[], T], default: T, path: str, summary: str) -> T:
        """``make()``, or ``default`` and an NS203 where it raises ValueError."""
        try:
            return make()
        except ValueError:
            self.problem("NS203", path, summary)
            return default

    def host_path(self, value: str, path: str) -> str:
        """``value`` absolute: from the folder of the file that says it, ``~`` expanded, ``.`` and
        ``..`` taken out as text."""
        value = self.text(value, path)
        expanded = os.path.expanduser(value)
        if expanded.startswith("~"):
            self.problem("NS305", path, f"{quote(value)} names no home folder")
        joined = os.path.normpath(os.path.join(self._folder(path), expanded))
        return self.bounded("/" + joined.lstrip("/"), path)

    def _folder(self, path: str) -> str:
        span = self.document.spans.get(path)
        while span is None and path:
            path = parent_path(path)
            span = self.document.spans.get(path)
        return self.document.folders.get(span.file, self.base) if span is not None else self.base

    def target(self, value: str, path: str, *, key: bool = False) -> str:
        """``value`` as a path inside the container, checked and without empty parts; it is the
        ``key`` of the place or the value under it."""
        value = self.text(value, path)
        parts = value.split("/")
        if not value.startswith("/"):
            self.problem(
                "NS304",
                path,
                f"{quote_path(value)} is not an absolute path",
                label="it has to begin with `/`",
                help=(f"write {quote_path(f'/{value}')}",),
                key=key,
            )
        elif ".." in parts:
            self.problem(
                "NS304",
                path,
                f"{quote_path(value)} contains `..`",
                label="a path inside the container is written out",
                help=(f"write {quote_path(os.path.normpath(value))}",),
                key=key,
            )
        elif _CONTROL.search(value) and "\0" not in value:
            what = f"a control character in the path {quote_path(value)}"
            self.problem("NS304", path, what, key=key)
        return self.bounded("/" + "/".join(part for part in parts if part not in ("", ".")), path)

    def bounded(self, found: str, path: str) -> str:
        """No system call takes a longer path; and a plan looks at each folder on the way."""
        if len(found) <= _PATH_MAX and len(os.fsencode(found)) <= _PATH_MAX:
            return found
        self.problem("NS203", path, f"a path has at most {_PATH_MAX} bytes")
        return found[:_PATH_MAX]
