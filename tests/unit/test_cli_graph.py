"""``nsrun graph``: what it writes and where, and that a failure writes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from nsrun import cli
from nsrun.host import ids
from tests.support.box import SPECS, copy_specs
from tests.support.host import unchanged
from tests.support.requires import requires
from tests.support.runner import Runner

Capture = pytest.CaptureFixture[str]
DB, WEB = (str(SPECS / f"network/bridge-{name}.yaml") for name in ("db", "web"))
# A `dot` of the test's own.
FAILS = "#!/bin/sh\necho 'no fonts here' >&2\nexit 3\n"


def test_several_specs_are_one_picture(capsys: Capture) -> None:
    assert cli.carry_out(["graph", DB, WEB]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("flowchart LR\n")
    assert out.count('{{"br0"}}') == 1
    assert '"container db: ' in out
    assert '"container web: ' in out
    assert err == ""


def test_a_stack_is_drawn_with_the_bridges_it_makes(tmp_path: Path, capsys: Capture) -> None:
    stack = tmp_path / "shop.yaml"
    stack.write_text(
        "networks: {front: {subnet: 10.10.0.0/24, masquerade: true}}\n"
        "containers:\n"
        "  web: {namespaces: [network], networks: [front], replicas: 2, command: [/bin/true]}\n"
    )
    assert cli.carry_out(["graph", str(stack)]) == 0
    out = capsys.readouterr().out
    assert '"container shop-web-2: ' in out
    assert '{{"nsb-shop-front<br/>network front<br/>10.10.0.1/24"}}' in out
    assert '|"masquerade"|' in out


def test_a_file_has_what_standard_output_would(tmp_path: Path, capsys: Capture) -> None:
    assert cli.carry_out(["graph", "--format", "dot", DB]) == 0
    wanted = capsys.readouterr().out
    assert wanted.startswith("digraph network {\n")
    file = tmp_path / "net.dot"
    file.write_text("something longer\n" * 1000)
    assert cli.carry_out(["graph", "--format", "dot", "-o", str(file), DB]) == 0
    assert file.read_text() == wanted
    assert capsys.readouterr() == ("", "")


def test_a_file_that_cannot_be_written(tmp_path: Path, capsys: Capture) -> None:
    assert cli.carry_out(["graph", "-o", str(tmp_path), DB]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error[NS001]: cannot write {tmp_path}: Is a directory\n")


def test_one_wrong_spec_and_nothing_is_written(tmp_path: Path, capsys: Capture) -> None:
    bad, file = tmp_path / "bad.yaml", tmp_path / "net.dot"
    bad.write_text("command: 7\n")
    file.write_text("yesterday's\n")
    with unchanged(tmp_path):
        assert cli.carry_out(["graph", "-o", str(file), DB, str(bad)]) == 1
        assert cli.carry_out(["graph", DB, str(bad)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("bad.yaml:1:10") == 2


def test_without_graphviz_its_package_is_named(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(ids, "HELPER_FOLDERS", ())
    assert cli.carry_out(["graph", "--format", "svg", DB]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error[NS410]: dot is not installed\n")
    assert "apt install graphviz" in err
    # The others need no other program.
    assert cli.carry_out(["graph", "--format", "dot", DB]) == 0


@pytest.mark.parametrize(
    ("program", "said"),
    [(FAILS, "no fonts here"), ("\0", "Exec format error")],
    ids=["it fails", "it is no program"],
)
def test_what_dot_says_is_told(
    program: str, said: str, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    dot = tmp_path / "dot"
    dot.write_text(program)
    dot.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert cli.carry_out(["graph", "--format", "svg", "-o", str(tmp_path / "x"), DB]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error[NS503]: ")
    assert said in err
    assert not (tmp_path / "x").exists()


@requires("dot")
def test_anyone_draws(anyone: Runner, area: Path) -> None:
    folder = copy_specs(area, anyone) / "network"
    with unchanged(area):
        assert anyone.run("graph", folder / "nat.yaml").ok().startswith("flowchart LR\n")
        drawn = anyone.run("graph", "--format", "svg", *sorted(folder.glob("*.yaml"))).ok()
    assert drawn.startswith("<?xml ")
    assert ">container nat: " in drawn
