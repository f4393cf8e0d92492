"""seccomp(2) filters as bytes, compiled by libseccomp through its binding pyseccomp.

The only module that knows the library, imported where a plan has a filter to compile. What comes
out is data: the same rules for the same architectures give the same bytes on every machine with the
same libseccomp, and no filter is set here.
"""

from __future__ import annotations

import ctypes.util
import errno
import os
from collections.abc import Iterable, Iterator
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
    return pyseccomp


_library = _binding()


@lru_cache(maxsize=8)
def compiled(wanted: Filter) -> bytes:
    """The filter's program, a sequence of struct sock_filter; raises CompileError."""
    made = _library.SyscallFilter(wanted.default)
    _set_architectures(made, [ARCHITECTURES[name] for name in wanted.architectures])
    made.set_attr(_library.Attr.ACT_BADARCH, NO_SUCH_CALL)
    # A binary tree by number: the kernel runs a filter for every number when it is set.
    made.set_attr(_library.Attr.CTL_OPTIMIZE, 2)
    for index, rule in enumerate(wanted.rules):
        for name in rule.names:
            _add(made, wanted, rule, name, index)
    program = _exported(made)
    if wanted.newest is not None:
        program = b"".join(_beginning(wanted, wanted.newest)) + program
    if len(program) > BPF_MAX_INSTRUCTIONS * BPF_INSTRUCTION.size:
        count = len(program) // BPF_INSTRUCTION.size
        raise CompileError(f"{count} instructions, the most is {BPF_MAX_INSTRUCTIONS}")
    return program


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


# --- numbers that are too new ------------------------------------------------------------------

# linux/bpf_common.h, and offsets in struct seccomp_data.
_LOAD, _JUMP_EQUAL, _JUMP_GREATER_EQUAL, _RETURN = 0x20, 0x15, 0x35, 0x06
_NUMBER_AT, _ARCH_AT = 0, 4


def _beginning(wanted: Filter, newest: int) -> Iterator[bytes]:
    """Instructions before a program: ENOSYS for numbers above ``newest`` and any that is named.

    A program that meets a call it may not make takes it for forbidden and gives up; for one that
    does not exist it has a way round. The private calls of arm have high numbers, and so has x32.
    """
    for name in wanted.architectures:
        if name in ("SCMP_ARCH_ARM", "SCMP_ARCH_X32"):
            continue
        token = ARCHITECTURES[name]
        named = (_library.resolve_syscall(token, n) for rule in wanted.rules for n in rule.names)
        with_x32 = name == "SCMP_ARCH_X86_64" and "SCMP_ARCH_X32" in wanted.architectures
        yield from _bounded(token, max(newest, *named), with_x32=with_x32)


def _bounded(token: int, newest: int, *, with_x32: bool) -> Iterator[bytes]:
    pack = BPF_INSTRUCTION.pack
    yield pack(_LOAD, 0, 0, _ARCH_AT)
    yield pack(_JUMP_EQUAL, 0, 4 if with_x32 else 3, token)
    yield pack(_LOAD, 0, 0, _NUMBER_AT)
    if with_x32:
        yield pack(_JUMP_GREATER_EQUAL, 2, 0, X32_BIT)
    yield pack(_JUMP_GREATER_EQUAL, 0, 1, newest + 1)
    yield pack(_RETURN, 0, 0, NO_SUCH_CALL)
