"""Runs a seccomp filter as the kernel does (seccomp(2), linux/bpf_common.h), over calls made up."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pyseccomp

from nsrun.kernel.abi import AuditArch
from nsrun.kernel.calls import BPF_INSTRUCTION

ALLOW = 0x7FFF0000
ERRNO = 0x00050000
EPERM, ENOSYS = ERRNO | 1, ERRNO | 38
X86_64, I386 = AuditArch.AUDIT_ARCH_X86_64, AuditArch.AUDIT_ARCH_I386
AARCH64, ARM = AuditArch.AUDIT_ARCH_AARCH64, AuditArch.AUDIT_ARCH_ARM
X32_BIT = 0x40000000
_DATA = struct.Struct("=IIQ6Q")
_WORD = 0xFFFF_FFFF


def number(name: str, arch: int = X86_64) -> int:
    found = pyseccomp.resolve_syscall(arch, name)
    assert found >= 0, f"{name} is no call of {arch:#x}"
    return int(found)


def run(program: bytes, arch: int, nr: int, *arguments: int) -> int:
    """What the filter answers: a SECCOMP_RET_* with its data."""
    arguments += (0,) * (6 - len(arguments))
    data = _DATA.pack(nr & _WORD, arch, 0, *arguments)
    code = list(BPF_INSTRUCTION.iter_unpack(program))
    at = accumulator = 0
    while True:
        # A jump is forward only: the loop ends, or leaves the program.
        operation, true, false, operand = code[at]
        at += 1
        match operation:
            case 0x20:
                (accumulator,) = struct.unpack_from("=I", data, operand)
            case 0x05:
                at += operand
            case 0x15:
                at += true if accumulator == operand else false
            case 0x25:
                at += true if accumulator > operand else false
            case 0x35:
                at += true if accumulator >= operand else false
            case 0x45:
                at += true if accumulator & operand else false
            case 0x54:
                accumulator &= operand
            case 0x06:
                return int(operand)
            case _:
                raise AssertionError(f"an instruction {operation:#x} at {at - 1}")


def call(program: bytes, name: str, *arguments: int, arch: int = X86_64) -> int:
    return run(program, arch, number(name, arch), *arguments)


def names(arch: int, last: int) -> dict[int, str]:
    """The calls of an architecture up to number ``last``."""
    found = {}
    for nr in range(last + 1):
        try:
            found[nr] = pyseccomp.resolve_syscall(arch, nr).decode()
        except ValueError:
            continue
    return found


def answers(program: bytes, calls: Sequence[str], arch: int = X86_64) -> set[int]:
    return {call(program, name, arch=arch) for name in calls}
