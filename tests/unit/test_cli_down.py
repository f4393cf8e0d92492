"""``nsrun down``: which stack is meant by a file, and the volumes of one that is down already."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from nsrun import cli
from nsrun.cli import start
from nsrun.runtime import stack_down, stack_store
from nsrun.runtime.store import Record

Capture = pytest.CaptureFixture[str]
Known = Callable[[dict[str, Path]], list[tuple[str, bool]]]


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Known:
    """Sets the files of the stacks that are up; gives what is taken down, and whether with its
    volumes."""
    files: dict[str, Path] = {}
    taken: list[tuple[str, bool]] = []

    def down(name: str, say: object, *, volumes: bool) -> None:
        taken.append((name, volumes))

    def record(name: str) -> dict[str, str] | None:
        return {"file": str(files[name])} if name in files else None

    monkeypatch.setattr(stack_store, "names", lambda: sorted(files))
    monkeypatch.setattr(stack_store, "record", record)
    monkeypatch.setattr(stack_store, "containers", lambda name: [])
    monkeypatch.setattr(stack_down, "down", down)
    monkeypatch.setenv("NSRUN_VOLUMES_DIR", str(tmp_path / "volumes"))

    def tell(now: dict[str, Path]) -> list[tuple[str, bool]]:
        files.update(now)
        return taken

    return tell


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("shop.yaml.j2", "name: {{ values.not_given }}\ncontainers: {a: {command: [x]}}\n"),
        ("shop.yaml", "name: [\n"),
        ("shop.yaml", "name: other\ncontainers: {a: {command: [x]}}\n"),
    ],
    ids=["a template without its values", "cannot be read", "another name since"],
)
def test_a_file_means_what_it_has_brought_up(
    name: str, text: str, known: Known, tmp_path: Path
) -> None:
    file = tmp_path / name
    file.write_text(text)
    taken = known({"shop": file, "lab": tmp_path / "lab.yaml"})
    assert cli.carry_out(["down", str(file)]) == 0
    assert taken == [("shop", False)]


def test_a_file_of_several_stacks_means_the_one_it_names(known: Known, tmp_path: Path) -> None:
    file = tmp_path / "shop.yaml.j2"
    file.write_text("name: {{ values.name }}\ncontainers: {a: {command: [x]}}\n")
    taken = known({"a": file, "b": file})
    assert cli.carry_out(["down", str(file), "--set", "name=b"]) == 0
    assert taken == [("b", False)]
    # Without the value either may be meant.
    assert cli.carry_out(["down", str(file)]) == 1
    assert taken == [("b", False)]


def test_the_volumes_of_a_stack_that_is_down(known: Known, tmp_path: Path, capsys: Capture) -> None:
    for name in ("shop/data", "other/data"):
        (tmp_path / "volumes" / name).mkdir(parents=True)
    taken = known({})
    assert cli.carry_out(["down", "--volumes", "shop"]) == 0
    assert "shop.volumes removed" in capsys.readouterr().err
    assert taken == []
    assert [path.name for path in (tmp_path / "volumes").iterdir()] == ["other"]
    # Neither what is not there, nor a way out of the folder, nor without being asked.
    for words in (["--volumes", "shop"], ["--volumes", ".."], ["--volumes", ""], ["other"]):
        cli.carry_out(["down", *words])
    assert (tmp_path / "volumes/other/data").is_dir()
    assert taken == [("shop", True), ("..", True), ("", True), ("other", False)]


def test_a_volume_goes_however_deep_it_is(known: Known, tmp_path: Path) -> None:
    """What a container makes in one is deeper than Python's own calls may be."""
    (tmp_path / "volumes/shop").mkdir(parents=True)
    at = os.open(tmp_path / "volumes/shop", os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=at)
        below = os.open("d", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(at)
    known({})
    assert cli.carry_out(["down", "--volumes", "shop"]) == 0
    assert list((tmp_path / "volumes").iterdir()) == []


def test_what_plans_a_container_of_a_stack_anew() -> None:
    made = Record(id="a", name="shop-a", spec="/s.yaml", sha256="", command=("x",), created=1,
                  stack="shop", service="a")  # fmt: skip
    assert start.changed(made).help == ("the stored plan is replayed; `nsrun up -d /s.yaml` plans "
                                        "anew",)  # fmt: skip
