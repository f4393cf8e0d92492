"""seccomp(2) filters as bytes, compiled by libseccomp through its binding pyseccomp.

The only module that knows the library, imported where a plan has a filter to compile. What comes
out is data: the same rules for the same architectures give the same bytes on every machine with the
same libseccomp, and no filter is set here.
"""

from __future__ import annotations

import ctypes.util
import errno
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from nsrun.kernel.abi import BPF_MAX_INSTRUCTIONS, AuditArch, SeccompAction
from nsrun.kernel.calls import BPF_INSTRUCTION

# Level 5 knows every action, and 2.5.0 is the oldest with it (seccomp_api_set(3)).
_API_LEVEL = 5
# OCI's names of architectures, and libseccomp's tokens: those of audit(7) but for x32, which the
# kernel tells from x86_64 by bit 30 of the number alone.
X32 = 0x4000003E
ARCHITECTURES: dict[str, int] = {
    "SCMP_ARCH_X86": AuditArch.AUDIT_ARCH_I386,
    "SCMP_ARCH_X86_64": AuditArch.AUDIT_ARCH_X86_64,
    "SCMP_ARCH_X32": X32,
    "SCMP_ARCH_ARM": AuditArch.AUDIT_ARCH_ARM,
    "SCMP_ARCH_AARCH64": AuditArch.AUDIT_ARCH_AARCH64,
}
X32_BIT = 0x40000000
OPERATORS: dict[str, int] = {
    "SCMP_CMP_NE": 1,
    "SCMP_CMP_LT": 2,
    "SCMP_CMP_LE": 3,
    "SCMP_CMP_EQ": 4,
    "SCMP_CMP_GE": 5,
    "SCMP_CMP_GT": 6,
    "SCMP_CMP_MASKED_EQ": 7,
}
NO_SUCH_CALL = SeccompAction.SECCOMP_RET_ERRNO | errno.ENOSYS


class CompileError(Exception):
    """libseccomp takes no such filter; ``rule``: the index of the rule at fault, None for none."""

    def __init__(self, what: str, rule: int | None = None) -> None:
        super().__init__(what)
        self.rule = rule


@dataclass(frozen=True, slots=True)
class Condition:
    """A comparison of argument ``index`` as 64 bits, by the names of :data:`OPERATORS`; for
    ``SCMP_CMP_MASKED_EQ`` ``value`` is the mask and ``value_two`` what has to remain."""

    index: int
    op: str
    value: int
    value_two: int = 0


@dataclass(frozen=True, slots=True)
class Rule:
    """``action`` (a SECCOMP_RET_* with its data) for calls that meet every condition."""

    names: tuple[str, ...]
    action: int
    conditions: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """What to compile: ``default`` holds where no rule does. ``newest``: calls with a higher
    number do not exist, unless a rule names one as high; None for no such bound. A call of another
    architecture than ``architectures`` (names of :data:`ARCHITECTURES`) does not exist either.
    """

    default: int
    architectures: tuple[str, ...]
    rules: tuple[Rule, ...]
    newest: int | None = None


def _binding() -> Any:
    # find_library runs ldconfig(8) for each, and a compiler where that fails. These names are the
    # libraries' ABI: the loader finds them itself.
    names = {"c": "libc.so.6", "seccomp": "libseccomp.so.2"}
    original = ctypes.util.find_library
    ctypes.util.find_library = names.get  # type: ignore[assignment]
    try:
        import pyseccomp
    except OSError as error:
        raise ImportError(f"{error}") from None
    finally:
        ctypes.util.find_library = original
    # Without a level the library asks the running kernel what it knows, by making filters.
    pyseccomp.set_api(_API_LEVEL)
    # The binding looks this one up with its first use, which would be while planning.
    pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, "read")
    return pyseccomp


_library = _binding()


def call_name(architecture: int, number: int) -> str | None:
    """The name of a system call by its number (an AUDIT_ARCH_* and syscalls(2)), None for none."""
    if architecture == AuditArch.AUDIT_ARCH_X86_64 and number & X32_BIT:
        architecture = X32
    try:
        name = _library.resolve_syscall(architecture, number)
    except ValueError:
        return None
    return name.decode() if isinstance(name, bytes) else str(name)


@lru_cache(maxsize=8)
def compiled(wanted: Filter) -> bytes:
    """The filter's program, a sequence of struct sock_filter; raises CompileError.

    Tables by number come first, one for each architecture; they end in what the library makes of
    the rest: the calls whose arguments matter, and numbers that no table has.
    """
    program = _by_library(wanted, _tabled(wanted))
    for architecture in wanted.architectures:
        ranges = _ranges(wanted, architecture)
        if ranges:
            program = _table(ARCHITECTURES[architecture], ranges) + program
    if len(program) > BPF_MAX_INSTRUCTIONS * BPF_INSTRUCTION.size:
        count = len(program) // BPF_INSTRUCTION.size
        raise CompileError(f"{count} instructions, the most is {BPF_MAX_INSTRUCTIONS}")
    return program


def _tabled(wanted: Filter) -> set[str]:
    """The calls that the library need not know of."""
    if not _WITH_TABLE.issuperset(wanted.architectures):
        return set()
    named = {name for rule in wanted.rules for name in rule.names}
    return named - {name for rule in wanted.rules if rule.conditions for name in rule.names}


def _by_library(wanted: Filter, left_out: set[str]) -> bytes:
    made = _library.SyscallFilter(wanted.default)
    _set_architectures(made, [ARCHITECTURES[name] for name in wanted.architectures])
    made.set_attr(_library.Attr.ACT_BADARCH, NO_SUCH_CALL)
    made.set_attr(_library.Attr.CTL_OPTIMIZE, 2)
    for index, rule in enumerate(wanted.rules):
        for name in rule.names:
            if name not in left_out:
                _add(made, wanted, rule, name, index)
    return _exported(made)


def _set_architectures(made: Any, wanted: list[int]) -> None:
    for token in wanted:
        if not made.exist_arch(token):
            made.add_arch(token)
    native = _library.system_arch()
    if native not in wanted:
        made.remove_arch(native)


def _add(made: Any, wanted: Filter, rule: Rule, name: str, index: int) -> None:
    # A number of the machine that compiles, negative for a call that only others have; the
    # library looks its name up for each architecture.
    number = _library.resolve_syscall(_library.Arch.NATIVE, name)
    # What the default says already is refused as a rule.
    if number == -1 or rule.action == wanted.default:
        return
    for conditions in _alternatives(rule.conditions):
        arguments = [
            _library.Arg(c.index, OPERATORS[c.op], c.value, c.value_two) for c in conditions
        ]
        try:
            made.add_rule(rule.action, number, *arguments)
        except OSError as error:
            raise CompileError(f"{name}: {error.strerror}", index) from None


def _alternatives(conditions: tuple[Condition, ...]) -> Iterable[tuple[Condition, ...]]:
    """Conditions that hold together; one argument compared twice is as runc has it: either."""
    indices = [c.index for c in conditions]
    if len(set(indices)) == len(indices):
        return (conditions,)
    return [(c,) for c in conditions]


class _File:
    """As much of a file as the binding asks for."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def fileno(self) -> int:
        return self._fd


def _exported(made: Any) -> bytes:
    fd = os.memfd_create("filter")
    try:
        made.export_bpf(_File(fd))
        return os.pread(fd, (BPF_MAX_INSTRUCTIONS + 1) * BPF_INSTRUCTION.size, 0)
    except OSError as error:
        raise CompileError(f"{error.strerror}") from None
    finally:
        os.close(fd)


# --- tables by number --------------------------------------------------------------------------
#
# When a filter is set the kernel runs it for every number, to know the calls that are always
# allowed (seccomp_cache_prepare of kernel/seccomp.c), and compiles each instruction: with some 400
# comparisons for equality that is a part of a container's start that counts. The answers to
# neighbouring numbers are mostly the same: a search tree over their ranges is half of that.

# linux/bpf_common.h, and offsets in struct seccomp_data.
_LOAD, _RETURN = 0x20, 0x06
_JUMP, _JUMP_EQUAL, _JUMP_GREATER_EQUAL = 0x05, 0x15, 0x35
_NUMBER_AT, _ARCH_AT = 0, 4
_pack = BPF_INSTRUCTION.pack
# The first number of a range that ends where the next begins; None: what the library has made.
Range = tuple[int, int | None]


# Not so for 32 bits: with i386 the library sees to socketcall(2) and ipc(2), which stand for
# several calls each, arm has private numbers far above the others, x32 goes by those of x86_64.
_WITH_TABLE = {"SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"}
_BOUNDED = {*_WITH_TABLE, "SCMP_ARCH_X86"}
# Numbers that no call has: since Linux 5.1 a new one has the same number everywhere, from 424 on
# (scripts/syscall.tbl, arch/x86/entry/syscalls/syscall_64.tbl).
_UNUSED = {"SCMP_ARCH_X86_64": range(337, 424), "SCMP_ARCH_AARCH64": range(295, 424)}


def _ranges(wanted: Filter, architecture: str) -> list[Range]:
    """What is known of an architecture by the number alone, empty for nothing."""
    answers: dict[int, int | None] = {}
    token = ARCHITECTURES[architecture]
    for rule in wanted.rules:
        for name in rule.names:
            number = _library.resolve_syscall(token, name)
            if number >= 0:
                # Rules about one call do not contradict each other: the first is as good as any.
                known = answers.get(number, rule.action)
                answers[number] = None if rule.conditions or known is None else known
    # A profile may come to no rule at all: by its `includes`, or by names of other architectures.
    newest = max((wanted.newest or 0, *answers))
    ranges: list[Range] = []
    if architecture in _WITH_TABLE:
        unused = _UNUSED[architecture] if wanted.newest is not None else ()
        for number in range(newest + 1):
            otherwise = NO_SUCH_CALL if number in unused else wanted.default
            _extend(ranges, number, answers.get(number, otherwise))
    elif architecture in _BOUNDED and wanted.newest is not None:
        _extend(ranges, 0, None)
    else:
        return []
    if wanted.newest is None:
        return _extend(ranges, newest + 1, None)
    # A program that meets a call it may not make takes it for forbidden and gives up; for one that
    # does not exist it has a way round.
    _extend(ranges, newest + 1, NO_SUCH_CALL)
    with_x32 = architecture == "SCMP_ARCH_X86_64" and "SCMP_ARCH_X32" in wanted.architectures
    return _extend(ranges, X32_BIT, None) if with_x32 else ranges


def _extend(ranges: list[Range], first: int, answer: int | None) -> list[Range]:
    if not ranges or ranges[-1][1] != answer:
        ranges.append((first, answer))
    return ranges


def _table(token: int, ranges: list[Range]) -> bytes:
    """Instructions before a program for the calls of one architecture."""
    tree = _tree(ranges, 0)
    size = len(tree) + 1
    return b"".join(
        (
            _pack(_LOAD, 0, 0, _ARCH_AT),
            _pack(_JUMP_EQUAL, 1, 0, token),
            _pack(_JUMP, 0, 0, size),
            _pack(_LOAD, 0, 0, _NUMBER_AT),
            *tree,
        )
    )


def _tree(ranges: list[Range], after: int) -> list[bytes]:
    """The search among ``ranges``; ``after``: how many instructions lie between it and the next
    program."""
    if len(ranges) == 1:
        [(_, answer)] = ranges
        return [_pack(_JUMP, 0, 0, after) if answer is None else _pack(_RETURN, 0, 0, answer)]
    middle = len(ranges) // 2
    upper = _tree(ranges[middle:], after)
    lower = _tree(ranges[:middle], after + len(upper))
    bound = ranges[middle][0]
    if len(lower) < _FAR:
        return [_pack(_JUMP_GREATER_EQUAL, len(lower), 0, bound), *lower, *upper]
    # A conditional jump goes no farther than 255.
    far = [_pack(_JUMP_GREATER_EQUAL, 0, 1, bound), _pack(_JUMP, 0, 0, len(lower))]
    return [*far, *lower, *upper]


_FAR = 255
