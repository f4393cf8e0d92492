"""The log of a container: its lines, its rotation, and moments of time."""

from __future__ import annotations

import contextlib
import datetime
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsrun.diag import NsrunError
from nsrun.runtime import logs, monitor, store
from nsrun.runtime.logs import Chosen, Reader, moment
from nsrun.runtime.store import Container, Line, Record, Status
from tests.support.detached import lines_of

NOW = 1_800_000_000.5


@pytest.fixture
def _now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: NOW)


@pytest.mark.usefixtures("_now")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, ""),
        ("0s", "2027-01-15T08:00:00.500000"),
        ("90s", "2027-01-15T07:58:30.500000"),
        ("1d2h3m4s", "2027-01-14T05:56:56.500000"),
        ("1m30s", "2027-01-15T07:58:30.500000"),
        ("1800000000", "2027-01-15T08:00:00.000000"),
        ("1800000000.25", "2027-01-15T08:00:00.250000"),
        ("0", "1970-01-01T00:00:00.000000"),
        ("2026-11-26T12:00:00Z", "2026-11-26T12:00:00.000000"),
        ("2026-11-26T12:00:00.123456789Z", "2026-11-26T12:00:00.123456"),
        ("2026-11-26T12:00:00+02:00", "2026-11-26T10:00:00.000000"),
        ("0099-01-01T00:00:00Z", "0099-01-01T00:00:00.000000"),
    ],
)
def test_moments(text: str | None, expected: str) -> None:
    assert moment(text) == expected


@pytest.mark.parametrize(
    "text", ["", "x", "-5s", "5w", "99999999999d", "0001-01-01T00:00:00+23:00",
             "9999-12-31T23:59:59-23:00", "999999999999", "\N{ARABIC-INDIC DIGIT ONE}s"],
)  # fmt: skip
def test_what_is_no_moment(text: str) -> None:
    with pytest.raises(NsrunError) as caught:
        moment(text)
    assert caught.value.diagnostics[0].code == "NS002"


@given(st.text(max_size=20))
def test_any_text_is_a_moment_or_refused(text: str) -> None:
    try:
        found = moment(text)
    except NsrunError:
        return
    datetime.datetime.fromisoformat(found)
    assert len(found) == 26


def test_a_line_lies_in_its_own_moment() -> None:
    line = Line("2026-11-26T12:00:00.123456789Z", "stdout", False, "x")
    at = moment(line.time)
    assert Chosen(since=at, until=at).wants(line)
    assert not Chosen(since=moment("2026-11-26T12:00:00.123457Z")).wants(line)
    assert not Chosen(until=moment("2026-11-26T12:00:00.123455Z")).wants(line)


# --- writing ---------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(folder: Path) -> list[tuple[str, str, bytes]]:
    """(stream, F or P, text) of the newest file."""
    found = []
    for line in (folder / "log").read_bytes().split(b"\n")[:-1]:
        stamp, stream, kind, text = line.split(b" ", 3)
        assert re.fullmatch(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", stamp)
        found.append((stream.decode(), kind.decode(), text))
    return found


@given(data=st.data())
def test_any_bytes_in_any_pieces(tmp_path_factory: pytest.TempPathFactory,
                                 data: st.DataObject) -> None:  # fmt: skip
    folder = tmp_path_factory.mktemp("log")
    units = st.sampled_from([b"\n", b"\r", b"a", b"\x00", b"\xff", b"x" * 4000, b"y" * 8192])
    pieces = data.draw(st.lists(st.lists(units, max_size=6).map(b"".join), max_size=6))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        log = monitor._Log(0, 3)
        for piece in pieces:
            log.take("stdout", piece)
        log.rest()
    assert [one[1:] for one in written(folder)] == lines_of(b"".join(pieces))


def test_rotation(folder: Path) -> None:
    log = monitor._Log(100, 3)
    for number in range(10):
        log.take("stdout", b"%d\n" % number)
    # 41 bytes a line: two in a file.
    texts = {name: [line[-2] for line in (folder / name).read_text().splitlines(True)]
             for name in ("log", "log.1", "log.2")}  # fmt: skip
    assert texts == {"log": ["8", "9"], "log.1": ["6", "7"], "log.2": ["4", "5"]}
    assert {path.name for path in folder.iterdir()} == set(texts)


def test_no_file_at_all(folder: Path) -> None:
    log = monitor._Log(100, 0)
    log.take("stdout", b"x\n" * 100)
    log.rest()
    log.close()
    assert not list(folder.iterdir())


def test_rotation_with_one_file(folder: Path) -> None:
    log = monitor._Log(100, 1)
    for number in range(9):
        log.take("stdout", b"%d\n" % number)
    (folder / "log").unlink()
    for number in range(9):
        log.take("stdout", b"%d\n" % number)
    assert [text for _, _, text in written(folder)] == [b"7", b"8"]
    assert [path.name for path in folder.iterdir()] == ["log"]


def test_a_line_longer_than_a_file_is_written(folder: Path) -> None:
    log = monitor._Log(10, 2)
    log.take("stderr", b"x" * 50 + b"\n")
    assert written(folder) == [("stderr", "F", b"x" * 50)]


# --- reading ---------------------------------------------------------------------------------


def put(folder: Path, text: str, name: str = "log") -> None:
    with (folder / name).open("a") as file:
        file.write("".join(f"2026 stdout F {word}\n" for word in text.split()))


def rotate(folder: Path, files: int = 3) -> None:
    for number in range(files - 1, 0, -1):
        old = folder / ("log" if number == 1 else f"log.{number - 1}")
        if old.exists():
            old.rename(folder / f"log.{number}")


def texts(found: Iterator[Line]) -> str:
    return " ".join(line.text for line in found)


@pytest.fixture
def reader(folder: Path) -> Iterator[Reader]:
    with contextlib.closing(Reader(str(folder))) as made:
        yield made


def test_new_lines_across_rotation(folder: Path, reader: Reader) -> None:
    assert texts(reader.new()) == ""
    put(folder, "a b")
    assert texts(reader.new()) == "a b"
    put(folder, "c")
    rotate(folder)
    put(folder, "d")
    assert texts(reader.new()) == "c d"
    for word in "efghi":
        rotate(folder)
        put(folder, word)
    # What has been rotated away is lost, but not that of a file that was open.
    assert texts(reader.new()) == "g h i"
    put(folder, "j")
    rotate(folder)
    rotate(folder)
    rotate(folder)
    put(folder, "k")
    assert texts(reader.new()) == "j k"
    assert texts(reader.new()) == ""


def test_a_file_with_the_number_of_a_removed_one_is_read(folder: Path, reader: Reader) -> None:
    for word in ("aaaa", "b", "c", "d", "e", "f"):
        put(folder, word)
        assert texts(reader.new()) == word
        rotate(folder, files=2)


def test_a_rotation_in_the_midst_of_reading(
    folder: Path, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(folder, "a")
    rotate(folder)
    put(folder, "b")
    listed = store.log_files

    def rotating(place: str) -> Iterator[str]:
        """As :func:`store.log_files`; before the last is opened there is a new one."""
        monkeypatch.setattr(store, "log_files", listed)
        *first, last = listed(place)
        yield from first
        rotate(folder)
        put(folder, "c")
        yield last

    monkeypatch.setattr(store, "log_files", rotating)
    assert texts(reader.new()) == "a b c"


def test_half_a_line_waits(folder: Path, reader: Reader) -> None:
    with (folder / "log").open("wb") as file:
        file.write(b"2026 stdout F half")
        file.flush()
        assert texts(reader.new()) == ""
        file.write(b" \xff\n2026 stderr P x\r y\n")
        file.flush()
        assert list(reader.new()) == [
            Line("2026", "stdout", False, "half \\xff"), Line("2026", "stderr", True, "x\r y"),
        ]  # fmt: skip


def test_a_folder_that_is_gone(folder: Path) -> None:
    reader = Reader(str(folder / "nosuch"))
    assert texts(reader.new()) == ""


@pytest.mark.parametrize("text", ["", "x", "2026", "2026 stdout", "2026 stdout F", "  "])
def test_damaged_lines(text: str) -> None:
    assert store.line_of(text).text == ""
    assert logs.Chosen().wants(store.line_of(text))


@pytest.mark.parametrize(("until", "follows"), [("1s", False), ("2100-01-01T00:00:00Z", True)])
def test_nothing_is_followed_beyond_its_last_moment(
    until: str, follows: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def ended(container: Container) -> None:
        asked.append(container.folder)

    monkeypatch.setattr(logs, "_monitor", ended)
    record = Record(id="a", name="web", spec="/x", sha256="", command=("x",), created=1)
    container = Container(record=record, folder=str(tmp_path), status=Status.RUNNING)
    logs.show(container, Chosen(until=moment(until)), follow=True)
    assert bool(asked) == follows
