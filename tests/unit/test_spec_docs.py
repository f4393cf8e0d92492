"""What is written about the format is current, and its examples do what they say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from nsrun.diag import CODES, NsrunError
from nsrun.spec.document import parse_document
from nsrun.spec.load import load
from nsrun.spec.schema import validate
from tests.support.paths import ROOT

ERRORS = ROOT / "docs" / "errors"
FRONT = sorted(c for c in CODES if c == "NS001" or c.startswith(("NS1", "NS2", "NS3")))
# Their examples are no YAML: bytes, a file that is not there, a name only a rootfs can tell, a
# command line.
WITHOUT_YAML = {"NS001", "NS103", "NS111", "NS317", "NS321"}
BLOCK = re.compile(r"^```(\w+)(?: ([^\n]*))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(code: str) -> list[tuple[str, str, str]]:
    """Language, words after it and text of each fenced block."""
    text = (ERRORS / f"{code}.md").read_text(encoding="utf-8")
    return [(m[1], m[2] or "", m[3]) for m in BLOCK.finditer(text)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("rootfs", "data"):
        (tmp_path / name).mkdir()
    return tmp_path


def codes_of(path: Path) -> list[str]:
    try:
        return [d.code for d in load(str(path))[1]]
    except NsrunError as error:
        return [d.code for d in error.diagnostics]


@pytest.mark.parametrize("code", FRONT)
def test_each_code_has_its_page(code: str) -> None:
    text = (ERRORS / f"{code}.md").read_text(encoding="utf-8")
    assert text.startswith(f"# {code}: {CODES[code]}\n")
    assert blocks(code)


@pytest.mark.parametrize("code", FRONT)
def test_examples_trigger_their_code_and_mended_ones_nothing(code: str, folder: Path) -> None:
    triggered = 0
    for index, (language, words, text) in enumerate(blocks(code)):
        if language == "text" and words:
            (folder / words).write_text(text)
        elif language in ("yaml", "jinja") and words != "plan":
            path = folder / f"spec{index}.yaml{'.j2' if language == 'jinja' else ''}"
            path.write_text(text)
            found = codes_of(path)
            assert found == [] if words == "mended" else set(found) == {code}, (text, found)
            triggered += words != "mended"
    assert triggered or code in WITHOUT_YAML


def test_the_examples_that_are_commands(folder: Path) -> None:
    assert codes_of(folder / "no-such-file.yaml") == ["NS001"]
    path = folder / "latin1.yaml"
    path.write_bytes(b"hostname: caf\351\n")
    assert codes_of(path) == ["NS103"]


def test_the_page_of_the_format_is_current() -> None:
    tool = ROOT / "tools" / "gen_spec_docs.py"
    done = subprocess.run([sys.executable, str(tool), "--check"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_each_example_of_the_page_fits_the_schema() -> None:
    text = (ROOT / "docs" / "spec.md").read_text(encoding="utf-8")
    container, _, stack = text.partition("\n## A stack\n")
    examples = [m[3] for m in BLOCK.finditer(container)]
    assert len(examples) > 50
    for example in examples[1:]:
        assert validate(parse_document(example, "spec.md")) == [], example
    for match in BLOCK.finditer(stack):
        other = "" if match[3].startswith("containers:") else "containers: {a: {}}\n"
        assert validate(parse_document(match[3] + other, "spec.md")) == [], match[3]
