"""The native program given what is no plan: it says so, and nothing of it runs."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess

import pytest

from nsrun.kernel.depend import Depend, Kind
from nsrun.plan import binary, entry
from nsrun.replay import native
from tests.support import replays
from tests.support.requires import requires

pytestmark = requires("native")

PLAN = replays.command(*replays.sh("echo ran"))


def replay(data: bytes, *options: str, keep: int = -1) -> subprocess.CompletedProcess[str]:
    fd = os.memfd_create("plan", 0)
    try:
        os.write(fd, data)
        return subprocess.run(
            [native.NAME, str(fd), *options],
            executable=replays.PROGRAM,
            pass_fds=[fd] if keep < 0 else [fd, keep],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    finally:
        os.close(fd)


def test_the_control_runs() -> None:
    done = replay(binary.encode(PLAN), "-")
    assert (done.returncode, done.stdout, done.stderr) == (0, "ran\n", "")


def _other_machine() -> bytes:
    machine = {"x86_64": "aarch64", "aarch64": "x86_64"}[os.uname().machine]
    needs = dataclasses.replace(PLAN.needs, machine=machine)
    return binary.encode(dataclasses.replace(PLAN, needs=needs))


def _changed(place: int) -> bytes:
    data = bytearray(binary.encode(PLAN))
    data[place] ^= 0x10
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "does not start as one"),
        (b"x" * 4096, "does not start as one"),
        (_changed(8), "another format"),
        (_changed(200), "checksum"),
        (binary.encode(PLAN)[:300], "does not start as one"),
        (_other_machine(), "another machine"),
    ],
    ids=["empty", "noise", "format", "damaged", "cut", "machine"],
)
def test_what_is_no_plan(data: bytes, words: str) -> None:
    done = replay(data, "-")
    assert (done.returncode, done.stdout) == (125, "")
    assert words in done.stderr


@pytest.mark.parametrize("argv", [[], ["x"], ["99"], ["-1"], ["0"]])
def test_odd_words(argv: list[str]) -> None:
    done = subprocess.run(
        [native.NAME, *argv],
        executable=replays.PROGRAM,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (done.returncode, done.stdout) == (125, "")
    assert "no plan" in done.stderr


def test_a_failure_is_told_where_the_outcome_cannot_be_written() -> None:
    """full(4): every write to it fails with ENOSPC."""
    failing = replays.command(replays.call("chdir", "/nowhere"), *replays.sh("echo ran"))
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        done = replay(binary.encode(failing), "-", str(full), keep=full)
        assert (done.returncode, done.stdout) == (125, "")
        assert re.search(r"step c\d+ failed: .*ENOENT", done.stderr)
        control = replay(binary.encode(PLAN), "-", str(full), keep=full)
        assert (control.returncode, control.stdout, control.stderr) == (0, "ran\n", "")
    finally:
        os.close(full)


def test_the_layout_is_that_of_the_header() -> None:
    """struct entry_depend and its Python form have the same size, without padding."""
    one = Depend(kind=Kind.ENV, text="TERM", path="TERM", error=2)
    head, two = entry.encode(b"k", [one]), entry.encode(b"k", [one, one])
    assert len(two) - len(head) == entry.DEPEND_SIZE == 96
    assert entry.plan_of(head + b"plan") == b"plan"
