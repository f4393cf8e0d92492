"""Events: their form, filters, and the log's size."""

from __future__ import annotations

import dataclasses
import stat
from pathlib import Path

import pytest

from nsrun.runtime import events, store
from nsrun.runtime.events import Event
from nsrun.runtime.store import Container, Record, Status

RECORD = Record(
    id="ab" * 32, name="shop-web", spec="/s.yaml", sha256="", command=("true",), created=1,
    labels={"tier": "front"}, stack="shop", service="web",
)  # fmt: skip


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "log"
    monkeypatch.setattr(events, "path", lambda: str(place))
    monkeypatch.setattr(store, "folder", lambda: str(tmp_path / "containers"))
    return place


def test_docker_reads_it() -> None:
    event = events.of(RECORD, "die", 1_500_000_001, exitCode="7")
    data = events.as_data(event)
    assert data["Actor"]["ID"] == RECORD.id
    assert data["Actor"]["Attributes"]["exitCode"] == "7"
    assert (data["time"], data["timeNano"]) == (1, 1_500_000_001)
    assert (data["Type"], data["Action"], data["scope"]) == ("container", "die", "local")


@pytest.mark.parametrize(
    ("filters", "wanted"),
    [
        ([], True),
        ([("container", "shop-web")], True),
        ([("container", "abab")], True),
        ([("container", "web")], False),
        ([("event", "die"), ("event", "health_status")], True),
        ([("event", "die")], False),
        ([("label", "tier")], True),
        ([("label", "tier=front")], True),
        ([("label", "tier=back")], False),
        ([("stack", "shop"), ("type", "stack")], False),
        ([("stack", "shop"), ("service", "web")], True),
    ],
)
def test_filters(filters: list[tuple[str, str]], wanted: bool) -> None:
    event = events.of(RECORD, "health_status: healthy")
    assert events.wants(event, filters) is wanted


def test_a_stack_is_found_by_its_name() -> None:
    assert events.wants(events.of_stack("shop", "start"), [("stack", "shop")])


def test_the_log_is_private_and_bounded(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "LIMIT", 2000)
    for number in range(1, 40):
        events.note(events.of(RECORD, "start", number))
    older = log.with_name("log.1")
    assert stat.S_IMODE(older.stat().st_mode) == 0o600
    assert 2000 < older.stat().st_size < 2500
    assert sorted(p.name for p in log.parent.iterdir()) in (["log", "log.1"], ["log.1"])
    times = [e.time for e in events.past()]
    # What is left is the newest, without a hole.
    assert times == list(range(40 - len(times), 40))


def test_no_symlink_is_written_through(log: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("")
    log.symlink_to(victim)
    events.note(events.of(RECORD, "start"))
    assert victim.read_text() == ""


@pytest.mark.parametrize(
    "line", [b"", b"{", b"[]\n", b"null", b'{"Type": 1}', b"[" * 100_000, b"\xff"]
)
def test_a_damaged_line_is_no_event(line: bytes) -> None:
    assert events.parse(line) is None


def test_an_end_that_nobody_knows_is_not_told() -> None:
    dead = Container(record=RECORD, folder="/x", status=Status.DEAD)
    assert events.die(dead) is None
    never = dataclasses.replace(dead, status=Status.EXITED, exit_status=125, finished=3)
    assert events.die(never) is None
    told = events.die(dataclasses.replace(never, started=2))
    assert told == Event(
        type="container",
        action="die",
        id=RECORD.id,
        time=3,
        attributes={
            "tier": "front", "name": "shop-web", "spec": "/s.yaml", "stack": "shop",
            "service": "web", "exitCode": "125",
        },
    )  # fmt: skip
