"""Compiled specs: the native program with a plan behind its end, for a machine without Python."""

from __future__ import annotations

import contextlib
import os
import struct

from nsrun.diag import Diagnostic, NsrunError
from nsrun.host.depends import compiled_depends
from nsrun.plan import binary, entry
from nsrun.plan.build import plan, wanted
from nsrun.plan.model import Plan
from nsrun.spec.model import Spec

# native/compiled.c: what stands before the offset of the entry, 0 in a program without one.
_MARK = b"nsrun:carries:->"
_OFFSET = struct.Struct("<Q")
_PROGRAM_MAX = 1 << 20
_FILE_MAX = 64 << 20


def compile_spec(spec: Spec, program: str) -> bytes:
    """The program of ``spec`` as bytes. Raises NsrunError where it cannot be planned or carried."""
    from nsrun.host.facts import gather

    query = wanted(spec)
    if query.containers or query.pids:
        raise _refused("it joins a running process, which another machine does not have")
    if query.physical:
        raise _refused(
            f"it hands back {query.physical[0]} as it is now, and another machine has another"
        )
    made = plan(spec, gather(query))
    kernel = tuple(int(part) for part in made.needs.kernel.split("."))
    head = entry.encode(b"", compiled_depends(query, (kernel[0], kernel[1])))
    carrier, place = _carrier(program)
    offset = len(carrier) + -len(carrier) % 8
    carrier = carrier[:place] + _OFFSET.pack(offset) + carrier[place + _OFFSET.size :]
    return carrier + bytes(offset - len(carrier)) + head + binary.encode(made)


def write(path: str, data: bytes) -> None:
    """Write an executable file by way of a temporary name. Raises NsrunError (NS001)."""
    temporary = f"{path}.{os.getpid()}"
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o777)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(data)
            os.rename(temporary, path)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
    except OSError as error:
        summary = f"cannot write {path}: {error.strerror}"
        raise NsrunError(Diagnostic(code="NS001", summary=summary)) from None


def is_compiled(data: bytes) -> bool:
    """Whether the start of a file is that of a program of nsrun, with a plan or without."""
    return data.startswith(b"\x7fELF") and _MARK in data


def read(path: str) -> Plan:
    """The plan that a compiled spec carries. Raises NsrunError (NS406) where it has none."""
    with open(path, "rb") as file:
        data = file.read(_FILE_MAX)
    place = data.find(_MARK) + len(_MARK)
    (offset,) = _OFFSET.unpack_from(data, place)
    if not offset:
        raise NsrunError(Diagnostic(code="NS406", summary=f"{path} carries no plan"))
    try:
        return binary.decode(entry.plan_of(data[offset:]), file=path)
    except ValueError as error:
        raise NsrunError(Diagnostic(code="NS406", summary=f"{path}: {error}")) from None


def _carrier(program: str) -> tuple[bytes, int]:
    """The native program, and where in it the offset stands."""
    with open(program, "rb") as file:
        data = file.read(_PROGRAM_MAX)
    place = data.find(_MARK) + len(_MARK)
    if data.count(_MARK) != 1 or _OFFSET.unpack_from(data, place)[0]:
        raise _refused(f"{program} cannot carry a plan")
    return data, place


def _refused(reason: str) -> NsrunError:
    return NsrunError(Diagnostic(code="NS407", summary=f"cannot be compiled: {reason}"))
