"""``tty: true``: a fresh terminal, job control, the window's size, and the caller's put back."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support.box import Box, wait_for
from tests.support.host import unchanged

PATIENCE = 10.0
SPACES = ["user", "mount", "pid"]
PROC = [{"type": "proc", "target": "/proc"}]


@dataclass
class Terminal:
    """A terminal on which nsrun was started, as a person's shell would start it."""

    master: int
    process: subprocess.Popen[bytes]
    before: list[Any]
    seen: str = ""
    _read: int = field(default=0)

    def wait(self, pattern: str) -> str:
        """Read on until ``pattern`` comes after what was waited for before."""
        deadline = time.monotonic() + PATIENCE
        while not (found := re.search(pattern, self.seen[self._read :])):
            ready, _, _ = select.select([self.master], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"no {pattern!r} in {self.seen[self._read:]!r} of {self.seen!r}"
            with contextlib.suppress(OSError):
                self.seen += os.read(self.master, 65536).decode(errors="replace")
                continue
            raise AssertionError(f"the terminal's end without {pattern!r}: {self.seen!r}")
        self._read += found.end()
        return found.group()

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def end(self) -> int:
        """The exit status; what is still to be read is read."""
        deadline = time.monotonic() + PATIENCE
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"does not end: {self.seen!r}"
            ready, _, _ = select.select([self.master], [], [], 0.02)
            if ready:
                with contextlib.suppress(OSError):
                    self.seen += os.read(self.master, 65536).decode(errors="replace")
        code = self.process.returncode
        return code if code >= 0 else 128 - code

    def settings(self) -> list[Any]:
        return termios.tcgetattr(self.master)


@contextlib.contextmanager
def terminal(box: Box, command: str | list[str], **keys: Any) -> Iterator[Terminal]:
    """nsrun with a pty of the test's as its controlling terminal and streams."""
    keys = {"namespaces": SPACES, "mounts": PROC, "tty": True, **keys}
    argv = box.runner.argv(box.spec(command=command, **keys))
    master, slave = pty.openpty()
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    before = termios.tcgetattr(slave)
    code = (
        "import fcntl,os,sys,termios; fcntl.ioctl(0,termios.TIOCSCTTY,0);"
        "os.execvp(sys.argv[1],sys.argv[1:])"
    )
    process = subprocess.Popen(
        ["/usr/bin/env", "python3", "-I", "-S", "-c", code, *argv],
        stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
        cwd=box.runner.cwd, env=box.runner.environment(),
    )  # fmt: skip
    os.close(slave)
    try:
        yield Terminal(master=master, process=process, before=before)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        os.close(master)


def test_a_terminal_of_its_own(boxed: Box) -> None:
    keys = boxed.base
    script = (
        "tty; test -t 0 && test -t 1 && test -t 2 && echo all;"
        "ls /dev/pts | xargs; stat -c %t:%T /dev/console"
    )
    with terminal(boxed, script, namespaces=keys["namespaces"], mounts=None) as t:
        assert t.wait("/dev/pts/0\r\n")
        assert t.wait("all\r\n")
        assert t.wait("0 ptmx\r\n")
        assert t.wait("88:0\r\n")
        assert t.end() == 0


def test_it_is_the_controlling_terminal(box: Box) -> None:
    # proc_pid_stat(5): pgrp, session, tty_nr, tpgid
    with terminal(box, "cut -d' ' -f 5-8 /proc/$$/stat; exec 3<>/dev/tty && echo mine") as t:
        group, session, number, foreground = t.wait(r"\d+ \d+ \d+ \d+\r\n").split()
        assert group == session == "1"
        assert foreground != "-1"
        assert int(number) >> 8 == 136
        assert t.wait("mine")
        assert t.end() == 0


def test_typing_and_line_editing(box: Box) -> None:
    with terminal(box, "read x; echo got=$x") as t:
        t.type("wrong\x15right\r")
        assert t.wait("got=right\r\n")
        assert t.end() == 0


def test_end_of_file(box: Box) -> None:
    with terminal(box, "echo up; cat; echo over") as t:
        t.wait("up")
        t.type("line\r")
        t.wait("line\r\nline\r\n")
        t.type("\x04")
        t.wait("over")
        assert t.end() == 0


def test_ctrl_c_is_the_commands(box: Box) -> None:
    command = "trap 'echo caught; exit 4' INT; echo up; while :; do sleep 0.05; done"
    with terminal(box, command) as t:
        t.wait("up")
        t.type("\x03")
        t.wait("caught")
        assert t.end() == 4


def test_job_control(box: Box) -> None:
    """Ctrl-Z stops the job, not the container: the shell inside goes on, and fg with it."""
    with terminal(box, ["/bin/bash", "--norc", "--noprofile", "-i"], env={"PS1": "ready> "}) as t:
        t.wait("ready> ")
        t.type("sleep 60\r")
        t.wait("sleep 60")
        time.sleep(0.2)
        t.type("\x1a")
        t.wait("Stopped")
        t.wait("ready> ")
        t.type("jobs -s | wc -l; bg; kill %1; wait; echo waited=$?\r")
        t.wait(r"[\r\n]1\r\n")
        t.wait(r"waited=\d+\r\n")
        t.type("exit 7\r")
        assert t.end() == 7


def test_the_windows_size(box: Box) -> None:
    command = "trap 'stty size' WINCH; stty size; while :; do sleep 0.05; done"
    with terminal(box, command) as t:
        t.wait("24 80\r\n")
        t.resize(40, 132)
        t.wait("40 132\r\n")
        t.resize(10, 20)
        t.wait("10 20\r\n")


def raw(settings: list[Any]) -> bool:
    return not settings[3] & termios.ICANON


def test_the_callers_terminal_is_raw_meanwhile_and_put_back(box: Box) -> None:
    with terminal(box, "echo up; read x; exit 3") as t:
        t.wait("up")
        assert wait_for(lambda: raw(t.settings()))
        t.type("x\r")
        assert t.end() == 3
        assert t.settings() == t.before


ENDS: dict[str, tuple[str | list[str], dict[str, Any], int]] = {
    "killed": ("echo up; read x; kill -9 $$", {"namespaces": ["user"], "mounts": None}, 137),
    "timeout": ("echo up; read x; exec sleep 60", {"timeout": "700ms"}, 137),
    "unsettled": ("stty raw -echo; echo up; read x; exit 5", {}, 5),
    "init": ("echo up; read x; exit 6", {"init": True}, 6),
}


@pytest.mark.parametrize("how", ENDS)
def test_the_terminal_is_put_back_however_the_command_ends(box: Box, how: str) -> None:
    command, keys, status = ENDS[how]
    with unchanged(), terminal(box, command, **keys) as t:
        t.wait("up")
        t.type("x\n")
        assert t.end() == status
        assert t.settings() == t.before


@pytest.mark.parametrize(
    ("command", "status"), [(["/no/such/program"], 127), ("true", 125)], ids=["exec", "step"]
)
def test_the_terminal_is_put_back_after_a_failure(
    box: Box, command: str | list[str], status: int
) -> None:
    keys: dict[str, Any] = {}
    if status == 125:
        keys = {"mounts": [*PROC, {"type": "tmpfs", "target": "/mnt", "options": ["size=x"]}]}
    with terminal(box, command, **keys) as t:
        assert t.end() == status
        assert t.settings() == t.before
        assert "error[" in t.seen


def test_sigterm_to_nsrun_puts_the_terminal_back(box: Box) -> None:
    with terminal(box, "echo up; exec sleep 60") as t:
        t.wait("up")
        assert wait_for(lambda: raw(t.settings()))
        t.process.send_signal(signal.SIGTERM)
        assert t.end() == 137
        assert t.settings() == t.before


def test_the_closing_of_the_window_ends_all(box: Box) -> None:
    with unchanged(), terminal(box, "echo up; (setsid sleep 300 &); exec sleep 300") as t:
        t.wait("up")
        os.close(t.master)
        t.master = os.open("/dev/null", os.O_RDONLY)
        assert t.end() >= 128


def test_suspending_nsrun_itself(box: Box) -> None:
    """A shell's Ctrl-Z outside: SIGTSTP stops nsrun and the terminal is the shell's again."""
    with terminal(box, "echo up; while read x; do echo got=$x; done") as t:
        t.wait("up")
        assert wait_for(lambda: raw(t.settings()))
        t.process.send_signal(signal.SIGTSTP)
        assert wait_for(lambda: state(t.process.pid) == "T")
        assert t.settings() == t.before
        t.process.send_signal(signal.SIGCONT)
        assert wait_for(lambda: raw(t.settings()))
        t.type("x\r")
        t.wait("got=x")
        t.type("\x04")
        assert t.end() == 0


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]


def test_without_a_terminal_outside(box: Box) -> None:
    """Pipes outside, a terminal inside: as in a build's log."""
    command = "tty > /dev/null && echo terminal; read x; echo got=$x; cat; echo end"
    out = box.out(command, "typed\nmore\n", tty=True, namespaces=SPACES, mounts=PROC)
    text = out.replace("\r", "")
    assert "terminal\n" in text and "got=typed\n" in text
    assert text.endswith("end"), "no end of input for the command"


def test_nothing_is_echoed_where_nobody_types(box: Box) -> None:
    """The end of the input, as a character, would stand in the output of what reads raw."""
    out = box.out("stty; stty raw; echo over", "typed\n", tty=True, namespaces=SPACES, mounts=PROC)
    assert "-echo" in out.split() and "typed" not in out
    assert out.endswith("over")
    with terminal(box, "stty") as t:
        t.wait("baud")
        assert t.end() == 0
        assert "-echo" not in t.seen


def test_a_shell_that_edits_lines_ends_with_its_input(box: Box) -> None:
    """readline reads raw; the end of the input must reach it all the same."""
    shell = ["/bin/bash", "--norc", "-i"]
    result = box.run(shell, "echo one-$((1+1))\n", tty=True, namespaces=SPACES, mounts=PROC)
    assert "one-2" in result.stdout


def test_large_output_is_whole(box: Box) -> None:
    out = box.out("stty -opost; head -c 300000 /dev/zero | tr '\\0' x; echo; echo done",
                  tty=True, namespaces=SPACES, mounts=PROC)  # fmt: skip
    assert out.count("x") == 300_000
    assert out.endswith("done")


def test_the_terminal_belongs_to_the_user(box: Box, own_root: Path) -> None:
    keys = {"namespaces": ["user", "mount", "pid"], "rootfs": str(own_root), "mounts": None}
    user = box.runner.user
    who = "1000:1000" if user.is_caller or user.sub_size else "0:0"
    with terminal(box, "stat -c %u $(tty); echo hello > $(tty)", user=who, **keys) as t:
        t.wait(who.partition(":")[0] + "\r\n")
        t.wait("hello")
        assert t.end() == 0
