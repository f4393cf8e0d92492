"""Where things are that tests use."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SPECS = ROOT / "specs"
# The interpreter under test; a .venv's own, so that its packages are found.
PYTHON = sys.executable


def is_static(program: Path) -> bool:
    """Whether an ELF program needs no loader: it has no PT_INTERP (elf(5))."""
    return b"/lib/ld-" not in program.read_bytes() and b"/lib64/ld-" not in program.read_bytes()


def _find_busybox() -> Path | None:
    found = shutil.which("busybox")
    return Path(found).resolve() if found and is_static(Path(found)) else None


BUSYBOX = _find_busybox()


def busybox() -> Path:
    """The static busybox; only for tests that require it."""
    assert BUSYBOX is not None, "no static busybox"
    return BUSYBOX
