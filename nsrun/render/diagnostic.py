"""Diagnostics as text in the form rustc made familiar, and as JSON."""

from __future__ import annotations

import functools
import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from nsrun.diag import Diagnostic, Severity, Span
from nsrun.render.style import SEVERITY, Role, Style
from nsrun.render.text import cells, plural, visible, visible_char

# The text of a file by its name as spans give it, None where it cannot be had.
Sources = Callable[[str], str | None]

TAB = "    "
# A longer line of the source is shown as a window around the caret.
SNIPPET_WIDTH = 100
BEFORE_CARET = 30
# Characters of one line of a message.
_LONGEST = 4000

# A spec is far smaller; what is larger is not read for the sake of one line.
SOURCE_MAX = 16 * 1024 * 1024


def file_text(file: str) -> str | None:
    """The text of a regular file, None where it cannot be had; it never raises.

    Bytes that are not UTF-8 stay visible as escapes. O_NONBLOCK: a FIFO must not hang us.
    """
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except (OSError, ValueError):
        return None
    try:
        with open(descriptor, "rb") as stream:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return None
            return stream.read(SOURCE_MAX).decode("utf-8", "surrogateescape")
    except OSError:
        return None


def render(
    found: Iterable[Diagnostic], *, sources: Sources = file_text, color: bool = False
) -> str:
    """All of ``found`` in the order given, blank lines between, a count below several."""
    shown = list(found)
    # Thousands of errors may speak of one file: it is read and split once.
    lines = functools.cache(functools.partial(_lines, sources))
    blocks = [_diagnostic(one, lines, color=color) for one in shown]
    if len(shown) > 1:
        blocks.append(count(shown) + "\n")
    return "\n".join(blocks)


def count(found: Iterable[Diagnostic]) -> str:
    """``2 errors, 1 warning``."""
    severities = [one.severity for one in found]
    return ", ".join(
        plural(severities.count(severity), severity.value)
        for severity in Severity
        if severity in severities
    )


def diagnostic(found: Diagnostic, sources: Sources, color: bool = False) -> str:
    """One diagnostic of :func:`render`."""
    return _diagnostic(found, functools.partial(_lines, sources), color=color)


def place(span: Span, *, sources: Sources = file_text, color: bool = False) -> str:
    """A place with its line, as diagnostics show it; without a newline at its end."""
    note = Diagnostic(code="", summary="", severity=Severity.NOTE, span=span)
    _, *lines = _diagnostic(note, functools.partial(_lines, sources), color).splitlines()
    return "\n".join(lines)


def _diagnostic(found: Diagnostic, source: Callable[[str], list[str]], color: bool) -> str:
    """One diagnostic with the line it speaks of, with a newline at its end.

    Everything in it may come from a spec or a program: nothing in the text acts on a terminal.
    """
    style = Style(color)
    role = SEVERITY[found.severity]
    head = style.paint(f"{found.severity.value}[{found.code}]", role)
    lines = [f"{head}: {style.paint(_of_a_page(found.summary), Role.CALL)}"]
    margin = 1
    shown = False
    if found.span is not None:
        margin = len(str(found.span.line))
        arrow = style.paint(f"{' ' * margin}-->", Role.GUTTER)
        lines.append(f"{arrow} {visible(str(found.span))}")
        snippet = _snippet(found, found.span, source(found.span.file), style)
        shown = bool(snippet)
        lines += snippet
    bullet = style.paint(f"{' ' * margin} =", Role.GUTTER)
    for word, text in _remarks(found, shown):
        first, *rest = text.splitlines() or [""]
        lead = f"{word}: " if word else ""
        lines.append(f"{bullet} {lead}{_of_a_page(first)}")
        lines += [f"{' ' * (margin + 3 + len(lead))}{_of_a_page(line)}" for line in rest]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _of_a_page(text: str) -> str:
    """One line, of which nobody reads more than a page: what it quotes may be a megabyte."""
    if len(text) > _LONGEST:
        half = _LONGEST // 2
        text = f"{text[:half]}…{text[-half:]}"
    return visible(text)


def _remarks(found: Diagnostic, shown: bool) -> Iterator[tuple[str, str]]:
    """What stands below the snippet: a word and a text each."""
    if found.path and not shown:
        yield "at", found.path
    if found.step:
        yield "", found.step
    for word, texts in (("why", found.why), ("try", found.help), ("note", found.notes)):
        for text in texts:
            yield word, text


# --- the snippet -------------------------------------------------------------------------------


def _lines(sources: Sources, file: str) -> list[str]:
    text = sources(file)
    return [] if text is None else text.split("\n")


def _snippet(found: Diagnostic, span: Span, source: list[str], style: Style) -> list[str]:
    """The line of the source with a caret below; nothing where the text cannot be had."""
    if not 1 <= span.line <= len(source):
        return []
    line = source[span.line - 1].rstrip("\r")
    start = min(max(span.column - 1, 0), len(line))
    stop = len(line.rstrip()) if span.end_line > span.line else span.end_column - 1
    stop = max(start, min(stop, len(line)))
    shown, before, under = _window(line, start, stop)
    number = str(span.line)
    empty = style.paint(f"{' ' * len(number)} |", Role.GUTTER)
    label = f" {visible(found.label)}" if found.label else ""
    carets = style.paint("^" * max(1, under) + label, SEVERITY[found.severity])
    return [
        empty,
        f"{style.paint(f'{number} |', Role.GUTTER)} {shown}",
        f"{empty} {' ' * before}{carets}",
    ]


def _window(line: str, start: int, stop: int) -> tuple[str, int, int]:
    """What is shown of ``line``, the cells before the caret, and the cells under it.

    Tabs become four spaces and other controls their escapes, so that the caret stands below
    the very character.
    """
    first, last = 0, len(line)
    if _is_wide(line):
        room = BEFORE_CARET
        first = start
        while first > 0 and room >= cells(_shown(line[first - 1])):
            first -= 1
            room -= cells(_shown(line[first]))
        room = SNIPPET_WIDTH
        last = first
        while last < len(line) and room >= cells(_shown(line[last])):
            room -= cells(_shown(line[last]))
            last += 1
    shown = [_shown(char) for char in line[first:last]]
    head, tail = "…" if first else "", "…" if last < len(line) else ""
    before = cells(head) + sum(map(cells, shown[: start - first]))
    under = sum(map(cells, shown[start - first : max(start, min(stop, last)) - first]))
    return head + "".join(shown) + tail, before, under


def _shown(char: str) -> str:
    return TAB if char == "\t" else visible_char(char)


def _is_wide(line: str) -> bool:
    """Whether a line is wider than a snippet; no more of it is looked at than that takes."""
    width = 0
    for char in line:
        width += cells(_shown(char))
        if width > SNIPPET_WIDTH:
            return True
    return False


# --- JSON --------------------------------------------------------------------------------------


def diagnostic_data(found: Diagnostic) -> dict[str, Any]:
    """``found`` as JSON data; every key is always there, null where there is nothing."""
    span = found.span
    return {
        "code": found.code,
        "severity": found.severity.value,
        "summary": found.summary,
        "file": span.file if span else None,
        "line": span.line if span else None,
        "column": span.column if span else None,
        "end_line": span.end_line or None if span else None,
        "end_column": span.end_column or None if span else None,
        "path": found.path or None,
        "label": found.label or None,
        "step": found.step or None,
        "errno": found.errno or None,
        "why": list(found.why),
        "help": list(found.help),
        "notes": list(found.notes),
    }


def diagnostics_json(found: Iterable[Diagnostic]) -> str:
    """``found`` as a JSON list, in the order given, in ASCII, with a newline at its end."""
    return json.dumps([diagnostic_data(one) for one in found], indent=2) + "\n"
