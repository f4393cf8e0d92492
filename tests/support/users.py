"""Ordinary users for tests: a number nobody has, and files that make it a user.

The machine's own /etc is never written: the files are bind-mounted in a private mount
namespace, for the one process under test.
"""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass, field
from pathlib import Path

_FIRST_SUBORDINATE = 200_000
_SUBORDINATES = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Who runs nsrun. ``home``, ``runtime`` and ``cache`` are folders of its own; ``binds`` are
    pairs of a test's file and the file of /etc that it stands for. ``sub_start`` and ``sub_size``:
    its subordinate ids, 0 and 0 without any."""

    uid: int
    gid: int
    name: str
    home: Path
    runtime: Path
    cache: Path
    sub_start: int = 0
    sub_size: int = 0
    binds: tuple[tuple[Path, Path], ...] = field(default=())

    @property
    def is_caller(self) -> bool:
        return self.uid == os.geteuid()


def root_user(area: Path) -> User:
    """The caller, which is root, with folders below ``area``."""
    return _with_folders(area, uid=0, gid=0, name="root")


def ordinary_user(area: Path, *, subordinate_ids: bool = True, name: str = "tester") -> User:
    """A user without rights; the caller itself where it is not root.

    ``area`` must be a folder that others can enter. Without ``subordinate_ids`` the user has
    none in /etc/subuid and /etc/subgid (only where the caller is root).
    """
    if os.geteuid() != 0:
        entry = pwd.getpwuid(os.geteuid())
        return _with_folders(area, uid=os.geteuid(), gid=os.getegid(), name=entry.pw_name)
    uid = _free_id()
    size = _SUBORDINATES if subordinate_ids else 0
    sub = f"{name}:{_FIRST_SUBORDINATE}:{size}\n" if size else ""
    etc = area / f"etc-{name}"
    etc.mkdir()
    home = area / name
    texts = {
        "passwd": Path("/etc/passwd").read_text() + f"{name}:x:{uid}:{uid}::{home}:/bin/sh\n",
        "group": Path("/etc/group").read_text() + f"{name}:x:{uid}:\n",
        "subuid": sub,
        "subgid": sub,
    }
    for file, text in texts.items():
        (etc / file).write_text(text)
        (etc / file).chmod(0o644)
    user = _with_folders(area, uid=uid, gid=uid, name=name)
    return User(
        uid=uid,
        gid=uid,
        name=name,
        home=user.home,
        runtime=user.runtime,
        cache=user.cache,
        sub_start=_FIRST_SUBORDINATE if size else 0,
        sub_size=size,
        binds=tuple((etc / file, Path("/etc") / file) for file in texts),
    )


def _with_folders(area: Path, *, uid: int, gid: int, name: str) -> User:
    home = area / name
    runtime = area / f"run-{name}"
    # Beside the area: what a run keeps for the next is no trace of it there.
    cache = area.with_name(f"{area.name}-cache-{name}")
    for folder in (home, runtime, cache):
        folder.mkdir(mode=0o700)
        os.chown(folder, uid, gid)
    return User(uid=uid, gid=gid, name=name, home=home, runtime=runtime, cache=cache)


def _free_id() -> int:
    """The first id from 1000 on that no user, group or process has."""
    taken = {entry.pw_uid for entry in pwd.getpwall()} | {entry.pw_gid for entry in pwd.getpwall()}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                taken.add(entry.stat().st_uid)
            except OSError:
                continue
    return next(uid for uid in range(1000, 60_000) if uid not in taken)
