"""Documents put together: one laid over another, a part of one taken out.

A document keeps its places beside its values; here each value has its own, so that what comes
out still knows which line of which file every part of it came from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from nsrun.diag import Span
from nsrun.spec.document import Document
from nsrun.spec.path import item_path, key_path


@dataclass(slots=True)
class Tree:
    """A value with its place: ``entries`` of a mapping, ``items`` of a list, else ``value``.

    ``key_span``: the key it stands under; ``literal``: the text of an unquoted scalar.
    """

    span: Span | None = None
    key_span: Span | None = None
    literal: str | None = None
    value: object = None
    entries: dict[str, Tree] | None = None
    items: list[Tree] | None = None

    def get(self, key: str) -> Tree | None:
        return self.entries.get(key) if self.entries is not None else None


def tree_of(document: Document, path: str = "") -> Tree:
    """The part of ``document`` at ``path``."""
    return _tree(document, _value(document, path), path)


def _value(document: Document, path: str) -> object:
    if not path:
        return document.data
    parent, value = "", document.data
    while parent != path:
        found = False
        children = (
            [(key_path(parent, k), v) for k, v in value.items()]
            if isinstance(value, dict)
            else [(item_path(parent, i), v) for i, v in enumerate(value)]
            if isinstance(value, list)
            else []
        )
        for place, child in children:
            rest = path.removeprefix(place)
            if rest != path and (not rest or rest[0] in ".["):
                parent, value, found = place, child, True
                break
        if not found:
            raise KeyError(path)
    return value


def _tree(document: Document, value: object, path: str) -> Tree:
    made = Tree(
        span=document.spans.get(path),
        key_span=document.key_spans.get(path),
        literal=document.literals.get(path),
    )
    if isinstance(value, dict):
        made.entries = {k: _tree(document, v, key_path(path, k)) for k, v in value.items()}
    elif isinstance(value, list):
        made.items = [_tree(document, v, item_path(path, i)) for i, v in enumerate(value)]
    else:
        made.value = value
    return made


def overlaid(base: Tree, over: Tree) -> Tree:
    """``over`` laid over ``base``: mappings merge, anything else replaces."""
    if base.entries is None or over.entries is None:
        return over
    merged = Tree(span=over.span, key_span=over.key_span, entries=dict(base.entries))
    assert merged.entries is not None
    for key, value in over.entries.items():
        known = base.entries.get(key)
        merged.entries[key] = value if known is None else overlaid(known, value)
    return merged


def without(tree: Tree, keys: frozenset[str]) -> Tree:
    """A mapping without some of its keys, and without those that begin with ``x-``."""
    kept = {
        k: v for k, v in (tree.entries or {}).items() if k not in keys and not k.startswith("x-")
    }
    return Tree(span=tree.span, key_span=tree.key_span, entries=kept)


@dataclass(slots=True)
class _Flat:
    spans: dict[str, Span] = field(default_factory=dict)
    key_spans: dict[str, Span] = field(default_factory=dict)
    literals: dict[str, str] = field(default_factory=dict)

    def of(self, tree: Tree, path: str) -> object:
        if tree.span is not None:
            self.spans[path] = tree.span
        if tree.key_span is not None and path:
            self.key_spans[path] = tree.key_span
        if tree.literal is not None:
            self.literals[path] = tree.literal
        if tree.entries is not None:
            return {k: self.of(v, key_path(path, k)) for k, v in tree.entries.items()}
        if tree.items is not None:
            return [self.of(v, item_path(path, i)) for i, v in enumerate(tree.items)]
        return tree.value


def document_of(tree: Tree, main: Document, folders: Mapping[str, str]) -> Document:
    """A document of its own; ``main`` is the file it is about, ``folders`` where the relative
    paths of other files begin."""
    flat = _Flat()
    data = flat.of(tree, "")
    return Document(
        data=data,
        text=main.text,
        file=main.file,
        sha256=main.sha256,
        spans=MappingProxyType(flat.spans),
        key_spans=MappingProxyType(flat.key_spans),
        literals=MappingProxyType(flat.literals),
        folders=MappingProxyType(dict(folders)),
    )
