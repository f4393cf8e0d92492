"""Diagnostics as text and as JSON."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nsrun.diag import Diagnostic, Severity, Span
from nsrun.render.diagnostic import count, diagnostic, diagnostics_json, file_text, render
from nsrun.render.text import cells

SOURCE = """\
name: web
mounts:
  - {type: bind, source: /srv/data, target: /mnt}
\t- {漢字: x, target: /é}
last\x1b[31mred: y
"""


def sources(file: str) -> str | None:
    return SOURCE if file == "web.yaml" else None


def at(line: int, column: int, end: int = 0, *, end_line: int = 0) -> Span:
    return Span(
        file="web.yaml",
        line=line,
        column=column,
        end_line=end_line or (line if end else 0),
        end_column=end,
    )


FAILED = Diagnostic(
    code="NS501",
    summary="cannot bind /srv/data on /mnt: Invalid argument (EINVAL)",
    span=at(3, 5),
    path="mounts[0]",
    label="asked for here",
    step='step 61 of 143 (c42), child: open_tree(AT_FDCWD, "/srv/data", OPEN_TREE_CLONE)',
    errno="EINVAL",
    why=("/srv/data is an unbindable mount (mount 412 in /proc/self/mountinfo)",),
    help=("mount --make-private /srv/data", "or bind a folder above it"),
    notes=("the kernel says: one\ntwo",),
)


def test_a_failed_step() -> None:
    assert (
        diagnostic(FAILED, sources)
        == """\
error[NS501]: cannot bind /srv/data on /mnt: Invalid argument (EINVAL)
 --> web.yaml:3:5
  |
3 |   - {type: bind, source: /srv/data, target: /mnt}
  |     ^ asked for here
  = step 61 of 143 (c42), child: open_tree(AT_FDCWD, "/srv/data", OPEN_TREE_CLONE)
  = why: /srv/data is an unbindable mount (mount 412 in /proc/self/mountinfo)
  = try: mount --make-private /srv/data
  = try: or bind a folder above it
  = note: the kernel says: one
          two
"""
    )


def test_without_a_place_only_the_words_are_left() -> None:
    found = Diagnostic(code="NS405", summary="no", help=("do this",))
    assert diagnostic(found, sources) == "error[NS405]: no\n  = try: do this\n"


@pytest.mark.parametrize(
    "span",
    [
        Span(file="gone.yaml", line=12, column=3),
        Span(file="web.yaml", line=99, column=3),
        Span(file="web.yaml", line=0, column=0),
    ],
)
def test_without_the_source_the_path_is_told(span: Span) -> None:
    found = Diagnostic(code="NS405", summary="no", span=span, path="mounts[0]", label="here")
    margin = " " * len(str(span.line))
    expected = f"error[NS405]: no\n{margin}--> {span}\n{margin} = at: mounts[0]\n"
    assert diagnostic(found, sources) == expected


def caret(text: str) -> tuple[int, str]:
    """The column of the caret in cells, counted from the gutter, and the carets."""
    line = next(line for line in text.splitlines() if re.search(r"\| *\^", line))
    start = line.index("^")
    return start - line.index("|") - 2, re.findall(r"\^+", line)[0]


@pytest.mark.parametrize(
    ("span", "column", "carets"),
    [
        (at(1, 1, 5), 0, "^^^^"),
        (at(3, 12, 16), 11, "^^^^"),
        # A tab is four cells, each of 漢字 two.
        (at(4, 2, 3), 4, "^"),
        (at(4, 5, 7), 7, "^^^^"),
        (at(4, 10, 11), 14, "^"),
        # The escape of ESC takes four.
        (at(5, 6), 8, "^"),
        # Beyond the end of the line, and over several lines.
        (at(1, 90), 9, "^"),
        (at(1, 3, 2), 2, "^"),
        (at(1, 7, 2, end_line=3), 6, "^^^"),
    ],
)
def test_the_caret_stands_below_the_character(span: Span, column: int, carets: str) -> None:
    text = diagnostic(Diagnostic(code="NS201", summary="no", span=span), sources)
    assert caret(text) == (column, carets)


def test_a_long_line_is_a_window_around_the_caret() -> None:
    line = "a" * 400 + "HERE" + "b" * 400
    span = Span(file="x", line=1, column=401, end_line=1, end_column=405)
    text = diagnostic(Diagnostic(code="NS201", summary="no", span=span), lambda _: line)
    shown = text.splitlines()[3].removeprefix("1 | ")
    column, carets = caret(text)
    assert shown.startswith("…aaa") and shown.endswith("bbb…")
    assert cells(shown) <= 140
    assert (shown[column : column + 4], carets) == ("HERE", "^^^^")


def test_a_span_longer_than_the_window_ends_with_it() -> None:
    span = Span(file="x", line=1, column=1, end_line=1, end_column=5000)
    text = diagnostic(Diagnostic(code="NS201", summary="no", span=span), lambda _: "a" * 5000)
    assert max(map(len, text.splitlines())) < 120


def test_the_gutter_is_as_wide_as_the_number() -> None:
    source = "\n" * 99 + "here"
    span = Span(file="x", line=100, column=1)
    lines = diagnostic(
        Diagnostic(code="NS201", summary="no", span=span, notes=("n",)), lambda _: source
    ).splitlines()
    assert lines[1:] == ["   --> x:100:1", "    |", "100 | here", "    | ^", "    = note: n"]


def test_windows_line_ends_are_not_shown() -> None:
    span = Span(file="x", line=1, column=1)
    text = diagnostic(Diagnostic(code="NS201", summary="no", span=span), lambda _: "a: b\r\nc")
    assert "1 | a: b\n" in text


def test_several_are_counted() -> None:
    warning = Diagnostic(code="NS310", summary="hm", severity=Severity.WARNING)
    error = Diagnostic(code="NS201", summary="no")
    assert render([error, warning, error], sources=sources) == (
        "error[NS201]: no\n\nwarning[NS310]: hm\n\nerror[NS201]: no\n\n2 errors, 1 warning\n"
    )
    assert render([warning], sources=sources) == "warning[NS310]: hm\n"
    assert render([], sources=sources) == ""
    assert count([warning, warning]) == "2 warnings"


def test_color_adds_nothing_but_color() -> None:
    painted = diagnostic(FAILED, sources, color=True)
    assert "\x1b[1;31merror[NS501]\x1b[0m" in painted
    assert re.sub(r"\x1b\[[0-9;]*m", "", painted) == diagnostic(FAILED, sources)


dirty = st.text(st.sampled_from("ab \t\x1b\x9b\x7f\u202e\u2066\u2028\u200f漢\udcff"), max_size=8)


@settings(max_examples=100, deadline=None)
@given(st.lists(dirty, min_size=9, max_size=9), st.integers(-1, 12), st.integers(-1, 12))
def test_nothing_acts_on_the_terminal(texts: list[str], column: int, end: int) -> None:
    file, line, summary, path, label, step, why, tip, note = texts
    span = Span(file=file, line=1, column=column, end_line=1, end_column=end)
    found = Diagnostic(
        code="NS201",
        summary=summary,
        span=span,
        path=path,
        label=label,
        step=step,
        why=(why,),
        help=(tip,),
        notes=(note,),
    )
    for source in (line, None):
        text = render([found], sources=lambda _, source=source: source)  # type: ignore[misc]  # one source
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\u2066\u2028\u200f\udcff]", text)


# --- the files themselves ----------------------------------------------------------------------


def test_files_are_read_and_anything_else_is_not(tmp_path: Path) -> None:
    good = tmp_path / "a.yaml"
    good.write_bytes(b"caf\xe9: x\n")
    assert file_text(str(good)) == "caf\udce9: x\n"
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for bad in (fifo, tmp_path, tmp_path / "gone", "nul\0", ""):
        assert file_text(str(bad)) is None


def test_the_default_source_is_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("one: 1\n")
    span = Span(file=str(path), line=1, column=1)
    assert "1 | one: 1\n  | ^\n" in render([Diagnostic(code="NS201", summary="no", span=span)])


# --- JSON --------------------------------------------------------------------------------------


def test_json_has_always_the_same_keys() -> None:
    bare = Diagnostic(code="NS405", summary="é\x1b")
    text = diagnostics_json([FAILED, bare])
    assert text.isascii() and text.endswith("]\n")
    full, empty = json.loads(text)
    assert list(full) == list(empty)
    assert full == {
        "code": "NS501",
        "severity": "error",
        "summary": FAILED.summary,
        "file": "web.yaml",
        "line": 3,
        "column": 5,
        "end_line": None,
        "end_column": None,
        "path": "mounts[0]",
        "label": "asked for here",
        "step": FAILED.step,
        "errno": "EINVAL",
        "why": list(FAILED.why),
        "help": list(FAILED.help),
        "notes": list(FAILED.notes),
    }
    assert empty["summary"] == "é\x1b"
    assert (empty["file"], empty["line"], empty["why"]) == (None, None, [])
    assert json.loads(diagnostics_json([])) == []


def test_thousands_of_errors_read_their_file_once_and_look_at_what_they_show(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A file of errors alone is shown in time that grows with their number."""
    read: list[str] = []
    looked: list[str] = []

    def sources(file: str) -> str:
        read.append(file)
        return "x" * 100_000

    def looking(char: str) -> str:
        looked.append(char)
        return char

    monkeypatch.setattr("nsrun.render.diagnostic.visible_char", looking)
    spans = [Span(file="a.yaml", line=1, column=n, end_line=1, end_column=n) for n in range(1, 101)]
    text = render([Diagnostic(code="NS201", summary="no", span=s) for s in spans], sources=sources)
    assert text.count(" | ^") + text.count(" |  ") >= 100
    assert read == ["a.yaml"]
    assert len(looked) < 100 * 1000


def test_a_message_that_quotes_a_megabyte_is_cut() -> None:
    long = "begin" + "x" * 1_000_000 + "end"
    found = Diagnostic(code="NS317", summary=f"user {long} is not known", why=(long,), help=(long,))
    text = render([found])
    assert len(text) < 13_000
    assert text.startswith("error[NS317]: user beginxxx")
    assert "xxx…xxx" in text
    assert "xxxend is not known\n" in text
