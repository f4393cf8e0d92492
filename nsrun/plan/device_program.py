"""Which devices a control group of version 2 may open, as a program for the kernel.

Version 2 has no files for it: a program of type BPF_PROG_TYPE_CGROUP_DEVICE is asked at each open
and mknod, with a struct bpf_cgroup_dev_ctx (linux/bpf.h) in register 1, and lets it pass with 1.
What no rule allows is forbidden. The program is bytes: nothing is compiled, no map is needed.

Sources: linux/bpf.h, linux/bpf_common.h, the kernel's Documentation/bpf/instruction-set.rst.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from nsrun.kernel.abi import BpfDeviceAccess, BpfDeviceType

# struct bpf_insn: code, destination register (low half) and source (high), offset, immediate.
INSTRUCTION = struct.Struct("=BBhi")
# access_type is (access << 16) | type; then come the numbers of the device.
_ACCESS_TYPE, _MAJOR_AT, _MINOR_AT = 0, 4, 8
# BPF_LDX|BPF_MEM|BPF_W, BPF_ALU|BPF_{MOV,AND,RSH}, BPF_ALU64|BPF_MOV, BPF_JMP|BPF_JNE, BPF_EXIT.
_LOAD, _MOVE, _AND, _SHIFT, _SET, _UNLESS, _UNLESS_REGISTER, _EXIT = (
    *(0x61, 0xBC, 0x54, 0x74, 0xB7, 0x55, 0x5D, 0x95),
)
_ANSWER, _CONTEXT, _TYPE, _ACCESS, _MAJOR, _MINOR = range(6)
_TYPES = {"b": BpfDeviceType.BPF_DEVCG_DEV_BLOCK, "c": BpfDeviceType.BPF_DEVCG_DEV_CHAR}
_ACCESSES = {
    "r": BpfDeviceAccess.BPF_DEVCG_ACC_READ,
    "w": BpfDeviceAccess.BPF_DEVCG_ACC_WRITE,
    "m": BpfDeviceAccess.BPF_DEVCG_ACC_MKNOD,
}
_ALL = sum(_ACCESSES.values())

Instruction = tuple[int, int, int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRule:
    """What is allowed: ``kind`` "b" or "c"; ``numbers`` "1:3", "136:*" for every minor;
    ``access`` some of "rwm"."""

    kind: str
    numbers: str
    access: str

    def __str__(self) -> str:
        """As the files of version 1 take it: "c 1:3 rwm"."""
        return f"{self.kind} {self.numbers} {self.access}"


def device_program(rules: Iterable[DeviceRule]) -> bytes:
    """A sequence of struct bpf_insn that lets pass what one of ``rules`` allows as a whole."""
    code: list[Instruction] = [
        (_LOAD, _TYPE, _CONTEXT, _ACCESS_TYPE, 0),
        (_MOVE, _ACCESS, _TYPE, 0, 0),
        (_AND, _TYPE, 0, 0, 0xFFFF),
        (_SHIFT, _ACCESS, 0, 0, 16),
        (_LOAD, _MAJOR, _CONTEXT, _MAJOR_AT, 0),
        (_LOAD, _MINOR, _CONTEXT, _MINOR_AT, 0),
    ]
    for rule in rules:
        code += _allow(rule)
    code += [(_SET, _ANSWER, 0, 0, 0), (_EXIT, 0, 0, 0, 0)]
    return b"".join(
        INSTRUCTION.pack(op, to | source << 4, offset, value)
        for op, to, source, offset, value in code
    )


def _allow(rule: DeviceRule) -> list[Instruction]:
    """Jumps count from the instruction behind: each test that fails leads to the next rule."""
    body = [*_tests(rule), (_SET, _ANSWER, 0, 0, 1), (_EXIT, 0, 0, 0, 0)]
    return [
        (op, to, source, len(body) - at - 1 if op in (_UNLESS, _UNLESS_REGISTER) else 0, value)
        for at, (op, to, source, _, value) in enumerate(body)
    ]


def _tests(rule: DeviceRule) -> Iterator[Instruction]:
    access = sum(_ACCESSES[letter] for letter in set(rule.access))
    yield (_UNLESS, _TYPE, 0, 0, _TYPES[rule.kind])
    if access != _ALL:
        # The context is not needed any more: its register takes the part that is allowed.
        yield (_MOVE, _CONTEXT, _ACCESS, 0, 0)
        yield (_AND, _CONTEXT, 0, 0, access)
        yield (_UNLESS_REGISTER, _CONTEXT, _ACCESS, 0, 0)
    for register, number in zip((_MAJOR, _MINOR), rule.numbers.split(":"), strict=True):
        if number != "*":
            yield (_UNLESS, register, 0, 0, int(number))
