"""Where the native program is looked for, and which executor a run gets."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nsrun.diag import NsrunError
from nsrun.host import native
from tests.support.paths import PYTHON, ROOT

ELF = b"\x7fELF" + bytes(60)
SCRIPT = b"#!/usr/bin/python3\n"


def put(path: Path, content: bytes, mode: int = 0o755) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(mode)
    return path


@pytest.fixture
def prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An interpreter's prefix and a working directory, both without any nsrun."""
    made = tmp_path / "prefix"
    made.mkdir()
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr(sys, "prefix", str(made))
    monkeypatch.setattr(sys, "argv", ["-m"])
    return made


def test_it_lies_beside_the_script(prefix: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = put(prefix.parent / "opt" / "nsrun-python", SCRIPT)
    launcher = put(script.with_name("nsrun"), ELF)
    put(prefix / "bin" / "nsrun", ELF)
    link = prefix.parent / "link"
    link.symlink_to(script)
    for name in (script, link, Path("../link")):
        monkeypatch.setattr(sys, "argv", [str(name), "run"])
        assert native.find() == str(launcher)


def test_else_it_is_in_the_prefix(prefix: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    launcher = put(prefix / "bin" / "nsrun", ELF)
    assert native.find() == str(launcher)
    script = put(prefix.parent / "opt" / "nsrun-python", SCRIPT)
    monkeypatch.setattr(sys, "argv", [str(script)])
    assert native.find() == str(launcher), "Python's script of that name is no native program"
    put(script.with_name("nsrun"), SCRIPT)
    assert native.find() == str(launcher)


@pytest.mark.parametrize("word", ["-c", "-m", "", "nsrun-python", "other"])
def test_the_working_directory_is_no_installation(
    word: str, prefix: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(Path("nsrun"), ELF)
    put(Path("other"), SCRIPT)
    monkeypatch.setattr(sys, "argv", [word])
    assert native.find() is None


@pytest.mark.parametrize(
    ("content", "mode"), [(SCRIPT, 0o755), (b"", 0o755), (b"\x7fEL", 0o755), (ELF, 0o644)]
)
def test_only_an_executable_elf_file_counts(content: bytes, mode: int, prefix: Path) -> None:
    put(prefix / "bin" / "nsrun", content, mode)
    assert native.find() is None


def test_what_is_no_file_does_not_count(prefix: Path) -> None:
    (prefix / "bin").mkdir()
    os.mkfifo(prefix / "bin" / "nsrun", 0o755)
    assert native.find() is None
    (prefix / "bin" / "nsrun").unlink()
    (prefix / "bin" / "nsrun").mkdir()
    assert native.find() is None


def test_native_where_it_is_found(prefix: Path) -> None:
    assert native.choice({}) == (
        "python",
        f"no native program at {prefix}/bin/nsrun",
    )
    launcher = put(prefix / "bin" / "nsrun", ELF)
    for environ in ({}, {"NSRUN_EXECUTOR": ""}, {"NSRUN_EXECUTOR": "native"}):
        assert native.choice(environ) == ("native", str(launcher))


def test_python_where_it_is_asked_for(prefix: Path) -> None:
    put(prefix / "bin" / "nsrun", ELF)
    assert native.choice({"NSRUN_EXECUTOR": "python"}) == ("python", "NSRUN_EXECUTOR=python")


def test_native_is_not_replaced_where_it_is_asked_for(prefix: Path) -> None:
    with pytest.raises(NsrunError) as caught:
        native.choice({"NSRUN_EXECUTOR": "native"})
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == "NS408"
    assert diagnostic.why == (f"no native program at {prefix}/bin/nsrun",)


@pytest.mark.parametrize("value", ["Native", "c", "native ", "0"])
def test_another_word_is_refused(value: str, prefix: Path) -> None:
    put(prefix / "bin" / "nsrun", ELF)
    with pytest.raises(NsrunError) as caught:
        native.choice({"NSRUN_EXECUTOR": value})
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == "NS002"
    assert f"`{value}`" in diagnostic.summary


@pytest.mark.parametrize(
    ("value", "line"),
    [("python", "executor python: NSRUN_EXECUTOR=python"), ("c", "executor none: NSRUN_EXECUTOR")],
)
def test_doctor_says_which_and_why(value: str, line: str) -> None:
    done = subprocess.run(
        [PYTHON, "-P", "-m", "nsrun", "doctor"],
        env={"PYTHONPATH": str(ROOT), "PATH": os.defpath, "NSRUN_EXECUTOR": value},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[1].startswith(line)
