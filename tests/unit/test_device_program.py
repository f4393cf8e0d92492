"""The program of device rules: what it answers, run here as the kernel runs it."""

from __future__ import annotations

import pytest

from nsrun.kernel.abi import BpfDeviceAccess as Access
from nsrun.kernel.abi import BpfDeviceType as Type
from nsrun.plan.device_program import INSTRUCTION, DeviceRule, device_program

BLOCK, CHAR = Type.BPF_DEVCG_DEV_BLOCK, Type.BPF_DEVCG_DEV_CHAR
READ, WRITE = Access.BPF_DEVCG_ACC_READ, Access.BPF_DEVCG_ACC_WRITE
MKNOD = Access.BPF_DEVCG_ACC_MKNOD
EVERY = READ | WRITE | MKNOD


def allows(program: bytes, kind: int, access: int, major: int, minor: int) -> int:
    """What the program answers (linux/bpf_common.h); what the kernel's verifier refuses fails."""
    context = {0: access << 16 | kind, 4: major, 8: minor}
    code = list(INSTRUCTION.iter_unpack(program))
    registers: dict[int, int | None] = {1: None}  # 1 is a pointer, the others are not set yet
    at = 0
    while True:
        op, both, offset, value = code[at]
        to, source = both & 15, both >> 4
        at += 1
        match op:
            case 0x61:
                assert source == 1 and registers[1] is None
                registers[to] = context[offset]
            case 0xBC:
                registers[to] = known(registers, source)
            case 0x54:
                registers[to] = known(registers, to) & value
            case 0x74:
                registers[to] = known(registers, to) >> value
            case 0xB7:
                registers[to] = value
            case 0x55 | 0x5D:
                assert offset > 0
                other = value if op == 0x55 else known(registers, source)
                at += offset if known(registers, to) != other else 0
            case 0x95:
                return known(registers, 0)
            case _:
                raise AssertionError(f"an operation {op:#x}")


def known(registers: dict[int, int | None], number: int) -> int:
    found = registers[number]
    assert found is not None
    return found


RULES = (
    DeviceRule(kind="c", numbers="1:3", access="rwm"),
    DeviceRule(kind="c", numbers="1:5", access="r"),
    DeviceRule(kind="c", numbers="136:*", access="rw"),
    DeviceRule(kind="b", numbers="8:1048575", access="wr"),
)


@pytest.mark.parametrize(
    ("kind", "access", "major", "minor", "answer"),
    [
        (CHAR, EVERY, 1, 3, 1),
        (CHAR, 0, 1, 3, 1),
        (BLOCK, READ, 1, 3, 0),
        (CHAR, READ, 1, 5, 1),
        (CHAR, WRITE, 1, 5, 0),
        (CHAR, READ | WRITE, 1, 5, 0),
        (CHAR, MKNOD, 1, 5, 0),
        (CHAR, READ, 1, 4, 0),
        (CHAR, READ, 3, 1, 0),
        (CHAR, READ | WRITE, 136, 0, 1),
        (CHAR, READ | WRITE, 136, 1048575, 1),
        (CHAR, MKNOD, 136, 1, 0),
        (CHAR, READ, 137, 0, 0),
        (BLOCK, READ | WRITE, 8, 1048575, 1),
        (BLOCK, EVERY, 8, 1048575, 0),
        (BLOCK, READ, 8, 0, 0),
        (CHAR, READ, 8, 1048575, 0),
    ],
)
def test_what_a_rule_allows_as_a_whole_passes(
    kind: int, access: int, major: int, minor: int, answer: int
) -> None:
    for rules in (RULES, RULES[::-1]):
        assert allows(device_program(rules), kind, access, major, minor) == answer


def test_without_rules_nothing_passes() -> None:
    assert allows(device_program(()), CHAR, READ, 1, 3) == 0


def test_a_rule_is_written_as_version_1_takes_it() -> None:
    assert [str(rule) for rule in RULES[:3]] == ["c 1:3 rwm", "c 1:5 r", "c 136:* rw"]
