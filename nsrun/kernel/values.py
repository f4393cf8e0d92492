"""The arguments a system call can have in a plan: data, with unknowns as registers.

A plan holds no run-time value. What is only known while a plan is replayed (a pid, a
descriptor, an interface index) is a :class:`Reg`, written once and read by name.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class RegKind(StrEnum):
    """What a register holds; printing and closing depend on it."""

    FD = "fd"
    PID = "pid"
    IFINDEX = "ifindex"
    NUMBER = "number"


@dataclass(frozen=True, slots=True)
class Reg:
    """A value known only at replay, written by exactly one step; prints as ``%name``."""

    name: str
    kind: RegKind = RegKind.FD


@dataclass(frozen=True, slots=True)
class Int:
    """An integer; ``text`` is how the kernel's headers name it (``MS_REC|MS_PRIVATE``)."""

    value: int
    text: str = ""


@dataclass(frozen=True, slots=True)
class Str:
    """A NUL-terminated string; bytes that are not UTF-8 are kept by surrogateescape."""

    value: str


@dataclass(frozen=True, slots=True)
class Fmt:
    """A NUL-terminated string with registers in it, as decimal numbers.

    ``Fmt(("/proc/", Reg("child", RegKind.PID), "/uid_map"))``
    """

    parts: tuple[str | Reg, ...]


@dataclass(frozen=True, slots=True)
class Length:
    """The length in bytes of a :class:`Fmt` once its registers are known, without the NUL."""

    of: Fmt


@dataclass(frozen=True, slots=True)
class Strings:
    """A NULL-terminated vector of NUL-terminated strings, as execve(2) takes it."""

    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Hole:
    """``size`` bytes at ``offset`` of a buffer that hold a register, in native byte order, or with
    ``decimal`` as digits, with blanks behind them."""

    offset: int
    size: int
    reg: Reg
    decimal: bool = False


# The most digits of a register, with its sign.
DIGITS_MAX = 20


@dataclass(frozen=True, slots=True)
class Pointer:
    """Eight bytes at ``offset`` of a buffer that hold the address of another buffer."""

    offset: int
    target: Bytes


@dataclass(frozen=True, slots=True)
class Bytes:
    """A buffer the kernel reads; ``text`` is its content as a person would write it."""

    value: bytes
    text: str = ""
    holes: tuple[Hole, ...] = ()
    pointers: tuple[Pointer, ...] = ()


@dataclass(frozen=True, slots=True)
class Expect:
    """``(little-endian-native integer at offset & mask) == equals``, else the step fails.

    ``otherwise`` is ``fail``, or ``skip``: the rest of the action is left out. ``text`` says
    what is checked (``f_type == PROC_SUPER_MAGIC``).
    """

    offset: int
    size: int
    mask: int
    equals: int
    text: str
    otherwise: str = "fail"


@dataclass(frozen=True, slots=True)
class Out:
    """A zeroed buffer of ``size`` bytes the kernel writes; ``saves`` go to registers."""

    size: int
    saves: tuple[Hole, ...] = ()
    expects: tuple[Expect, ...] = ()
    text: str = ""


Arg = Int | Str | Fmt | Length | Strings | Bytes | Out | Reg

NULL = Int(0, "NULL")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One system call.

    ``save``: the register that takes the result. ``result``: the only result that counts as
    success (a short write is a failure). ``accept``: errno names that count as success.
    ``skip``: errno names that end the action without failing it. ``log``: the fsopen(2)
    descriptor from which the kernel's own text is read when this call fails.
    """

    name: str
    args: tuple[Arg, ...]
    save: Reg | None = None
    result: int | None = None
    accept: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    log: Reg | None = None
