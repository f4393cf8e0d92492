"""Commands that print what comes with nsrun: explain, schema, completion."""

from __future__ import annotations

import json

import pytest

from nsrun import cli
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


def test_the_security_of_a_stack_is_that_of_each_container(
    capsys: pytest.CaptureFixture[str],
) -> None:
    from tests.support.paths import SPECS

    file = str(SPECS / "stacks/shop.yaml")
    assert cli.carry_out(["explain", file, "--security", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == ["shop-db", "shop-web-1", "shop-web-2", "shop-proxy"]
    assert {one["path"] for one in found["shop-db"]["findings"]} >= {"rootfs", "resources"}
    assert cli.carry_out(["explain", file, "--security"]) == 0
    out = capsys.readouterr().out
    assert [line.split(":")[0] for line in out.splitlines() if line.startswith("exposure")] == [
        f"exposure of {name}" for name in found
    ]
