"""The cache's folder and its files: whose they are, how many, and what is in the way."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

import pytest

from nsrun.plan import binary, entry
from nsrun.plan.binary_format import checksum
from nsrun.runtime import cache
from tests.golden.reference import plan_of
from tests.support.paths import SPECS
from tests.support.requires import requires

PLAN = plan_of(SPECS / "seeds/uts.yaml")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "some/cache"


@pytest.fixture
def environ(place: Path) -> dict[str, str]:
    return {"NSRUN_CACHE_DIR": str(place)}


def store(environ: Mapping[str, str], *words: str) -> bool:
    return cache.store(words or ("web.yaml",), PLAN, (), environ)


def names(place: Path) -> list[str]:
    return sorted(path.name for path in place.iterdir())


def name_of(*words: str) -> str:
    return f"{checksum(cache.key(words)):016x}"


# --- where -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("uid", "environ", "folder"),
    [
        (0, {}, "/var/cache/nsrun"),
        (0, {"XDG_CACHE_HOME": "/x", "HOME": "/root"}, "/var/cache/nsrun"),
        (0, {"NSRUN_CACHE_DIR": "/given"}, "/given"),
        (0, {"NSRUN_CACHE_DIR": "given"}, "/var/cache/nsrun"),
        (7, {"XDG_CACHE_HOME": "/x", "HOME": "/home/ann"}, "/x/nsrun"),
        (7, {"XDG_CACHE_HOME": "x", "HOME": "/home/ann"}, "/home/ann/.cache/nsrun"),
        (7, {"NSRUN_CACHE_DIR": "/given", "XDG_CACHE_HOME": "/x"}, "/given"),
        (7, {"HOME": "home"}, None),
        (7, {}, None),
    ],
)
def test_where_it_is(
    monkeypatch: pytest.MonkeyPatch, uid: int, environ: dict[str, str], folder: str | None
) -> None:
    monkeypatch.setattr(os, "getuid", lambda: uid)
    assert cache.folder(environ) == folder


def test_the_key_is_the_folder_and_each_word(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cache.key(("a b", "c")) == f"{tmp_path}\0a b\0c\0".encode()
    assert cache.key(("a", "b c")) != cache.key(("a b", "c"))
    assert cache.key(("\udcff",)) == f"{tmp_path}\0".encode() + b"\xff\0"


# --- what is written ---------------------------------------------------------------------------


def test_an_entry_is_the_users_alone(environ: dict[str, str], place: Path) -> None:
    os.umask(0)  # conftest puts it back
    assert store(environ, "web.yaml")
    assert names(place) == [f"{name_of('web.yaml')}.0"]
    (file,) = place.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert entry.plan_of(file.read_bytes()) == binary.encode(PLAN)
    assert cache.info(environ) == cache.Info(
        folder=str(place), entries=1, bytes=file.stat().st_size
    )


def test_the_latest_of_one_key_comes_first(environ: dict[str, str], place: Path) -> None:
    inodes = []
    for _ in range(entry.SLOTS + 2):
        assert store(environ, "web.yaml")
        inodes.append((place / f"{name_of('web.yaml')}.0").stat().st_ino)
    assert names(place) == [f"{name_of('web.yaml')}.{slot}" for slot in range(entry.SLOTS)]
    kept = [(place / name).stat().st_ino for name in names(place)]
    assert kept == inodes[: -entry.SLOTS - 1 : -1]


def test_the_oldest_go(
    environ: dict[str, str], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "ENTRIES_MAX", 5)
    for number in range(8):
        assert store(environ, str(number))
        newest = place / f"{name_of(str(number))}.0"
        os.utime(newest, ns=(number, number))
    assert names(place) == sorted(f"{name_of(str(number))}.0" for number in range(3, 8))


def test_no_more_bytes_than_its_bound(
    environ: dict[str, str], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(environ, "0")
    size = cache.info(environ).bytes
    monkeypatch.setattr(cache, "BYTES_MAX", 3 * size + size // 2)
    for number in range(1, 6):
        store(environ, str(number))
        os.utime(place / f"{name_of(str(number))}.0", ns=(number, number))
    assert cache.info(environ).entries == 3
    assert f"{name_of('5')}.0" in names(place)


def test_five_hundred_entries(environ: dict[str, str], place: Path) -> None:
    place.mkdir(0o700, parents=True)
    for number in range(600):
        file = place / f"{number:016x}.0"
        file.touch()
        os.utime(file, ns=(number, number))
    assert store(environ)
    found = names(place)
    assert len(found) == cache.ENTRIES_MAX == 512
    assert f"{name_of('web.yaml')}.0" in found and f"{88:016x}.0" not in found


def test_clear_takes_half_written_ones_too(environ: dict[str, str], place: Path) -> None:
    store(environ, "one")
    store(environ, "two")
    (place / f"{name_of('one')}.0.4242").write_bytes(b"cut")
    assert cache.info(environ).entries == 2
    assert cache.clear(environ) == 2
    assert names(place) == []


def test_other_files_are_not_ours(
    environ: dict[str, str], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever names a folder with something in it keeps that."""
    others = ["README", "0123456789abcdef", "id_rsa", "0123456789ABCDEF.0", "x123456789abcdef.0"]
    place.mkdir(0o700, parents=True)
    for name in others:
        (place / name).write_text("kept")
        os.utime(place / name, ns=(1, 1))
    monkeypatch.setattr(cache, "ENTRIES_MAX", 1)
    store(environ, "one")
    store(environ, "two")
    assert cache.info(environ).entries == cache.clear(environ) == 1
    assert names(place) == sorted(others)


# --- what is not to be trusted, or in the way --------------------------------------------------


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o750, 0o701])
def test_a_folder_that_others_can_enter(environ: dict[str, str], place: Path, mode: int) -> None:
    place.mkdir(parents=True)
    place.chmod(mode)
    assert not store(environ)
    assert names(place) == []
    assert cache.info(environ).entries == cache.clear(environ) == 0


@requires("root")
def test_a_folder_of_another_user(environ: dict[str, str], place: Path) -> None:
    place.mkdir(0o700, parents=True)
    os.chown(place, 65534, 65534)
    assert not store(environ)
    assert names(place) == []


def test_a_folder_that_is_a_link(environ: dict[str, str], place: Path, tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.mkdir(0o700)
    place.parent.mkdir()
    place.symlink_to(real)
    assert not store(environ)
    assert names(real) == []


def test_a_file_in_place_of_the_folder(environ: dict[str, str], place: Path) -> None:
    place.parent.mkdir()
    place.write_text("a file")
    assert not store(environ)
    assert place.read_text() == "a file"
    assert cache.info(environ).entries == 0


def test_no_place_at_all() -> None:
    environ = {"NSRUN_CACHE_DIR": "/proc/nowhere/cache"}
    assert not store(environ)
    assert cache.info(environ).entries == cache.clear(environ) == 0


@pytest.mark.parametrize("slot", range(entry.SLOTS))
@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_something_else_in_a_slot(
    environ: dict[str, str], place: Path, slot: int, make: object
) -> None:
    """It may cost its slot, or an entry; it is no failure."""
    place.mkdir(0o700, parents=True)
    make(place / f"{name_of('web.yaml')}.{slot}")  # type: ignore[operator]
    for _ in range(entry.SLOTS + 1):
        assert store(environ, "web.yaml")
    assert (place / f"{name_of('web.yaml')}.0").is_file()


def test_links_are_not_followed(environ: dict[str, str], place: Path, tmp_path: Path) -> None:
    place.mkdir(0o700, parents=True)
    target = tmp_path / "target"
    target.write_text("as it was")
    for suffix in ("0", f"0.{os.getpid()}"):
        (place / f"{name_of('web.yaml')}.{suffix}").symlink_to(target)
    store(environ, "web.yaml")
    assert target.read_text() == "as it was"


def test_what_is_too_large_is_not_kept(environ: dict[str, str], place: Path) -> None:
    assert not store(environ, "x" * entry.SIZE_MAX)
    assert not place.exists()
