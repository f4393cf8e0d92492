"""``nsrun validate``: bad input of any kind, its exit status and its two formats."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from nsrun import cli
from tests.support.host import unchanged


def a_folder(path: Path) -> None:
    path.mkdir()


def a_fifo(path: Path) -> None:
    os.mkfifo(path)


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


def a_loop(path: Path) -> None:
    path.symlink_to(path)


def a_dangling_link(path: Path) -> None:
    path.symlink_to(path.parent / "nothing")


def content(data: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(data)

    return write


BOMB = b"a: &a [x,x,x,x,x,x,x,x,x]\n" + b"".join(
    b"%c: &%c [%s]\n" % (97 + n, 97 + n, b",".join([b"*%c" % (96 + n)] * 9)) for n in range(1, 12)
)
BAD: dict[str, Callable[[Path], None]] = {
    "an empty file": content(b""),
    "only a comment": content(b"# nothing\n"),
    "a broken list": content(b"command: [/bin/true\n"),
    "a tab": content(b"env:\n\tA: b\n"),
    "not UTF-8": content(b"command: [/bin/true]\nhostname: \xff\xfe\n"),
    "a NUL": content(b"command: [/bin/true]\nhostname: a\0b\n"),
    "UTF-16": content("command: [/bin/true]\n".encode("utf-16")),
    "a program": content(b"\x7fELF\x02\x01\x01\0\0\0"),
    "a bomb": content(BOMB),
    "deep lists": content(b"command: " + b"[" * 100_000),
    "deep mappings": content(b"".join(b" " * n + b"a:\n" for n in range(2000))),
    "a list": content(b"- command\n"),
    "a word": content(b"command\n"),
    "a number": content(b"7\n"),
    "a null": content(b"null\n"),
    "two documents": content(b"command: [/bin/true]\n---\ncommand: [/bin/false]\n"),
    "a key twice": content(b"command: [/bin/true]\ncommand: [/bin/true]\n"),
    "a Python tag": content(b"command: !!python/object/apply:os.system [id]\n"),
    "an unknown key": content(b"command: [/bin/true]\ncomand: x\n"),
    "wrong types": content(b"command: 7\nhostname: []\nmounts: x\ninit: 'yes'\n"),
    "an alias to nothing": content(b"command: *nothing\n"),
    "a huge number": content(b"command: [a]\noom_score_adj: " + b"9" * 5000 + b"\n"),
    "a folder": a_folder,
    "a FIFO": a_fifo,
    "a socket": a_socket,
    "a link to itself": a_loop,
    "a link to nothing": a_dangling_link,
    "nothing": lambda path: None,
}


@pytest.mark.parametrize("make", BAD.values(), ids=BAD)
def test_bad_input_is_an_error_and_never_a_fault(
    make: Callable[[Path], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bad.yaml"
    make(path)
    with unchanged(tmp_path):
        for words, status in (
            (("validate", str(path)), 1),
            (("run", str(path)), 125),
            ((str(path),), 125),
            (("plan", str(path)), 1),
            (("diff", str(path), str(path)), 2),
            (("doctor", str(path)), 1),
        ):
            assert cli.carry_out(words) == status
            out, err = capsys.readouterr()
            assert out == ""
            assert err.startswith(("error[NS", "warning[NS"))
            assert "NS003" not in err
            assert "bad.yaml" in err


def test_all_errors_at_once_by_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("hostnam: a\nnamespaces: [mount]\nhostname: b\ncommand: [x]\nstdin: open?\n")
    assert cli.carry_out(["validate", str(path)]) == 1
    err = capsys.readouterr().err
    places = [line.split("a.yaml:")[1] for line in err.splitlines() if "a.yaml:" in line]
    assert places == sorted(places)
    assert len(places) == 3
    assert "did you mean `hostname`?" in err
    assert err.endswith("3 errors\n")


def test_several_files_are_all_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text("command: [/bin/true]\n")
    bad.write_text("command: 7\n")
    assert cli.carry_out(["validate", str(bad), str(good)]) == 1
    out, err = capsys.readouterr()
    assert out == f"{good}: valid\n"
    assert "bad.yaml:1:10" in err
    assert cli.carry_out(["validate", str(good), str(good)]) == 0


def test_warnings_do_not_fail(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("namespaces: [user, mount, pid]\ncommand: [/bin/true]\n")
    assert cli.carry_out(["validate", str(path)]) == 0
    out, err = capsys.readouterr()
    assert out == f"{path}: valid\n"
    assert err.startswith("warning[NS311]: ")


def test_json_is_for_programs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text("command: [/bin/true]\n")
    bad.write_text("comand: [/bin/true]\n")
    assert cli.carry_out(["validate", "--format", "json", str(good), str(bad)]) == 1
    out, err = capsys.readouterr()
    assert err == ""
    first, second = json.loads(out)
    assert first == {"file": str(good), "valid": True, "diagnostics": []}
    assert (second["file"], second["valid"]) == (str(bad), False)
    found = {one["code"]: one for one in second["diagnostics"]}["NS201"]
    assert (found["severity"], found["line"], found["column"]) == ("error", 1, 1)
    assert found["help"] == ["did you mean `command`?"]


def test_the_standard_input_can_be_a_spec(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("command: [/bin/true]\n")
    descriptor = os.open(path, os.O_RDONLY)
    kept = os.dup(0)
    try:
        os.dup2(descriptor, 0)
        assert cli.carry_out(["validate", "-"]) == 0
    finally:
        os.dup2(kept, 0)
        os.close(kept)
        os.close(descriptor)
    assert capsys.readouterr().out == "-: valid\n"


def test_a_misspelt_file_is_pointed_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "web.yaml").write_text("command: [/bin/true]\n")
    monkeypatch.chdir(tmp_path)
    for word, says in (
        ("web.yml", "`web.yaml`"),
        (f"{tmp_path}/wep.yaml", f"`{tmp_path}/web.yaml`"),
    ):
        assert cli.carry_out(["validate", word]) == 1
        assert f"= try: did you mean {says}?" in capsys.readouterr().err
    for word in ("db.yaml", "none/web.yml", "."):
        assert cli.carry_out(["validate", word]) == 1
        assert "did you mean" not in capsys.readouterr().err
