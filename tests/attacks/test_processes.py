"""Attacks by processes: numbers that are given again, trees that are forked twice, zombies."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from tests.support.box import Box, wait_for
from tests.support.detached import Containers


def alive(mark: str) -> list[int]:
    """The processes with ``mark`` among their arguments."""
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                words = Path(entry.path, "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if mark.encode() in words:
                found.append(int(entry.name))
    return found


def test_a_pid_that_is_a_strangers(c: Containers) -> None:
    """The monitor was killed, and its container's number has been given to somebody else."""
    c.up(["sleep", "60"])
    monitor, launcher = c.locker(), c.launcher()
    c.kill(monitor)
    assert wait_for(lambda: not Path(f"/proc/{launcher}/exe").exists() or not alive(str(launcher)))
    stranger = subprocess.Popen(c.runner.argv_of("sleep", "60"))
    try:
        (c.folder() / "pid").write_text(f"{stranger.pid}\n")
        for words in (["kill", "c"], ["stop", "c"], ["exec", "c", "--", "true"],
                      ["rm", "-f", "c"]):  # fmt: skip
            c(*words)
            assert stranger.poll() is None, words
    finally:
        # The control: who trusts a number kills it.
        os.kill(stranger.pid, signal.SIGKILL)
        assert stranger.wait() == -signal.SIGKILL


def tree(mark: str) -> str:
    """Leaves a grandchild in a session of its own, whose parent has gone."""
    return f"(setsid sh -c 'sleep {mark} & exec sleep {mark}' &); sleep 0.2; echo up"


def test_a_tree_forked_twice_goes_with_its_container(box: Box) -> None:
    marks = [f"6{os.getpid()}.{number}" for number in range(3)]
    naive = subprocess.Popen(["/bin/sh", "-c", tree(marks[0])], stdout=subprocess.DEVNULL)
    naive.wait(timeout=10)
    left = alive(marks[0])
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert len(left) == 2, "the control: killing or awaiting the command leaves them"
    for mark, spaces in zip(marks[1:], (["user", "mount", "pid"], ["user", "mount"]), strict=True):
        assert "up" in box.run(tree(mark), namespaces=spaces).stdout
        assert wait_for(lambda mark=mark: alive(mark) == [])


def test_zombies_are_reaped_by_init(box: Box) -> None:
    keys = {"namespaces": ["user", "mount", "pid"], "mounts": [{"type": "proc", "target": "/proc"}]}
    # The control: a first process that waits for nobody.
    code = (
        "import os,glob,time\n"
        "for _ in range(4):\n"
        "  if os.fork()==0:\n"
        "    if os.fork()==0: os._exit(0)\n"
        "    os._exit(0)\n"
        "time.sleep(0.3)\n"
        "print(sum('State:\\tZ' in open(f).read() for f in glob.glob('/proc/[0-9]*/status')))"
    )
    command = ["/usr/bin/python3", "-Ic", code]
    assert int(box.out(command, **keys)) == 8
    # Its own children are the command's; those that they left are init's.
    assert int(box.out(command, **keys, init=True)) == 4
