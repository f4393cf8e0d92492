"""The whole front: a file -> a Spec that holds, or everything that is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass

from nsrun.diag import MORE, Collector, Diagnostic, NsrunError
from nsrun.spec.build import BY_ENTRY, build_parts
from nsrun.spec.check import check
from nsrun.spec.document import Document
from nsrun.spec.linemap import with_values
from nsrun.spec.model import Spec
from nsrun.spec.path import entry_path, parent_path, top_key
from nsrun.spec.schema import is_stack, validate
from nsrun.spec.source import read_source
from nsrun.spec.values import NOTHING, Inputs


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A spec as far as it could be read, and everything said about it, sorted by place.

    ``spec`` is None where nothing could be read; the keys in ``broken`` have their default, or
    lack the entries that could not be read.
    """

    spec: Spec | None
    diagnostics: tuple[Diagnostic, ...]
    broken: frozenset[str] = frozenset()


def load(
    path: str, command: tuple[str, ...] | None = None, inputs: Inputs = NOTHING
) -> tuple[Spec, tuple[Diagnostic, ...]]:
    """Read the spec at ``path`` (``-``: the standard input); returns it with its warnings.

    ``command`` replaces that of the file, ``inputs`` are for a template. Raises NsrunError with
    all errors and warnings, sorted by place: NS001 and NS1xx for a file that cannot be read or
    rendered, NS2xx where it does not fit the schema, NS3xx where what it says does not hold. Makes
    nothing on the host.
    """
    return _sound(load_parts(path, command, inputs))


def load_document(
    document: Document, command: tuple[str, ...] | None = None
) -> tuple[Spec, tuple[Diagnostic, ...]]:
    """As :func:`load`, for a document that has been read already."""
    return _sound(_parts(document, command))


def load_parts(
    path: str, command: tuple[str, ...] | None = None, inputs: Inputs = NOTHING
) -> Loaded:
    """As :func:`load`, but what is wrong is returned beside what could be read all the same."""
    try:
        document = read_source(path, inputs)
    except NsrunError as error:
        return Loaded(spec=None, diagnostics=error.diagnostics)
    return _parts(document, command)


def _with_values(found: tuple[Diagnostic, ...]) -> tuple[Diagnostic, ...]:
    return tuple(map(with_values, found))


def _parts(document: Document, command: tuple[str, ...] | None) -> Loaded:
    report = Collector()
    report.extend(validate(document))
    if is_stack(document):
        report.add(_stack(document))
    if is_stack(document) or not isinstance(document.data, dict):
        return Loaded(spec=None, diagnostics=_with_values(report.sorted()))
    if any(MORE in d.notes for d in report.diagnostics):
        # Which entries do not fit is not known of all.
        return Loaded(spec=None, diagnostics=_with_values(report.sorted()))
    broken, unread = _unread(document.data, report.diagnostics)
    built = build_parts(document, command, broken, unread)
    report.extend(built.diagnostics)
    report.extend(check(built.spec, skip=built.broken, partial=built.partial))
    broken = built.broken | built.partial
    found = _with_values(report.sorted())
    return Loaded(spec=built.spec, diagnostics=found, broken=broken)


def _sound(loaded: Loaded) -> tuple[Spec, tuple[Diagnostic, ...]]:
    if loaded.spec is None or any(d.is_error for d in loaded.diagnostics):
        raise NsrunError(loaded.diagnostics)
    return loaded.spec, loaded.diagnostics


def _unread(
    data: dict[str, object], found: list[Diagnostic]
) -> tuple[frozenset[str], frozenset[str]]:
    """The top-level keys with a mistake in them, and those that a misspelt key was meant to be;
    apart from them the places of single entries, of keys that are read entry by entry."""
    broken: set[str] = set()
    entries: set[str] = set()
    for diagnostic in found:
        entry = entry_path(diagnostic.path)
        if entry and top_key(entry) in BY_ENTRY:
            entries.add(entry)
        else:
            broken.add(top_key(diagnostic.path))
        if diagnostic.code == "NS201" and not parent_path(diagnostic.path):
            meant = [h.removeprefix("did you mean `").removesuffix("`?") for h in diagnostic.help]
            broken.update(key for key in meant if key not in data)
    return frozenset(broken), frozenset(entries)


def _stack(document: Document) -> Diagnostic:
    return Diagnostic(
        code="NS320",
        summary="the file holds a stack, where one container is meant",
        span=document.key_spans.get("containers"),
        path="containers",
        label="this makes the file a stack",
        help=(f"bring it up: nsrun up {document.file}",),
    )
