"""The values that a template is given: files laid over one another, and single ones set.

Every value remembers where it was given, and scalars how they were written, so that ``1.10`` comes
out of a template as it went in.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from nsrun.diag import Diagnostic, NsrunError, Span
from nsrun.spec.compose import MAX_DEPTH
from nsrun.spec.document import parse_document, read_document
from nsrun.spec.path import item_path, key_path
from nsrun.spec.tree import Tree, overlaid, tree_of
from nsrun.spec.words import found, quote

# The name of the file in places of what `--set` gives; the line is the option's number.
SET = "--set"
_PART = re.compile(r"\[([0-9]{1,9})\]|(?:\A|\.|(?<=\]))((?:[^.\[\]=\\\s]|\\.)+)")
_ESCAPE = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What a command line gives a template: ``--values`` and ``--set`` in their order, and the
    variables that ``--env`` permits, None for one that is not set."""

    files: tuple[str, ...] = ()
    sets: tuple[str, ...] = ()
    env: Mapping[str, str | None] = field(default_factory=lambda: MappingProxyType({}))

    def __bool__(self) -> bool:
        return bool(self.files or self.sets or self.env)


NOTHING = Inputs()


class Text(str):
    """A string of the values; ``_path``: its place in them."""

    _path = ""


class Whole(int):
    """A whole number, which is printed as it was written."""

    _path = ""
    _literal = ""

    def __str__(self) -> str:
        return self._literal or int.__repr__(self)


class Real(float):
    """A number with a fraction, which is printed as it was written."""

    _path = ""
    _literal = ""

    def __str__(self) -> str:
        return self._literal or float.__repr__(self)


# Messages about types are for people, who know none of these names.
Text.__name__, Whole.__name__, Real.__name__ = "str", "int", "float"


@dataclass(frozen=True, slots=True, kw_only=True)
class Values:
    """``data`` as templates see it; ``paths``: the place of each list and mapping by its id();
    ``given``: where each place was given (``prod.yaml:3:7``, ``--set a=1``), "" without a value."""

    data: dict[str, Any]
    paths: Mapping[int, str]
    given: Mapping[str, str]


def read_values(inputs: Inputs) -> Values:
    """All values, merged: mappings merge, anything else replaces; what is set comes last.

    Raises NsrunError: what reading a YAML file raises, and NS111 for what is no value.
    """
    tree = Tree(entries={})
    for file in inputs.files:
        tree = overlaid(tree, _file(file))
    for number, word in enumerate(inputs.sets, start=1):
        _set(tree, word, number)
    made = _Made(inputs)
    data = made.of(tree, "")
    return Values(data=data, paths=made.paths, given=made.given)


def _file(file: str) -> Tree:
    try:
        document = read_document(file)
    except NsrunError as error:
        if [d.code for d in error.diagnostics] == ["NS105"]:
            return Tree(entries={})
        raise
    tree = tree_of(document)
    if tree.entries is None:
        raise NsrunError(
            Diagnostic(
                code="NS111",
                summary=f"{document.file} holds {found(document.data)}, not values by their names",
                span=tree.span,
                help=("write `name: value`",),
            )
        )
    return tree


# --- --set -------------------------------------------------------------------------------------


def _refused(word: str, why: str, *help_: str) -> NsrunError:
    return NsrunError(
        Diagnostic(code="NS111", summary=f"{quote(f'{SET} {word}', 200)}: {why}", help=help_)
    )


def _set(tree: Tree, word: str, number: int) -> None:
    """Put the value of one ``--set`` into ``tree``."""
    parts, text = _parts(word)
    value = _value(word, text, number)
    at, place = tree, ""
    for index, part in enumerate(parts):
        last = index == len(parts) - 1
        child: Tree | None
        if isinstance(part, int):
            place = item_path(place, part)
            child = _item(at, part, word, place)
            if last:
                _items(at)[part : part + 1] = [value]
                return
            if child is None:
                child = _empty(parts[index + 1], number)
                _items(at).append(child)
        else:
            if at.entries is None:
                raise _refused(word, f"{_named(place)} is {_what(at)}: it has no {quote(part)}")
            place = key_path(place, part)
            child = at.entries.get(part)
            if last:
                at.entries[part] = value
                return
            if child is None or _is_null(child):
                child = at.entries[part] = _empty(parts[index + 1], number)
        at = child


def _items(tree: Tree) -> list[Tree]:
    assert tree.items is not None
    return tree.items


def _item(at: Tree, index: int, word: str, place: str) -> Tree | None:
    """The item at ``index``, None for the one behind the last."""
    if at.items is None:
        raise _refused(word, f"{_named(place.rpartition('[')[0])} is {_what(at)}, not a list")
    if index > len(at.items):
        entries = "no entries" if not at.items else f"{len(at.items)} of them"
        raise _refused(
            word, f"{_named(place)} would leave a gap: the list has {entries}",
            f"the next one is [{len(at.items)}]",
        )  # fmt: skip
    return at.items[index] if index < len(at.items) else None


def _empty(part: str | int, number: int) -> Tree:
    span = Span(file=SET, line=number, column=1)
    return Tree(span=span, items=[]) if isinstance(part, int) else Tree(span=span, entries={})


def _is_null(tree: Tree) -> bool:
    return tree.entries is None and tree.items is None and tree.value is None


def _what(tree: Tree) -> str:
    if tree.entries is not None:
        return "a mapping"
    return "a list" if tree.items is not None else found(tree.value, tree.literal)


def _named(place: str) -> str:
    return quote(f"values.{place}" if place and place[0] != "[" else f"values{place}")


def _parts(word: str) -> tuple[list[str | int], str]:
    """``a.b[0]=text`` -> ``["a", "b", 0]``, ``text``."""
    parts: list[str | int] = []
    at = 0
    while match := _PART.match(word, at):
        parts.append(int(match[1]) if match[1] else _ESCAPE.sub(r"\1", match[2]))
        at = match.end()
    if len(parts) > MAX_DEPTH:
        raise _refused(word[:200], f"it names more than {MAX_DEPTH} levels", "name fewer")
    if not parts or isinstance(parts[0], int) or word[at : at + 1] != "=":
        raise _refused(
            word,
            "it is no `name=value`",
            "write `--set web.replicas=3`, `--set ports[0]=80`; a dot in a name is `\\.`",
        )
    return parts, word[at + 1 :]


def _value(word: str, text: str, number: int) -> Tree:
    """The text of a value as YAML: a scalar, or a list or mapping in brackets."""
    span = Span(file=SET, line=number, column=1)
    if not text.strip():
        return Tree(span=span, value=text)
    try:
        document = parse_document(text, SET)
    except NsrunError as error:
        if [d.code for d in error.diagnostics] == ["NS105"]:
            return Tree(span=span, value=text)
        summary = error.diagnostics[0].summary
        raise _refused(word, summary, "quote it for YAML: '\"...\"'") from None
    if isinstance(document.data, dict | list) and text.lstrip()[0] not in "[{&!":
        raise _refused(word, "a list or mapping stands in brackets", "quote a text: '\"...\"'")
    return _at(tree_of(document), span)


def _at(tree: Tree, span: Span) -> Tree:
    """The same with ``span`` as the place of all."""
    return dataclasses.replace(
        tree,
        span=span,
        key_span=None,
        entries=None
        if tree.entries is None
        else {key: _at(value, span) for key, value in tree.entries.items()},
        items=None if tree.items is None else [_at(item, span) for item in tree.items],
    )


# --- as templates see them ---------------------------------------------------------------------


@dataclass(slots=True)
class _Made:
    inputs: Inputs
    paths: dict[int, str] = field(default_factory=dict)
    given: dict[str, str] = field(default_factory=dict)

    def of(self, tree: Tree, path: str) -> Any:
        self.given[path] = self._place(tree.span)
        if tree.entries is not None:
            mapping = {k: self.of(v, key_path(path, k)) for k, v in tree.entries.items()}
            self.paths[id(mapping)] = path
            return mapping
        if tree.items is not None:
            items = [self.of(v, item_path(path, i)) for i, v in enumerate(tree.items)]
            self.paths[id(items)] = path
            return items
        return _scalar(tree, path)

    def _place(self, span: Span | None) -> str:
        if span is None:
            return ""
        if span.file == SET:
            return f"{SET} {self.inputs.sets[span.line - 1]}"
        return str(span)


def _scalar(tree: Tree, path: str) -> object:
    value = tree.value
    made: Text | Whole | Real
    match value:
        case bool() | None:
            return value
        case str():
            made = Text(value)
        case int():
            made = Whole(value)
            made._literal = tree.literal or ""
        case float():
            made = Real(value)
            made._literal = tree.literal or ""
        case _:
            return value
    made._path = path
    return made

