"""What the YAML library could not read, in our words."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from nsrun.diag import Diagnostic, Span

if TYPE_CHECKING:
    import yaml

# The context that every stray character has: it says nothing.
_SCANNING = "while scanning for the next token"

# Part of the library's text -> (what we say, what helps). The first that fits is taken.
_PROBLEMS: tuple[tuple[str, str, str], ...] = (
    ("mapping values are not allowed", "a second `:` or a key in a place where none can be",
     "quote a value that holds `: `, and indent the keys of one mapping alike"),
    ("could not find expected ':'", "a key without a `:` after it",
     "write `key: value`, with a space after the colon"),
    ("expected <block end>", "the indentation does not fit what is above",
     "indent the entries of one list or mapping alike"),
    ("did not find expected '-' indicator", "the indentation does not fit the list above",
     "indent the entries of one list alike"),
    ("did not find expected key", "the indentation does not fit what is above",
     "indent the keys of one mapping alike"),
    ("expected ',' or ']'", "a list in brackets is not closed, or lacks a comma",
     "end it with `]`, and separate its entries by `,`"),
    ("expected ',' or '}'", "a mapping in braces is not closed, or lacks a comma",
     "end it with `}`, and separate its entries by `,`"),
    ("node content", "a value is missing, or a bracket above is not closed", ""),
    ("found unexpected end of stream", "a quoted string is not closed",
     "end it with the quote it began with"),
    ("sequence entries are not allowed", "a list entry where none can be",
     "put `- ` on a line of its own"),
    ("block sequence entries are not allowed", "a list entry where none can be",
     "put `- ` on a line of its own"),
)  # fmt: skip
# libyaml's own limit: it reads ahead, and may stop before the first list or mapping is reported.
_TOO_DEEP = "maximum nesting depth"


def syntax_error(
    error: yaml.YAMLError, text: str, file: str, place: Callable[[Span], Span]
) -> Diagnostic:
    """NS101 for ``error``, or NS104 for a limit of the library, at the place it names.

    ``place``: where a place in the text is shown."""
    import yaml

    mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
    context = error.context_mark if isinstance(error, yaml.MarkedYAMLError) else None
    problem = str(getattr(error, "problem", None) or getattr(error, "reason", None) or error)
    mark = mark or context
    line, column = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
    # What is missing at the end of the file is shown after its last character.
    content = text.rstrip()
    last = content.count("\n") + 1
    end = len(content) - (content.rfind("\n") + 1) + 1
    line, column = min((line, column), (last, end))
    summary, advice = _words(problem, _character(text, line, column))
    note = ""
    what = error.context if isinstance(error, yaml.MarkedYAMLError) else None
    if context is not None and what is not None and what != _SCANNING:
        begun = Span(file=file, line=context.line + 1, column=context.column + 1)
        note = f"{what}, begun at {place(begun)}"
    return Diagnostic(
        code="NS104" if _TOO_DEEP in problem else "NS101",
        summary=summary,
        span=place(
            Span(file=file, line=line, column=column, end_line=line, end_column=column + 1)
        ),
        label="the text cannot be read from here",
        help=(advice,) if advice else (),
        notes=(note,) if note else (),
    )


def _character(text: str, line: int, column: int) -> str:
    lines = text.split("\n")
    here = lines[line - 1] if line <= len(lines) else ""
    return here[column - 1] if column <= len(here) else ""


def _words(problem: str, char: str) -> tuple[str, str]:
    if _TOO_DEEP in problem:
        return "lists and mappings are nested too deep", ""
    if char == "\t":
        return "a tab where only spaces can be", "indent with spaces"
    if "cannot start any token" in problem and char:
        return f"a value cannot begin with `{char}`", "quote the value"
    for part, summary, advice in _PROBLEMS:
        if part in problem:
            return summary, advice
    return f"the text is not valid YAML: {problem[:1].lower()}{problem[1:200]}", ""
