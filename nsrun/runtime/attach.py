"""A container's streams in this terminal, until it ends or the detach keys are typed."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Iterator
from types import FrameType

from nsrun.diag import Diagnostic, NsrunError
from nsrun.runtime import life, store
from nsrun.runtime.control import Monitor, end_of
from nsrun.runtime.store import Container

_READ = 8192
_DETACHED = 0


def detach_keys(text: str) -> bytes:
    """The bytes of ``ctrl-p,ctrl-q``; "" for none. Raises NsrunError (NS002)."""
    found = bytearray()
    for word in filter(None, text.split(",")):
        is_control = word.lower().startswith("ctrl-")
        name = word[len("ctrl-") :] if is_control else word
        if not _is_key(name, is_control):
            raise NsrunError(
                Diagnostic(
                    code="NS002",
                    summary=f"{word} is no key",
                    help=("write letters and ctrl-LETTER, with commas: ctrl-p,ctrl-q",),
                )
            )
        # As a terminal does: ctrl- takes the upper bits away (ascii(7)).
        found.append(ord(name.upper()) & 0x1F if is_control else ord(name))
    return bytes(found)


def _is_key(name: str, is_control: bool) -> bool:
    is_one = len(name) == 1 and name.isascii() and name.isprintable()
    return is_one and (not is_control or name.isalpha() or name in "@[\\]^_")


def attach(container: Container, monitor: Monitor, keys: bytes, *, stdin: bool) -> int:
    """The container's exit status, or 0 where it was left running."""
    interactive = container.record.tty and stdin and os.isatty(0)
    monitor.attach()
    with _raw() if interactive else contextlib.nullcontext(), _window(monitor, interactive):
        return _relay(container, monitor, _Keys(keys), stdin and container.record.stdin)


def _relay(container: Container, monitor: Monitor, keys: _Keys, stdin: bool) -> int:
    typed = b""
    left = False
    while True:
        poll = select.poll()
        # Where the container does not take what is typed, the monitor does not either: what the
        # container writes is shown all the same.
        poll.register(monitor, select.POLLIN | (select.POLLOUT if typed else 0))
        if stdin and not typed:
            poll.register(0, select.POLLIN)
        ready = dict(poll.poll())
        events = ready.get(monitor.fileno(), 0)
        if events & ~select.POLLOUT:
            kind, data = monitor.receive()
            if kind == "x":
                return end_of(data).status
            if not kind:
                if not _again(container, monitor):
                    return _ended_meanwhile(container)
                continue
            stream = sys.stderr if kind == "e" else sys.stdout
            stream.buffer.write(data)
            stream.buffer.flush()
        elif events:
            monitor.type(typed)
            typed = b""
        if left and not typed:
            return _DETACHED
        if 0 in ready:
            read = os.read(0, _READ)
            typed, left = keys.take(read)
            if left and not typed:
                return _DETACHED
            if not read:
                # What was held back is shorter than any buffer.
                monitor.type(keys.rest())
                monitor.end_input()
                stdin = False


def _again(container: Container, monitor: Monitor) -> bool:
    """Whether there is a monitor to listen to again: it does not wait for who reads slowly, and
    may have ended just as well."""
    monitor.close()
    try:
        monitor.connect(container)
    except ConnectionError:
        return False
    monitor.attach()
    _say_too_slow(container)
    return True


def _ended_meanwhile(container: Container) -> int:
    """The exit status; a monitor that was not killed has told its end to all it still knew."""
    status = life.wait(container)
    found = store.load(container.folder)
    if found is not None and found.exit_status is not None:
        _say_too_slow(container)
    return status


def _say_too_slow(container: Container) -> None:
    name = container.record.name
    print(f"\r\n[too slow: what is missing here is in `nsrun logs {name}`]\r", file=sys.stderr)


class _Keys:
    """Finds the detach keys in what is typed, also in pieces."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._seen = 0

    def take(self, typed: bytes) -> tuple[bytes, bool]:
        """What is to be passed on, and whether the keys are complete."""
        if not self._keys:
            return typed, False
        held = self.rest() + typed
        at = held.find(self._keys)
        if at >= 0:
            return held[:at], True
        # What may be their beginning is held back.
        longest = min(len(held), len(self._keys) - 1)
        self._seen = next(n for n in range(longest, -1, -1) if held.endswith(self._keys[:n]))
        return held[: len(held) - self._seen], False

    def rest(self) -> bytes:
        """What was held back, when nothing comes any more."""
        held, self._seen = self._keys[: self._seen], 0
        return held


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
