"""What the builders of a spec's parts share: where they are, and what they found wrong."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from nsrun.diag import Collector, Diagnostic
from nsrun.spec.document import Document
from nsrun.spec.words import quote, quote_path

# Plain values of a document that its schema has been held against.
Value = Any
T = TypeVar("T")

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(slots=True)
class Reader:
    """One document being built: ``base`` is the folder relative host paths start at."""

    document: Document
    base: str
    report: Collector = field(default_factory=Collector)

    def problem(
        self, code: str, path: str, summary: str, *, label: str = "", help: Iterable[str] = ()
    ) -> None:
        """Report an error at ``path``; empty texts in ``help`` are left out."""
        self.report.add(
            Diagnostic(
                code=code,
                summary=summary,
                span=self.document.spans.get(path),
                path=path,
                label=label,
                help=tuple(text for text in help if text),
            )
        )

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
        """``value`` absolute: from ``base``, ``~`` expanded, ``.`` and ``..`` taken out as text."""
        value = self.text(value, path)
        expanded = os.path.expanduser(value)
        if expanded.startswith("~"):
            self.problem("NS305", path, f"{quote(value)} names no home folder")
        joined = os.path.normpath(os.path.join(self.base, expanded))
        return "/" + joined.lstrip("/")

    def target(self, value: str, path: str) -> str:
        """``value`` as a path inside the container, checked and without empty parts."""
        value = self.text(value, path)
        parts = value.split("/")
        if not value.startswith("/"):
            self.problem(
                "NS304",
                path,
                f"{quote_path(value)} is not an absolute path",
                label="it has to begin with `/`",
                help=(f"write {quote_path(f'/{value}')}",),
            )
        elif ".." in parts:
            self.problem(
                "NS304",
                path,
                f"{quote_path(value)} contains `..`",
                label="a path inside the container is written out",
                help=(f"write {quote_path(os.path.normpath(value))}",),
            )
        elif _CONTROL.search(value) and "\0" not in value:
            self.problem("NS304", path, f"a control character in the path {quote_path(value)}")
        return "/" + "/".join(part for part in parts if part not in ("", "."))
