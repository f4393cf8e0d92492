"""Reading a container's log, and following it."""

from __future__ import annotations

import contextlib
import datetime
import os
import re
import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from nsrun.diag import Diagnostic, NsrunError
from nsrun.runtime import store
from nsrun.runtime.control import Monitor
from nsrun.runtime.store import Container, Line

_AGO = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """``since`` and ``until``: RFC 3339 as the log has it, which sorts by time."""

    tail: int | None = None
    since: str = ""
    until: str = ""
    timestamps: bool = False

    def wants(self, line: Line) -> bool:
        return line.time >= self.since and (not self.until or line.time <= self.until)


def moment(text: str | None) -> str:
    """A time as the log has it, of ``10m`` (ago), seconds since 1970 or RFC 3339; "" for None.

    Raises NsrunError (NS002).
    """
    if text is None:
        return ""
    ago = _AGO.match(text)
    if ago is not None and text:
        days, hours, minutes, seconds = (int(part or 0) for part in ago.groups())
        at = time.time() - (((days * 24 + hours) * 60 + minutes) * 60 + seconds)
        found = datetime.datetime.fromtimestamp(at, datetime.UTC)
    else:
        try:
            found = datetime.datetime.fromisoformat(text)
        except ValueError:
            raise NsrunError(
                Diagnostic(
                    code="NS002",
                    summary=f"{text} is no time",
                    help=("write 2026-11-26T12:00:00Z, or how long ago: 90s, 10m, 2h",),
                )
            ) from None
    return found.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")


def show(container: Container, chosen: Chosen, *, follow: bool) -> None:
    """Print the log; with ``follow`` on until the container ends."""
    reader = Reader(container.folder)
    # Before the first look: what comes between the two is seen by it.
    monitor = _monitor(container) if follow else None
    lines: Iterator[Line] | deque[Line] = (line for line in reader.new() if chosen.wants(line))
    if chosen.tail is not None:
        lines = deque(lines, maxlen=max(chosen.tail, 0))
    for line in lines:
        _print(line, chosen)
    if monitor is None:
        return
    with monitor:
        over = False
        while not over:
            kind, _ = monitor.receive()
            over = kind in ("x", "")
            for line in reader.new():
                if chosen.wants(line):
                    _print(line, chosen)


def _monitor(container: Container) -> Monitor | None:
    try:
        monitor = Monitor(container)
    except ConnectionError:
        return None
    monitor.attach()
    return monitor


class Reader:
    """The lines of a log that have not been read yet, across its rotation."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._read: dict[int, int] = {}

    def new(self) -> Iterator[Line]:
        for path in store.log_files(self._folder):
            # One that has been rotated away meanwhile was read before.
            with contextlib.suppress(FileNotFoundError):
                yield from self._of(path)

    def _of(self, path: str) -> Iterator[Line]:
        with open(path, encoding="utf-8", errors="backslashreplace", newline="\n") as file:
            inode = os.fstat(file.fileno()).st_ino
            file.seek(self._read.get(inode, 0))
            while (text := file.readline()).endswith("\n"):
                self._read[inode] = file.tell()
                yield store.line_of(text[:-1])


def _print(line: Line, chosen: Chosen) -> None:
    stream = sys.stderr if line.stream == "stderr" else sys.stdout
    stamp = f"{line.time} " if chosen.timestamps else ""
    stream.write(f"{stamp}{line.text}" + ("" if line.part else "\n"))
    stream.flush()
