"""The processes below this one, from /proc."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

# linux/prctl.h
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    pid: int
    parent: int
    name: str
    state: str


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent has ended (prctl(2))."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def end_with_parent() -> None:
    """Be killed when the parent ends, however it ends."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), f"prctl({option})")


def parse_stat(text: str) -> Process:
    """A line of /proc/PID/stat; the name stands in parentheses and may hold any byte."""
    pid, _, rest = text.partition(" (")
    name, _, rest = rest.rpartition(") ")
    state, parent = rest.split(" ", 2)[:2]
    return Process(pid=int(pid), parent=int(parent), name=name, state=state)


def everyone() -> list[Process]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                text = (entry / "stat").read_text(errors="replace")
                found.append(parse_stat(text))
    return found


def below(root: int, processes: list[Process]) -> list[Process]:
    """Those that descend from ``root``, parents before their children."""
    found: list[Process] = []
    ahead = [root]
    while ahead:
        parent = ahead.pop()
        children = [p for p in processes if p.parent == parent and p.pid != parent]
        found += children
        ahead += [p.pid for p in children]
    return found


def descendants(root: int | None = None) -> list[Process]:
    """Those below ``root`` (this process) that have not ended."""
    found = below(root or os.getpid(), everyone())
    return [p for p in found if p.state not in "ZX"]


def end_descendants() -> None:
    """End whatever runs below this process, and collect it."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        left = descendants()
        for process in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if not left:
            return
        time.sleep(0.02)
