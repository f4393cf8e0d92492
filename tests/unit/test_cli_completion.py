"""Completion, as the shells themselves do it: the script is loaded and asked."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import time
from pathlib import Path

import pytest

from nsrun import cli
from nsrun.cli.commands import COMMANDS
from tests.support.requires import requires

# What `complete -p` says is called as readline does it (bash(1), Programmable Completion).
BASH = """
source "$1"; shift
read -ra registered <<< "$(complete -p nsrun)"
for ((n = 0; n < ${#registered[@]}; n++)); do
  [ "${registered[n]}" = -F ] && function=${registered[n + 1]}
done
COMP_WORDS=(nsrun "$@"); COMP_CWORD=$#; COMP_LINE="nsrun $*"; COMP_POINT=${#COMP_LINE}
"$function" nsrun "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""
PATIENCE = 20.0


def script(shell: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """The script in ``folder``, beside a spec and a file that is none."""
    assert cli.carry_out(["completion", shell]) == 0
    path = folder / ("_nsrun" if shell == "zsh" else f"nsrun.{shell}")
    path.write_text(capsys.readouterr().out)
    (folder / "web.yaml").touch()
    (folder / "notes.txt").touch()
    return path


def environment(folder: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": str(folder), "TERM": "dumb", "LANG": "C.UTF-8"}


def test_every_script_names_every_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for shell in ("bash", "zsh", "fish"):
        text = script(shell, tmp_path, capsys).read_text()
        assert [name for name in COMMANDS if name not in text] == []
        assert "*.yaml" in text


@requires("bash")
def test_bash(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = script("bash", tmp_path, capsys)

    def complete(*words: str) -> set[str]:
        done = subprocess.run(
            ["bash", "--norc", "-c", BASH, "bash", str(path), *words],
            capture_output=True,
            text=True,
            check=True,
            cwd=tmp_path,
            env=environment(tmp_path),
        )
        assert done.stderr == ""
        return set(done.stdout.split())

    assert complete("va") == {"validate"}
    assert complete("plan", "--b") == {"--brief"}
    assert complete("plan", "") == {"web.yaml"}
    assert complete("unpin", "no") == {"notes.txt"}
    assert complete("schema", "") == {"container", "stack", "plan"}
    assert complete("doctor", "--format", "") == {"text", "json"}
    assert set(COMMANDS) <= complete("")


@requires("fish")
def test_fish(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = script("fish", tmp_path, capsys)

    def complete(line: str) -> set[str]:
        done = subprocess.run(
            ["fish", "--no-config", "-c", f"source {path.name}; complete -C '{line}'"],
            capture_output=True,
            text=True,
            check=True,
            cwd=tmp_path,
            env=environment(tmp_path),
        )
        assert done.stderr == ""
        return {offer.split("\t")[0] for offer in done.stdout.splitlines()}

    assert complete("nsrun va") == {"validate"}
    assert complete("nsrun plan --b") == {"--brief"}
    assert "web.yaml" in complete("nsrun plan we")
    assert complete("nsrun unpin no") == {"notes.txt"}
    assert complete("nsrun schema ") == {"container", "stack", "plan"}
    assert set(COMMANDS) <= complete("nsrun ")
    assert complete("nsrun we") == {"web.yaml"}


INTERACTIVE = {
    "bash": (
        ["bash", "--norc", "-i"],
        "source ./nsrun.bash; bind 'set enable-bracketed-paste off'",
    ),
    "zsh": (
        ["zsh", "-f", "-i"],
        "fpath=($PWD $fpath); autoload -Uz compinit; compinit -u -d $HOME/dump",
    ),
}


@pytest.mark.parametrize(
    "shell", [pytest.param(shell, marks=requires(shell)) for shell in INTERACTIVE]
)
@pytest.mark.parametrize(
    ("typed", "becomes"),
    [
        ("nsrun va\t", "nsrun validate "),
        ("nsrun plan --br\t", "nsrun plan --brief "),
        ("nsrun doctor we\t", "nsrun doctor web.yaml "),
        ("nsrun we\t", "nsrun web.yaml "),
        ("nsrun unpin no\t", "nsrun unpin notes.txt "),
        ("nsrun validate --format js\t", "nsrun validate --format json "),
    ],
)
def test_the_tab_key(
    shell: str, typed: str, becomes: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script(shell, tmp_path, capsys)
    argv, load = INTERACTIVE[shell]
    pid, terminal = pty.fork()
    if pid == 0:
        try:
            os.chdir(tmp_path)
            os.execvpe(argv[0], argv, environment(tmp_path))
        finally:
            os._exit(127)
    try:
        # The word does not stand in what is typed, which the terminal echoes.
        os.write(terminal, f"PS1='> '; {load}; echo loa''ded\n".encode())
        assert "loaded" in read_until(terminal, "loaded")
        os.write(terminal, typed.encode())
        assert becomes in read_until(terminal, becomes)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(terminal)


def read_until(terminal: int, wanted: str) -> str:
    """What a terminal shows, up to ``wanted`` if it comes."""
    shown = ""
    deadline = time.monotonic() + PATIENCE
    while wanted not in shown and time.monotonic() < deadline:
        if select.select([terminal], [], [], 0.1)[0]:
            try:
                shown += os.read(terminal, 65536).decode(errors="replace")
            except OSError:
                break
    return shown
