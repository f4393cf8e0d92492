"""The fuzzer of the front itself: some of its inputs, and that it tells what is wrong."""

from __future__ import annotations

import random
from itertools import islice
from pathlib import Path

import pytest

from nsrun import cli
from nsrun.diag import NsrunError
from tools import fuzz_front


def test_some_changed_specs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz_front, "RESIDENT", 1 << 20)
    for name, data in islice(fuzz_front.mutations(random.Random(1)), 5):
        (tmp_path / name).write_bytes(data)
        assert fuzz_front.tried("plan", str(tmp_path), name) == "", data


def fault() -> int:
    raise NsrunError(())


@pytest.mark.parametrize(
    ("does", "limits", "told"),
    [
        (lambda _: 0, {}, ""),
        (lambda _: 1, {}, "without a diagnostic"),
        (lambda _: 7, {}, "ends with 7"),
        (lambda _: print("error[NS003]: a KeyError") or 1, {}, "NS003"),
        (lambda _: fault(), {}, "ends with 70"),
        (lambda _: 0, {"RESIDENT": 1}, "MiB"),
        (lambda _: 0, {"SECONDS": 0}, "it takes 0."),
    ],
    ids=["sound", "mute", "status", "fault", "raised", "memory", "time"],
)
def test_what_is_wrong_is_told(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    does: object,
    limits: dict[str, int],
    told: str,
) -> None:
    monkeypatch.setattr(cli, "carry_out", does)
    # pytest itself is larger than what reads a spec.
    for name, value in {"RESIDENT": 1 << 20, **limits}.items():
        monkeypatch.setattr(fuzz_front, name, value)
    said = fuzz_front.tried("plan", str(tmp_path), "input.yaml")
    assert told in said
    assert bool(said) == bool(told)
