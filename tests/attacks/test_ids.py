"""Attacks by ids: numbers that are names, and numbers whose lower half is root's."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from tests.support.box import Box, give
from tests.support.detached import Containers
from tests.support.rootfs import make_rootfs

PASSWD = """\
root:x:0:0:root:/root:/bin/sh
1000:x:0:0:named as a number:/root:/bin/sh
big:x:4294967296:4294967296::/root:/bin/sh
word:x:none:0::/root:/bin/sh
"""
HUGE = ["4294967295", "4294967296", "99999999999999999999", "0:4294967296", "0:4294967295", "-1",
        "²", "big", "word", "0:-1"]  # fmt: skip


def test_a_user_of_exec_is_who_was_meant(c: Containers) -> None:
    """CVE-2016-3697, CVE-2024-40635."""
    image = make_rootfs(c.box.folder / "image")
    (image / "etc/passwd").write_text(PASSWD)
    give(image, c.runner)
    # The controls: an id of 32 bits is what is left of a larger number, and the name is there.
    assert ctypes.c_uint32(4294967296).value == 0
    assert any(line.startswith("1000:x:0:") for line in PASSWD.splitlines())
    c.up(["sleep", "60"], rootfs=str(image), mounts=[])
    for who in HUGE[:: 1 if os.environ.get("NSRUN_SWEEP") == "1" else 2]:
        tried = c("exec", "-u", who, "c", "--", "id", "-u")
        assert (tried.status, tried.stdout) == (125, ""), who
        assert "NS317" in tried.stderr or "NS002" in tried.stderr, tried.stderr
    tried = c("exec", "-u", "1000", "c", "--", "sh", "-c", "id -u; id -g")
    assert tried.stdout in ("1000\n1000\n", ""), "the number, or an error where it is not mapped"
    assert tried.status == 0 or "1000" in tried.stderr


def test_a_user_of_a_spec_is_who_was_meant(box: Box, own_root: Path) -> None:
    (own_root / "etc/passwd").write_text(PASSWD)
    give(own_root, box.runner)
    keys = {"namespaces": ["user", "mount", "pid"], "rootfs": str(own_root)}
    for who in ("4294967296", "big", "word", "0:4294967296"):
        assert "NS" in box.refused("id", user=who, **keys), who
