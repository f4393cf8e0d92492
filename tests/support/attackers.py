"""Attackers that run beside what they attack, for a bounded time."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

# `make attacks` races for longer.
SECONDS = 5.0 if os.environ.get("NSRUN_SWEEP") == "1" else 0.3

# Exchanges argv[1] and argv[2] (renameat2(2), RENAME_EXCHANGE: neither name is ever missing) until
# standard input ends, and leaves them as they were.
_SWAP = """
import ctypes, select, sys
libc = ctypes.CDLL(None, use_errno=True)
one, other = (word.encode() for word in sys.argv[1:3])
def exchange():
    if libc.renameat2(-100, one, -100, other, 2):
        raise OSError(ctypes.get_errno(), "renameat2")
print("up", flush=True)
count = 0
while not (count % 64 == 0 and select.select([0], [], [], 0)[0]):
    exchange()
    exchange()
    count += 1
print(count)
"""


@contextmanager
def swapping(one: Path | str, other: Path | str, *, apart: bool = False) -> Iterator[None]:
    """A process that swaps two names all the time; they are as before afterwards.

    ``apart``: in a mount namespace of its own, where no mount keeps a name from being changed
    (rename(2), EBUSY); as root.
    """
    own = ["unshare", "--mount", "--propagation", "private"] if apart else []
    with subprocess.Popen(
        [*own, sys.executable, "-I", "-S", "-c", _SWAP, str(one), str(other)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        try:
            yield
        finally:
            said, _ = process.communicate(timeout=10)
    assert int(said) > 0, "nothing was swapped"


def until_tired() -> Iterator[int]:
    """Counts the rounds of an attack that lasts SECONDS; there are two at least."""
    end = time.monotonic() + SECONDS
    number = 0
    while number < 2 or time.monotonic() < end:
        yield number
        number += 1


def beaten(attempt: Callable[[], bool], tries: int = 200_000) -> bool:
    """Whether ``attempt`` of the naive way is beaten once, within so many tries."""
    return any(attempt() for _ in range(tries))
