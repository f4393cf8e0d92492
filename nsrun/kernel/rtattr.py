"""The attributes of netlink's messages, read: linux/netlink.h (struct nlattr), rtnetlink(7)."""

from __future__ import annotations

import struct
from collections.abc import Iterator

_ATTRIBUTE = struct.Struct("=HH")
# Without NLA_F_NESTED and NLA_F_NET_BYTEORDER.
_TYPE_MASK = 0x3FFF


def attributes(body: bytes, offset: int) -> Iterator[tuple[int, bytes]]:
    """(kind, value) of each attribute from ``offset`` on."""
    while offset + _ATTRIBUTE.size <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, offset)
        if length < _ATTRIBUTE.size:
            return
        yield kind & _TYPE_MASK, body[offset + _ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3
