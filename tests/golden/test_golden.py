"""The plan of every spec in specs/, as text: what changes in it shows in review."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nsrun.plan.verify import verify
from tests.golden.reference import (
    golden_file,
    golden_files,
    is_for_root,
    plan_of,
    shown_path,
    spec_files,
    spec_of,
    text_of,
)
from tests.golden.update import existing
from tests.support.paths import ROOT

SPECS = list(spec_files())
NAMES = [shown_path(file) for file in SPECS]
UPDATE = "python -m tests.golden.update"


def test_there_are_specs() -> None:
    assert "specs/quickstart.yaml" in NAMES
    assert len(NAMES) >= 20


@pytest.mark.parametrize("file", SPECS, ids=NAMES)
def test_plan_is_as_it_was(file: Path) -> None:
    golden = golden_file(file)
    assert golden.exists(), f"no golden plan: {UPDATE}"
    assert text_of(file) == golden.read_text(), f"the plan has changed; if it should: {UPDATE}"


@pytest.mark.parametrize(
    "file", [f for f in SPECS if not is_for_root(spec_of(f))], ids=shown_path
)
def test_roots_plan_is_as_it_was(file: Path) -> None:
    wanted = {f: text for f, text in golden_files().items() if f.parent.name == "root"}
    name = "-".join(file.relative_to(ROOT / "specs").with_suffix(".plan").parts)
    golden = ROOT / "tests/golden/root" / name
    assert golden.exists(), f"no golden plan: {UPDATE}"
    assert wanted[golden] == golden.read_text(), f"the plan has changed; if it should: {UPDATE}"


def test_no_golden_plan_is_left_over() -> None:
    assert sorted(existing() - golden_files().keys()) == []


@pytest.mark.parametrize("file", SPECS, ids=NAMES)
@pytest.mark.parametrize("root", [False, True], ids=["ordinary", "root"])
def test_every_plan_is_sound(file: Path, root: bool) -> None:
    if is_for_root(spec_of(file)) and not root:
        pytest.skip("only root can run it")
    verify(plan_of(file, root=root))


@pytest.mark.parametrize("seed", ["1", "2", "4242"])
def test_the_text_does_not_depend_on_the_hash_seed(seed: str) -> None:
    code = "from tests.golden.update import main; raise SystemExit(main(['--check']))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("file", SPECS, ids=NAMES)
def test_a_spec_begins_with_its_schema_and_with_what_to_look_at(file: Path) -> None:
    lines = file.read_text().splitlines()
    schema = "../" * len(file.relative_to(ROOT).parts[:-1]) + "schemas/container.schema.json"
    assert lines[0] == f"# yaml-language-server: $schema={schema}"
    assert (file.parent / schema).exists()
    comment = [line for line in lines if line.startswith("#")]
    assert any("Look at:" in line for line in comment)
    assert max(map(len, lines)) <= 100
