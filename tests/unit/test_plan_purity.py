"""plan() is pure: it looks at nothing, and the same spec and facts are the same bytes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.golden.reference import is_for_root, spec_files, spec_of
from tests.support.paths import ROOT

Done = subprocess.CompletedProcess[str]


def alone(*words: str, **environment: str) -> Done:
    """Plan every spec in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "tests.support.planner_alone", *words],
        cwd=ROOT,
        env={"PATH": os.defpath, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def plans() -> str:
    done = alone(PYTHONHASHSEED="0")
    assert (done.returncode, done.stderr) == (0, "begin\nend\n")
    return done.stdout


def test_no_event_of_the_world_outside_while_planning(plans: str) -> None:
    """Audit events: opening, listing, importing, spawning, sockets, ctypes and all others."""
    specs = [spec_of(file) for file in spec_files()]
    names = [line for line in plans.splitlines() if line.startswith('  "name": ')]
    assert len(names) == sum(1 if is_for_root(spec) else 2 for spec in specs) > 40


def test_an_impure_planner_would_be_found_out() -> None:
    done = alone("--impure")
    assert done.returncode == 1
    assert "while planning: os.listdir('/',)" in done.stderr


@pytest.mark.parametrize("seed", ["1", "2", "4242", "random"])
def test_the_bytes_do_not_depend_on_the_hash_seed(plans: str, seed: str) -> None:
    assert alone(PYTHONHASHSEED=seed).stdout == plans


def test_the_bytes_do_not_depend_on_who_plans_and_when(plans: str, tmp_path: Path) -> None:
    others = {"TZ": "Asia/Kathmandu", "LANG": "tr_TR.UTF-8", "HOME": str(tmp_path), "TERM": "vt52",
              "USER": "somebody", "PYTHONOPTIMIZE": "2"}  # fmt: skip
    assert alone(**others).stdout == plans


def test_a_plan_begins_as_one(plans: str) -> None:
    first, _ = json.JSONDecoder().raw_decode(plans)
    assert first["format"] == 1
