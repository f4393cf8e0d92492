"""docs/steps.md is made from the operations and is current."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from nsrun.plan.codec_ops import OP, OPERATIONS
from tests.support.paths import ROOT

TOOL = ROOT / "tools" / "gen_steps_docs.py"
PAGE = ROOT / "docs" / "steps.md"


def test_the_page_is_current() -> None:
    done = subprocess.run([sys.executable, str(TOOL), "--check"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_stale_page_is_found(tmp_path: Path) -> None:
    program = (
        f"import sys, pathlib; sys.path.insert(0, {str(TOOL.parent)!r})\n"
        "sys.argv[1:] = ['--check']\n"
        f"import gen_steps_docs as g; g.ROOT = pathlib.Path({str(tmp_path)!r})\n"
        "g.TARGET = g.ROOT / 'steps.md'; g.TARGET.write_text('old'); raise SystemExit(g.main())\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "steps.md is not current: run tools/gen_steps_docs.py\n"


@pytest.mark.parametrize("name", OPERATIONS)
def test_each_operation_has_its_section_and_a_real_example(name: str) -> None:
    text = PAGE.read_text(encoding="utf-8")
    (section,) = re.findall(rf"^### `{name}`\n(.*?)(?=^##)", text, re.MULTILINE | re.DOTALL)
    (example,) = re.findall(r"```json\n(.*?)```", section, re.DOTALL)
    data = json.loads(example)
    assert data["op"] == name
    op = OP.decode(data)
    assert isinstance(op, OPERATIONS[name][0])
    for key in ("op", *OPERATIONS[name][1]):
        assert f"| `{key}` |" in section
