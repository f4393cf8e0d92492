"""From a rendered text back to the templates: which part of which file made each character."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import NamedTuple

from nsrun.diag import Diagnostic, Span
from nsrun.spec.words import quote

_VALUES_MAX = 20
# As many values are named below an error.
_GIVEN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateSpan(Span):
    """A place in a template; ``values``: the values that stand in what it made, each with where it
    was given; ``rendered``: the line of that in the rendered text."""

    values: tuple[tuple[str, str], ...] = ()
    rendered: int = 0


def with_values(found: Diagnostic) -> Diagnostic:
    """A diagnostic about a line of a template, with where the values in it were given."""
    span = found.span
    if not isinstance(span, TemplateSpan) or span.end_line > span.line + 1:
        return found
    notes = (f"{quote(f'values.{p}')} is given by {g}" for p, g in span.values[:_GIVEN])
    return replace(found, notes=(*found.notes, *notes))


class Segment(NamedTuple):
    """What begins at ``start`` of the rendered text, up to the next segment.

    With ``end`` -1 it is text of the template from its offset ``begin`` on, as it stands there;
    else what the tag between ``begin`` and ``end`` wrote. ``values``: those it is known to hold.
    """

    start: int
    source: int
    begin: int
    end: int
    values: tuple[str, ...] = ()


class Source:
    """A template: its name in places, its text, and where its lines begin."""

    def __init__(self, file: str, text: str) -> None:
        self.file = file
        self.text = text
        self._lines = line_starts(text)

    def at(self, offset: int) -> tuple[int, int]:
        """The line and the column of a character, both from 1."""
        line = bisect.bisect_right(self._lines, offset)
        return line, offset - self._lines[line - 1] + 1

    def line_end(self, offset: int) -> int:
        """The offset behind the last character of a line that is no blank."""
        end = self.text.find("\n", offset)
        end = len(self.text) if end < 0 else end
        return max(offset, len(self.text[:end].rstrip()))


def line_starts(text: str) -> list[int]:
    """The offset of each line."""
    return [0, *(at + 1 for at, char in enumerate(text) if char == "\n")]


@dataclass(slots=True)
class LineMap:
    """``segments`` in the order of the text, the first at 0; ``sources`` by their numbers;
    ``given``: where each value was given."""

    text: str
    sources: list[Source]
    segments: list[Segment]
    given: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    _starts: list[int] = field(init=False)
    _lines: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self._starts = [segment.start for segment in self.segments]
        self._lines = line_starts(self.text)

    def place(self, span: Span) -> TemplateSpan:
        """A place in the rendered text as one in the template that made it; one that is in a
        template already stays."""
        if isinstance(span, TemplateSpan):
            return span
        first = self._offset(span.line, span.column)
        last = self._offset(span.end_line, span.end_column) if span.end_line else first
        index = self._segment(first)
        segment = self.segments[index]
        source = self.sources[segment.source]
        begin = self._begin(segment, first)
        end = self._end(segment, source, begin, first, last)
        line, column = source.at(begin)
        end_line, end_column = source.at(end) if span.end_line else (0, 0)
        return TemplateSpan(
            file=source.file,
            line=line,
            column=column,
            end_line=end_line,
            end_column=end_column,
            values=self._values(index, last),
            rendered=span.line,
        )

    def line(self, number: int) -> str:
        """A line of the rendered text, "" behind its end."""
        if not 1 <= number <= len(self._lines):
            return ""
        start = self._lines[number - 1]
        end = self.text.find("\n", start)
        return self.text[start : end if end >= 0 else None]

    def lines(self) -> Iterable[tuple[TemplateSpan, str]]:
        """Each line of the text with the place of its first character."""
        lines = self.text.split("\n")
        if lines[-1] == "":
            lines.pop()
        for number, line in enumerate(lines, start=1):
            yield self.place(Span(file="", line=number, column=1)), line

    def _offset(self, line: int, column: int) -> int:
        start = self._lines[min(max(line, 1), len(self._lines)) - 1]
        return min(start + max(column, 1) - 1, len(self.text))

    def _segment(self, offset: int) -> int:
        return max(bisect.bisect_right(self._starts, offset) - 1, 0)

    @staticmethod
    def _begin(segment: Segment, offset: int) -> int:
        if segment.end >= 0:
            return segment.begin
        return segment.begin + max(offset - segment.start, 0)

    def _end(self, segment: Segment, source: Source, begin: int, first: int, last: int) -> int:
        """Where the place ends in the same source, for what runs from ``first`` to ``last``."""
        if last > first:
            other = self.segments[self._segment(last - 1)]
            end = other.end if other.end >= 0 else self._begin(other, last - 1) + 1
            if other.source == segment.source and end > begin:
                return min(end, len(source.text))
        if segment.end >= 0:
            return segment.end
        return min(source.line_end(begin), begin + max(last - first, 1), len(source.text))

    def _values(self, index: int, last: int) -> tuple[tuple[str, str], ...]:
        found: dict[str, None] = {}
        for number in range(index, max(bisect.bisect_left(self._starts, last), index + 1)):
            found.update(dict.fromkeys(self.segments[number].values))
            if len(found) >= _VALUES_MAX:
                break
        return tuple((path, self.given[path]) for path in found if self.given.get(path))
