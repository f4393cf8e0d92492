"""What `nsrun update` has changed of a container since it was started: its file `updates`.

    {"started": NANOSECONDS, "limits": {"/sys/fs/cgroup/.../pids.max": "40"}}

``started`` is the start that it belongs to, as :class:`Container` has it: the next one begins with
the plan's limits, and with a file that says nothing of it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Mapping

from nsrun.host import paths
from nsrun.runtime import store
from nsrun.runtime.store import Container

_FILE = "updates"
_LIMIT = 1 << 20


@contextlib.contextmanager
def held(container: Container, *, change: bool) -> Iterator[None]:
    """Nobody changes a limit meanwhile, or looks at them while ``change`` is true.

    A lock on the folder itself: its file `lock` is the monitor's. Of a folder that has gone there
    is nothing to hold.
    """
    try:
        fd = os.open(container.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX if change else fcntl.LOCK_SH)
        yield
    finally:
        os.close(fd)


def note(container: Container, limits: Mapping[str, str]) -> None:
    """That ``limits``, texts by their files, are written now."""
    data = {"started": container.started, "limits": {**limits_of(container), **limits}}
    # Ended, and taken away: there is nobody to know it.
    with contextlib.suppress(FileNotFoundError):
        store.write(container.folder, _FILE, json.dumps(data, indent=1).encode() + b"\n")


def limits_of(container: Container) -> dict[str, str]:
    """By a control group's file what was written to it last since the container was started."""
    text = paths.read_file(os.path.join(container.folder, _FILE), _LIMIT)
    try:
        data = json.loads(text or "")
    except (ValueError, RecursionError):
        return {}
    if not isinstance(data, dict) or data.get("started") != container.started:
        return {}
    limits = data.get("limits")
    if not isinstance(limits, dict):
        return {}
    return {k: v for k, v in limits.items() if store.is_text(k) and store.is_text(v)}
