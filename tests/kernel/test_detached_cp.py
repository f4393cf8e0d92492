"""``nsrun cp``: both directions, and containers that would have it go elsewhere."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from nsrun.runtime import copying
from nsrun.runtime.copying import Target
from tests.support.box import give
from tests.support.detached import Containers

# Its own /tmp: what stands there stands nowhere on the host.
MOUNTS = [{"type": "proc", "target": "/proc"}, {"type": "tmpfs", "target": "/tmp"}]
SLEEP = "mkdir /tmp/d; echo in > /tmp/d/f; ln -s /etc/nsrun-none /tmp/link; echo up; sleep 60"


def test_both_directions(c: Containers) -> None:
    c.up(SLEEP, mounts=MOUNTS)
    c.until_said("up")
    here = c.box.folder
    tree = here / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub/a").write_bytes(b"x" + bytes(3 << 20) + b"y")
    (tree / "sub/a").chmod(0o750)
    (tree / "l").symlink_to("/etc/passwd")
    give(tree, c.runner)
    c.ok("cp", tree, "c:/tmp")
    c.ok("cp", tree / "sub/a", "c:/tmp/named")
    c.ok("cp", f"{tree}/.", "c:/tmp/d")
    inside = Path(f"/proc/{c.pid()}/root/tmp")
    for copy in (inside / "tree/sub/a", inside / "named", inside / "d/sub/a"):
        assert copy.read_bytes() == (tree / "sub/a").read_bytes()
        assert copy.stat().st_mode & 0o7777 == 0o750
        assert copy.stat().st_uid == (inside / "d").stat().st_uid
    assert os.readlink(inside / "tree/l") == "/etc/passwd"
    c.ok("cp", "c:/tmp/tree", here / "back")
    assert (here / "back/sub/a").read_bytes() == (tree / "sub/a").read_bytes()
    assert (here / "back").stat().st_uid == c.runner.user.uid
    c.ok("cp", "c:/tmp/d/f", here / "back")
    assert (here / "back/f").read_text() == "in\n"
    # What is named is a symlink: it is copied, and followed by -L inside alone.
    c.ok("cp", "c:/tmp/link", here / "got")
    assert os.readlink(here / "got") == "/etc/nsrun-none"
    assert "No such file" in c("cp", "-L", "c:/tmp/link", here / "got").stderr
    assert "No such file" in c("cp", "c:/nosuch", here).stderr
    assert "no folder" in c("cp", tree / "sub/a", "c:/tmp/nosuch/").stderr
    assert c("cp", tree, here).status == 2
    piped = subprocess.run(
        c.runner.argv("cp", "c:/tmp/tree", "-"), env=c.runner.environment(), check=True,
        capture_output=True,
    )  # fmt: skip
    with tarfile.open(fileobj=io.BytesIO(piped.stdout)) as tar:
        assert tar.getnames() == ["tree", "tree/l", "tree/sub", "tree/sub/a"]
    c.ok("kill", "c")
    c.until_over()
    assert "error[NS607]" in c("cp", "c:/tmp", here).stderr


def test_a_link_of_the_container_leads_to_its_own_files(c: Containers) -> None:
    secret = c.box.folder / "secret"
    secret.mkdir()
    (secret / "f").write_text("outside")
    give(secret, c.runner)
    c.up(
        f"mkdir -p /tmp/own; echo own > /tmp/own/f; ln -s /../../tmp/own /tmp/up;"
        f"ln -s /proc/1/root{secret} /tmp/magic; echo up; sleep 60",
        mounts=MOUNTS,
    )
    c.until_said("up")
    c.ok("cp", "c:/tmp/up/f", c.box.folder / "got")
    assert (c.box.folder / "got").read_text() == "own\n"
    assert c("cp", "c:/tmp/magic/f", c.box.folder / "got").status == 1
    assert c("cp", c.box.folder / "got", "c:/tmp/magic/f").status == 1
    assert (secret / "f").read_text() == "outside"


def hostile() -> io.BytesIO:
    """What a folder that is swapped while it is listed comes to: a symlink and then a folder."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        tar.addfile(_member("d", tarfile.DIRTYPE))
        link = _member("d/a", tarfile.SYMTYPE)
        link.linkname = "../victim"
        tar.addfile(link)
        tar.addfile(_member("d/a/f", tarfile.REGTYPE))
    made.seek(0)
    return made


def _member(name: str, kind: bytes) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.mode = kind, 0o755
    return member


def test_no_write_goes_through_a_link_of_the_archive(tmp_path: Path) -> None:
    (tmp_path / "victim").mkdir()
    (tmp_path / "to").mkdir()
    # Tar's own way goes through: the control.
    with tarfile.open(fileobj=hostile()) as tar:
        tar.extractall(tmp_path)
    assert (tmp_path / "victim/f").exists()
    (tmp_path / "victim/f").unlink()
    to = os.open(tmp_path / "to", os.O_PATH)
    with tarfile.open(fileobj=hostile(), mode="r|") as tar, pytest.raises(OSError, match="d"):
        copying.unpack(tar, tar.next(), Target(to, "d"), False)
    os.close(to)
    assert list((tmp_path / "victim").iterdir()) == []
