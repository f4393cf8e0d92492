"""What is read of a container's folder, however damaged it is."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nsrun.cli.tables import ago, columns, cut
from nsrun.diag import NsrunError
from nsrun.runtime import life, store
from nsrun.runtime.store import Record, Status

SECOND = 10**9
RECORD = Record(
    id="ab" * 32, name="web", spec="/web.yaml", sha256="00", command=("true",), created=1
)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a container `web`."""
    monkeypatch.setattr(store, "folder", lambda: str(tmp_path))
    made = tmp_path / "web"
    made.mkdir()
    store.save(str(made), RECORD)
    return made


@pytest.fixture
def locked(place: Path) -> Iterator[Path]:
    """As while a monitor runs."""
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield place


def test_who_waits_for_one_that_is_ending_is_told_what_it_writes(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its monitor lets nobody in any more, but has the lock until it has written how it ended."""
    turns = 0

    def ending(at: str) -> bool:
        nonlocal turns
        turns += 1
        if turns == 3:
            (place / "exit").write_text("5 1 2 0\n")
        return turns < 4

    monkeypatch.setattr(store, "is_locked", ending)
    (place / "pid").write_text("1\n")
    found = store.load(str(place))
    assert found is not None and found.alive
    assert life.wait(found) == 5


def test_what_is_saved_is_read(place: Path) -> None:
    found = store.load(str(place))
    assert found is not None
    assert found.record == RECORD
    assert (found.status, found.alive, found.exit_status) == (Status.DEAD, False, None)


def test_how_it_ended(place: Path) -> None:
    (place / "exit").write_text("7 11 13\n")
    found = store.load(str(place))
    assert found is not None
    assert (found.status, found.exit_status, found.started, found.finished) == (
        Status.EXITED, 7, 11, 13,
    )  # fmt: skip
    assert found.signal == 0
    (place / "exit").write_text("137 11 13 9\n")
    found = store.load(str(place))
    assert found is not None
    assert (found.exit_status, found.signal) == (137, 9)


def test_while_it_runs(locked: Path) -> None:
    found = store.load(str(locked))
    assert found is not None
    assert (found.status, found.alive, found.running) == (Status.CREATED, True, False)
    (locked / "pid").write_text(f"{os.getpid()}\n")
    found = store.load(str(locked))
    assert found is not None
    assert (found.status, found.pid) == (Status.RUNNING, os.getpid())
    assert found.started == (locked / "pid").stat().st_mtime_ns


@pytest.mark.parametrize(
    "text", ["", "\n", "x", "-5", "12a", "\N{SUPERSCRIPT TWO}", "\N{ARABIC-INDIC DIGIT ONE}",
             "9" * 5000],
)  # fmt: skip
def test_a_damaged_pid_is_none(locked: Path, text: str) -> None:
    (locked / "pid").write_text(text)
    found = store.load(str(locked))
    assert found is not None
    assert (found.status, found.pid) == (Status.CREATED, 0)


@pytest.mark.parametrize(
    "text", ["", "7", "7 11", "7 11 x", "7 11 13 17", "193 1 1 65", "137 11 13 9 0", "-1 2 3",
             "\N{SUPERSCRIPT TWO} 1 1", "9" * 5000 + " 1 1"],
)  # fmt: skip
def test_a_damaged_end_is_none(place: Path, text: str) -> None:
    (place / "exit").write_text(text)
    found = store.load(str(place))
    assert found is not None
    assert (found.status, found.exit_status) == (Status.DEAD, None)


def data(**changes: Any) -> str:
    known = {"format": 1, "id": "a", "name": "web", "spec": "-", "sha256": "", "command": [],
             "created": 1}  # fmt: skip
    return json.dumps({**known, **changes})


DAMAGED = [
    "", "{", "5", "null", "[]", '"x"', "{}", "[" * 100_000, data(format=2), data(format="1"),
    data(unknown=1), data(created="x"), data(created=1.5), data(created=True), data(tty=1),
    data(name=5), data(name=None), data(command="true"), data(command=[1]), data(ports={}),
    data(labels=[]), data(labels={"a": 1}), data(log_size=None),
]  # fmt: skip


@pytest.mark.parametrize("text", DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_record_is_no_container(place: Path, text: str) -> None:
    (place / "container.json").write_text(text)
    assert store.load(str(place)) is None
    assert store.everything() == []
    assert store.damaged("web") == str(place)
    with pytest.raises(NsrunError) as caught:
        store.claim("web")
    assert "or is damaged" in caught.value.diagnostics[0].summary


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.binary(max_size=200))
def test_any_bytes_are_read(place: Path, text: bytes) -> None:
    for name in ("container.json", "pid", "exit"):
        before = (place / name).read_bytes() if (place / name).exists() else None
        (place / name).write_bytes(text)
        store.load(str(place))
        if before is None:
            (place / name).unlink()
        else:
            (place / name).write_bytes(before)


def test_what_is_not_damaged(place: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for name in ("web", "file", "nosuch", "", ".", "..", "web/../web"):
        assert store.damaged(name) is None


def test_one_that_is_kept_is_not_damaged(locked: Path) -> None:
    (locked / "container.json").unlink()
    assert store.damaged("web") is None


def test_names_come_before_ids(place: Path, tmp_path: Path) -> None:
    other = tmp_path / "abab"
    other.mkdir()
    store.save(str(other), Record(id="cd" * 32, name="abab", spec="-", sha256="", command=(),
                                  created=2))  # fmt: skip
    assert store.find("abab").record.name == "abab"
    assert store.find("ababa").record.name == "web"
    for word in ("", "abc", "AB"):
        with pytest.raises(NsrunError):
            store.find(word)


def test_the_files_of_a_log_the_oldest_first(place: Path) -> None:
    for name in ("log.10", "log.2", "log", "log.x", "log.1", "login"):
        (place / name).write_text("")
    assert [os.path.basename(path) for path in store.log_files(str(place))] == [
        "log.10", "log.2", "log.1", "log",
    ]  # fmt: skip


# --- tables ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-5, "less than a second"), (0, "less than a second"), (0.9, "less than a second"),
        (1, "1 second"), (2, "2 seconds"), (59, "59 seconds"), (60, "60 seconds"),
        (119, "119 seconds"), (120, "2 minutes"), (7199, "119 minutes"), (7200, "2 hours"),
        (86400 * 2, "2 days"), (86400 * 13, "13 days"), (86400 * 14, "2 weeks"),
    ],
)  # fmt: skip
def test_ago(monkeypatch: pytest.MonkeyPatch, seconds: float, words: str) -> None:
    now = 1_800_000_000 * SECOND
    monkeypatch.setattr("time.time_ns", lambda: now)
    assert ago(now - int(seconds * SECOND)) == words


def test_columns() -> None:
    assert columns(("A", "LONG"), [("xyz", "1"), ("b", "")]) == "A    LONG\nxyz  1\nb\n"
    assert columns(("A", "B"), []) == "A  B\n"
    assert "\x1b" not in columns(("A",), [("\x1b[31m",)])


@given(st.text(max_size=40), st.integers(1, 40))
def test_cut(text: str, width: int) -> None:
    found = cut(text, width)
    assert len(found) <= width
    assert found == text or found[:-1] == text[: width - 1]


def test_why_there_is_none_where_there_can_be_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "state_folder", lambda uid, environ: None)
    with pytest.raises(NsrunError) as caught:
        store.find("web")
    (found,) = caught.value.diagnostics
    assert (found.code, found.summary) == ("NS605", "there is no container web")
    (why,) = found.why
    assert why.startswith("there is no folder for running containers: neither $XDG_RUNTIME_DIR")
