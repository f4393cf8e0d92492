"""The bench's own folder, and everything outside of it that a run touches and puts back.

area/rootfs   a static busybox          area/cache    stands in for /var/cache/nsrun
area/specs    copies of bench/specs     area/NAME...  bundles, results, binaries
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench import processes

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
_FOLDERS = ("dev", "etc", "home", "mnt", "proc", "root", "run", "srv", "sys", "tmp", "usr", "var")
# Of nsrun, systemd-nspawn and lxc: the run covers each with a mount of its own.
NSRUN_CACHE = Path("/var/cache/nsrun")
_COVERED = (NSRUN_CACHE, Path("/run/systemd/nspawn"), Path("/run/lxc"), Path("/run/netns"))
CGROUPS = Path("/sys/fs/cgroup")


class BenchError(Exception):
    """The bench cannot go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Area:
    """``container``: the name that every peer's container gets."""

    folder: Path

    @property
    def rootfs(self) -> Path:
        return self.folder / "specs/rootfs"

    @property
    def spec(self) -> Path:
        return self.folder / "specs/hardened.yaml"

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    @property
    def container(self) -> str:
        return self.folder.name

    def sub(self, name: str) -> Path:
        made = self.folder / name
        made.mkdir(parents=True, exist_ok=True)
        return made


def furnish(area: Area) -> None:
    """The rootfs and the specs."""
    shutil.copytree(HERE / "specs", area.folder / "specs")
    rootfs = area.rootfs
    for name in _FOLDERS:
        (rootfs / name).mkdir(parents=True)
    (rootfs / "bin").mkdir()
    busybox = shutil.which("busybox")
    if busybox is None:
        raise BenchError("no busybox (busybox-static)")
    shutil.copy(busybox, rootfs / "bin/busybox")
    applets = subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True)
    for applet in applets.stdout.split():
        if applet != "busybox":
            (rootfs / "bin" / applet).symlink_to("busybox")
    # systemd-nspawn refuses a tree that has no /usr, and one without an os-release.
    (rootfs / "usr/lib").mkdir()
    (rootfs / "usr/lib/os-release").write_text("ID=bench\n")
    (rootfs / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (rootfs / "etc/group").write_text("root:x:0:\n")
    os.chmod(rootfs / "tmp", 0o1777)
    area.cache.mkdir(mode=0o700)


def cover(area: Area) -> None:
    """In a mount namespace of the bench's own: nobody's cache and run folders but its own."""
    for target in _COVERED:
        if target == NSRUN_CACHE:
            argv = ["mount", "--bind", str(area.cache), str(target)]
        else:
            argv = ["mount", "-t", "tmpfs", "-o", "mode=700", "nsrun-bench", str(target)]
        subprocess.run(argv, check=True)
    _cover_null(area)


def _cover_null(area: Area) -> None:
    """A /dev/null of the bench's own: crun gives what it has as standard streams to the
    container's root, and everything here is started with that device."""
    place = area.sub("dev")
    subprocess.run(["mount", "-t", "tmpfs", "nsrun-bench", str(place)], check=True)
    node = place / "null"
    os.mknod(node, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    # mknod(2) takes the umask away.
    node.chmod(0o666)
    subprocess.run(["mount", "--bind", str(node), os.devnull], check=True)


@contextlib.contextmanager
def lasting(parent: Path) -> Iterator[Area]:
    """An area whose end, however it comes, puts the host back as it was."""
    made = _make_covered()
    pivots = set(_cgroups("lxc.pivot"))
    folder = parent / f"nsrun-bench-{os.getpid()}"
    # Every user of a user namespace has to reach the rootfs.
    folder.mkdir(mode=0o755)
    area = Area(folder=folder)
    try:
        furnish(area)
        yield area
    finally:
        processes.end_descendants()
        shutil.rmtree(folder, ignore_errors=True)
        for path in (*_cgroups(area.container), *(set(_cgroups("lxc.pivot")) - pivots)):
            # EBUSY: somebody else has come to use it.
            with contextlib.suppress(OSError):
                path.rmdir()
        for path in reversed(made):
            with contextlib.suppress(OSError):
                path.rmdir()


def _make_covered() -> list[Path]:
    """Make the missing mount points; those made, outermost first."""
    made = []
    for target in _COVERED:
        for path in (*reversed(target.parents), target):
            if not path.exists():
                path.mkdir(mode=0o700 if path == target else 0o755)
                made.append(path)
    return made


def _cgroups(name: str) -> list[Path]:
    """The cgroups, deepest first, that belong to the container ``name``."""
    names = {name, f"lxc.payload.{name}", f"lxc.monitor.{name}"}
    walk = os.walk(CGROUPS, topdown=False)
    return [Path(folder) for folder, _, _ in walk if os.path.basename(folder) in names]
