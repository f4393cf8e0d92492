"""Reading a container's log, and following it."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import re
import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from nsrun.diag import Diagnostic, NsrunError
from nsrun.runtime import store
from nsrun.runtime.control import Monitor
from nsrun.runtime.store import Container, Line

# 2026-11-26T12:00:00.000000
_MICROSECONDS = 26
_SINCE_1970 = re.compile(r"[0-9]{1,11}(\.[0-9]{1,9})?\Z", re.ASCII)
_AGO = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?\Z", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """``since`` and ``until``: RFC 3339 as the log has it, which sorts by time; ``json``: an object
    a line, on standard output."""

    tail: int | None = None
    since: str = ""
    until: str = ""
    timestamps: bool = False
    json: bool = False

    def wants(self, line: Line) -> bool:
        # To the microsecond: the moments have no more.
        time = line.time[:_MICROSECONDS]
        return time >= self.since and (not self.until or time <= self.until)

    def is_over(self) -> bool:
        """Whether nothing more is wanted that comes from now on."""
        return bool(self.until) and moment("0s") > self.until


def moment(text: str | None) -> str:
    """A time as the log has it, of ``10m`` (ago), seconds since 1970 or RFC 3339; "" for None.

    Raises NsrunError (NS002).
    """
    if text is None:
        return ""
    try:
        found = _moment(text).astimezone(datetime.UTC)
    # What lies outside of the years 1 to 9999 is one or the other, or no time of the system's.
    except (ValueError, OverflowError, OSError):
        raise NsrunError(
            Diagnostic(
                code="NS002",
                summary=f"{text} is no time",
                help=("write 2026-11-26T12:00:00Z, or how long ago: 90s, 10m, 2h",),
            )
        ) from None
    return found.replace(tzinfo=None).isoformat(timespec="microseconds")


def _moment(text: str) -> datetime.datetime:
    ago = _AGO.match(text)
    if ago is not None and text:
        days, hours, minutes, seconds = (int(part or 0) for part in ago.groups())
        at = time.time() - (((days * 24 + hours) * 60 + minutes) * 60 + seconds)
        return datetime.datetime.fromtimestamp(at, datetime.UTC)
    if _SINCE_1970.match(text):
        return datetime.datetime.fromtimestamp(float(text), datetime.UTC)
    return datetime.datetime.fromisoformat(text)


def show(container: Container, chosen: Chosen, *, follow: bool) -> None:
    """Print the log; with ``follow`` on until the container ends."""
    if not container.record.log_files:
        print(
            f"warning: {container.record.name} keeps no log (logging.driver: none)",
            file=sys.stderr,
            flush=True,
        )
    with contextlib.closing(Reader(container.folder)) as reader:
        _show(container, chosen, reader, follow)


def _show(container: Container, chosen: Chosen, reader: Reader, follow: bool) -> None:
    # Before the first look: what comes between the two is seen by it.
    monitor = _monitor(container) if follow and not chosen.is_over() else None
    lines: Iterator[Line] | deque[Line] = (line for line in reader.new() if chosen.wants(line))
    if chosen.tail is not None:
        lines = deque(lines, maxlen=max(chosen.tail, 0))
    for line in lines:
        _print(line, container, chosen)
    _say_lost(container)
    while monitor is not None:
        with monitor:
            kind, _ = monitor.receive()
            while kind not in ("x", "") and not chosen.is_over():
                _print_new(reader, container, chosen)
                kind, _ = monitor.receive()
        # Who reads slowly is left behind by the monitor, which has no time to wait.
        monitor = _monitor(container) if not kind else None
        _print_new(reader, container, chosen)
        if monitor is None:
            _say_lost(container)


def _say_lost(container: Container) -> None:
    """What the log itself has no room to say; it says so when it goes on."""
    lost = store.lost(container.folder)
    if lost is not None:
        lines, why = lost
        counted = "1 line was" if lines == 1 else f"{lines} lines were"
        print(f"warning: {counted} lost at the end of the log: {why}", file=sys.stderr, flush=True)


def _print_new(reader: Reader, container: Container, chosen: Chosen) -> None:
    for line in reader.new():
        if chosen.wants(line):
            _print(line, container, chosen)


def _monitor(container: Container) -> Monitor | None:
    try:
        monitor = Monitor(container)
    except ConnectionError:
        return None
    monitor.attach()
    return monitor


class Reader:
    """The lines of a log that have not been read yet, across its rotation.

    Files that have been read from stay open: a new one cannot get the inode number of one that
    was removed meanwhile, and what was written last to that one is read.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        # By inode, the oldest first.
        self._files: dict[int, BinaryIO] = {}

    def close(self) -> None:
        for file in self._files.values():
            file.close()
        self._files.clear()

    def new(self) -> Iterator[Line]:
        self._open_new()
        for file in tuple(self._files.values()):
            yield from _lines(file)

    def _open_new(self) -> None:
        before, there = self._newest(), self._opened()
        while before != (before := self._newest()):
            # A rotation came between: some are missing, or not in their order.
            for file in there.values():
                file.close()
            there = self._opened()
        for inode, file in there.items():
            if inode in self._files:
                file.close()
            else:
                self._files[inode] = file
        # Of one that is there no more the last has been read, or is to be read now.
        for inode in [i for i, f in self._files.items() if i not in there and _is_read(f)]:
            self._files.pop(inode).close()

    def _newest(self) -> int:
        """The inode number of the file that is written to now, 0 for none."""
        try:
            return os.stat(os.path.join(self._folder, "log")).st_ino
        except FileNotFoundError:
            return 0

    def _opened(self) -> dict[int, BinaryIO]:
        found: dict[int, BinaryIO] = {}
        with contextlib.suppress(FileNotFoundError):  # the folder
            for path in store.log_files(self._folder):
                with contextlib.suppress(FileNotFoundError):  # rotated away
                    file = open(path, "rb")  # noqa: SIM115 - it stays open
                    found[os.fstat(file.fileno()).st_ino] = file
        return found


def _is_read(file: BinaryIO) -> bool:
    return file.tell() >= os.fstat(file.fileno()).st_size


def _lines(file: BinaryIO) -> Iterator[Line]:
    while True:
        at = file.tell()
        text = file.readline()
        if not text.endswith(b"\n"):
            file.seek(at)
            return
        yield store.line_of(text[:-1].decode("utf-8", "backslashreplace"))


def _print(line: Line, container: Container, chosen: Chosen) -> None:
    stream = sys.stderr if line.stream == "stderr" and not chosen.json else sys.stdout
    if chosen.json:
        text = json.dumps(_as_data(line, container.record.name)) + "\n"
    else:
        stamp = f"{line.time} " if chosen.timestamps else ""
        text = f"{stamp}{line.text}" + ("" if line.part else "\n")
    stream.write(text)
    stream.flush()


def _as_data(line: Line, name: str) -> dict[str, object]:
    data: dict[str, object] = {
        "time": line.time, "stream": line.stream, "name": name, "text": line.text,
    }  # fmt: skip
    return {**data, "part": True} if line.part else data
