"""Attacks on what nsrun keeps: state folders, the cache, the files that its processes write."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

from nsrun.host.containers import state_folder, writable_by_others
from nsrun.runtime import names
from nsrun.spec.load import load
from tests.support.box import Box
from tests.support.detached import Containers
from tests.support.launcher import Launcher
from tests.support.paths import ROOT
from tests.support.requires import requires


def test_a_state_folder_is_its_owners_alone_whatever_the_umask(c: Containers) -> None:
    naive = c.box.folder / "naive/containers"
    old = os.umask(0)
    try:
        os.makedirs(naive, mode=0o700)
        assert naive.parent.stat().st_mode & stat.S_IWOTH, "the control: others put theirs there"
        c.up(["sleep", "60"])
    finally:
        os.umask(old)
    made = [c.state, *c.state.rglob("*")]
    folders = [path for path in made if path.is_dir()]
    assert len(folders) >= 3
    assert {stat.S_IMODE(path.stat().st_mode) for path in folders} == {0o700}
    assert not any(path.stat().st_mode & 0o077 for path in made if path.is_file())


def test_a_state_folder_of_somebody_else_is_not_used(tmp_path: Path) -> None:
    """Made before by another user, a link to another place, or one that others may write to."""
    own = os.geteuid()
    runtime = {"XDG_RUNTIME_DIR": str(tmp_path)}
    place = tmp_path / "nsrun"
    # An ordinary user's, whom the runtime folder belongs to; root's has no choice of place.
    user = own or 1000
    os.chown(tmp_path, user, -1)
    place.mkdir(mode=0o700)
    os.chown(place, user, -1)
    assert state_folder(user, runtime) == str(place), "the control: one's own is taken"
    assert writable_by_others(user, runtime) is None
    place.chmod(0o770)
    assert state_folder(user, runtime) is None
    # That is what NS402 tells then.
    assert writable_by_others(user, runtime) == str(place)
    place.chmod(0o700)
    if own == 0:
        os.chown(place, 1, -1)
        assert state_folder(user, runtime) is None
    place.rename(tmp_path / "other")
    place.symlink_to("other")
    assert state_folder(user, runtime) is None


@requires("native", "strace")
def test_a_poisoned_cache_is_not_replayed(box: Box) -> None:
    """An entry with another's plan, of a file that others may write to."""
    launcher = Launcher(box)
    # The cache is the native launcher's; NSRUN_EXECUTOR=python goes past it.
    runner = box.runner.with_(env={"NSRUN_EXECUTOR": "native"})
    good = box.spec("good", namespaces=["user"], command=["echo", "good"])
    bad = box.spec("bad", namespaces=["user"], command=["echo", "evil"])
    for spec, said in ((good, "good\n"), (bad, "evil\n")):
        assert launcher.run(spec, runner=runner).ok() == said
    assert launcher.run(good, runner=runner).ok() == "good\n" and not launcher.thought
    (theirs,) = [e for e in launcher.entries() if b"bad.yaml" in e.read_bytes()]
    (ours,) = [e for e in launcher.entries() if e != theirs]
    honest, evil = ours.read_bytes(), theirs.read_bytes()
    # Under the name of the other one: its key is another's.
    ours.write_bytes(evil)
    assert launcher.run(good, runner=runner).ok() == "good\n"
    # A word of its plan: the checksum is another.
    ours.write_bytes(honest.replace(b"good\0", b"evil\0"))
    assert launcher.run(good, runner=runner).ok() == "good\n"
    # Whole, but of a file that others may write to.
    ours.write_bytes(honest)
    ours.chmod(0o622)
    assert launcher.run(good, runner=runner).ok() == "good\n" and launcher.thought


# Puts a file of procfs in the place of /etc/hosts, in a mount namespace of its own.
REDIRECT = r"""
import ctypes, sys, time
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *arguments):
    if getattr(libc, name)(*arguments):
        raise OSError(ctypes.get_errno(), name)
call("unshare", 0x20000 | 0x04000000)
call("mount", None, b"/", None, 0x4000 | 1 << 18, None)
call("mount", b"tmpfs", b"/tmp", b"tmpfs", 0, None)
open("/tmp/hosts", "w").close()
call("mount", b"/tmp/hosts", b"/etc/hosts", None, 4096, None)
print("up", flush=True)
sys.stdin.readline()
call("mount", b"/proc/sys/kernel/domainname", b"/etc/hosts", None, 4096, None)
print("redirected", flush=True)
sys.stdin.readline()
"""

KEEPER = """
import pathlib, sys
from nsrun.runtime import names
from nsrun.spec.load import load
domain = pathlib.Path("/proc/sys/kernel/domainname")
print(domain.read_text(), end="")
names.rewrite(int(sys.argv[1]), load(sys.argv[2])[0])
print(domain.read_text(), end="")
pathlib.Path(f"/proc/{sys.argv[1]}/root/etc/hosts").write_text("attacker")
print(domain.read_text(), end="")
"""


@requires("root")
def test_the_keeper_of_names_writes_to_no_file_of_procfs(tmp_path: Path) -> None:
    """CVE-2025-52881: a write to /etc/hosts is redirected to a sysctl, here the domain name of a
    UTS namespace of the attacker's own."""
    file = tmp_path / "s.yaml"
    network = "{hosts: {db: 10.0.0.3}}"
    file.write_text(f"namespaces: [mount, network]\nnetwork: {network}\ncommand: [id]\n")
    spec, _ = load(str(file))
    pipes = dict.fromkeys(("stdin", "stdout"), subprocess.PIPE)
    argv = [sys.executable, "-I", "-c", REDIRECT]
    with subprocess.Popen(argv, text=True, **pipes) as process:
        assert process.stdout is not None and process.stdin is not None
        root = Path(f"/proc/{process.pid}/root")
        assert process.stdout.readline() == "up\n"
        names.rewrite(process.pid, spec)
        assert "10.0.0.3" in (root / "etc/hosts").read_text(), "where it is a file it is written"
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "redirected\n"
        # In a UTS namespace of its own: the domain name is that of who writes.
        keeper = ["unshare", "--uts", sys.executable, "-c", KEEPER, str(process.pid), str(file)]
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        told = subprocess.run(keeper, capture_output=True, text=True, check=True, env=env).stdout
        before, kept, naive = told.splitlines()
        assert kept == before
        assert naive == "attacker", "the control: who writes to the path is redirected"
        process.communicate("\n", timeout=10)
