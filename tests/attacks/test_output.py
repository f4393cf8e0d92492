"""Attacks on the terminal of who looks: control characters in listings and errors, forged logs."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import pytest

from nsrun.diag import NsrunError
from nsrun.render.diagnostic import render
from nsrun.spec.load import load
from tests.support.box import give
from tests.support.detached import Containers

# Sets the window's title, clears the screen, goes back over the line.
HOSTILE = "\x1b]0;owned\x07\x1b[2J\rx"
CONTROLS = {chr(n) for n in (*range(9), *range(11, 32), *range(127, 160))}
MOUNTS = [{"type": "proc", "target": "/proc"}, {"type": "tmpfs", "target": "/tmp"}]


def is_clean(text: str) -> bool:
    return not CONTROLS & set(text)


def test_no_control_characters_are_shown(c: Containers) -> None:
    """Of a container's arguments, labels and files, in listings and errors."""
    made = "mkdir -p /tmp/d/\"$(printf 'e\\033[2J')\"; echo up; sleep 60"
    c.up(["/bin/sh", "-c", made, HOSTILE], labels={"x": HOSTILE}, mounts=MOUNTS)
    c.until_said("up")
    raw = Path(f"/proc/{c.pid()}/cmdline").read_text().replace("\0", " ")
    assert not is_clean(raw), "the control: /proc shows them"
    for words in (["ps", "--no-trunc"], ["top", "c"], ["inspect", "c"]):
        result = c(*words)
        assert is_clean(result.ok()), words
    out = c.box.folder / "out"
    out.mkdir()
    (out / "e\x1b[2J").write_text("")
    give(out, c.runner)
    for words in (["cp", "c:/tmp/d/.", str(out)], ["exec", "c", "--", f"/tmp/{HOSTILE}"],
                  ["logs", HOSTILE]):  # fmt: skip
        result = c(*words)
        assert result.status != 0
        assert "[2J" in result.stderr, "what is meant is shown all the same"
        assert is_clean(result.stderr), words


def test_an_error_in_a_spec_shows_no_control_characters(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text('"\\e[2Jx": 1\ncommand: [id]\nhostname: "\\e[2J"\n')
    with pytest.raises(NsrunError) as caught:
        load(str(file))
    summaries = " ".join(d.summary for d in caught.value.diagnostics)
    assert "[2J" in summaries
    assert is_clean(render(caught.value.diagnostics))


def test_a_line_of_the_log_is_not_forged(c: Containers) -> None:
    """What looks like a record of the log's is a line like any other."""
    forged = "2020-01-01T00:00:00.000000000Z stderr F forged"
    c.up(["/bin/sh", "-c", f"printf '{forged}\\nx\\r{forged}\\n'; echo end"])
    c.until_over()
    # The control: in a log of lines alone it would be such a record.
    assert forged in c.log()
    shown = c("logs", "c")
    # The runner reads with universal newlines.
    assert (shown.stdout, shown.stderr) == (f"{forged}\nx\n{forged}\nend\n", "")
    assert c("logs", "--until", "2021-01-01T00:00:00Z", "c").stdout == ""


def test_an_archive_that_leads_elsewhere(c: Containers, tmp_path: Path) -> None:
    """`nsrun cp - c:`: names with `..`, absolute ones, and links that are written through."""
    c.up("mkdir /tmp/d; ln -s /tmp /tmp/d/up; echo up; sleep 60", mounts=MOUNTS)
    c.until_said("up")
    inside = Path(f"/proc/{c.pid()}/root/tmp")
    (tmp_path / "d").mkdir()
    (tmp_path / "d/up").symlink_to(tmp_path)
    for name, planted in (("../out", "out"), ("up/through", "through")):
        made = io.BytesIO()
        with tarfile.open(fileobj=made, mode="w") as tar:
            tar.addfile(tarfile.TarInfo(name))
        made.seek(0)
        with tarfile.open(fileobj=made) as tar:
            # Newer Pythons have a filter, which this takes away.
            tar.extraction_filter = lambda member, _path: member
            tar.extractall(tmp_path / "d")
        assert (tmp_path / planted).exists(), "the control: tar's own way leads there"
        done = subprocess.run(
            c.runner.argv("cp", "-", "c:/tmp/d"), input=made.getvalue(),
            env=c.runner.environment(), capture_output=True, check=False,
        )  # fmt: skip
        assert done.returncode == 1
        assert not (inside / planted).exists()


def _member(name: str, kind: bytes, link: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.devmajor, made.devminor, made.mode = kind, link, 1, 3, 0o6755
    return made


def test_an_archive_makes_no_devices_and_links_nothing_of_outside(
    c: Containers, tmp_path: Path
) -> None:
    """`nsrun cp - c:` and out again: devices and FIFOs take no file's place, a hard link stays
    within, an absolute name is one below, and the set-id bits of another are no one's outside."""
    c.up("mkdir /tmp/d; echo own >/tmp/d/file; echo up; sleep 60", mounts=MOUNTS)
    c.until_said("up")
    inside = Path(f"/proc/{c.pid()}/root/tmp/d")

    def sent(*members: tarfile.TarInfo) -> int:
        made = io.BytesIO()
        with tarfile.open(fileobj=made, mode="w") as tar:
            for one in members:
                tar.addfile(one)
        if members[0].isfifo() and not (tmp_path / "file").exists():
            made.seek(0)
            with tarfile.open(fileobj=made) as tar:
                tar.extraction_filter = lambda member, _path: member
                tar.extractall(tmp_path)
        return subprocess.run(
            c.runner.argv("cp", "-", "c:/tmp/d"), input=made.getvalue(),
            env=c.runner.environment(), capture_output=True, check=False,
        ).returncode  # fmt: skip

    sent(_member("file", tarfile.FIFOTYPE))
    assert (tmp_path / "file").is_fifo(), "the control: tar's own way puts it there"
    for kind in (tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE):
        sent(_member("file", kind), _member("new", kind))
    assert (inside / "file").read_text() == "own\n"
    for target in ("../../etc/passwd", "/etc/passwd", "/proc/self/exe"):
        assert sent(_member("hard", tarfile.LNKTYPE, target)) != 0
    assert sent(_member("/absolute", tarfile.REGTYPE)) == 0
    assert sorted(path.name for path in inside.iterdir()) == ["absolute", "file"]
    out = c.box.folder_of_user("out")
    c.ok("cp", "c:/tmp/d/absolute", str(out))
    assert (out / "absolute").stat().st_mode & 0o7777 == 0o755
