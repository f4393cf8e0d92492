"""The command line: which command is meant, and what becomes of one that is not understood."""

from __future__ import annotations

from pathlib import Path

import pytest

from nsrun import cli
from nsrun.cli import port
from nsrun.cli.commands import COMMANDS
from nsrun.cli.parser import build, full, parse, top_help
from nsrun.diag import NsrunError


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    status = cli.carry_out(words)
    out, err = capsys.readouterr()
    return status, out, err


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_examples(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.carry_out([name, "--help"])
    out = capsys.readouterr().out
    assert ended.value.code == 0
    assert out.startswith(f"usage: nsrun {name} ")
    assert "examples:\n  nsrun " in out


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "--help")
    assert status == 0
    assert out == top_help()
    assert [name for name in COMMANDS if f"\n  {name} " not in out] == []
    assert "Exit status of a run" in out


def test_no_words_show_the_help_as_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys)
    assert (status, out) == (125, "")
    assert err.startswith("usage: nsrun")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "--version") == (0, "nsrun 0.1.0\n", "")
    assert run(capsys, "-V") == (0, "nsrun 0.1.0\n", "")


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (("run",), 125),
        (("run", "--nonsense", "a.yaml"), 125),
        (("run", "a.yaml", "ls"), 125),
        (("run", "a.yaml", "--"), 125),
        (("--nonsense",), 125),
        (("validate",), 2),
        (("validate", "--format", "xml", "a.yaml"), 2),
        (("plan",), 2),
        (("plan", "--brief", "--json", "a.yaml"), 2),
        (("plan", "--color", "blue", "a.yaml"), 2),
        (("diff", "a.yaml"), 2),
        (("explain", "NS999"), 2),
        (("schema", "nothing"), 2),
        (("doctor", "a", "b"), 2),
        (("unpin",), 2),
        (("completion",), 2),
        (("completion", "ksh"), 2),
        (("--version", "now"), 125),
    ],
)
def test_what_is_not_understood(
    words: tuple[str, ...], status: int, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(capsys, *words)[:2] == (status, "")
    cli.carry_out(words)
    assert capsys.readouterr().err.startswith("error[NS002]: ")


def test_options_are_not_recognised_by_their_beginning(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, err = run(capsys, "plan", "--bri", "a.yaml")
    assert status == 2
    assert "unrecognized arguments: --bri" in err
    assert "did you mean `--brief`?" in err


def test_a_command_without_its_dashes_is_pointed_out(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, err = run(capsys, "a.yaml", "ls", "-l")
    assert status == 125
    assert "a command for the container follows `--`" in err


def test_a_misspelt_command_is_pointed_out(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = run(capsys, "vaildate", "a.yaml")
    assert status == 125
    assert "no command and no file `vaildate`" in err
    assert "did you mean `validate`?" in err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--helpp",), ("unrecognized arguments: --helpp\n", "did you mean `--help`?")),
        (("rm", "-a"), ("unrecognized arguments: -a\n",)),
        (("run", "--nmae", "x", "a.yaml"), ("unrecognized arguments: --nmae\n", "`--name`?")),
        (("run", "--name", "-x", "a.yaml"), ("--name: a value must follow",)),
        (("schema", "stak"), ("did you mean `stack`?",)),
        (("stop", "-t", "soon", "x"), ("'soon' is no number of seconds",)),
        (("stop", "-t", "-1", "x"), ("'-1' is no number of seconds",)),
        (("restart", "-t", "inf", "x"), ("'inf' is no number of seconds",)),
        (("logs", "-n", "-1", "x"), ("'-1' is neither a number nor all",)),
        (("kill", "-9", "x"), ("-9 is no container\n", "nsrun kill --signal 9 NAME")),
        (("kill", "-s", "USR9", "x"), ("no signal is called USR9", "did you mean `SIGUSR")),
        (("help",), ("no command and no file `help`", "nsrun COMMAND --help")),
        (("explain", "a.yaml"), ("there is no code `a.yaml`", "nsrun explain a.yaml --security")),
    ],
)
def test_what_is_wrong_comes_first_and_what_is_right_with_it(
    words: tuple[str, ...], says: tuple[str, ...], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "a.yaml").write_text("command: [x]\n")
    status, out, err = run(capsys, *words)
    assert (status in (2, 125), out) == (True, "")
    assert err.startswith("error[NS002]: ")
    assert [text for text in says if text not in err] == [], err


def test_only_who_runs_a_command_is_told_of_its_dashes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert "follows `--`" not in run(capsys, "ps", "extra")[2]


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        (("run", "-it", "a.yaml"), "the spec says it: `stdin: open`"),
        (("run", "-p", "80:80", "a.yaml"), 'the spec says it: `network: {ports: ["8080:80"]}`'),
        (("run", "--volume=/a:/b", "a.yaml"), "the spec says it: `mounts:"),
        (("up", "--build", "a.yaml"), "nothing is built"),
        (("ps", "-l"), "nsrun ps -a --json | jq"),
        (("ps", "--format", "table {{.Names}}"), "nsrun ps --json | jq"),
        (("ps", "--filter", "x"), "KEY is one of health, id,"),
        (("inspect", "-f", "{{.State}}", "x"), "nsrun inspect NAME --json | jq"),
        (("rm", "-fv", "x"), "nsrun down --volumes STACK"),
        (("stop", "-s", "HUP", "x"), "nsrun kill -s SIGNAL NAME"),
        (("restart", "--signal", "HUP", "x"), "nsrun kill -s SIGNAL NAME"),
        (("exec", "-d", "x", "sh"), "put `&` behind"),
        (("logs", "-n", "five", "x"), "`nsrun logs --help`"),
        (("images",), "there are no images"),
        (("compose", "up"), "nsrun up SPEC"),
    ],
)
def test_what_people_type_by_habit_is_answered(
    words: tuple[str, ...], advice: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = run(capsys, *words)
    assert (status in (2, 125), out) == (True, "")
    assert err.startswith("error[NS002]: ") and advice in err, err


@pytest.mark.parametrize(
    ("own", "wanted", "holds"),
    [
        ("80/tcp", "80", True),
        ("80/udp", "80", False),
        ("80/udp", "80/udp", True),
        ("80-90/tcp", "85/tcp", True),
        ("80-90/tcp", "91", False),
        ("80/tcp", "http", False),
        ("80/tcp", "²", False),
    ],
)
def test_a_port_by_its_number(own: str, wanted: str, holds: bool) -> None:
    assert port._holds(own, wanted) is holds


@pytest.mark.parametrize(
    ("words", "payload"),
    [
        (("web", "ls", "-l"), ("ls", "-l")),
        (("web", "--", "ls"), ("ls",)),
        (("-it", "web", "sh", "-c", "--", "x"), ("sh", "-c", "--", "x")),
        (("-itu", "root", "-w/srv", "-e", "A=b", "--ns", "pid", "web", "ls"), ("ls",)),
        (("--user=root", "--env", "A", "web", "ls"), ("ls",)),
        (("web", "-it", "--", "ls"), ("ls",)),
        (("web",), None),
    ],
)
def test_exec_takes_a_command_with_and_without_dashes(
    words: tuple[str, ...], payload: tuple[str, ...] | None
) -> None:
    args = parse(COMMANDS["exec"], words)
    assert (args.container, args.command) == ("web", payload)


def test_a_file_that_is_nearly_a_command_is_a_spec(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "plans").write_text("nonsense: 1\n")
    status, _, err = run(capsys, "plans")
    assert status == 125
    assert "unknown key `nonsense`" in err


def test_a_file_called_like_a_command_is_reached_by_a_path(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "run").write_text("nonsense: 1\n")
    status, _, err = run(capsys, "./run")
    assert status == 125
    assert "unknown key `nonsense`" in err
    assert " ./run:1:1" in err


def test_a_missing_spec(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, "no.yaml")
    assert (status, out) == (125, "")
    assert err.startswith("error[NS001]: cannot read `no.yaml`")
    assert run(capsys, "validate", "no.yaml")[0] == 1
    assert run(capsys, "plan", "no.yaml")[0] == 1
    assert run(capsys, "diff", "no.yaml", "no.yaml")[0] == 2


def test_the_payload_is_what_follows_the_dashes() -> None:
    words = ["a.yaml", "--", "sh", "-c", "--", "--trace"]
    args = parse(COMMANDS["run"], words)
    assert (args.spec, args.trace) == ("a.yaml", False)
    assert args.command == ("sh", "-c", "--", "--trace")
    assert parse(COMMANDS["run"], ["a.yaml"]).command is None


def test_dashes_mean_the_end_of_options_where_no_payload_can_follow() -> None:
    assert parse(COMMANDS["validate"], ["--", "-odd.yaml"]).spec == ["-odd.yaml"]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_synopsis_names_every_option(name: str) -> None:
    parser = build(COMMANDS[name])
    words = COMMANDS[name].synopsis.replace("[", " ").replace("]", " ").split()
    options = [a.option_strings for a in parser._actions if "--help" not in a.option_strings]
    # A short and a long spelling are one option: either names it.
    assert [names for names in options if names and not set(names) & set(words)] == []


def test_one_parser_holds_the_whole_command_line() -> None:
    args = full().parse_args(["plan", "--brief", "a.yaml"])
    assert (args.brief, args.spec) == (True, "a.yaml")


def test_a_fault_in_nsrun_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import nsrun.cli.explain

    def broken(_: object) -> int:
        raise RuntimeError("a bug")

    monkeypatch.setattr(nsrun.cli.explain, "main", broken)
    monkeypatch.delenv("NSRUN_TRACEBACK", raising=False)
    status, out, err = run(capsys, "explain")
    assert (status, out) == (1, "")
    assert err.startswith("error[NS003]: nsrun itself is at fault: RuntimeError: a bug\n")
    assert "Traceback" not in err
    monkeypatch.setenv("NSRUN_TRACEBACK", "1")
    assert "Traceback" in run(capsys, "explain")[2]


def test_a_kind_of_namespace_that_there_is_not() -> None:
    from nsrun.cli.exec import _kinds

    with pytest.raises(NsrunError) as caught:
        _kinds("network,net")
    (found,) = caught.value.diagnostics
    assert (found.code, found.summary) == ("NS002", "--ns: no kind of namespace is called 'net'")
    assert found.help[0].startswith("kinds are user, mount,")


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (("cp", "nope", "web:/tmp"), 1, "error[NS001]: cannot read `nope`: no such file"),
        (("exec", "-e", "=x", "web", "id"), 125, "error[NS002]: --env: a variable has a name"),
        (("exec", "-e", "", "web", "id"), 125, "error[NS002]: --env: a variable has a name"),
    ],
)
def test_what_is_wrong_with_the_callers_side(
    words: tuple[str, ...],
    status: int,
    says: str,
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from types import SimpleNamespace

    from nsrun.runtime import store

    monkeypatch.setattr(store, "find", lambda word: SimpleNamespace(running=True))
    found, out, err = run(capsys, *words)
    assert (found, out) == (status, "")
    assert err.startswith(says)
