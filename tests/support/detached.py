"""Containers that a test leaves running, and that are gone when it ends."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.box import Box, wait_for
from tests.support.runner import Result, Runner

# What all have but those that say else; sh is busybox's or the host's.
BASE: dict[str, Any] = {
    "namespaces": ["user", "mount", "pid", "ipc", "uts"],
    "mounts": [{"type": "proc", "target": "/proc"}],
    "stop_timeout": "1s",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Containers:
    """Runs ``nsrun run -d`` and its like for the user of ``box``."""

    box: Box

    @property
    def runner(self) -> Runner:
        return self.box.runner

    @property
    def state(self) -> Path:
        """nsrun's state folder."""
        user = self.runner.user
        return Path("/run/nsrun") if user.uid == 0 else user.runtime / "nsrun"

    def folder(self, name: str = "c") -> Path:
        return self.state / "containers" / name

    def spec(self, command: str | list[str], /, **keys: Any) -> Path:
        return self.box.spec(command=command, **{"name": "c", **keys})

    def run(self, command: str | list[str], /, *words: str, **keys: Any) -> Result:
        """``nsrun run -d WORDS... SPEC``; the container is called c where nothing else is said."""
        return self.runner.run("run", "-d", *words, self.spec(command, **keys))

    def up(self, command: str | list[str], /, *words: str, **keys: Any) -> str:
        """As :meth:`run`, of what must start; its short id."""
        result = self.run(command, *words, **keys)
        assert result.stderr == "", str(result)
        name, short = result.ok().split()
        assert name == keys.get("name", "c") or "--name" in words
        return short

    def __call__(self, *words: str | Path, stdin: str | None = None) -> Result:
        return self.runner.run(*words, stdin=stdin)

    def ok(self, *words: str | Path) -> str:
        """The standard output of ``nsrun WORDS...``, which must succeed and warn of nothing."""
        result = self.runner.run(*words)
        assert result.stderr == "", str(result)
        return result.ok()

    def ps(self) -> dict[str, dict[str, Any]]:
        listed = json.loads(self.runner.run("ps", "-a", "--format", "json").ok())
        return {one["name"]: one for one in listed}

    def pid(self, name: str = "c") -> int:
        return int((self.folder(name) / "pid").read_text())

    def log(self, name: str = "c") -> str:
        """The text of the newest log file, with times and streams."""
        return (self.folder(name) / "log").read_text(errors="backslashreplace")

    def said(self, name: str = "c") -> list[str]:
        """The lines of the newest log file, without times."""
        return [line.split(" ", 1)[1] for line in self.log(name).splitlines()]

    def until_said(self, text: str, name: str = "c") -> None:
        assert wait_for(lambda: text in self.log(name)), self.log(name)

    def until_over(self, name: str = "c") -> None:
        """Wait for the end of its monitor, which is the last of it."""
        assert wait_for(lambda: self.locker(name) == 0), "it does not end"

    def locker(self, name: str = "c") -> int:
        """The pid of the monitor (proc_locks(5)), 0 without one.

        By the device too: the inodes of each tmpfs are counted from 1.
        """
        try:
            found = (self.folder(name) / "lock").stat()
        except FileNotFoundError:
            return 0
        place = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
        for line in Path("/proc/locks").read_text().splitlines():
            words = line.split()
            if "->" not in words and words[1] == "FLOCK" and words[5] == place:
                return int(words[4])
        return 0

    def launcher(self, name: str = "c") -> int:
        """The pid of the monitor's one child."""
        monitor = self.locker(name)
        (child,) = Path(f"/proc/{monitor}/task/{monitor}/children").read_text().split()
        return int(child)

    def kill(self, pid: int) -> None:
        """SIGKILL, and wait until it is no more."""
        fd = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(fd, signal.SIGKILL)
            assert wait_for(lambda: is_dead(pid))
        finally:
            os.close(fd)


def is_dead(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


@contextmanager
def containers(box: Box) -> Iterator[Containers]:
    """For the time of the block; what is left then is removed."""
    made = Containers(box=box.with_(**{**BASE, **box.base}))
    try:
        yield made
    finally:
        names = [entry.name for entry in made.folder("").glob("*")]
        if names:
            made.runner.run("rm", "-f", *names)
        deadline = time.monotonic() + 5
        while made.state.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        left = [str(path) for path in made.state.rglob("*")]
        assert left == [], left


def lines_of(data: bytes, limit: int = 8192) -> list[tuple[str, bytes]]:
    """What a log is to have of a stream: whole lines (F), and parts (P) of longer ones and of one
    that is never ended."""
    found: list[tuple[str, bytes]] = []
    *whole, rest = data.split(b"\n")
    for line in whole:
        while len(line) > limit:
            found.append(("P", line[:limit]))
            line = line[limit:]
        found.append(("F", line))
    while rest:
        found.append(("P", rest[:limit]))
        rest = rest[limit:]
    return found
