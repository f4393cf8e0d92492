"""Entries: what is put away comes back, and nothing that was changed or cut."""

from __future__ import annotations

import struct
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsrun.kernel.depend import Depend, Kind
from nsrun.plan import entry
from nsrun.plan.binary_format import checksum

_TEXT = st.text(st.characters(blacklist_characters="\0", blacklist_categories=("Cs",)), max_size=20)
_U32 = st.integers(0, 2**32 - 1)
_U64 = st.integers(0, 2**64 - 1)
_TIME = st.integers(-(2**40), 2**60)
DEPENDS = st.builds(
    Depend,
    kind=st.sampled_from(Kind),
    text=_TEXT,
    path=_TEXT,
    root=_TEXT,
    data=st.binary(max_size=40),
    ino=_U64,
    size=_U64,
    mtime_ns=_TIME,
    ctime_ns=_TIME,
    **dict.fromkeys(("mask", "error", "dev_major", "dev_minor", "mode", "uid", "gid"), _U32),
)
ONE = Depend(
    kind=Kind.STAT,
    text="the spec",
    path="/srv/web.yaml",
    data=b"some",
    mask=15,
    ino=7,
    size=99,
    mtime_ns=1_700_000_000_123_456_789,
    ctime_ns=-1,
    mode=0o100644,
)


def read_back(data: bytes) -> tuple[bytes, list[Depend]]:
    """As native/entry.c reads it: fields by their names and sizes, texts up to their NUL."""
    header = _fields(entry.HEADER_FIELDS, data, 0)
    key = data[header["key_offset"] :][: header["key_size"]]
    found = []
    for number in range(header["depends"]):
        at = header["depends_offset"] + number * entry.DEPEND_SIZE
        record = _fields(entry.DEPEND_FIELDS, data, at)
        second = 10**9
        for name in ("mtime", "ctime"):
            record[f"{name}_ns"] = record.pop(name) * second + record.pop(f"{name}_nsec")
        assert record.pop("reserved") == 0
        size = record.pop("data_size")
        texts = {name: _text(data, record.pop(name)) for name in ("text", "path", "root")}
        content = data[record.pop("data") :][:size]
        kind = Kind(record.pop("kind"))
        found.append(Depend(kind=kind, data=content, **texts, **record))
    return key, found


def _fields(layout: tuple[tuple[str, int], ...], data: bytes, at: int) -> dict[str, int]:
    found = {}
    for name, size in layout:
        signed = name in ("mtime", "ctime")
        found[name] = int.from_bytes(data[at : at + size], "little", signed=signed)
        at += size
    return found


def _text(data: bytes, offset: int) -> str:
    return data[offset : data.index(b"\0", offset)].decode() if offset else ""


@given(st.binary(max_size=60), st.lists(DEPENDS, max_size=4))
def test_it_comes_back(key: bytes, depends: list[Depend]) -> None:
    data = entry.encode(key, depends)
    assert len(data) % 8 == 0
    assert read_back(data + b"plan") == (key, depends)
    assert entry.plan_of(data + b"plan") == b"plan"


def test_every_field_is_put_away() -> None:
    """A field that encode() forgot would make two different entries equal."""
    base = entry.encode(b"key", [ONE])
    for field in fields(Depend):
        value = getattr(ONE, field.name)
        other = {str: "other", bytes: b"other", int: 12345, Kind: Kind.ENV}[type(value)]
        values = {f.name: getattr(ONE, f.name) for f in fields(Depend)}
        changed = Depend(**{**values, field.name: other})
        assert entry.encode(b"key", [changed]) != base, field.name


def test_every_changed_byte_is_refused() -> None:
    head = entry.encode(b"key", [ONE])
    for place in range(len(head)):
        for bit in range(8):
            damaged = bytearray(head + b"plan" * 100)
            damaged[place] ^= 1 << bit
            with pytest.raises(ValueError):
                entry.plan_of(bytes(damaged))


def test_every_cut_is_refused() -> None:
    head = entry.encode(b"key", [ONE])
    for size in range(len(head)):
        with pytest.raises(ValueError):
            entry.plan_of(head[:size])
    assert entry.plan_of(head) == b""


def test_another_format_is_refused_though_its_sum_is_right() -> None:
    head = bytearray(entry.encode(b"key", [ONE]))
    struct.pack_into("<I", head, 8, entry.FORMAT + 1)
    assert checksum(bytes(head[entry.CHECKED_FROM :])) == int.from_bytes(head[16:24], "little")
    with pytest.raises(ValueError, match="does not start as one"):
        entry.plan_of(bytes(head))


def test_no_more_than_is_read() -> None:
    largest = entry.SIZE_MAX - len(entry.encode(b"", [])) - 16
    assert len(entry.encode(bytes(largest), [])) <= entry.SIZE_MAX
    with pytest.raises(ValueError, match="over 1048576"):
        entry.encode(bytes(entry.SIZE_MAX), [])
