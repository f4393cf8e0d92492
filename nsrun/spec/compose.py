"""YAML text -> a tree of nodes with their places: events of PyYAML, rules of our own.

Composing works on a stack of its own, never by recursion, so depth costs no Python frames.
Anchors are resolved and merge keys applied here; aliases stay references, and
:mod:`nsrun.spec.document` expands them within a budget.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn

from nsrun.diag import Collector, Diagnostic, NsrunError, Span
from nsrun.spec.node import Node, NodeKind
from nsrun.spec.scalar import MAX_DIGITS, NumberTooLong, Scalar, resolve
from nsrun.spec.syntax import syntax_error

if TYPE_CHECKING:
    import yaml

MAX_DEPTH = 64
# A start that is planned in well under a second; a large stack has some thousands.
MAX_NODES = 20_000
_CORE = "tag:yaml.org,2002:"
_SCALAR_TAGS = frozenset(f"{_CORE}{name}" for name in ("int", "float", "bool", "null"))
_SURROGATE = re.compile("[\ud800-\udfff]")


def as_it_is(span: Span) -> Span:
    """The place itself."""
    return span


@dataclass(slots=True)
class Composer:
    """Composes one document; ``report`` gathers what is wrong but does not stop the reading.

    ``place``: where a place in the text is shown, for a text that was rendered.
    """

    text: str
    file: str
    place: Callable[[Span], Span] = as_it_is
    report: Collector = field(default_factory=Collector)
    anchors: dict[str, Node] = field(default_factory=dict)
    stack: list[Node] = field(default_factory=list)
    root: Node | None = None
    merged: int = 0
    values: int = 0

    def compose(self) -> Node | None:
        """The document's root, None when there is no document.

        Raises NsrunError with everything found so far where the text is no YAML.
        """
        import yaml

        # libyaml's parser where PyYAML has it: the same events and marks, 15 times faster.
        loader_type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        try:
            loader = loader_type(self.text)
            try:
                while loader.check_event():
                    self.event(loader.get_event())
            finally:
                loader.dispose()
        except yaml.YAMLError as error:
            self.fail(syntax_error(error, self.text, self.file, self.place))
        return self.root

    def event(self, event: yaml.Event) -> None:
        import yaml

        match event:
            case yaml.ScalarEvent():
                self.scalar(event)
            case yaml.AliasEvent():
                self.alias(event)
            case yaml.SequenceStartEvent():
                self.open(event, NodeKind.LIST, f"{_CORE}seq")
            case yaml.MappingStartEvent():
                self.open(event, NodeKind.MAPPING, f"{_CORE}map")
            case yaml.CollectionEndEvent():
                self.close(event)
            case yaml.DocumentStartEvent() if self.root is not None:
                self.fail(
                    self.problem(
                        "NS101",
                        "the file holds more than one document",
                        self.span(event),
                        "a second document starts here",
                    )
                )

    def span(self, event: yaml.Event) -> Span:
        start, end = event.start_mark, event.end_mark
        assert start is not None and end is not None  # the loaders used here mark every event
        return Span(
            file=self.file,
            line=start.line + 1,
            column=start.column + 1,
            end_line=end.line + 1,
            end_column=end.column + 1,
        )

    def problem(
        self, code: str, summary: str, span: Span, label: str = "", help_: str = "", note: str = ""
    ) -> Diagnostic:
        return Diagnostic(
            code=code,
            summary=summary,
            span=self.place(span),
            label=label,
            help=(help_,) if help_ else (),
            notes=(note,) if note else (),
        )

    def fail(self, diagnostic: Diagnostic) -> NoReturn:
        """Stop here, but say what is wrong with the keys of all that is still open."""
        self.report.add(diagnostic)
        pending, self.stack = self.stack, []
        for node in pending:
            self.enter(node)
        raise NsrunError(self.report.sorted())

    def scalar(self, event: yaml.ScalarEvent) -> None:
        span = self.span(event)
        if event.style in ("|", ">"):
            # The mark after a block scalar is the start of some later line: show its header.
            span = Span(
                file=span.file,
                line=span.line,
                column=span.column,
                end_line=span.line,
                end_column=span.column + 1,
            )
        # `!` asks for no implicit type: the scalar is a string (YAML 1.2, 6.9.1).
        plain = bool(event.implicit[0]) and event.tag is None
        tag = event.tag or "!"
        node = Node(NodeKind.SCALAR, span, plain=event.value if plain else None)
        node.value = self.value(str(event.value), tag, plain, span)
        self.anchor(event.anchor, node)
        self.put(node)

    def value(self, text: str, tag: str, plain: bool, span: Span) -> Scalar:
        if not text.isascii() and _SURROGATE.search(text):
            # Only the pure-Python parser lets "\ud800" through; no file, name or variable holds it.
            self.report.add(self.problem("NS101", "a surrogate (U+D800 to U+DFFF) alone", span))
            return ""
        if plain or tag in _SCALAR_TAGS:
            try:
                value = resolve(text)
            except NumberTooLong:
                self.report.add(
                    self.problem(
                        "NS104",
                        f"a number of more than {MAX_DIGITS} digits",
                        span,
                        help_="quote it if it is meant as text",
                    )
                )
                return 0
            if plain or self.fits(value, tag):
                return value
            self.report.add(
                self.problem("NS106", f"the tag `{_short(tag)}` does not fit `{text[:40]}`", span)
            )
        elif tag not in ("!", f"{_CORE}str"):
            self.unknown_tag(tag, span)
        return text

    @staticmethod
    def fits(value: Scalar, tag: str) -> bool:
        match tag.removeprefix(_CORE):
            case "int":
                return type(value) is int
            case "float":
                return type(value) in (int, float)
            case "bool":
                return type(value) is bool
            case _:
                return value is None

    def unknown_tag(self, tag: str, span: Span) -> None:
        self.report.add(
            self.problem(
                "NS106",
                f"the tag `{_short(tag)[:80]}` is not supported",
                span,
                help_="remove it: a spec needs no tags",
            )
        )

    def alias(self, event: yaml.AliasEvent) -> None:
        name = str(event.anchor)
        target = self.anchors.get(name)
        if target is None:
            close = difflib.get_close_matches(name, self.anchors, 1)
            self.fail(
                self.problem(
                    "NS101",
                    f"the alias `*{name}` has no anchor before it",
                    self.span(event),
                    help_=f"did you mean `*{close[0]}`?" if close else "",
                )
            )
        if not target.done:
            self.fail(
                self.problem(
                    "NS101",
                    f"the alias `*{name}` contains itself",
                    self.span(event),
                    note=f"`&{name}` begins at {self.place(target.span)}",
                )
            )
        self.put(Node(NodeKind.ALIAS, self.span(event), target=target))

    def anchor(self, name: str | None, node: Node) -> None:
        if name is not None:
            self.anchors[name] = node

    def open(self, event: yaml.CollectionStartEvent, kind: NodeKind, own_tag: str) -> None:
        span = self.span(event)
        if event.tag not in (None, "!", own_tag):
            self.unknown_tag(event.tag, span)
        if len(self.stack) >= MAX_DEPTH:
            self.fail(
                self.problem(
                    "NS104", f"lists and mappings are nested more than {MAX_DEPTH} deep", span
                )
            )
        node = Node(kind, span, flow=bool(event.flow_style), done=False)
        self.anchor(event.anchor, node)
        self.stack.append(node)

    def close(self, event: yaml.Event) -> None:
        node = self.stack.pop()
        last = self.span(event)
        if not node.flow:
            # The end of a block collection is marked at the next token, lines below.
            children = node.items or [pair[1] for pair in node.pairs]
            last = children[-1].span if children else node.span
        node.span = Span(
            file=self.file,
            line=node.span.line,
            column=node.span.column,
            end_line=last.end_line,
            end_column=last.end_column,
        )
        if node.kind is NodeKind.MAPPING:
            self.enter(node)
        node.done = True
        self.put(node)

    def put(self, node: Node) -> None:
        if not self.stack:
            self.root = node
            return
        parent = self.stack[-1]
        self.values += parent.kind is NodeKind.LIST or parent.pending is not None
        if self.values > MAX_NODES:
            self.fail(
                self.problem("NS104", f"the document holds more than {MAX_NODES} values", node.span)
            )
        if parent.kind is NodeKind.LIST:
            parent.items.append(node)
        elif parent.pending is None:
            parent.pending = node
        else:
            parent.pairs.append((parent.pending, node))
            parent.pending = None

    def enter(self, node: Node) -> None:
        """Fill ``node.entries`` from its pairs: keys checked, merge keys applied.

        A node that has no pairs, being a list, is left as it is.
        """
        own: dict[str, tuple[Span, Node]] = {}
        merges: list[tuple[Span, Node]] = []
        for key, value in node.pairs:
            found = key.resolved
            if found.plain == "<<":
                if merges:
                    self.twice("<<", key.span, merges[0][0])
                merges.append((key.span, value))
            elif found.kind is not NodeKind.SCALAR or not isinstance(found.value, str):
                self.report.add(self.bad_key(found, key.span))
            elif found.value in own:
                self.twice(found.value, key.span, own[found.value][0])
            else:
                own[found.value] = (key.span, value)
        for _, value in merges[:1]:
            self.merge(node, value)
        node.entries.update(own)

    def merge(self, node: Node, value: Node) -> None:
        found = value.resolved
        sources = found.items if found.kind is NodeKind.LIST else [value]
        for source in sources:
            if source.resolved.kind is not NodeKind.MAPPING:
                self.report.add(
                    self.problem("NS202", "`<<` takes a mapping or a list of mappings", source.span)
                )
                continue
            for key, entry in source.resolved.entries.items():
                self.merged += 1
                if self.merged > MAX_NODES:
                    self.fail(
                        self.problem(
                            "NS104",
                            f"merge keys bring in more than {MAX_NODES} entries",
                            value.span,
                        )
                    )
                node.entries.setdefault(key, entry)

    def twice(self, key: str, span: Span, first: Span) -> None:
        self.report.add(
            self.problem(
                "NS102",
                f"the key `{key[:80]}` is given twice",
                span,
                "given again here",
                note=f"first given at {self.place(first)}",
            )
        )

    def bad_key(self, key: Node, span: Span) -> Diagnostic:
        if key.kind is not NodeKind.SCALAR:
            what, advice = "a list" if key.kind is NodeKind.LIST else "a mapping", ""
        else:
            what = f"`{key.plain}`" if key.plain else "nothing"
            advice = f'quote it: `"{key.plain}"`' if key.plain else ""
        return self.problem("NS202", f"a key must be a string, found {what}", span, help_=advice)


def _short(tag: str) -> str:
    return f"!!{tag.removeprefix(_CORE)}" if tag.startswith(_CORE) else tag
