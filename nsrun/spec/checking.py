"""What the checks of a spec share: how one is declared, and how one speaks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from nsrun.diag import Diagnostic, Severity
from nsrun.spec.model import Spec
from nsrun.spec.path import parent_path

Problems = Iterator[Diagnostic]


@dataclass(frozen=True, slots=True)
class Check:
    """A rule about a spec; ``keys`` are the top-level keys it looks at as a whole, ``each`` those
    it looks at entry by entry.

    It is left out where one of them could not be read: what it would say would be a guess. Of
    a key of ``each`` the entries that could be read are enough.
    """

    keys: tuple[str, ...]
    run: Callable[[Spec], Problems]
    each: tuple[str, ...] = ()

    def holds_for(self, unread: frozenset[str], partial: frozenset[str]) -> bool:
        """Whether what it says is no guess, with these keys not read or in part."""
        return not (unread.intersection(self.keys + self.each) or partial.intersection(self.keys))

    @property
    def name(self) -> str:
        return self.run.__name__


def looks_at(
    *keys: str, each: tuple[str, ...] = ()
) -> Callable[[Callable[[Spec], Problems]], Check]:
    """Declare the function below as a check of the keys named."""
    return lambda run: Check(keys, run, each)


def problem(
    spec: Spec,
    code: str,
    path: str,
    summary: str,
    *,
    label: str = "",
    help: Iterable[str] = (),
    notes: Iterable[str] = (),
    severity: Severity = Severity.ERROR,
    key: bool = False,
) -> Diagnostic:
    """A diagnostic at the place of ``path``, of its ``key`` or else of the value under it; empty
    texts in ``help`` are left out.

    What the short forms of the format leave unsaid (``rootfs: ./r`` has no ``rootfs.path``)
    is placed at what holds it.
    """
    while path and spec.spans and path not in spec.spans:
        path = parent_path(path)
    return Diagnostic(
        code=code,
        severity=severity,
        summary=summary,
        span=spec.key_spans[path] if key and path in spec.key_spans else spec.span(path),
        path=path,
        label=label,
        help=tuple(text for text in help if text),
        notes=tuple(notes),
    )


def written(spec: Spec, *keys: str) -> Iterator[str]:
    """Those of ``keys`` that the document has."""
    return (key for key in keys if key in spec.spans)
