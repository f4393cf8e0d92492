"""``nsrun generate systemd``: the unit says again what was said when it was started."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nsrun import cli
from nsrun.runtime import stack_store, store
from nsrun.runtime.store import Record

Capture = pytest.CaptureFixture[str]
RECORD = Record(
    id="ab" * 32,
    name="web",
    spec="/srv/web.yaml.j2",
    sha256="00",
    command=("true",),
    created=1,
    cwd="/srv",
    stop_timeout=5 * 10**9,
)


def known(patch: pytest.MonkeyPatch, record: Record | None, stack: dict[str, Any] | None) -> None:
    patch.setattr(stack_store, "record", lambda name: stack)
    patch.setattr(store, "find", lambda word: SimpleNamespace(record=record))


def unit(capsys: Capture, name: str) -> dict[str, str]:
    assert cli.carry_out(["generate", "systemd", name]) == 0
    lines = capsys.readouterr().out.splitlines()
    return {key: value for key, _, value in (line.partition("=") for line in lines) if value}


@pytest.mark.parametrize(
    ("words", "started"),
    [
        ((), "run --name web /srv/web.yaml.j2"),
        (("run", "-d", "web.yaml.j2"), "run --name web /srv/web.yaml.j2"),
        (
            ("run", "-d", "--rm", "--values", "prod.yaml", "--set", "a=$1 %", "web.yaml.j2"),
            'run --name web --values /srv/prod.yaml --set "a=$$1 %%" /srv/web.yaml.j2',
        ),
        (
            ("run", "-d", "--env", "TAG", "web.yaml.j2", "--", "sh", "-c", "exit\n3"),
            'run --name web --env TAG /srv/web.yaml.j2 -- sh -c "exit\\n3"',
        ),
    ],
)
def test_a_container_is_started_as_it_was(
    words: tuple[str, ...], started: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    known(monkeypatch, dataclasses.replace(RECORD, words=words), None)
    found = unit(capsys, "web")
    assert found["ExecStart"].partition(" ")[2] == started
    assert (found["WorkingDirectory"], found["TimeoutStopSec"]) == ("/srv", "15")


def test_a_stack_is_brought_up_as_it_was(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture, tmp_path: Path
) -> None:
    words = ["up", "-d", "--profile", "x", "--values", "/v.yaml", "--set", "n=3", "shop.yaml.j2"]
    record = {"file": "/srv/shop.yaml.j2", "cwd": "/srv", "words": words}
    known(monkeypatch, None, record)
    started = unit(capsys, "shop")["ExecStart"].partition(" ")[2]
    assert started == "up --values /v.yaml --set n=3 --profile x /srv/shop.yaml.j2"
    # As written by an nsrun that kept no words.
    del record["words"]
    assert unit(capsys, "shop")["ExecStart"].endswith(" up /srv/shop.yaml.j2")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"stack": "shop", "service": "web"}, "nsrun generate systemd shop"),
        ({"spec": "-"}, "nsrun run -d --replace --name web FILE"),
    ],
)
def test_what_no_file_starts_by_itself_has_no_unit(
    changes: dict[str, str], says: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    known(monkeypatch, dataclasses.replace(RECORD, **changes), None)  # type: ignore[arg-type]
    assert cli.carry_out(["generate", "systemd", "web"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err
