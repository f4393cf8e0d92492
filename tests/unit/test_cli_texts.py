"""Commands that print what comes with nsrun: explain, schema, completion."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from nsrun import cli
from nsrun.cli.commands import COMMANDS
from nsrun.cli.resources import errors
from nsrun.diag import CODES


def test_explain_lists_all_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.carry_out(["explain"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"{code}  {title}" for code, title in CODES.items()]


@pytest.mark.parametrize("code", CODES)
def test_every_code_is_explained(code: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.carry_out(["explain", code.lower()]) == 0
    out = capsys.readouterr().out
    assert out == (errors() / f"{code}.md").read_text(encoding="utf-8")
    assert out.startswith(f"# {code}: {CODES[code]}\n")


def test_no_explanation_without_a_code() -> None:
    assert {path.stem for path in errors().glob("*.md")} == CODES.keys()


def test_a_code_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.carry_out(["explain", "NS3O1"]) == 2
    err = capsys.readouterr().err
    assert "there is no code `NS3O1`" in err
    assert "did you mean `NS3" in err


@pytest.mark.parametrize("words", [[], ["container"], ["stack"], ["plan"]])
def test_schemas(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    from jsonschema import Draft202012Validator

    assert cli.carry_out(["schema", *words]) == 0
    schema = json.loads(capsys.readouterr().out)
    Draft202012Validator.check_schema(schema)
    assert f"{words[0] if words else 'container'}.schema.json" in schema["$id"]


# --- completion --------------------------------------------------------------------------------

COMPLETE = """
source "$1"; shift
COMP_WORDS=(nsrun "$@"); COMP_CWORD=$#; COMP_LINE="nsrun $*"; COMP_POINT=${#COMP_LINE}
_shtab_nsrun
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def bash_script(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    assert cli.carry_out(["completion", "bash"]) == 0
    path = tmp_path / "nsrun.bash"
    path.write_text(capsys.readouterr().out)
    return path


def complete(script: Path, *words: str) -> set[str]:
    """What bash offers for the last of ``words``."""
    done = subprocess.run(
        ["bash", "-c", COMPLETE, "bash", str(script), *words],
        capture_output=True,
        text=True,
        check=True,
        cwd=script.parent,
    )
    assert done.stderr == ""
    return set(done.stdout.split())


def test_bash_completes_commands_options_and_files(bash_script: Path) -> None:
    (bash_script.parent / "web.yaml").touch()
    (bash_script.parent / "notes.txt").touch()
    assert complete(bash_script, "va") == {"validate"}
    assert complete(bash_script, "plan", "--b") == {"--brief"}
    assert complete(bash_script, "plan", "") == {"web.yaml"}
    assert complete(bash_script, "unpin", "no") == {"notes.txt"}
    assert complete(bash_script, "schema", "") == {"container", "stack", "plan"}
    assert set(COMMANDS) <= complete(bash_script, "")
    # `nsrun SPEC`: readline's own completion of files where no command matches.
    assert complete(bash_script, "web") == set()
    assert "complete -o bashdefault -o default " in bash_script.read_text()


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells(shell: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cli.carry_out(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert [name for name in COMMANDS if name not in script] == []
    assert "*.yaml" in script
    if shutil.which(shell):
        path = tmp_path / "script"
        path.write_text(script)
        subprocess.run([shell, "-n", str(path)], check=True)
