"""The whole front: a file -> a Spec that holds, or everything that is wrong with it."""

from __future__ import annotations

from nsrun.diag import Collector, Diagnostic, NsrunError
from nsrun.spec.build import build_parts
from nsrun.spec.check import check
from nsrun.spec.document import Document, read_document
from nsrun.spec.model import Spec
from nsrun.spec.path import parent_path, top_key
from nsrun.spec.schema import is_stack, validate


def load(path: str, command: tuple[str, ...] | None = None) -> tuple[Spec, tuple[Diagnostic, ...]]:
    """Read the spec at ``path`` (``-``: the standard input); returns it with its warnings.

    ``command`` replaces that of the file. Raises NsrunError with all errors and warnings,
    sorted by place: NS001 and NS1xx for a file that cannot be read, NS2xx where it does
    not fit the schema, NS3xx where what it says does not hold. Makes nothing on the host.
    """
    if path.endswith(".j2"):
        raise NsrunError(
            Diagnostic(
                code="NS205",
                summary=f"{path} is a template, which is not supported yet",
                help=("render it first, and run what comes out",),
            )
        )
    return load_document(read_document(path), command)


def load_document(
    document: Document, command: tuple[str, ...] | None = None
) -> tuple[Spec, tuple[Diagnostic, ...]]:
    """As :func:`load`, for a document that has been read already."""
    report = Collector()
    report.extend(validate(document))
    if is_stack(document):
        report.add(_stack(document))
    if is_stack(document) or not isinstance(document.data, dict):
        raise NsrunError(report.sorted())
    built = build_parts(document, command, _unread(document.data, report.diagnostics))
    report.extend(built.diagnostics)
    report.extend(check(built.spec, skip=built.broken))
    report.raise_if_failed()
    return built.spec, report.sorted()


def _unread(data: dict[str, object], found: list[Diagnostic]) -> frozenset[str]:
    """The top-level keys with a mistake in them, and those that a misspelt key was meant to be."""
    unread = {top_key(d.path) for d in found}
    for diagnostic in found:
        if diagnostic.code == "NS201" and not parent_path(diagnostic.path):
            meant = [h.removeprefix("did you mean `").removesuffix("`?") for h in diagnostic.help]
            unread.update(key for key in meant if key not in data)
    return frozenset(unread)


def _stack(document: Document) -> Diagnostic:
    return Diagnostic(
        code="NS205",
        summary="stacks are not supported yet",
        span=document.key_spans.get("containers"),
        path="containers",
        label="this makes the file a stack",
        help=("write one file for each container",),
    )
