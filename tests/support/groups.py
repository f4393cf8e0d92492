"""Control groups, which are the whole machine's, and so are their names."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nsrun.host import cgroups


@contextmanager
def alone() -> Iterator[None]:
    """One test at a time, of all that run beside each other."""
    with Path("/tmp/nsrun-test-cgroups.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def groups_of(name: str) -> tuple[str, ...]:
    """The groups below the caller's own that containers called ``name`` have."""
    found = cgroups.look()
    bases = [Path(folder.path) for folder in (found.v2, *found.v1.values()) if folder is not None]
    return tuple(sorted({str(path) for base in bases for path in base.glob(f"nsrun-{name}*")}))
