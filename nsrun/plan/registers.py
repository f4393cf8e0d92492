"""The registers of an operation, found by walking its values."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from typing import Any

from nsrun.kernel.values import Bytes, Call, Out, Reg
from nsrun.plan.ops import Await, Clone, Op, ReceiveFd, Wait

_WORD = re.compile(r"%([A-Za-z_][A-Za-z0-9_.-]*)")


def registers(value: object) -> Iterator[Reg]:
    """Every register in an operation or argument, in the order of its fields, with repeats."""
    if isinstance(value, Reg):
        yield value
    elif isinstance(value, tuple):
        for member in value:
            yield from registers(member)
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from registers(getattr(value, field.name))


def written(op: Op) -> tuple[Reg, ...]:
    """The registers that ``op`` sets, in the order the listing names them."""
    match op:
        case Call():
            out = [h.reg for arg in op.args if isinstance(arg, Out) for h in arg.saves]
            return (*((op.save,) if op.save else ()), *out)
        case Clone():
            return (op.pid, op.pidfd)
        case Wait():
            return (op.save,) if op.save else ()
        case ReceiveFd():
            return (op.save, *((op.value,) if op.value else ()))
        case Await():
            return (op.status,)
        case _:
            return ()


def renamed(value: Any, names: Mapping[str, str]) -> Any:
    """``value`` with every register that ``names`` lists called by its new name.

    Words of a buffer's text made from a register's name (``userns=%ns``) follow it.
    """
    if isinstance(value, Reg):
        return dataclasses.replace(value, name=names.get(value.name, value.name))
    if isinstance(value, tuple):
        return tuple(renamed(member, names) for member in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        changes = {
            f.name: renamed(getattr(value, f.name), names) for f in dataclasses.fields(value)
        }
        if isinstance(value, Bytes):
            changes["text"] = _WORD.sub(lambda m: "%" + names.get(m[1], m[1]), value.text)
        return dataclasses.replace(value, **changes)
    return value
