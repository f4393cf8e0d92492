"""A plan put away for another run: the words it answers to, and what must still hold.

    header    fixed, HEADER_FIELDS; a checksum over all that follows up to the plan
    key       what the plan was made for: the folder and the words of the command line
    strings   NUL-terminated
    depends   one DEPEND_FIELDS record for each thing the plan depended on
    plan      its binary form (nsrun.plan.binary)

native/entry.h is made from this file. The same form rides behind the program of a compiled spec.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from nsrun.kernel.depend import Depend
from nsrun.plan.binary_format import checksum

MAGIC = b"nsrunent"
FORMAT = 1

HEADER_FIELDS: tuple[tuple[str, int], ...] = (
    ("magic", 8),
    ("format", 4),
    ("size", 4),
    ("checksum", 8),
    ("key_offset", 4),
    ("key_size", 4),
    ("depends_offset", 4),
    ("depends", 4),
)
HEADER_SIZE = sum(size for _, size in HEADER_FIELDS)
CHECKED_FROM = 24

DEPEND_FIELDS: tuple[tuple[str, int], ...] = (
    ("ino", 8),
    ("size", 8),
    ("mtime", 8),
    ("ctime", 8),
    ("kind", 4),
    ("mask", 4),
    ("path", 4),
    ("root", 4),
    ("text", 4),
    ("data", 4),
    ("data_size", 4),
    ("error", 4),
    ("dev_major", 4),
    ("dev_minor", 4),
    ("mode", 4),
    ("uid", 4),
    ("gid", 4),
    ("mtime_nsec", 4),
    ("ctime_nsec", 4),
    ("reserved", 4),
)
_DEPEND = struct.Struct("<QQqq16I")
_HEADER = struct.Struct("<8sIIQ4I")
DEPEND_SIZE = _DEPEND.size
assert sum(size for _, size in DEPEND_FIELDS) == DEPEND_SIZE
assert _HEADER.size == HEADER_SIZE

# What an entry may hold; the launcher reads no more than these.
SIZE_MAX = 1 << 20
# How many are kept for the same words, by callers that differ in something else.
SLOTS = 4


class _Strings:
    """Texts and data behind the header, each once; offsets count from the entry's start."""

    def __init__(self, start: int) -> None:
        self._start = start
        self._known: dict[bytes, int] = {}
        self.bytes = bytearray()

    def add(self, value: bytes) -> int:
        if value not in self._known:
            self._known[value] = self._start + len(self.bytes)
            self.bytes += value + b"\0"
        return self._known[value]


def encode(key: bytes, depends: Iterable[Depend]) -> bytes:
    """The entry's part before its plan; raises ValueError where it is larger than is read."""
    strings = _Strings(HEADER_SIZE)
    key_offset = strings.add(key)
    records = b"".join(_record(depend, strings) for depend in depends)
    strings.bytes += bytes(-len(strings.bytes) % 8)
    depends_offset = HEADER_SIZE + len(strings.bytes)
    tail = struct.pack("<4I", key_offset, len(key), depends_offset, len(records) // DEPEND_SIZE)
    body = tail + bytes(strings.bytes) + records
    size = CHECKED_FROM + len(body)
    if size > SIZE_MAX:
        raise ValueError(f"an entry of {size} bytes is over {SIZE_MAX}")
    return struct.pack("<8sIIQ", MAGIC, FORMAT, size, checksum(body)) + body


def plan_of(data: bytes) -> bytes:
    """The plan's bytes in an entry; raises ValueError for what is none."""
    if len(data) < HEADER_SIZE:
        raise ValueError("it is cut")
    magic, format_, size, sum_, *_ = _HEADER.unpack_from(data)
    if magic != MAGIC or format_ != FORMAT:
        raise ValueError("it does not start as one")
    if not HEADER_SIZE <= size <= min(len(data), SIZE_MAX) or size % 8:
        raise ValueError("it is cut")
    if checksum(data[CHECKED_FROM:size]) != sum_:
        raise ValueError("its checksum is another")
    return data[size:]


def _record(depend: Depend, strings: _Strings) -> bytes:
    def place(text: str) -> int:
        return strings.add(text.encode("utf-8", "surrogateescape")) if text else 0

    second = 10**9
    return _DEPEND.pack(
        depend.ino,
        depend.size,
        depend.mtime_ns // second,
        depend.ctime_ns // second,
        depend.kind,
        depend.mask,
        place(depend.path),
        place(depend.root),
        place(depend.text),
        strings.add(depend.data),
        len(depend.data),
        depend.error,
        depend.dev_major,
        depend.dev_minor,
        depend.mode,
        depend.uid,
        depend.gid,
        depend.mtime_ns % second,
        depend.ctime_ns % second,
        0,
    )
