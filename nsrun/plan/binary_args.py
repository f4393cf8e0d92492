"""Arguments of steps as words of the binary form, and the data they point into."""

from __future__ import annotations

import errno as errnos
import os
from collections.abc import Iterable
from typing import assert_never

from nsrun.kernel.values import (
    DIGITS_MAX,
    Arg,
    Bytes,
    Expect,
    Fmt,
    Hole,
    Int,
    Length,
    Out,
    Pointer,
    Reg,
    Str,
    Strings,
)
from nsrun.plan import binary_format as form
from nsrun.plan.binary_format import ArgKind

_HALF, _WHOLE = 1 << 63, 1 << 64
_SHORT = 1 << 24


class BinaryError(Exception):
    """A plan that the binary form cannot hold."""


class Blob:
    """Strings and buffers, each stored once, and the registers in the order they are met."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.registers: dict[str, Reg] = {}
        self.numbers: dict[str, int] = {}
        self._known: dict[bytes, int] = {}

    def add(self, value: bytes) -> int:
        """The offset of ``value``, which starts at a multiple of 8 as buffers have to."""
        if value not in self._known:
            self.data += bytes(-len(self.data) % 8)
            self._known[value] = len(self.data)
            self.data += value
            if len(self.data) >= _SHORT:
                raise BinaryError("its data is over 16 MiB")
        return self._known[value]

    def string(self, text: str) -> int:
        """The offset of a NUL-terminated string."""
        return self.add(encoded(text) + b"\0")

    def sync(self, name: str) -> list[int]:
        """Offset and length of a sync's name."""
        value = name.encode()
        if len(value) > form.SYNC_MAX:
            raise BinaryError(f"the name of a sync is over {form.SYNC_MAX} bytes")
        return [self.add(value + b"\0"), len(value)]


def encoded(text: str) -> bytes:
    """A plan's string as the kernel takes it: a NUL inside would silently cut it."""
    if "\0" in text:
        raise BinaryError(f"a string holds a NUL: {text!r}")
    return os.fsencode(text)


def register(blob: Blob, reg: Reg) -> int:
    """The number of a register."""
    number = blob.numbers.setdefault(reg.name, len(blob.numbers))
    blob.registers.setdefault(reg.name, reg)
    if number >= form.REGISTERS_MAX - 1:
        raise BinaryError("it has too many registers")
    return number


def word32(value: int) -> int:
    """A number that has one word, such as a signal's."""
    if not 0 <= value <= 0xFFFFFFFF:
        raise BinaryError(f"{value} does not fit into 32 bits")
    return value


def word64(value: int) -> list[int]:
    """A 64-bit value as two words, low half first; a negative one by its bits."""
    if not -_HALF <= value < _WHOLE:
        raise BinaryError(f"{value} does not fit into 64 bits")
    bits = value & (_WHOLE - 1)
    return [bits & 0xFFFFFFFF, bits >> 32]


def errno_words(names: Iterable[str]) -> list[int]:
    """Errnos by their names, one a word."""
    found: list[int] = []
    for name in names:
        if not hasattr(errnos, name):
            raise BinaryError(f"no errno is called {name}")
        found.append(getattr(errnos, name))
    if len(found) > form.ERRNOS_MAX:
        raise BinaryError("a step names too many errnos")
    return found


def argument(blob: Blob, arg: Arg) -> list[int]:
    """One argument's words."""
    match arg:
        case Int():
            if 0 <= arg.value < _SHORT:
                return [_word(ArgKind.INT, arg.value)]
            return [_word(ArgKind.INT64, 0), *word64(arg.value)]
        case Reg():
            return [_word(ArgKind.REG, register(blob, arg))]
        case Str():
            return [_word(ArgKind.DATA, blob.string(arg.value))]
        case Fmt():
            return _format(blob, ArgKind.FMT, arg)
        case Length():
            return _format(blob, ArgKind.LENGTH, arg.of)
        case Strings():
            offsets = [blob.string(value) for value in arg.values]
            return [_word(ArgKind.STRINGS, len(offsets)), *offsets]
        case Bytes():
            return _buffer(blob, arg)
        case Out():
            return _out(blob, arg)
        case _:
            assert_never(arg)


def _word(kind: ArgKind, value: int) -> int:
    if not 0 <= value < _SHORT:
        raise BinaryError(f"{value} does not fit into an argument's word")
    return int(kind) | value << 8


def _format(blob: Blob, kind: ArgKind, fmt: Fmt) -> list[int]:
    words = [_word(kind, len(fmt.parts))]
    for part in fmt.parts:
        if isinstance(part, Reg):
            words.append(_word(ArgKind.REG, register(blob, part)))
        else:
            value = encoded(part)
            words += [_word(ArgKind.LITERAL, blob.add(value)), len(value)]
    return words


def _buffer(blob: Blob, buffer: Bytes, depth: int = 0) -> list[int]:
    if depth > form.POINTER_DEPTH:
        raise BinaryError("buffers point to buffers too deeply")
    size = len(buffer.value)
    counts = len(buffer.holes) | len(buffer.pointers) << 16
    words = [_word(ArgKind.BUFFER, blob.add(buffer.value)), size, counts]
    for hole in buffer.holes:
        words += _hole(blob, hole, size)
    for pointer in buffer.pointers:
        words += _pointer(blob, pointer, size, depth)
    return words


def _hole(blob: Blob, hole: Hole, total: int) -> list[int]:
    if hole.decimal:
        if not 0 < hole.size <= DIGITS_MAX or not 0 <= hole.offset <= total - hole.size:
            raise BinaryError("digits outside their buffer")
        return [hole.offset, hole.size | form.HOLE_DECIMAL | register(blob, hole.reg) << 8]
    _inside(hole.offset, hole.size, total)
    return [hole.offset, hole.size | register(blob, hole.reg) << 8]


def _pointer(blob: Blob, pointer: Pointer, total: int, depth: int) -> list[int]:
    _inside(pointer.offset, 8, total)
    return [pointer.offset, *_buffer(blob, pointer.target, depth + 1)]


def _out(blob: Blob, out: Out) -> list[int]:
    words = [_word(ArgKind.OUT, out.size), len(out.saves) | len(out.expects) << 16]
    for save in out.saves:
        words += _hole(blob, save, out.size)
    for expect in out.expects:
        words += _expect(expect, out.size)
    return words


def _expect(expect: Expect, total: int) -> list[int]:
    _inside(expect.offset, expect.size, total)
    skip = form.Otherwise.SKIP if expect.otherwise == "skip" else form.Otherwise.FAIL
    return [
        expect.offset,
        expect.size | int(skip) << 8,
        *word64(expect.mask),
        *word64(expect.equals),
    ]


def _inside(offset: int, size: int, total: int) -> None:
    if offset < 0 or size not in (1, 2, 4, 8) or offset + size > total:
        raise BinaryError(f"{size} bytes at {offset} lie outside a buffer of {total}")
