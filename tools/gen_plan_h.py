#!/usr/bin/env python3
"""Writes native/plan.h and native/entry_format.h from the binary forms' Python modules.

With --check nothing is written; the exit status is 1 where the file is not current.
"""

from __future__ import annotations

import errno as errnos
import sys
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from nsrun.kernel import abi, depend  # noqa: E402  # found beside this file, installed or not
from nsrun.kernel.values import RegKind  # noqa: E402
from nsrun.plan import binary_format as form  # noqa: E402
from nsrun.plan import entry  # noqa: E402
from nsrun.replay import outcome  # noqa: E402

NATIVE = ROOT / "native"

HEAD = """\
/* Made by tools/gen_plan_h.py from {sources}; do not edit.
 * What the words mean is said there. */
#ifndef {guard}
#define {guard}

#include <asm/unistd.h>
#include <stdint.h>

"""

TYPES = {4: "uint32_t", 8: "uint64_t"}


def main() -> int:
    current = True
    for name, text in documents().items():
        target = NATIVE / name
        if "--check" not in sys.argv[1:]:
            target.write_text(text)
        elif not target.exists() or target.read_text() != text:
            print(f"{target.relative_to(ROOT)} is not current: make generate", file=sys.stderr)
            current = False
    return 0 if current else 1


def documents() -> dict[str, str]:
    return {
        "plan.h": _document(
            "NSRUN_PLAN_H",
            "nsrun/plan/binary_format.py and nsrun/replay/outcome.py",
            _sections(),
        ),
        "entry_format.h": _document(
            "NSRUN_ENTRY_FORMAT_H",
            "nsrun/plan/entry.py and nsrun/kernel/depend.py",
            _entry_sections(),
        ),
    }


def _document(guard: str, sources: str, sections: Iterator[str]) -> str:
    return HEAD.format(guard=guard, sources=sources) + "\n".join(sections) + "\n#endif\n"


def _entry_sections() -> Iterator[str]:
    yield f'#define ENTRY_MAGIC "{entry.MAGIC.decode()}"'
    for name in ("FORMAT", "CHECKED_FROM", "SIZE_MAX", "SLOTS"):
        yield f"#define ENTRY_{name} {getattr(entry, name)}u"
    for name in ("CONTENT_MAX", "IGNORED_BY_PYTHON"):
        yield f"#define ENTRY_{name} {getattr(depend, name)}u"
    yield _struct("entry_header", entry.HEADER_FIELDS)
    yield _struct("entry_depend", entry.DEPEND_FIELDS)
    yield _enum("depend_kind", "DEPEND_KIND", {k.name: k.value for k in depend.Kind})
    yield "\n".join(f"#define DEPEND_{m.name} {m.value}u" for m in depend.Mask)


def _sections() -> Iterator[str]:
    yield f'#define PLAN_MAGIC "{form.MAGIC.decode().encode("unicode_escape").decode()}"'
    for name in (
        "FORMAT",
        "CHECKED_FROM",
        "SIZE_MAX",
        "REGISTERS_MAX",
        "ARGUMENTS_MAX",
        "ERRNOS_MAX",
        "HOLE_DECIMAL",
        "DIGITS_MAX",
        "SYNC_MAX",
        "POINTER_DEPTH",
        "SCRATCH_MAX",
        "WORD_ACTION",
        "NO_UNDO",
    ):
        yield f"#define PLAN_{name} {getattr(form, name)}u"
    yield f"#define PLAN_CHECKSUM_PRIME {form.CHECKSUM_PRIME:#x}u"
    yield _machines()
    yield _struct("plan_header", form.HEADER_FIELDS)
    ops = {cls.__name__: code for cls, code in form.OP_CODES.items()}
    yield _enum("op", "OP", {_upper(name): code for name, code in ops.items()})
    yield _enum("reg_kind", "KIND", {k.name: form.KIND_CODES[k] for k in RegKind})
    for tag, prefix, members in (
        ("arg_kind", "ARG", form.ArgKind),
        ("undo_when", "WHEN", form.When),
        ("otherwise", "ELSE", form.Otherwise),
        ("stdin_kind", "STDIN", form.StdinKind),
        ("state", "STATE", outcome.State),
    ):
        assert issubclass(members, IntEnum)
        yield _enum(tag, prefix, {m.name: m.value for m in members})
    yield _enum("fail_kind", "FAIL", {k.name: n for n, k in enumerate(outcome.Kind)})
    for prefix, flags in (
        ("HEADER", form.HeaderFlag),
        ("CALL", form.CallFlag),
        ("ACTION", form.ActionBit),
        ("CLONE_BIT", form.CloneBit),
        ("WAIT", form.WaitBit),
    ):
        yield "\n".join(f"#define {prefix}_{m.name} {m.value}u" for m in flags)
    yield _numbers()
    yield _errnos()


def _machines() -> str:
    lines = [f"#define PLAN_MACHINE_{name} {code}u" for name, code in form.MACHINES.items()]
    for name, code in form.MACHINES.items():
        lines += [f"#ifdef __{name}__", f"#define PLAN_MACHINE {code}u", "#endif"]
    return "\n".join(lines)


def _struct(tag: str, fields: tuple[tuple[str, int], ...]) -> str:
    lines = [
        f"    {'unsigned char' if name == 'magic' else TYPES[size]} "
        f"{name}{f'[{size}]' if name == 'magic' else ''};"
        for name, size in fields
    ]
    lines = [line.replace("uint64_t mtime", "int64_t mtime") for line in lines]
    lines = [line.replace("uint64_t ctime", "int64_t ctime") for line in lines]
    return "\n".join([f"\nstruct {tag} {{", *lines, "};"])


def _enum(tag: str, prefix: str, members: dict[str, int]) -> str:
    lines = [f"    {prefix}_{name} = {value}," for name, value in members.items()]
    return "\n".join([f"\nenum {tag} {{", *lines, "};"])


def _upper(name: str) -> str:
    return "".join(f"_{c}" if c.isupper() and i else c for i, c in enumerate(name)).upper()


def _numbers() -> str:
    lines: list[str] = []
    for machine in form.MACHINES:
        lines.append(f"\n#ifdef __{machine}__")
        for name in sorted(abi.syscall_names()):
            try:
                lines += _number(name, abi.syscall_number(name, machine))
            except abi.UnknownSyscallError:
                continue
        lines.append("#endif")
    return "\n".join(lines)


def _number(name: str, number: int) -> list[str]:
    """A number, held against the kernel's own header where that is new enough to have it."""
    return [
        f"#define NR_{name} {number}",
        f"#ifdef __NR_{name}",
        f'_Static_assert(__NR_{name} == {number}, "nsrun/kernel/abi.py: {name}");',
        "#endif",
    ]


def _errnos() -> str:
    lines = [f'    X({n}, "{name}") \\' for n, name in sorted(errnos.errorcode.items())]
    return "\n".join(["\n#define ERRNO_NAMES(X) \\", *lines, "    /* errnos of asm-generic */"])


if __name__ == "__main__":
    sys.exit(main())
