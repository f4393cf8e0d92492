"""Containers that share a rootfs without the folders that mounts stand on."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tests.support.detached import Containers
from tests.support.paths import busybox
from tests.support.requires import requires


@requires("root", "busybox")
def test_who_ends_first_leaves_the_mounts_of_the_others(root_c: Containers, tmp_path: Path) -> None:
    """Kernel: removing a folder takes away what stands on it in other mount namespaces."""
    root = tmp_path / "root"
    (root / "bin").mkdir(parents=True)
    os.chmod(tmp_path, 0o755)
    shutil.copy(busybox(), root / "bin/busybox")
    keys = {"rootfs": str(root), "namespaces": ["mount", "pid"]}
    # Both see that /proc, /sys and /dev are missing, or the second finds those of the first.
    for name in ("first", "second"):
        root_c.up(["/bin/busybox", "sleep", "60"], name=name, **keys)
    seen = Path(f"/proc/{root_c.pid('second')}/mounts").read_text()
    assert " /proc proc " in seen and " /dev tmpfs " in seen
    root_c.ok("kill", "first")
    root_c.until_over("first")
    assert Path(f"/proc/{root_c.pid('second')}/mounts").read_text() == seen
    root_c.ok("kill", "second")
    root_c.until_over("second")
    root_c.up(["/bin/busybox", "true"], name="third", **keys)
