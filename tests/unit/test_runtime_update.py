"""What `nsrun update` leaves as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from nsrun.runtime.update import with_memory
from nsrun.spec.model import Resources

_M = 1 << 20


@pytest.mark.parametrize(
    ("asked", "both", "made"),
    [
        (Resources(memory=32 * _M), 64 * _M, Resources(memory=32 * _M, memory_swap=0)),
        (Resources(memory=128 * _M), 80 * _M, Resources(memory=128 * _M, memory_swap=16 * _M)),
        (Resources(memory_swap=8 * _M), 64 * _M, Resources(memory=64 * _M, memory_swap=8 * _M)),
        (Resources(memory=32 * _M), (1 << 63) - 4096, Resources(memory=32 * _M)),
        (Resources(pids=3), 64 * _M, Resources(pids=3)),
        (Resources(memory=_M, memory_swap=_M), 0, Resources(memory=_M, memory_swap=_M)),
    ],
)
def test_swap_beside_the_memory_stays(
    tmp_path: Path, asked: Resources, both: int, made: Resources
) -> None:
    """Version 1 limits the sum of both: a smaller memory alone would give more swap."""
    (tmp_path / "memory.limit_in_bytes").write_text(f"{64 * _M}\n")
    (tmp_path / "memory.memsw.limit_in_bytes").write_text(f"{both}\n")
    assert with_memory(asked, ("/none", str(tmp_path))) == made


def test_version_2_limits_swap_by_itself(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("1\n")
    assert with_memory(Resources(memory=5), (str(tmp_path),)) == Resources(memory=5)
