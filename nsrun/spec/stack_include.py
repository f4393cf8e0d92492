"""What a stack's file includes: other stacks' files, whose parts are added to its own.

Each part keeps its place, so that what is wrong with it is shown in its own file, and relative
paths begin in that file's folder.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from nsrun.diag import Collector, Diagnostic, NsrunError, Span
from nsrun.spec.document import Document
from nsrun.spec.source import read_source
from nsrun.spec.tree import Tree, document_of, tree_of
from nsrun.spec.values import NOTHING, Inputs
from nsrun.spec.words import quote

_SECTIONS = ("containers", "networks", "volumes", "secrets", "configs")
# Of an included file alone.
_OWN = ("name", "include")
_FILES_MAX = 256


@dataclass(frozen=True, slots=True)
class Included:
    """``document``: the whole; ``inputs``: what the templates are given that containers of included
    files extend, by the containers' names."""

    document: Document
    inputs: Mapping[str, Inputs] = field(default_factory=lambda: MappingProxyType({}))
    found: tuple[Diagnostic, ...] = ()


def with_includes(document: Document, inputs: Inputs = NOTHING) -> Included:
    """``document`` with all that it includes, what those include, and what is wrong with that."""
    if not isinstance(document.data, dict) or "include" not in document.data:
        return Included(document)
    work = _Work()
    work.know(document, os.path.dirname(os.path.abspath(document.file)))
    main = os.path.realpath(document.file)
    work.whole = tree_of(document)
    work.add_all(work.whole, inputs, (main,))
    made = document_of(work.whole, document, work.folders)
    return Included(
        dataclasses.replace(made, rendered=document.rendered),
        work.inputs,
        tuple(work.report.diagnostics),
    )


@dataclass(slots=True)
class _Work:
    whole: Tree = field(default_factory=Tree)
    folders: dict[str, str] = field(default_factory=dict)
    inputs: dict[str, Inputs] = field(default_factory=dict)
    report: Collector = field(default_factory=Collector)
    known: set[tuple[str, str]] = field(default_factory=set)

    def know(self, document: Document, folder: str) -> None:
        self.folders.update({**document.folders, document.file: folder})

    def problem(self, summary: str, span: Span | None, *help_: str, note: str = "") -> None:
        self.report.add(
            Diagnostic(
                code="NS318", summary=summary, span=span, path="include", help=help_,
                notes=(note,) if note else (),
            )
        )  # fmt: skip

    def add_all(self, tree: Tree, inputs: Inputs, trail: tuple[str, ...]) -> None:
        given = tree.get("include")
        for item in (given.items if given is not None else None) or ():
            place = item.get("path") or item
            if not isinstance(place.value, str) or not place.value:
                # Of the main file the schema says it.
                if len(trail) > 1:
                    self.problem("an `include` that names no file", item.span)
                continue
            self.add(place, item, inputs, trail)

    def path(self, tree: Tree) -> str:
        folder = self.folders.get(tree.span.file, "") if tree.span is not None else ""
        return os.path.normpath(os.path.join(folder, os.path.expanduser(str(tree.value))))

    def add(self, place: Tree, item: Tree, inputs: Inputs, trail: tuple[str, ...]) -> None:
        file = self.path(place)
        # A path over PATH_MAX (linux/limits.h) cannot be read; realpath would look at each folder.
        real = os.path.realpath(file) if len(file) < 4096 else file
        values = item.get("values")
        if values is not None:
            # What the command line gives comes over what the file does.
            inputs = dataclasses.replace(inputs, files=(self.path(values), *inputs.files))
        if real in trail:
            way = [*trail[trail.index(real) :], real]
            circle = " -> ".join(map(os.path.basename, way))
            self.problem(
                f"{quote(str(place.value))} includes itself: {circle}", place.span,
                "remove one of the `include`s",
            )  # fmt: skip
            return
        key = (real, "" if values is None else self.path(values))
        if key in self.known:
            return
        self.known.add(key)
        if len(self.known) > _FILES_MAX:
            self.problem(f"more than {_FILES_MAX} files are included", place.span)
            return
        try:
            document = read_source(file, inputs, main=False)
        except NsrunError as error:
            self.report.extend(
                dataclasses.replace(d, span=d.span or place.span) for d in error.diagnostics
            )
            return
        self.know(document, os.path.dirname(file))
        tree = tree_of(document)
        if tree.entries is None:
            self.problem(f"{quote(str(place.value))} holds no stack", place.span)
            return
        containers = tree.get("containers")
        if containers is not None:
            self.inputs.update(dict.fromkeys(containers.entries or (), inputs))
        self.merge(tree)
        self.add_all(tree, inputs, (*trail, real))

    def merge(self, tree: Tree) -> None:
        whole = self.whole.entries
        assert whole is not None
        for section, value in (tree.entries or {}).items():
            if section in _OWN or section.startswith("x-"):
                continue
            there = whole.get(section)
            if there is None:
                # A copy of the mapping, for what else is added to it.
                whole[section] = dataclasses.replace(
                    value, entries=None if value.entries is None else dict(value.entries)
                )
            elif section in _SECTIONS and there.entries is not None and value.entries is not None:
                self.merge_section(section, there.entries, value.entries)
            else:
                self.problem(f"`{section}` cannot be put together", value.key_span or value.span)

    def merge_section(self, section: str, there: dict[str, Tree], more: dict[str, Tree]) -> None:
        for name, value in more.items():
            if name.startswith("x-"):
                continue
            other = there.setdefault(name, value)
            if other is not value:
                self.problem(
                    f"a second {section[:-1]} {quote(name)}",
                    value.key_span or value.span,
                    "give it another name, or remove one of them",
                    note=f"the first one is at {other.key_span or other.span}",
                )
