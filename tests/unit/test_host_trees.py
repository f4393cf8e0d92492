"""Removing what a container has made: deep trees, symlinks, folders that move meanwhile."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from nsrun.host import trees


def deepen(folder: Path, levels: int) -> None:
    """Too deep for a path (PATH_MAX), and for a recursion."""
    here = os.open(folder, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("d", dir_fd=here)
        os.symlink("/", "link", dir_fd=here)
        inner = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "volume").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/file").write_text("kept")
    yield tmp_path
    trees.remove(str(tmp_path / "volume"))


def test_as_deep_as_it_may_be(place: Path) -> None:
    volume = place / "volume"
    deepen(volume, 2500)
    with pytest.raises((RecursionError, OSError)):
        shutil.rmtree(volume)  # the control
    before = len(os.listdir("/proc/self/fd"))
    trees.remove(str(volume))
    assert not volume.exists()
    assert len(os.listdir("/proc/self/fd")) == before
    trees.remove(str(volume))
    trees.remove(str(volume / "a/b"))


def test_no_link_is_followed(place: Path) -> None:
    volume = place / "volume"
    (volume / "a").mkdir()
    (volume / "a/link").symlink_to(place / "outside")
    (volume / "file").symlink_to(place / "outside/file")
    os.mkfifo(volume / "fifo")
    trees.remove(str(volume))
    assert not volume.exists()
    volume.symlink_to(place / "outside")
    with pytest.raises(OSError):
        trees.remove(str(volume))
    assert (place / "outside/file").read_text() == "kept"
    volume.unlink()


def test_a_folder_that_is_moved_away_ends_it(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever goes back by `..` would go on where it is now, and remove what is there."""
    volume, outside = place / "volume", place / "outside"
    (volume / "a/b").mkdir(parents=True)
    real = trees._without_files

    def moving(folder: int) -> list[str]:
        found = real(folder)
        if os.path.samestat(os.fstat(folder), os.stat(place / "volume/a/b")):
            (volume / "a/b").rename(outside / "b")
            monkeypatch.setattr(trees, "_without_files", real)
        return found

    monkeypatch.setattr(trees, "_without_files", moving)
    with pytest.raises(OSError, match="moved"):
        trees.remove(str(volume))
    assert (outside / "file").read_text() == "kept"
    assert (outside / "b").exists()
