"""What a command imports, counted: start-up as a number that is the same on every machine."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.support.paths import PYTHON, ROOT

HEAVY = (
    "yaml", "jsonschema", "jinja2", "pyroute2", "pyseccomp", "rich", "shtab", "referencing", "prctl"
)  # fmt: skip

# The modules that an interpreter has before its first line, with -I, are not counted.
_COUNT = """
import json, sys
before = set(sys.modules)
import nsrun.cli
sys.argv = ["nsrun", *sys.argv[1:]]
status = nsrun.cli.carry_out(sys.argv[1:])
print("\\0" + json.dumps([status, sorted(set(sys.modules) - before - {"json"})]))
"""


def imported(*words: str | Path) -> tuple[int, list[str]]:
    """The exit status of ``nsrun WORDS`` and the modules it imports."""
    done = subprocess.run(
        [PYTHON, "-P", "-c", _COUNT, *map(str, words)],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
    )
    status, modules = json.loads(done.stdout.rpartition("\0")[2])
    return status, modules


def heavy(modules: list[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules} & set(HEAVY)


def test_version_imports_next_to_nothing() -> None:
    status, modules = imported("--version")
    assert status == 0
    assert heavy(modules) == set()
    assert "argparse" not in modules
    assert len(modules) <= 36, modules
    assert [name for name in modules if name.startswith("nsrun")] == [
        "nsrun",
        "nsrun.cli",
        "nsrun.cli.commands",
        "nsrun.cli.process",
        "nsrun.diag",
    ]


@pytest.mark.parametrize("words", [("--help",), ("run", "--nonsense"), ("explain",)])
def test_words_alone_need_no_library(words: tuple[str, ...]) -> None:
    assert heavy(imported(*words)[1]) == set()


def test_a_command_imports_no_other_one() -> None:
    status, modules = imported("explain", "NS301")
    assert status == 0
    assert "nsrun.cli.explain" in modules
    commands = ("run", "validate", "plan", "diff", "schema", "doctor", "unpin", "completion")
    assert [name for name in commands if f"nsrun.cli.{name}" in modules] == []


def test_validate_imports_no_planner(tmp_path: Path) -> None:
    spec = tmp_path / "a.yaml"
    spec.write_text("command: [/bin/true]\n")
    status, modules = imported("validate", spec)
    assert status == 0
    assert heavy(modules) - {"yaml", "jsonschema", "referencing"} == set()
    parts = ("nsrun.plan", "nsrun.replay", "nsrun.host", "nsrun.runtime")
    assert [name for name in modules if name.startswith(parts)] == []


def test_a_plan_needs_no_replay_and_no_netlink(tmp_path: Path) -> None:
    spec = tmp_path / "a.yaml"
    spec.write_text("command: [/bin/true]\n")
    status, modules = imported("plan", spec)
    assert status == 0
    assert heavy(modules) & {"jinja2", "pyroute2", "rich", "shtab"} == set()
    assert "nsrun.replay.engine" not in modules
