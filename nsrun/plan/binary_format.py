"""The binary form of a plan, as numbers: native/plan.h is made from this file.

    header            fixed, HEADER_FIELDS
    parent stream     the parent's actions and their steps, as 32-bit words
    child stream      the child's
    undo stream       the undo steps of the parent's actions
    kinds             one byte a register: RegKind
    data              strings and buffers, found by offset
    annotations       the plan as JSON, which the executor never reads

Words are in the machine's byte order, and both machines nsrun knows are little-endian. Everything
before the annotations has one checksum; they have a CRC of their own.

An action is ``WORD_ACTION`` with its ``undo_when`` and bits, and its fields; a step is one word
with its operation and its length in words, then the operation's own words. What follows an
argument's word depends on its kind:

    INT       value in the word's upper 24 bits
    INT64     two words: the value, low half first
    REG       register in the upper 24 bits
    DATA      offset of a constant in the data
    FMT       number of parts; each part is LITERAL (offset; one word: length) or REG
    LENGTH    as FMT; the argument is the length of the text
    BUFFER    offset in the data; one word: size; one word: holes | pointers << 16; then each
              hole (offset; size | HOLE_DECIMAL | register << 8) and each pointer (offset; a
              BUFFER argument)
    STRINGS   number of strings; one word each: its offset
    OUT       size; one word: saves | expects << 16; then each save as a hole, and each
              expectation (offset; size | otherwise << 8; mask, two words; equals, two words)
"""

from __future__ import annotations

from enum import IntEnum, IntFlag

from nsrun.kernel.values import DIGITS_MAX as DIGITS_MAX
from nsrun.kernel.values import Call, RegKind
from nsrun.plan.ops import (
    Await,
    Clone,
    Init,
    Netlink,
    Op,
    ReceiveFd,
    SendFd,
    Signal,
    Spawn,
    Wait,
)

MAGIC = b"nsrunpl\n"
FORMAT = 3

# Name and size in bytes of each field of the header, in order.
HEADER_FIELDS: tuple[tuple[str, int], ...] = (
    ("magic", 8),
    ("format", 4),
    ("size", 4),
    ("checksum", 8),
    ("machine", 4),
    ("registers", 4),
    ("parent_offset", 4),
    ("parent_size", 4),
    ("child_offset", 4),
    ("child_size", 4),
    ("undo_offset", 4),
    ("undo_size", 4),
    ("kinds_offset", 4),
    ("data_offset", 4),
    ("data_size", 4),
    ("parent_steps", 4),
    ("child_steps", 4),
    ("actions", 4),
    ("reports_to", 4),
    ("listens_on", 4),
    ("terminal", 4),
    ("flags", 4),
    ("annotations", 4),
    ("name", 4),
    ("annotations_sum", 4),
    ("reserved", 4),
)
HEADER_SIZE = sum(size for _, size in HEADER_FIELDS)
# What the checksum covers starts behind it.
CHECKED_FROM = 24

# A plan is some tens of kilobytes. Offsets have 24 bits.
SIZE_MAX = 1 << 24
REGISTERS_MAX = 1 << 16
ARGUMENTS_MAX = 6
ERRNOS_MAX = 63
# Of a hole's size: digits and blanks, not an integer of the machine.
HOLE_DECIMAL = 0x80
SYNC_MAX = 255
POINTER_DEPTH = 4
# Of a step, in the upper bits of its first word.
STEP_WORDS_MAX = (1 << 24) - 1
# Arguments are built in memory of this size at the most, which the plan asks for by what it holds.
SCRATCH_MAX = 1 << 22

# e_machine of linux/elf-em.h
MACHINES = {"x86_64": 62, "aarch64": 183}


class HeaderFlag(IntFlag):
    """What one track has to know of the other before it is forked."""

    HAS_INIT = 1
    HAS_EXEC = 2


# The operations, numbered in the order of the union.
OP_CODES: dict[type[Op], int] = {
    Call: 1,
    Clone: 2,
    Signal: 3,
    Wait: 4,
    SendFd: 5,
    ReceiveFd: 6,
    Netlink: 7,
    Spawn: 8,
    Init: 9,
    Await: 10,
}
# The first word of an action has this where a step has its operation.
WORD_ACTION = 0xA0

KIND_CODES: dict[RegKind, int] = {kind: number for number, kind in enumerate(RegKind)}


class ArgKind(IntEnum):
    """The lower 8 bits of an argument's word."""

    INT = 1
    INT64 = 2
    REG = 3
    DATA = 4
    FMT = 5
    LENGTH = 6
    BUFFER = 7
    STRINGS = 8
    OUT = 9
    LITERAL = 10


class CallFlag(IntFlag):
    """What a call's word says of it beside its numbers."""

    HAS_RESULT = 1
    IS_EXEC = 2
    # close(2) of a register: what the executor no longer has to close.
    CLOSES = 4


class CloneBit(IntFlag):
    HAND_OVER = 1
    HOLD = 2


class ActionBit(IntFlag):
    """Above the kind of word and the ``undo_when``."""

    NEW_HEIR = 1 << 16


class WaitBit(IntFlag):
    EXEC = 1


class When(IntEnum):
    """Plan.actions' ``undo_when``."""

    END = 0
    FAILURE = 1


class Otherwise(IntEnum):
    """What an expectation that does not hold does."""

    FAIL = 0
    SKIP = 1


class StdinKind(IntEnum):
    """A helper's standard input: none, or one argument (FMT or BUFFER)."""

    NONE = 0
    ARGUMENT = 1


NO_UNDO = 0xFFFFFFFF


def checksum(data: bytes) -> int:
    """A 64-bit sum over 8-byte words: finds what a disk or a cut did, not what a person did.

    Each word is mixed in by xor, a multiplication and a fold (as in MurmurHash and FNV-1a);
    data that is no multiple of 8 bytes counts as followed by zeros.
    """
    mask = (1 << 64) - 1
    value = (0xCBF29CE484222325 ^ len(data)) & mask
    padded = data + bytes(-len(data) % 8)
    for word in memoryview(padded).cast("Q"):
        value = ((value ^ word) * CHECKSUM_PRIME) & mask
        value ^= value >> 29
    return value


CHECKSUM_PRIME = 0x9E3779B97F4A7C15
