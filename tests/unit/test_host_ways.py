"""Where the symlinks of a path lie, and where it leads."""

from __future__ import annotations

from pathlib import Path

from nsrun.host.paths import ways


def test_every_link_on_the_way_and_the_end(tmp_path: Path) -> None:
    top = tmp_path.resolve()
    (top / "real/deep").mkdir(parents=True)
    (top / "folder").symlink_to("real")
    (top / "real/deep/link").symlink_to("../../folder/./file")
    (top / "out").symlink_to(top / "real/deep/link")
    through = (top / "out", top / "real/deep/link", top / "folder", top / "real/file")
    assert ways(f"{top}/out") == tuple(map(str, through))
    assert ways(f"{top}/folder/../folder/x") == (f"{top}/folder", f"{top}/folder", f"{top}/real/x")
    assert ways(f"{top}/real/deep") == (f"{top}/real/deep",)
    assert ways(f"{top}/not/there") == (f"{top}/not/there",)
    assert ways("/../..") == ("/",)


def test_a_circle_ends(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert len(ways(str(tmp_path / "a"))) < 50
    assert ways("/a\0b") == ("/a\0b",)
