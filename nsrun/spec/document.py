"""A YAML file as plain values, with the place of each of them.

The limits hold against a file made to hurt: 1 MiB of text, 64 levels, and after the aliases
are expanded 20 000 values, 4 MiB of strings and 32 MiB of places.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from nsrun.diag import Diagnostic, NsrunError, Span
from nsrun.spec.compose import MAX_DEPTH, MAX_NODES, Composer, as_it_is
from nsrun.spec.node import Node, NodeKind
from nsrun.spec.path import item_path, key_path
from nsrun.spec.text import MAX_BYTES, decode, normalize, read_bytes, unprintable

if TYPE_CHECKING:
    from nsrun.spec.template import Rendered

MAX_TEXT = 4 << 20
MAX_PATHS = 32 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """What a file holds: dicts, lists, strings, numbers, booleans and None in ``data``.

    ``spans`` has the place of each value, ``key_spans`` of the key it stands under; both by
    path (``mounts[0].target``, "" for the whole). ``literals`` has the text of each unquoted
    scalar that is no string, as it was written (``1.10``). ``text`` has ``\\n`` line ends and
    no byte order mark; ``sha256`` (hex) is of the bytes as read. ``folders``: where relative paths
    of other files begin that parts of it came from. ``rendered``: the
    template it is of; the text is what it rendered to then, and so is the digest.
    """

    data: object
    text: str
    file: str
    sha256: str
    spans: Mapping[str, Span] = field(default_factory=lambda: MappingProxyType({}))
    key_spans: Mapping[str, Span] = field(default_factory=lambda: MappingProxyType({}))
    literals: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    folders: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    rendered: Rendered | None = None


def read_document(path: str) -> Document:
    """Read and parse the file at ``path`` (``-``: the standard input).

    Raises NsrunError: NS001 where it cannot be read or is larger than 1 MiB, NS103 where it is
    not UTF-8, and what :func:`parse_document` raises.
    """
    data = read_bytes(path)
    file = "<stdin>" if path == "-" else path
    return _parse(decode(data, file), file, hashlib.sha256(data).hexdigest())


def parse_document(text: str, file: str) -> Document:
    """Parse YAML ``text``; ``file`` is the name that positions carry.

    Raises NsrunError: NS101 for text that is no YAML, NS102 for a key given twice, NS104 over
    a limit, NS105 without content, NS106 for a tag, NS202 for a key that is no string.
    """
    return _parse(text, file, _digest(text))


def parse_rendered(rendered: Rendered) -> Document:
    """As :func:`parse_document`, for what came of a template: all places are the template's."""
    place = rendered.map.place
    try:
        document = _parse(rendered.text, rendered.file, _digest(rendered.text), place)
    except NsrunError as error:
        raise NsrunError(tuple(map(rendered.with_line, error.diagnostics))) from None
    return replace(
        document,
        spans=MappingProxyType({path: place(s) for path, s in document.spans.items()}),
        key_spans=MappingProxyType({path: place(s) for path, s in document.key_spans.items()}),
        folders=MappingProxyType(rendered.folders),
        rendered=rendered,
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _parse(text: str, file: str, sha256: str, place: Callable[[Span], Span] = as_it_is) -> Document:
    start = Span(file=file, line=1, column=1, end_line=1, end_column=1)
    if len(text) > MAX_BYTES:
        raise NsrunError(
            Diagnostic(code="NS104", summary=f"the text is longer than {MAX_BYTES}", span=start)
        )
    text = normalize(text)
    bad = unprintable(text, file)
    if bad is not None:
        raise NsrunError(bad)
    composer = Composer(text, file, place)
    root = composer.compose()
    composer.report.raise_if_failed()
    if root is None or root.plain == "":
        raise NsrunError(
            Diagnostic(
                code="NS105",
                summary="the document is empty",
                span=start,
                help=("a spec needs a `command` at least",),
            )
        )
    expansion = _Expansion()
    data = expansion.expand(root, "", 0)
    return Document(
        data=data,
        text=text,
        file=file,
        sha256=sha256,
        spans=MappingProxyType(expansion.spans),
        key_spans=MappingProxyType(expansion.key_spans),
        literals=MappingProxyType(expansion.literals),
    )


@dataclass(slots=True)
class _Expansion:
    """Nodes -> values, aliases expanded; never deeper than MAX_DEPTH frames."""

    spans: dict[str, Span] = field(default_factory=dict)
    key_spans: dict[str, Span] = field(default_factory=dict)
    literals: dict[str, str] = field(default_factory=dict)
    text: int = 0
    paths: int = 0

    def expand(self, node: Node, path: str, depth: int) -> object:
        span, node = node.span, node.resolved
        self.spans[path] = span
        self.paths += len(path)
        self.limit(span, depth)
        match node.kind:
            case NodeKind.MAPPING:
                return {
                    key: self.entry(key_span, value, key_path(path, key), depth)
                    for key, (key_span, value) in node.entries.items()
                }
            case NodeKind.LIST:
                return [
                    self.expand(item, item_path(path, index), depth + 1)
                    for index, item in enumerate(node.items)
                ]
            case _:
                if isinstance(node.value, str):
                    self.text += len(node.value)
                elif node.plain is not None:
                    self.literals[path] = node.plain
                return node.value

    def entry(self, key_span: Span, value: Node, path: str, depth: int) -> object:
        self.key_spans[path] = key_span
        return self.expand(value, path, depth + 1)

    def limit(self, span: Span, depth: int) -> None:
        over = ""
        if len(self.spans) > MAX_NODES:
            over = f"aliases expand to more than {MAX_NODES} values"
        elif depth > MAX_DEPTH:
            over = f"lists and mappings are nested more than {MAX_DEPTH} deep"
        elif self.text > MAX_TEXT or self.paths > MAX_PATHS:
            over = "aliases expand to too much text"
        if over:
            raise NsrunError(Diagnostic(code="NS104", summary=over, span=span))
