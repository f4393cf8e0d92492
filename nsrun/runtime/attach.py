"""A container's streams in this terminal, until it ends or the detach keys are typed."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import struct
import sys
import termios
import tty
from collections.abc import Iterator
from types import FrameType

from nsrun.diag import Diagnostic, NsrunError
from nsrun.runtime import life
from nsrun.runtime.control import Monitor
from nsrun.runtime.store import Container

_READ = 8192
_INT = struct.Struct("=i")
_DETACHED = 0


def detach_keys(text: str) -> bytes:
    """The bytes of ``ctrl-p,ctrl-q``; "" for none. Raises NsrunError (NS002)."""
    found = bytearray()
    for word in filter(None, text.split(",")):
        name = word.lower().removeprefix("ctrl-")
        if len(name) != 1 or (word != name and not (name.isalpha() or name in "@[\\]^_")):
            raise NsrunError(
                Diagnostic(
                    code="NS002",
                    summary=f"{word} is no key",
                    help=("write letters and ctrl-LETTER, with commas: ctrl-p,ctrl-q",),
                )
            )
        found.append(ord(name) if word == name else ord(name.upper()) & 0x1F)
    return bytes(found)


def attach(container: Container, monitor: Monitor, keys: bytes, *, stdin: bool) -> int:
    """The container's exit status, or 0 where it was left running."""
    interactive = container.record.tty and stdin and os.isatty(0)
    monitor.attach()
    with _raw() if interactive else contextlib.nullcontext(), _window(monitor, interactive):
        return _relay(container, monitor, _Keys(keys), stdin and container.record.stdin)


def _relay(container: Container, monitor: Monitor, keys: _Keys, stdin: bool) -> int:
    poll = select.poll()
    poll.register(monitor, select.POLLIN)
    if stdin:
        poll.register(0, select.POLLIN)
    while True:
        ready = {fd for fd, _ in poll.poll()}
        if monitor.fileno() in ready:
            kind, data = monitor.receive()
            if kind == "x":
                return int(_INT.unpack(data)[0])
            if not kind:
                return life.wait(container)
            stream = sys.stderr if kind == "e" else sys.stdout
            stream.buffer.write(data)
            stream.buffer.flush()
        if 0 in ready:
            typed = os.read(0, _READ)
            passed, left = keys.take(typed)
            if passed:
                monitor.type(passed)
            if left:
                return _DETACHED
            if not typed:
                poll.unregister(0)
                monitor.end_input()


class _Keys:
    """Finds the detach keys in what is typed, also in pieces."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._seen = 0

    def take(self, typed: bytes) -> tuple[bytes, bool]:
        """What is to be passed on, and whether the keys are complete."""
        passed = bytearray()
        for byte in typed:
            if self._keys and byte == self._keys[self._seen]:
                self._seen += 1
                if self._seen == len(self._keys):
                    return bytes(passed), True
                continue
            passed += self._keys[: self._seen]
            self._seen = 1 if self._keys and byte == self._keys[0] else 0
            if not self._seen:
                passed.append(byte)
        return bytes(passed), False


@contextlib.contextmanager
def _raw() -> Iterator[None]:
    before = termios.tcgetattr(0)
    tty.setraw(0)
    try:
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)


@contextlib.contextmanager
def _window(monitor: Monitor, interactive: bool) -> Iterator[None]:
    """The container's terminal has this one's size, now and when it changes."""
    if not interactive:
        yield
        return

    def resize(_number: int = 0, _frame: FrameType | None = None) -> None:
        columns, rows = os.get_terminal_size(0)
        monitor.resize(rows, columns)

    before = signal.signal(signal.SIGWINCH, resize)
    resize()
    try:
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)
