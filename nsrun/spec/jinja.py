"""Jinja2 as nsrun uses it: sandboxed, deterministic, and aware of where each character is from.

What a template writes is a str that knows its places (:class:`Placed`): text of the template as
it stands there, or what one of its tags wrote. It is an ordinary string for everything else, so a
macro's result can be compared, measured and filtered as ever; filters that know nothing of places
give a plain string, which is then placed at the tag that prints it.
"""

from __future__ import annotations

import bisect
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from jinja2 import ChainableUndefined, StrictUndefined, filters, nodes, pass_eval_context
from jinja2 import Undefined as AnyUndefined
from jinja2.compiler import CodeGenerator, Frame
from jinja2.exceptions import TemplateRuntimeError, UndefinedError
from jinja2.lexer import Lexer
from jinja2.loaders import BaseLoader
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import missing

from nsrun.spec.text import MAX_BYTES

RANGE_MAX = 100_000
_RENDERED_MAX = 8 * MAX_BYTES
_ESCAPED = re.compile("[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\U0010ffff]")

# Offset in the text; name of the template; begin and end of the tag there, or the begin alone
# and -1 for text as it stands there; the place of a value that was printed, or "".
Mark = tuple[int, str, int, int, str]


class TooMuch(TemplateRuntimeError):
    """A template asks for more than any spec needs."""


class Missing(UndefinedError):
    """A name that is not defined: ``name`` of ``owner``, None where it stands alone."""

    def __init__(self, message: str, owner: object, name: object) -> None:
        super().__init__(message)
        self.owner = owner
        self.name = name


class Placed(str):
    """Text that knows where it is from: marks in their order, the first at 0."""

    _marks: tuple[Mark, ...] = ()

    def __str__(self) -> str:
        return self

    def _part(self, begin: int, end: int) -> Placed:
        """The characters between two offsets, with their places."""
        made = Placed(self[begin:end])
        first = max(bisect.bisect_right(self._marks, (begin, "\U0010ffff")) - 1, 0)
        marks = [m for m in self._marks[first:] if m[0] < end]
        made._marks = tuple(
            (m[0] - begin, *m[1:])
            if m[0] >= begin
            else (0, m[1], m[2] if m[3] >= 0 else m[2] + begin - m[0], m[3], m[4])
            for m in marks
        )
        return made

    def _same_place(self, text: str) -> Placed:
        """Other text, placed where this one begins."""
        made = Placed(text)
        made._marks = tuple((0, m[1], m[2], max(m[3], m[2]), m[4]) for m in self._marks[:1])
        return made


class At(int):
    """A line's number that also knows the offset in the template's text."""

    offset: int

    def __new__(cls, line: int, offset: int) -> At:
        made = super().__new__(cls, line)
        made.offset = offset
        return made


def concat(parts: Iterable[str]) -> Placed:
    """All of ``parts`` one after the other, each with its places."""
    texts: list[str] = []
    marks: list[Mark] = []
    size = 0
    for part in parts:
        if isinstance(part, Placed):
            if size:
                marks.extend((m[0] + size, *m[1:]) for m in part._marks)
            else:
                marks.extend(part._marks)
        texts.append(part)
        size += len(part)
        if size > _RENDERED_MAX:
            raise TooMuch(f"more than {_RENDERED_MAX >> 20} MiB of text")
    made = Placed("".join(texts))
    made._marks = tuple(marks)
    return made


class _Lexer(Lexer):
    """Tokens with their offsets; where each tag of a template begins and ends is noted."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._environment = environment

    def tokeniter(
        self, source: str, name: str | None, filename: str | None = None, state: str | None = None
    ) -> Iterator[tuple[int, str, str]]:
        # Where `-` takes blanks away, the next token is behind them.
        at = 0
        tokens: list[tuple[At, str, str]] = []
        tags: list[tuple[int, int]] = []
        self._environment.tags[name or ""] = tags
        begin = 0
        for line, token, text in super().tokeniter(source, name, filename, state):
            found = source.find(text, at)
            offset = found if found >= 0 else at
            at = offset + len(text)
            if token.endswith("_begin"):
                begin = offset
            elif token.endswith("_end"):
                tags.append((begin, offset + len(text.rstrip())))
            tokens.append((At(line, offset), token, text))
        yield from _without_lone_tags(tokens)


_Token = tuple[At, str, str]
_LINE_END = re.compile(r"[ \t]*\n")


def _without_lone_tags(tokens: list[_Token]) -> Iterator[_Token]:
    """The tokens without the lines on which nothing stands but block tags and comments.

    Jinja's own `trim_blocks` would also take the end of a line with text before the tag.
    """
    units = _units(tokens)
    cut_before = [0] * len(units)
    cut_after = [len(unit[0][2]) for unit in units]
    index = 0
    while index < len(units):
        last = _line_of_tags(units, index)
        if last is None:
            index += 1
            continue
        if index and _is_data(units[index - 1]):
            cut_after[index - 1] = units[index - 1][0][2].rfind("\n") + 1
        for between in range(index, last):
            if _is_data(units[between]):
                cut_after[between] = 0
        if last + 1 < len(units):
            text = units[last + 1][0][2]
            match = _LINE_END.match(text)
            cut_before[last + 1] = match.end() if match else len(text)
        index = last + 1
    for number, unit in enumerate(units):
        if not _is_data(unit):
            yield from unit
            continue
        place, token, text = unit[0]
        begin, end = cut_before[number], cut_after[number]
        if end > begin:
            line = place + text.count("\n", 0, begin)
            yield At(line, place.offset + begin), token, text[begin:end]


def _units(tokens: list[_Token]) -> list[list[_Token]]:
    """Texts, and tags as a whole."""
    units: list[list[_Token]] = []
    inside = False
    for token in tokens:
        if inside:
            units[-1].append(token)
        else:
            units.append([token])
        inside = (inside or token[1].endswith("_begin")) and not token[1].endswith("_end")
        inside = inside and token[1] != "raw_begin"
    return units


def _is_data(unit: list[_Token]) -> bool:
    return unit[0][1] == "data"


def _is_block(unit: list[_Token]) -> bool:
    return unit[0][1] in ("block_begin", "comment_begin", "raw_begin", "raw_end")


def _line_of_tags(units: list[list[_Token]], first: int) -> int | None:
    """The last of the tags that make up a whole line, of which ``first`` is the first."""
    if not _is_block(units[first]) or units[first][0][2].endswith("+"):
        return None
    if first:
        before = units[first - 1]
        start = before[0][2].rpartition("\n")
        if not _is_data(before) or start[2].strip(" \t") or not (start[1] or first == 1):
            return None
    last = first
    while last + 1 < len(units):
        following = units[last + 1]
        if _is_block(following):
            last += 1
            continue
        if not _is_data(following):
            return None
        text = following[0][2]
        if not text.strip(" \t") and last + 2 < len(units) and _is_block(units[last + 2]):
            last += 2
            continue
        at_end = last + 2 == len(units) and not text.strip(" \t")
        if not (_LINE_END.match(text) or at_end):
            return None
        break
    return None if units[last][-1][2].startswith("+") else last


class _Generator(CodeGenerator):
    """Python code that says of each text where it is from."""

    def _output_child_to_const(self, node: nodes.Expr, frame: Frame, finalize: Any) -> Any:
        if not isinstance(node, nodes.TemplateData):
            raise nodes.Impossible
        return node

    def _output_const_repr(self, group: Iterable[Any]) -> str:
        pieces = "".join(f"({node.data!r}, {_offset(node)}), " for node in group)
        return f"environment.static({self.name!r}, ({pieces}))"

    def _output_child_pre(self, node: nodes.Expr, frame: Frame, finalize: Any) -> None:
        self.write("environment.shown(")

    def _output_child_post(self, node: nodes.Expr, frame: Frame, finalize: Any) -> None:
        self._end_of_shown(node)

    def start_write(self, frame: Frame, node: nodes.Node | None = None) -> None:
        super().start_write(frame, node)
        if node is not None:
            self.write("environment.shown(")
            self._shown_node = node

    def end_write(self, frame: Frame) -> None:
        node, self._shown_node = self._shown_node, None
        if node is not None:
            self._end_of_shown(node)
        super().end_write(frame)

    _shown_node: nodes.Node | None = None

    def _end_of_shown(self, node: nodes.Node) -> None:
        environment = self.environment
        assert isinstance(environment, Environment)
        begin, end = environment.tag_at(self.name or "", _offset(node))
        self.write(f", {self.name!r}, {begin}, {end})")


def _offset(node: nodes.Node) -> int:
    return node.lineno.offset if isinstance(node.lineno, At) else 0


class Undefined(StrictUndefined, ChainableUndefined):
    """Strict where it is used, but ``values.a.b | default(1)`` may lack ``a`` as well."""

    __slots__ = ()

    def __init__(
        self,
        hint: str | None = None,
        obj: Any = missing,
        name: str | None = None,
        exc: Any = None,
    ) -> None:
        super().__init__(hint, obj, name, exc or self._missing)  # type: ignore[arg-type]

    def _missing(self, message: str) -> Missing:
        return Missing(message, self._undefined_obj, self._undefined_name)

    def __getattr__(self, name: str) -> Any:
        if name[:2] == "__":
            raise AttributeError(name)
        return self

    def __getitem__(self, name: Any) -> Any:
        return self


class Loader(BaseLoader):
    """Asks for the text of a template by its name: its path from the main file's folder."""

    def __init__(self, ask: Callable[[str], str]) -> None:
        self._ask = ask

    def get_source(self, environment: Any, template: str) -> tuple[str, str, None]:
        return self._ask(template), template, None


class Environment(ImmutableSandboxedEnvironment):
    """Nothing in it writes, reads files by itself, or comes out otherwise the next time."""

    code_generator_class = _Generator
    concat = staticmethod(concat)

    def __init__(self, ask: Callable[[str], str], paths: Mapping[int, str]) -> None:
        self.tags: dict[str, list[tuple[int, int]]] = {}
        self._paths = paths
        super().__init__(
            undefined=Undefined,
            loader=Loader(ask),
            keep_trailing_newline=True,
            auto_reload=False,
        )
        self._own_lexer = _Lexer(self)
        del self.globals["lipsum"], self.filters["random"]
        self.globals["range"] = _range
        self.filters["tojson"] = self.filters["to_json"] = _to_json
        self.filters["indent"] = _indent
        self.filters["trim"] = _trim
        self.filters["join"] = _join

    @property
    def lexer(self) -> Lexer:
        return self._own_lexer

    def join_path(self, template: str, parent: str) -> str:
        """A name as the file that says it means it: from its own folder."""
        import posixpath

        if template.startswith("/"):
            return template
        return posixpath.normpath(posixpath.join(posixpath.dirname(parent), template))

    def getattr(self, obj: Any, attribute: str) -> Any:
        """``values.web.items`` is the value of that name where there is one."""
        if isinstance(obj, dict) and attribute in obj:
            return obj[attribute]
        return super().getattr(obj, attribute)

    def tag_at(self, name: str, offset: int) -> tuple[int, int]:
        """Where the tag begins and ends that holds ``offset``."""
        tags = self.tags.get(name) or [(offset, offset)]
        index = bisect.bisect_right(tags, (offset, 1 << 62)) - 1
        return tags[max(index, 0)]

    def static(self, name: str, pieces: Sequence[tuple[str, int]]) -> Placed:
        """Text of a template, as it stands there."""
        made = Placed("".join(text for text, _ in pieces))
        marks: list[Mark] = []
        size = 0
        for text, offset in pieces:
            marks.append((size, name, offset, -1, ""))
            size += len(text)
        made._marks = tuple(marks)
        return made

    def shown(self, value: object, name: str, begin: int, end: int) -> Placed:
        """What a tag prints: YAML for what YAML has another word for than Python."""
        if isinstance(value, Placed):
            return value
        made = Placed(_text(value))
        path = getattr(value, "_path", None)
        if path is None:
            path = self._paths.get(id(value), "") if isinstance(value, dict | list) else ""
        made._marks = ((0, name, begin, end, path),)
        return made


# --- what is printed ---------------------------------------------------------------------------


def _text(value: object) -> str:
    match value:
        case str():
            return str(value)
        case bool():
            return "true" if value else "false"
        case None:
            return "null"
        case int() | float():
            return str(value)
        case list() | tuple() | dict():
            return _json(value)
        case AnyUndefined():
            # Raises, but for an `if` without `else` inside of an expression, which is empty.
            return str(value)
        case _:
            advice = ": add `| list`" if isinstance(value, Iterator) else ""
            raise TemplateRuntimeError(f"a {type(value).__name__} cannot be printed{advice}")


def _json(value: object) -> str:
    match value:
        case str():
            text = json.dumps(value, ensure_ascii=False)
            return _ESCAPED.sub(lambda m: f"\\u{ord(m[0]):04x}", text)
        case bool() | None | int() | float():
            return _text(value)
        case list() | tuple():
            return f"[{', '.join(map(_json, value))}]"
        case dict():
            return f"{{{', '.join(f'{_json(str(k))}: {_json(v)}' for k, v in value.items())}}}"
        case _:
            return _text(value)


def _to_json(value: object, indent: int | None = None) -> str:
    """``value`` on one line as JSON, which is YAML: strings in quotes, all else in brackets."""
    return _json(value)


def _range(*bounds: int) -> range:
    made = range(*bounds)
    if len(made) > RANGE_MAX:
        raise TooMuch(f"a range of {len(made)} numbers")
    return made


def _indent(
    text: str, width: int | str = 4, first: bool = False, blank: bool = False
) -> str:
    """Jinja's filter, which keeps places."""
    if not isinstance(text, Placed):
        return filters.do_indent(text, width, first, blank)
    space = width if isinstance(width, str) else " " * width
    parts: list[Placed] = []
    at = 0
    for number, line in enumerate(text.split("\n")):
        here = text._part(at, at + len(line) + 1)
        at += len(line) + 1
        if first if number == 0 else (line or blank):
            parts.append(here._same_place(space) if here._marks else Placed(space))
        parts.append(here)
    return concat(parts)


def _trim(text: str, chars: str | None = None) -> str:
    """Jinja's filter, which keeps places."""
    if not isinstance(text, Placed):
        return filters.do_trim(text, chars)
    begin = len(text) - len(text.lstrip(chars))
    return text._part(begin, max(begin, len(text.rstrip(chars))))


@pass_eval_context
def _join(context: Any, value: Iterable[Any], d: str = "", attribute: Any = None) -> str:
    """Jinja's filter, which keeps places."""
    items = list(value)
    if attribute is not None or not any(isinstance(item, Placed) for item in items):
        return filters.sync_do_join(context, items, d, attribute)
    parts: list[str] = []
    for item in items:
        before = parts[-1] if parts else ""
        if parts and isinstance(before, Placed) and before._marks:
            last = Placed(before)
            last._marks = (before._marks[-1],)
            parts.append(last._same_place(str(d)))
        elif parts:
            parts.append(str(d))
        parts.append(item if isinstance(item, str) else _text(item))
    return concat(parts)
