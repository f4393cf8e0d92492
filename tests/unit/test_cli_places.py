"""A place that lost its end with the plan's text gets it back from the spec, if it is the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from nsrun.cli.places import with_ends
from nsrun.diag import Diagnostic, Span
from nsrun.plan.model import Source
from nsrun.spec.document import read_document

TEXT = "command: [sh]\nmounts:\n  - {type: tmpfs, target: /a}\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "web.yaml"
    made.write_text(TEXT)
    return made


def told(file: str, end: int = 0) -> Diagnostic:
    span = Span(file=file, line=3, column=5, end_line=3 if end else 0, end_column=end)
    return Diagnostic(code="NS501", summary="no", span=span, path="mounts[0]")


def test_the_end_is_that_of_the_spec(file: Path) -> None:
    source = Source(file=str(file), sha256=read_document(str(file)).sha256)
    (found,) = with_ends([told(str(file))], source)
    assert found.span is not None
    assert (found.span.line, found.span.column, found.span.end_column) == (3, 5, 30)
    assert found.summary == "no"


def test_what_is_known_stays(file: Path) -> None:
    source = Source(file=str(file), sha256=read_document(str(file)).sha256)
    known = [told(str(file), end=9), Diagnostic(code="NS603", summary="late"), told("other.yaml")]
    assert with_ends(known, source) == known


@pytest.mark.parametrize("text", [TEXT + "# changed\n", "[", None])
def test_a_spec_that_is_another_now_tells_nothing(file: Path, text: str | None) -> None:
    source = Source(file=str(file), sha256=read_document(str(file)).sha256)
    if text is None:
        file.unlink()
    else:
        file.write_text(text)
    assert with_ends([told(str(file))], source) == [told(str(file))]
