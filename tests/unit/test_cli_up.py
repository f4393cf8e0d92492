"""``nsrun up --dry-run``: why a container is made anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from nsrun import cli
from nsrun.runtime import stack_changes, stack_store, stack_watched
from nsrun.runtime.stack_changes import Changes
from nsrun.runtime.store import Container, Record, Status


def container(name: str, status: Status) -> Container:
    record = Record(id=name, name=f"shop-{name}", spec="/s", sha256="", command=("x",), created=1,
                    stack="shop", service=name)  # fmt: skip
    return Container(record=record, folder="/nonexistent", status=status)


def test_why_a_container_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = Changes(
        same=(),
        renamed=(),
        changed=("shop-a", "shop-b"),
        made=("shop-c",),
        removed=(container("a", Status.RUNNING), container("b", Status.EXITED),
                 container("old", Status.EXITED)),
        networks_changed=False,
    )  # fmt: skip
    monkeypatch.setattr(stack_changes, "plan_changes", lambda stack: changes)
    monkeypatch.setattr(stack_watched, "kept_otherwise", lambda stack: {})
    monkeypatch.setattr(stack_store, "record", lambda name: None)
    monkeypatch.setattr(stack_store, "folder", lambda name: str(tmp_path / name))
    file = tmp_path / "shop.yaml"
    file.write_text("containers: {a: {command: [x]}}\n")
    assert cli.carry_out(["up", "--dry-run", str(file)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "make shop-c",
        "make shop-a anew: its plan differs",
        "make shop-b anew: it has ended",
        "remove shop-old",
    ]
