"""Control groups of nsrun's that are looked at while they go."""

from __future__ import annotations

from pathlib import Path

from nsrun.host import subgroups


def test_what_cannot_be_seen_is_not_empty(tmp_path: Path) -> None:
    """`nsrun prune` asks of each that it finds, and another may remove it meanwhile."""
    (tmp_path / "nsrun-folder").mkdir()
    for name in ("nsrun-gone", "nsrun-folder", "nsrun-", "other"):
        assert not subgroups.is_unused(str(tmp_path / name))
