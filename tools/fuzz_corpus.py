#!/usr/bin/env python3
"""Writes a fuzzer's first inputs: the golden plans, one of all operations, and entries of a cache.

A plan is there a few times: replayed by the parent to its end, and on in the processes that its
first clones make (native/fuzz_plan.c says what the byte behind a plan means).
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from nsrun.diag import NsrunError  # noqa: E402  # found beside this file, installed or not
from nsrun.kernel.values import Bytes, Fmt, Hole, Reg, Str  # noqa: E402
from nsrun.plan import binary, entry  # noqa: E402
from nsrun.plan.model import Plan  # noqa: E402
from nsrun.plan.ops import Netlink, Spawn  # noqa: E402
from nsrun.runtime.launch import plan_to_keep  # noqa: E402
from nsrun.spec.load import load  # noqa: E402
from tests.golden.reference import plan_of, spec_files  # noqa: E402
from tests.support import replays  # noqa: E402

_NEW_PROCESSES = range(0, 32, 2)
_NETLINK = Reg("netlink")


def _all_operations() -> Plan:
    """What no spec of specs/ has: a helper that reads, a request of netlink, both in an undo."""
    message = struct.pack("=IHHIIBxHiII", 32, 16, 5, 7, 0, 0, 0, 0, 1, 1)
    helper = Spawn(
        argv=(Str("/bin/true"), Fmt(("pid ", replays.CHILD))),
        env=("PATH=/bin", "A=b"),
        stdin=Fmt(("0 ", replays.CHILD, " 1\n")),
        success=(0, 3),
        timeout=replays.SECOND,
    )
    socket = replays.call("socket", 16, 3, 0, save=_NETLINK)
    request = Netlink(
        socket=_NETLINK,
        message=Bytes(message, holes=(Hole(20, 4, replays.CHILD),)),
        accept=("EEXIST",),
        skip=("ENODEV",),
    )
    return replays.command(
        *replays.sh("true"),
        middle=(replays.parent(socket, request, helper, undo=(request, helper)),),
    )


def _plans() -> Iterator[tuple[str, Plan]]:
    yield "operations", _all_operations()
    for file in spec_files():
        yield file.stem, plan_of(file)


def _entries() -> Iterator[tuple[str, bytes]]:
    for file in spec_files():
        try:
            _, depends = plan_to_keep(load(str(file))[0], ())
        except NsrunError:
            continue  # what joins a namespace that is not there, or is for root
        if depends is not None:
            yield file.stem, entry.encode(b"key", depends)


def main() -> int:
    folder = Path(sys.argv[1])
    for name, plan in _plans():
        data = binary.encode(plan)
        data = data[: int.from_bytes(data[12:16], "little")]
        for new in _NEW_PROCESSES:
            (folder / f"{name}.{new}.plan").write_bytes(data + bytes([new]))
    for name, data in _entries():
        (folder / f"{name}.entry").write_bytes(data)
    return 0


if __name__ == "__main__":
    sys.exit(main())
