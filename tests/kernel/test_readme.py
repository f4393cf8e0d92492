"""The README does what it says: its spec runs, its error looks as it is printed."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from nsrun.cli.commands import COMMANDS
from tests.support.paths import PYTHON, ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(language: str, holding: str) -> str:
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    return next(text for text in blocks if holding in text)


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PYTHON, "-P", "-m", "nsrun", *words],
        capture_output=True,
        text=True,
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
        timeout=60,
        check=False,
    )


def masked(text: str) -> str:
    """Without what depends on who runs it: numbers of steps, and ids."""
    text = re.sub(r"step \d+ of \d+ \(c\d+\)", "step N of N (cN)", text)
    return re.sub(r"[ ·]+", " ", text)


def test_the_first_spec_prints_what_is_shown(tmp_path: Path) -> None:
    (tmp_path / "hello.yaml").write_text(block("yaml", "hostname: hello"))
    done = run(tmp_path, "hello.yaml")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == block("text", "hello\n1\n0")


def test_the_error_looks_as_shown(tmp_path: Path) -> None:
    spec = block("yaml", "hostname: hello")
    spec = spec.replace("options: [size=16m, mode=1777]", "options: [sise=16m]")
    (tmp_path / "hello.yaml").write_text(spec)
    done = run(tmp_path, "hello.yaml")
    assert done.returncode == 125
    assert masked(done.stderr) == masked(block("text", "error[NS501]"))


def test_the_listing_has_the_lines_shown(tmp_path: Path) -> None:
    (tmp_path / "hello.yaml").write_text(block("yaml", "hostname: hello"))
    printed = masked(re.sub(r"[pc]\d+ ", "", run(tmp_path, "plan", "hello.yaml").stdout))
    for line in block("text", "clone3").splitlines():
        shown = masked(re.sub(r"[pc]\d+ ", "", line)).strip()
        if "uidmap" not in shown:
            assert shown in printed


def test_the_template_runs(tmp_path: Path) -> None:
    (tmp_path / "web.yaml.j2").write_text(block("jinja", "values.scratch"))
    (tmp_path / "prod.yaml").write_text("name: prod\nscratch: [/opt]\n")
    done = run(tmp_path, "web.yaml.j2", "--values", "prod.yaml", "--set", "scratch[0]=/tmp")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1].split()[-1] == "/tmp"


def test_every_command_is_listed() -> None:
    rows = re.findall(r"^\| `nsrun ([a-z\\|]+)", README, re.MULTILINE)
    assert {word for row in rows for word in row.split("\\|")} == set(COMMANDS)
