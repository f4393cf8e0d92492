"""Attacks on the terminal of who starts a container (CVE-2017-5226, CVE-2019-10063)."""

from __future__ import annotations

import array
import fcntl
import os
import subprocess
import termios

from tests.support.box import Box, wait_for
from tests.support.detached import Containers
from tests.support.runner import Runner

PYTHON = "/usr/bin/python3"
# Types a command by TIOCSTI, reads and writes the selection by TIOCLINUX, both with bit 32 set too,
# which the kernel does not look at, and takes the terminal for its own session (ioctl_tty(2)).
TYPE = r"""
import ctypes, fcntl, json, os
libc = ctypes.CDLL(None, use_errno=True)
def ioctl(number, data):
    return 0 if libc.ioctl(0, ctypes.c_ulong(number), data) == 0 else ctypes.get_errno()
bit = 1 << 32
found = [max(ioctl(number, bytes([c])) for c in b"id\n") for number in (0x5412, 0x5412 | bit)]
found += [ioctl(number, b"\x02" + bytes(16)) for number in (0x541C, 0x541C | bit)]
try:
    os.close(os.open("/dev/tty", os.O_RDWR))
    found += [0]
except OSError as error:
    found += [error.errno]
print(json.dumps(found))
"""
EPERM, ENXIO, ENOTTY = 1, 6, 25


def _waiting(terminal: int) -> int:
    """How many bytes can be read from it."""
    found = array.array("i", [0])
    fcntl.ioctl(terminal, termios.FIONREAD, found)
    return found[0]


def typed_into(runner: Runner, *argv: str) -> tuple[str, int]:
    """What a program says that is started from a terminal, and how many bytes wait in that
    afterwards, for the shell to read."""
    master, slave = os.openpty()
    try:
        done = subprocess.run(
            argv, stdin=slave, capture_output=True, text=True, timeout=20, check=True,
            env=runner.environment(), cwd=runner.cwd, start_new_session=False,
            preexec_fn=lambda: (os.setsid(), fcntl.ioctl(0, termios.TIOCSCTTY, 0)),
        )  # fmt: skip
        return done.stdout.strip(), _waiting(slave)
    finally:
        os.close(master)
        os.close(slave)


def test_nothing_is_typed_into_the_callers_terminal(box: Box) -> None:
    command = [PYTHON, "-Ic", TYPE]
    # Each ENOTTY: a pseudo-terminal is no console, and has no selection.
    said, waiting = typed_into(box.runner, *box.runner.argv_of(*command))
    assert (said, waiting) == (f"[0, 0, {ENOTTY}, {ENOTTY}, 0]", 6), "the control"
    for keys in ({"namespaces": []}, {"namespaces": ["user", "mount", "pid"]}):
        for more in ({}, {"seccomp": "unconfined"}):
            file = box.spec(command=command, **keys, **more)
            said, waiting = typed_into(box.runner, *box.runner.argv(file))
            assert waiting == 0
            assert said == f"[{EPERM}, {EPERM}, {ENOTTY}, {ENOTTY}, {ENXIO}]"


def test_a_container_with_a_terminal_types_into_its_own_alone(c: Containers) -> None:
    """Through attach too: what is pushed into the container's own terminal stays there."""
    c.up("read go; " + f"{PYTHON} -Ic '{TYPE}'; cat", tty=True, stdin="open")
    master, slave = os.openpty()
    attached = subprocess.Popen(
        c.runner.argv("attach", "c"), stdin=slave, stdout=subprocess.PIPE, text=True,
        env=c.runner.environment(), cwd=c.runner.cwd,
        preexec_fn=lambda: (os.setsid(), fcntl.ioctl(0, termios.TIOCSCTTY, 0)),
    )  # fmt: skip
    try:
        # Until it listens: what was typed before it took the terminal over is gone.
        def has_run() -> bool:
            os.write(master, b"go\n")
            return "[0, 0, 25, 25, 0]" in c.log()

        # The control: into its own it may.
        assert wait_for(has_run), c.log()
        # What was typed here has been taken by the container; nothing else comes.
        assert wait_for(lambda: _waiting(slave) == 0)
    finally:
        attached.kill()
        attached.communicate()
        os.close(master)
        os.close(slave)
