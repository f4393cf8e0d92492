"""A small rootfs of a static busybox, readable by every user."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.support.paths import busybox

FOLDERS = ("bin", "dev", "etc", "home", "mnt", "proc", "root", "run", "srv", "sys", "tmp", "var")
PASSWD = """\
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/:/bin/false
alice:x:1000:1000:Alice:/home:/bin/sh
"""
GROUP = """\
root:x:0:
daemon:x:1:
wheel:x:10:root,alice
alice:x:1000:
"""


def make_rootfs(folder: Path) -> Path:
    """Make a rootfs in ``folder`` (which must not exist), with every applet of busybox."""
    folder.mkdir()
    for name in FOLDERS:
        (folder / name).mkdir()
    shutil.copy(busybox(), folder / "bin/busybox")
    for applet in _applets():
        link = folder / "bin" / applet
        if not link.is_symlink() and applet != "busybox":
            link.symlink_to("busybox")
    (folder / "etc/passwd").write_text(PASSWD)
    (folder / "etc/group").write_text(GROUP)
    # Whatever the umask is: an ordinary user reads it, and /tmp is everybody's.
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            os.chmod(path, 0o755 if path.is_dir() or path.name == "busybox" else 0o644)
    os.chmod(folder / "tmp", 0o1777)
    return folder


def _applets() -> list[str]:
    return subprocess.run(
        [busybox(), "--list"], check=True, capture_output=True, text=True
    ).stdout.split()
