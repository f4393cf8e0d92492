"""What a seccomp(2) filter answers to a call: its program run as the kernel runs it.

Sources: linux/bpf_common.h, linux/seccomp.h, seccomp_run_filters of kernel/seccomp.c.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from nsrun.kernel.abi import AuditArch, SeccompAction

_INSTRUCTION = struct.Struct("=HBBI")
# struct seccomp_data: number, architecture, instruction pointer, six arguments.
_DATA = struct.Struct("=iIQ6Q")
_WORD = 0xFFFF_FFFF
ACTION_MASK = 0xFFFF_0000
DATA_MASK = 0xFFFF
_CELLS = 16
# By uname(2)'s machines.
ARCHITECTURES = {
    "x86_64": AuditArch.AUDIT_ARCH_X86_64,
    "aarch64": AuditArch.AUDIT_ARCH_AARCH64,
}


class NotAFilterError(Exception):
    """The program has an instruction that no filter can have, or leaves itself."""


def verdict(program: bytes, architecture: int, number: int, arguments: tuple[int, ...]) -> int:
    """A SECCOMP_RET_* with its data; raises NotAFilterError.

    The instruction pointer is 0: what a filter makes of it cannot be told here.
    """
    padded = (*arguments, *(0,) * 6)[:6]
    signed = struct.unpack("=i", struct.pack("=I", number & _WORD))[0]
    data = _DATA.pack(signed, architecture, 0, *padded)
    code = list(_INSTRUCTION.iter_unpack(program))
    cells = [0] * _CELLS
    accumulator = index = at = 0
    try:
        while True:
            # Jumps are forward only: it ends.
            operation, true, false, operand = code[at]
            at += 1
            match operation:
                case 0x20:  # BPF_LD|W|ABS
                    (accumulator,) = struct.unpack_from("=I", data, operand)
                case 0x00 | 0x80:  # BPF_LD|IMM, BPF_LD|W|LEN
                    accumulator = operand if operation == 0 else _DATA.size
                case 0x01 | 0x81:  # the same into the index register
                    index = operand if operation == 1 else _DATA.size
                case 0x60:
                    accumulator = cells[operand]
                case 0x61:
                    index = cells[operand]
                case 0x02:
                    cells[operand] = accumulator
                case 0x03:
                    cells[operand] = index
                case 0x07:
                    index = accumulator
                case 0x87:
                    accumulator = index
                case 0x06:
                    return int(operand)
                case 0x16:
                    return accumulator
                case 0x05:
                    at += operand
                case _ if operation & 0x07 == 0x05:
                    other = index if operation & 0x08 else operand
                    at += true if _holds(operation & 0xF0, accumulator, other) else false
                case _ if operation & 0x07 == 0x04:
                    other = index if operation & 0x08 else operand
                    accumulator = _computed(operation & 0xF0, accumulator, other)
                case _:
                    raise NotAFilterError(f"instruction {operation:#x}")
    except (IndexError, struct.error, ZeroDivisionError) as error:
        raise NotAFilterError(str(error)) from None


def _holds(kind: int, left: int, right: int) -> bool:
    match kind:
        case 0x10:
            return left == right
        case 0x20:
            return left > right
        case 0x30:
            return left >= right
        case 0x40:
            return bool(left & right)
        case _:
            raise NotAFilterError(f"comparison {kind:#x}")


def _computed(kind: int, left: int, right: int) -> int:
    match kind:
        case 0x00:
            found = left + right
        case 0x10:
            found = left - right
        case 0x20:
            found = left * right
        case 0x30:
            found = left // right
        case 0x40:
            found = left | right
        case 0x50:
            found = left & right
        case 0x60:
            found = left << right if right < 32 else 0
        case 0x70:
            found = left >> right if right < 32 else 0
        case 0x80:
            found = -left
        case 0xA0:
            found = left ^ right
        case _:
            raise NotAFilterError(f"computation {kind:#x}")
    return found & _WORD


def strictest(
    programs: Iterable[bytes], architecture: int, number: int, arguments: tuple[int, ...]
) -> int:
    """What several filters come to: the kernel takes the lowest action, compared as signed, and of
    equal ones that of the filter set last. SECCOMP_RET_ALLOW without any."""
    answer = int(SeccompAction.SECCOMP_RET_ALLOW)
    # The kernel begins with the newest.
    for program in reversed(list(programs)):
        found = verdict(program, architecture, number, arguments)
        if _rank(found) < _rank(answer):
            answer = found
    return answer


def _rank(answer: int) -> int:
    action = answer & ACTION_MASK
    return action - (1 << 32) if action & 1 << 31 else action


def actions(program: bytes) -> frozenset[int]:
    """The SECCOMP_RET_* that a filter can answer with, by its instructions alone."""
    return frozenset(
        operand & ACTION_MASK
        for operation, _, _, operand in _INSTRUCTION.iter_unpack(program)
        if operation == 0x06
    )


def errnos(program: bytes) -> frozenset[int]:
    """The numbers that a filter can answer with, by its instructions alone."""
    answer = int(SeccompAction.SECCOMP_RET_ERRNO)
    return frozenset(
        operand & DATA_MASK
        for operation, _, _, operand in _INSTRUCTION.iter_unpack(program)
        if operation == 0x06 and operand & ACTION_MASK == answer
    )
