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
    """A rule about a spec; ``keys`` are the top-level keys it looks at.

    It is left out where one of them could not be read: what it would say would be a guess.
    """

    keys: tuple[str, ...]
    run: Callable[[Spec], Problems]

    @property
    def name(self) -> str:
        return self.run.__name__


def looks_at(*keys: str) -> Callable[[Callable[[Spec], Problems]], Check]:
    """Declare the function below as a check of the keys named."""
    return lambda run: Check(keys, run)


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
) -> Diagnostic:
    """A diagnostic at the place of ``path``; empty texts in ``help`` are left out.

    What the short forms of the format leave unsaid (``rootfs: ./r`` has no ``rootfs.path``)
    is placed at what holds it.
    """
    while path and spec.spans and path not in spec.spans:
        path = parent_path(path)
    return Diagnostic(
        code=code,
        severity=severity,
        summary=summary,
        span=spec.span(path),
        path=path,
        label=label,
        help=tuple(text for text in help if text),
        notes=tuple(notes),
    )


def written(spec: Spec, *keys: str) -> Iterator[str]:
    """Those of ``keys`` that the document has."""
    return (key for key in keys if key in spec.spans)
