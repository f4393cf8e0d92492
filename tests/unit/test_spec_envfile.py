"""Files of variables."""

# ruff: noqa: E501 -- a case of a table is read on one line

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nsrun.diag import Collector, NsrunError, Span
from nsrun.spec.envfile import read_env_file

ASKED = Span(file="spec.yaml", line=3, column=11)


def read(tmp_path: Path, text: str | bytes) -> tuple[dict[str, str | None], list[str]]:
    path = tmp_path / "web.env"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    report = Collector()
    found = read_env_file(str(path), ASKED, report)
    for diagnostic in report.diagnostics:
        assert diagnostic.code == "NS319"
        assert diagnostic.span is not None
        assert diagnostic.span.file == str(path)
    places = [f"{d.span.line}:{d.span.column}" for d in report.diagnostics if d.span is not None]
    return found, places


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", {}), ("\n\n  \n# note\n  # note", {}), ("A=b", {"A": "b"}), ("A=b\r\nC=d\r\n", {"A": "b", "C": "d"}),
        ("\ufeffA=b", {"A": "b"}), ("A=", {"A": ""}), ("A= b c ", {"A": "b c"}), ("A = b", {"A": "b"}),
        ("A=b=c", {"A": "b=c"}), ("A=b # note", {"A": "b"}), ("A=b#c", {"A": "b#c"}), ("A=#c", {"A": ""}),
        ("export A=b\nexport\tB=c", {"A": "b", "B": "c"}), ("TERM", {"TERM": None}), ("TERM\nA=b", {"TERM": None, "A": "b"}),
        ("A='b # c' # d", {"A": "b # c"}), ("A='b\\n'", {"A": "b\\n"}),
        ('A="b\\n\\t\\"\\\\\\$ \\q"', {"A": 'b\n\t"\\$ \\q'}), ('A="b\nc"\nD=e', {"A": "b\nc", "D": "e"}),
        ("A='b\nc'\nD=e", {"A": "b\nc", "D": "e"}), ("A=$HOME ${X}", {"A": "$HOME ${X}"}),
        ("A=b\nA=c", {"A": "c"}), ("exported=1", {"exported": "1"}), ("A.B-c=1", {"A.B-c": "1"}),
        ('A=""', {"A": ""}), ("A=it's", {"A": "it's"}), ("A=é", {"A": "é"}), ("  A=b", {"A": "b"}),
        ("A=b\n#c", {"A": "b"}), ("A=\nB=c", {"A": "", "B": "c"}),
    ],
)  # fmt: skip
def test_lines(tmp_path: Path, text: str, found: dict[str, str | None]) -> None:
    assert read(tmp_path, text) == (found, [])


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("=b", ["1:1"]), ("A B=c", ["1:1"]), ("ok=1\n  A B\nok2=2", ["2:3"]), ("A='b", ["1:3"]),
        ('\nA="b\nC=d', ["2:3"]), ("A='b'c", ["1:6"]), ("A=\0", ["1:3"]), ("'A'=b", ["1:1"]),
        ("A B=1\nC D=2", ["1:1", "2:1"]), ("A\x1b=1", ["1:1"]),
    ],
)  # fmt: skip
def test_lines_refused(tmp_path: Path, text: str, places: list[str]) -> None:
    assert read(tmp_path, text)[1] == places


def test_the_rest_is_read_after_a_mistake(tmp_path: Path) -> None:
    assert read(tmp_path, "A=1\nB C=2\nD=3")[0] == {"A": "1", "D": "3"}


def failure(path: Path) -> tuple[str, Span | None]:
    with pytest.raises(NsrunError) as caught:
        read_env_file(str(path), ASKED, Collector())
    (found,) = caught.value.diagnostics
    return (found.code, found.span)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    big = tmp_path / "big"
    big.write_bytes(b"#" * (1024 * 1024 + 1))
    assert failure(tmp_path / "none") == ("NS305", ASKED)
    for path in (fifo, tmp_path, big, Path("/dev/null"), Path("/dev/zero")):
        assert failure(path) == ("NS319", ASKED), path


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "web.env"
    path.write_bytes(b"A=b\nC=\xff")
    code, span = failure(path)
    assert code == "NS103"
    assert span is not None
    assert (span.file, span.line, span.column) == (str(path), 2, 3)
