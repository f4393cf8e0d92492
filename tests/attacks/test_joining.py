"""Attacks on who comes into a container that runs: exec, cp, and the programs they are made of."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.attackers import beaten, until_tired
from tests.support.box import give, wait_for
from tests.support.detached import Containers
from tests.support.host import files
from tests.support.paths import PYTHON, ROOT
from tests.support.rootfs import make_rootfs
from tests.support.runner import Runner

SYSTEM = "/usr/bin/python3"
# Looks for processes of other mount namespaces that it may trace (ptrace(2)): their files in /proc
# are open to it then, and through root/ the files of the host.
TRACER = r"""
import os
known = set()
mine = os.readlink("/proc/self/ns/mnt")
print("up", flush=True)
while True:
    for pid in filter(str.isdigit, os.listdir("/proc")):
        if pid in known:
            continue
        try:
            if os.readlink(f"/proc/{pid}/ns/mnt") != mine:
                os.listdir(f"/proc/{pid}/fd")
                known.add(pid)
                print("reached", pid, flush=True)
        except OSError:
            pass
"""
# The naive way into a container: no prctl(2) before setns(2).
NAIVE = r"""
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
pid, *command = sys.argv[1:]
kinds = [("user", 0x10000000), ("pid", 0x20000000), ("mnt", 0x20000)][:None if command else 1]
for fd, kind in [(os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY), kind) for name, kind in kinds]:
    # The caller's own user namespace cannot be joined (setns(2)).
    if libc.setns(fd, kind) and kind != 0x10000000:
        raise OSError(ctypes.get_errno(), "setns")
os.setresgid(0, 0, 0)
os.setresuid(0, 0, 0)
print("in", flush=True)
if command:
    if os.fork() == 0:
        # No more capabilities than who is in there has, or it may not look (ptrace(2)).
        for number in range(64):
            libc.prctl(24, number, 0, 0, 0)
        os.execv(command[0], command)
    os.wait()
else:
    sys.stdin.read()
"""


@contextmanager
def naively(runner: Runner, python: str | Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """The naive way in, to its end."""
    argv = runner.argv_of(python, "-I", "-S", "-c", NAIVE, *words)
    pipes = dict.fromkeys(("stdin", "stdout"), subprocess.PIPE)
    with subprocess.Popen(argv, text=True, env=runner.environment(), **pipes) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "in\n"
        yield process
        process.communicate(timeout=10)


def test_who_comes_in_cannot_be_traced(c: Containers) -> None:
    """CVE-2016-9962, of exec and of cp, in a container that sees the host's processes."""
    spaces = ["user", "mount", "ipc"]
    tmp = [{"type": "tmpfs", "target": "/tmp"}]
    # Root's own ids: what takes on others is closed to them by the kernel.
    c.up([SYSTEM, "-Ic", TRACER], namespaces=spaces, mounts=tmp, idmap="root",
         capabilities="all", seccomp="unconfined")  # fmt: skip
    c.until_said("up")
    with naively(c.runner, SYSTEM, str(c.pid())) as process:
        assert wait_for(lambda: f"reached {process.pid}" in c.log()), "the control: it is traced"
    reached = c.said()
    big = c.box.folder / "big"
    big.write_bytes(bytes(8 << 20))
    give(big, c.runner)
    for number in until_tired():
        assert c("exec", "c", "--", "true").ok() == ""
        if number == 0:
            # Stopped by a pipe that nobody reads, the helper is there as long as it takes.
            argv = c.runner.argv("cp", "c:/usr/bin", "-")
            pipe = subprocess.PIPE
            with subprocess.Popen(argv, stdout=pipe, env=c.runner.environment()) as copy:
                assert copy.stdout is not None
                assert copy.stdout.read(1) != b""
                assert c("cp", big, "c:/tmp").ok() == ""
                copy.kill()
    assert c.said() == reached


# --- the program that the launcher is ---------------------------------------------------------

# Stops whatever runs in here and is not of the image, having its program open for reading; once
# nobody executes that any more it can be opened for writing (execve(2), ETXTBSY).
OVERWRITER = """
for p in /proc/[0-9]*; do
  case $(readlink $p/exe) in ""|*/busybox) continue;; esac
  exec 7<$p/exe && kill -9 ${p#/proc/} && echo caught
  n=0; while [ $n -lt 8 ]; do
    (echo overwritten >>/proc/self/fd/7) 2>/dev/null && break
    n=$((n+1)); sleep 0.05
  done
  exec 7<&-
  echo tried
done
"""
LOOP = f"echo up; while :; do {OVERWRITER} sleep 0.02; done"


@pytest.fixture
def installed(c: Containers) -> Path:
    """A bin folder of the user's own, with an interpreter that nothing else executes."""
    made = c.box.folder / "bin"
    made.mkdir()
    shutil.copy(os.path.realpath(sys.executable), made / "python")
    shutil.copy(Path(PYTHON).parent / "nsrun", made / "nsrun")
    script = f"#!{made}/python -P\nfrom nsrun.cli import main\nmain()\n"
    (made / "nsrun-python").write_text(script)
    (made / "nsrun-python").chmod(0o755)
    return give(made, c.runner)


def test_the_launchers_program_is_not_overwritten(c: Containers, installed: Path) -> None:
    """CVE-2019-5736: what is executed in the container is a link to the program that executes it,
    which the attacker there opens and overwrites when it has ended."""
    image = make_rootfs(c.box.folder / "image")
    for name in ("usr", "lib", "lib64"):
        (image / name).mkdir()
    (image / "bin/self").symlink_to("/proc/self/exe")
    # With this name and `s` the native program stops itself.
    (image / "bin/nsrun-replay").symlink_to("/proc/self/exe")
    give(image, c.runner)
    system = [f"/{name}:/{name}:ro" for name in ("usr", "lib", "lib64")]
    spaces = ["mount", "pid", "ipc"] if c.runner.user.uid == 0 else None
    keys = {"rootfs": str(image), "mounts": system}
    c.up(LOOP, **keys, **({"namespaces": spaces} if spaces else {}))
    c.until_said("up")
    waits = ["-c", "import time; time.sleep(60)"]
    control = installed / "control"
    shutil.copy(installed / "python", control)
    give(installed, c.runner)
    before = control.read_bytes()
    with naively(c.runner, control, str(c.pid()), "/bin/self", *waits):
        pass
    assert wait_for(lambda: "tried" in c.log())
    assert control.read_bytes() == before + b"overwritten\n", "the control"
    before = {file.name: file.read_bytes() for file in installed.iterdir()}
    packages = sysconfig.get_paths()["purelib"]
    runner = c.runner.with_(env={"PYTHONPATH": f"{ROOT}:{packages}"})
    native = runner.env["NSRUN_EXECUTOR"] == "native"
    words = ["nsrun-replay", "0", "s"] if native else ["/bin/self", *waits]
    ended = runner.run_program(installed / "nsrun", "exec", "c", "--", *words)
    assert ended.status == 137, str(ended)
    assert wait_for(lambda: c.log().count("tried") == 2)
    assert c.log().count("caught") == 2
    assert {file.name: file.read_bytes() for file in installed.iterdir()} == before


# --- copying, while the container swaps its folders -------------------------------------------

MOUNTS = [{"type": "proc", "target": "/proc"}, {"type": "tmpfs", "target": "/tmp"}]
# A folder and a link to one of the host's exchange their names all the time.
SWAP = r"""
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
os.makedirs("/tmp/t/d")
open("/tmp/t/d/f", "w").write("own")
os.symlink("/proc/1/root" + sys.argv[1], "/tmp/t/l1")
os.symlink(sys.argv[1], "/tmp/t/l2")
print("up", flush=True)
while True:
    for link in (b"/tmp/t/l1", b"/tmp/t/l2"):
        libc.renameat2(-100, b"/tmp/t/d", -100, link, 2)
        libc.renameat2(-100, b"/tmp/t/d", -100, link, 2)
"""


def test_a_folder_swapped_while_copying(c: Containers) -> None:
    """CVE-2018-15664, in both directions."""
    secret = c.box.folder_of_user("secret")
    (secret / "f").write_text("host")
    give(secret, c.runner)
    # Inside, the link leads to nothing.
    hidden = {"type": "tmpfs", "target": str(c.box.folder)}
    c.up([SYSTEM, "-Ic", SWAP, str(secret)], mounts=[*MOUNTS, hidden])
    c.until_said("up")
    path = f"/proc/{c.pid()}/root/tmp/t/d/f"

    def naive() -> bool:
        try:
            return not Path(path).parent.is_symlink() and Path(path).read_text() == "host"
        except OSError:
            return False

    assert beaten(naive), "the control: a check and then the path reads the host's file"
    got = c.box.folder_of_user("got")
    planted = c.box.folder / "planted"
    planted.write_text("planted")
    give(planted, c.runner)
    before = files(secret)
    for number in until_tired():
        c("cp", "c:/tmp/t/d", got / f"{number}")
        c("cp", "c:/tmp/t/d/f", got / f"f{number}")
        c("cp", planted, "c:/tmp/t/d/f")
        assert files(secret) == before
    for copy in got.rglob("f*"):
        assert copy.is_symlink() or copy.is_dir() or copy.read_text() != "host", copy
