"""Removing what has ended, and what killed processes have left."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass

from nsrun.host import cgroups, forwarding, subgroups
from nsrun.plan.cgroup_limits import group_name
from nsrun.runtime import life, stack_store, store

_MARK = "switch-"


@dataclass(frozen=True, slots=True)
class Gone:
    """``kind``: container, folder, stack, control group or switch; ``status``: of a container."""

    kind: str
    name: str
    status: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.name}" + (f" ({self.status})" if self.status else "")

    def as_data(self) -> dict[str, str]:
        data = {"kind": self.kind, "name": self.name}
        return {**data, "status": self.status} if self.status else data


def prune(*, dry_run: bool) -> Iterator[Gone]:
    """Remove it, and tell of each."""
    top = store.folder()
    for container in store.everything():
        if not container.alive:
            yield Gone("container", container.record.name, container.status.value)
            if not dry_run:
                life.discard(container)
    for name in _listed(top):
        place = os.path.join(top, name)
        # A start that was killed before it had written anything down.
        if store.load(place) is None and not store.is_locked(place):
            yield Gone("folder", place)
            if not dry_run:
                store.remove(place)
    for name in stack_store.names():
        if not stack_store.is_kept(name) and not stack_store.containers(name):
            yield Gone("stack", name)
            if not dry_run:
                stack_store.remove(name)
    yield from _groups(dry_run)
    yield from _switches(os.path.dirname(top), dry_run)


def _groups(dry_run: bool) -> Iterator[Gone]:
    for path in cgroups.unused_below(group_name("")):
        with contextlib.suppress(OSError):
            if dry_run or subgroups.remove_unused(path):
                yield Gone("control group", path)


def _listed(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except FileNotFoundError:
        return []


def _switches(state: str, dry_run: bool) -> Iterator[Gone]:
    """Those of this network namespace whose mark nobody holds: off, as its last user would."""
    prefix = f"{_MARK}{forwarding.netns()}-"
    for name in _listed(state):
        if not name.startswith(prefix):
            continue
        key = _key(name.removeprefix(prefix))
        path = os.path.join(state, name)
        with contextlib.suppress(OSError):
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            finally:
                if dry_run:
                    os.close(fd)
            yield Gone("switch", key.replace("/", "."))
            if dry_run:
                continue
            with contextlib.suppress(OSError), open(f"/proc/sys/{key}", "w") as switch:
                switch.write("0")
            os.unlink(path)
            os.close(fd)


def _key(name: str) -> str:
    """``net/ipv4/conf/eth0.5/forwarding`` of ``net.ipv4.conf.eth0.5.forwarding``."""
    first, second, third, *interface, last = name.split(".")
    return "/".join((first, second, third, ".".join(interface), last))
