"""A system call made ready before the clone: numbers, addresses, and buffers to fill.

After the clone only registers are put in; nothing is encoded, imported or looked up.
"""

from __future__ import annotations

import ctypes
import errno as errnos
import os
import struct
import sys
from typing import assert_never

from nsrun.kernel import abi
from nsrun.kernel.values import (
    DIGITS_MAX,
    Arg,
    Bytes,
    Call,
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
from nsrun.replay.outcome import Kind, State
from nsrun.replay.step import TEXT_MAX, Registers, Result, StepError, internal
from nsrun.replay.syscalls import ARGUMENTS, signed, syscall

# What would fork the interpreter behind its own back; the plan has an operation for it.
_FORKS = frozenset({"clone", "clone3", "fork", "vfork"})
_POINTER_SIZE = 8
_REGISTER_DIGITS = 20


class PrepareError(Exception):
    """A plan that cannot be replayed here: found before its first step runs."""


def errno_numbers(names: tuple[str, ...]) -> frozenset[int]:
    """The errnos of this machine for their names."""
    unknown = [name for name in names if not hasattr(errnos, name)]
    if unknown:
        raise PrepareError(f"no errno is called {unknown[0]}")
    return frozenset(getattr(errnos, name) for name in names)


def encode(text: str) -> bytes:
    """A plan's string as the kernel takes it: a NUL inside would silently cut it."""
    if "\0" in text:
        raise PrepareError(f"a string holds a NUL: {text!r}")
    return os.fsencode(text)


class Format:
    """``Fmt``: bytes with registers in decimal, made without any text codec."""

    def __init__(self, fmt: Fmt) -> None:
        self._parts = tuple(p if isinstance(p, Reg) else encode(p) for p in fmt.parts)

    def fill(self, registers: Registers) -> bytes:
        return b"".join(
            b"%d" % registers.get(part) if isinstance(part, Reg) else part for part in self._parts
        )

    @property
    def longest(self) -> int:
        return sum(_REGISTER_DIGITS if isinstance(p, Reg) else len(p) for p in self._parts)


class FormatBuffer:
    """The memory a ``Fmt`` argument is written to, NUL-terminated."""

    def __init__(self, fmt: Fmt) -> None:
        self._format = Format(fmt)
        self._memory = ctypes.create_string_buffer(self._format.longest + 1)
        self.address = ctypes.addressof(self._memory)

    def fill(self, registers: Registers) -> None:
        self._memory.value = self._format.fill(registers)


class Buffer:
    """``Bytes``: memory with the addresses of its targets, and holes for registers."""

    def __init__(self, source: Bytes) -> None:
        self.size = len(source.value)
        self._memory = ctypes.create_string_buffer(source.value, max(1, self.size))
        self.address = ctypes.addressof(self._memory)
        self._targets = tuple(self._link(pointer) for pointer in source.pointers)
        for hole in source.holes:
            _inside(hole.offset, hole.size, self.size, decimal=hole.decimal)
        self._holes = source.holes

    def _link(self, pointer: Pointer) -> Buffer:
        _inside(pointer.offset, _POINTER_SIZE, self.size)
        target = Buffer(pointer.target)
        struct.pack_into("=Q", self._memory, pointer.offset, target.address)
        return target

    def fill(self, registers: Registers) -> None:
        for hole in self._holes:
            held = registers.get(hole.reg)
            value = _digits(held, hole) if hole.decimal else _native(held, hole)
            ctypes.memmove(self.address + hole.offset, value, hole.size)
        for target in self._targets:
            target.fill(registers)

    def content(self, registers: Registers) -> bytes:
        """The bytes with the registers filled in."""
        self.fill(registers)
        return self._memory.raw[: self.size]


def _inside(offset: int, size: int, total: int, *, decimal: bool = False) -> None:
    known = 0 < size <= DIGITS_MAX if decimal else size in (1, 2, 4, 8)
    if offset < 0 or not known or offset + size > total:
        raise PrepareError(f"{size} bytes at {offset} lie outside a buffer of {total}")


def _native(value: int, hole: Hole) -> bytes:
    bits = 8 * hole.size
    if not -(1 << (bits - 1)) <= value < 1 << bits:
        raise internal(b"%d does not fit into %d bytes" % (value, hole.size))
    return (value & ((1 << bits) - 1)).to_bytes(hole.size, sys.byteorder)


def _digits(value: int, hole: Hole) -> bytes:
    text = b"%d" % value
    if len(text) > hole.size:
        raise internal(b"%d does not fit into %d bytes" % (value, hole.size))
    return text.ljust(hole.size)


class OutBuffer:
    """``Out``: zeroed memory the kernel writes, then looked at."""

    def __init__(self, source: Out) -> None:
        self._memory = ctypes.create_string_buffer(max(1, source.size))
        self.address = ctypes.addressof(self._memory)
        for hole in source.saves:
            _inside(hole.offset, hole.size, source.size)
        for expect in source.expects:
            _inside(expect.offset, expect.size, source.size)
        self.saves = source.saves
        self.expects = source.expects

    def integer(self, part: Hole | Expect) -> int:
        """The unsigned integer in native byte order at a place of the buffer."""
        raw = self._memory.raw[part.offset : part.offset + part.size]
        return int.from_bytes(raw, sys.byteorder)


def _vector(strings: Strings) -> tuple[int, object]:
    """The address of a NULL-terminated vector, and what keeps it alive."""
    values = [encode(value) for value in strings.values]
    vector = (ctypes.c_char_p * (len(values) + 1))(*values, None)
    return ctypes.addressof(vector), (vector, values)


class PreparedCall:
    """One ``Call``, ready to be made once."""

    def __init__(self, call: Call, machine: str) -> None:
        if call.name in _FORKS:
            raise PrepareError(f"{call.name} is not a call of a plan but its clone operation")
        if len(call.args) > ARGUMENTS:
            raise PrepareError(f"{call.name} has {len(call.args)} arguments, the kernel takes 6")
        self._number = abi.syscall_number(call.name, machine)
        self._values = [0] * ARGUMENTS
        self._registers: list[tuple[int, Reg]] = []
        self._lengths: list[tuple[int, Format]] = []
        self._fills: list[FormatBuffer | Buffer] = []
        self._outs: list[OutBuffer] = []
        self._alive: list[object] = []
        for position, arg in enumerate(call.args):
            self._place(position, arg)
        self._save = call.save
        self._result = call.result
        self._accept = errno_numbers(call.accept)
        self._skip = errno_numbers(call.skip)
        self._log = call.log

    def _place(self, position: int, arg: Arg) -> None:
        match arg:
            case Int():
                try:
                    self._values[position] = signed(arg.value)
                except ValueError as error:
                    raise PrepareError(str(error)) from error
            case Reg():
                self._registers.append((position, arg))
            case Str():
                memory = ctypes.create_string_buffer(encode(arg.value))
                self._alive.append(memory)
                self._values[position] = ctypes.addressof(memory)
            case Strings():
                self._values[position], alive = _vector(arg)
                self._alive.append(alive)
            case Fmt():
                self._fill_at(position, FormatBuffer(arg))
            case Length():
                self._lengths.append((position, Format(arg.of)))
            case Bytes():
                self._fill_at(position, Buffer(arg))
            case Out():
                out = OutBuffer(arg)
                self._outs.append(out)
                self._values[position] = out.address
            case _:
                assert_never(arg)

    def _fill_at(self, position: int, buffer: FormatBuffer | Buffer) -> None:
        self._fills.append(buffer)
        self._values[position] = buffer.address

    def run(self, registers: Registers) -> Result:
        """Make the call; it is never made twice, also not after EINTR. Raises StepError."""
        values = self._values.copy()
        for position, reg in self._registers:
            values[position] = registers.argument(reg)
        for position, text in self._lengths:
            values[position] = len(text.fill(registers))
        for buffer in self._fills:
            buffer.fill(registers)
        result, errno = syscall(self._number, *values)
        if result == -1:
            return self._after_errno(errno, registers)
        if self._result is not None and result != self._result:
            raise StepError(Kind.RESULT, value=result)
        if self._save is not None:
            registers.set(self._save, result)
        if not self._as_expected():
            return Result(State.SKIPPED, result)
        for out in self._outs:
            for hole in out.saves:
                registers.set(hole.reg, out.integer(hole))
        return Result(State.DONE, result)

    def _after_errno(self, errno: int, registers: Registers) -> Result:
        if errno in self._skip:
            return Result(State.SKIPPED, -1, errno)
        if errno in self._accept:
            if self._save is not None:
                registers.set(self._save, -1)
            for out in self._outs:
                for hole in out.saves:
                    registers.set(hole.reg, -1)
            return Result(State.ACCEPTED, -1, errno)
        raise StepError(Kind.ERRNO, errno=errno, value=-1, text=self._log_text(registers))

    def _as_expected(self) -> bool:
        """False where an expectation that does not hold ends the action; raises otherwise."""
        index = 0
        for out in self._outs:
            for expect in out.expects:
                actual = out.integer(expect) & expect.mask
                if actual != expect.equals & expect.mask:
                    if expect.otherwise == "skip":
                        return False
                    raise StepError(Kind.EXPECT, value=actual, expect=index)
                index += 1
        return True

    def _log_text(self, registers: Registers) -> bytes:
        """All messages of a file system context, one a line (fsopen(2), "Message retrieval")."""
        if self._log is None or self._log not in registers:
            return b""
        lines: list[bytes] = []
        size = 0
        while size < TEXT_MAX:
            try:
                line = os.read(registers.get(self._log), TEXT_MAX)
            except OSError:  # ENODATA: no more messages
                break
            if not line:
                break
            lines.append(line.rstrip(b"\n"))
            size += len(line) + 1
        return b"\n".join(lines)[:TEXT_MAX]
