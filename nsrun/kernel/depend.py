"""What a plan depended on, as data: gathered from the host, put away with the plan, compared again
by the launcher before it uses the plan."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag


class Kind(IntEnum):
    """What is looked at.

    STAT: a path's identity, inside ``root`` where one is given. CONTENT: all of a small file.
    LINES: lines that a small file must have. ENV: a variable (``data``: its value, or with
    ``error`` set its absence). RELEASE: uname's release. KERNEL: a release of at least
    ``dev_major.dev_minor``. MACHINE: uname's machine. IGNORED: the ignored signals, beside those
    Python ignores (``ino``: a mask). LIMITS: getrlimit(2) of all resources.
    """

    STAT = 1
    CONTENT = 2
    LINES = 3
    ENV = 4
    RELEASE = 5
    KERNEL = 6
    MACHINE = 7
    IGNORED = 8
    LIMITS = 9


class Mask(IntFlag):
    """The parts of a STAT that must be equal, beside its errno."""

    IDENTITY = 1  # device and inode
    MODE = 2  # type and permissions
    OWNER = 4
    CONTENT = 8  # size, mtime and ctime
    TYPE = 16
    NOFOLLOW = 32


# Signals Python ignores at its start, whatever its caller does: SIGPIPE and SIGXFSZ.
IGNORED_BY_PYTHON = 1 << 12 | 1 << 24
# As much of a file as CONTENT and LINES read.
CONTENT_MAX = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Depend:
    """One thing a plan depended on; ``text`` names it for people. Fields: see :class:`Kind`."""

    kind: Kind
    text: str
    path: str = ""
    root: str = ""
    data: bytes = b""
    mask: int = 0
    error: int = 0
    ino: int = 0
    size: int = 0
    mtime_ns: int = 0
    ctime_ns: int = 0
    dev_major: int = 0
    dev_minor: int = 0
    mode: int = 0
    uid: int = 0
    gid: int = 0
