"""The walls that a traced process has set up around itself: programs of seccomp(2), rules of
Landlock. Each is read when the process passes it to the kernel: neither can be looked at later.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from nsrun.host import procfs, ptrace
from nsrun.host.refused import Rules
from nsrun.host.syscalls import open_inside
from nsrun.kernel import bpf
from nsrun.kernel.abi import SeccompAction, UnknownSyscallError, syscall_number

_CALLS = ("seccomp", "prctl", "landlock_create_ruleset", "landlock_add_rule",
          "landlock_restrict_self")  # fmt: skip
# linux/prctl.h, linux/seccomp.h
_PR_SET_SECCOMP, _MODE_FILTER, _TSYNC = 22, 2, 1
_SET_MODE_FILTER = 1
_INSTRUCTION_SIZE = 8
# linux/landlock.h: LANDLOCK_RULE_PATH_BENEATH
_PATH_BENEATH = 1

# What a call will have changed if it works; it gets the call's result.
Effect = Callable[[int], None]


@dataclass(slots=True)
class OwnWalls:
    """Those of one thread."""

    filters: tuple[bytes, ...] = ()
    layers: tuple[Rules, ...] = ()
    rulesets: dict[int, Rules] = field(default_factory=dict)

    def inherited(self) -> OwnWalls:
        """Those of a process that it starts."""
        return replace(self, rulesets=dict(self.rulesets))

    def answer(self, entered: ptrace.Entered) -> int:
        """What the filters answer to a call: a SECCOMP_RET_* with its data."""
        try:
            return bpf.strictest(
                self.filters, entered.architecture, entered.number, entered.arguments
            )
        except bpf.NotAFilterError:
            return int(SeccompAction.SECCOMP_RET_ALLOW)

    def answers_with(self, errno: int) -> bool:
        """Whether a filter has this errno among its answers."""
        return any(errno in bpf.errnos(program) for program in self.filters)

    def is_asked(self, entered: ptrace.Entered) -> bool:
        """Whether a listener decides (seccomp_unotify(2))."""
        action = self.answer(entered) & bpf.ACTION_MASK
        return action == int(SeccompAction.SECCOMP_RET_USER_NOTIF)


@dataclass(frozen=True, slots=True)
class Known:
    """Walls that are set by a plan: programs, and of each Landlock ruleset what it handles, its
    scopes and the rights that its paths give."""

    filters: tuple[bytes, ...] = ()
    rulesets: tuple[tuple[int, int, tuple[tuple[str, int], ...]], ...] = ()

    def around(self, pid: int) -> OwnWalls:
        """As they are around ``pid``, by whose root the paths go; raises OSError."""
        layers = tuple(
            Rules(handled, 0, scoped, _allowed(pid, paths))
            for handled, scoped, paths in self.rulesets
        )
        return OwnWalls(filters=self.filters, layers=layers)


def read_known(path: str) -> Known:
    """From a file as nsrun.runtime.why writes it; raises OSError and ValueError."""
    with open(path, encoding="ascii") as file:
        document = json.load(file)
    return Known(
        filters=tuple(bytes.fromhex(program) for program in document["filters"]),
        rulesets=tuple(
            (handled, scoped, tuple((path, rights) for path, rights in paths))
            for handled, scoped, paths in document["rulesets"]
        ),
    )


def _allowed(pid: int, paths: Iterable[tuple[str, int]]) -> dict[tuple[int, int], int]:
    found: dict[tuple[int, int], int] = {}
    root = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for path, rights in paths:
            try:
                fd = open_inside(root, path, os.O_PATH)
            except FileNotFoundError:
                continue
            status = os.fstat(fd)
            os.close(fd)
            key = (status.st_dev, status.st_ino)
            found[key] = found.get(key, 0) | rights
    finally:
        os.close(root)
    return found


def setting_calls(machine: str) -> dict[int, str]:
    """The calls that can set a wall up, by their numbers."""
    found = {}
    for name in _CALLS:
        try:
            found[syscall_number(name, machine)] = name
        except UnknownSyscallError:
            continue
    return found


def effect(
    name: str,
    arguments: tuple[int, ...],
    pid: int,
    own: OwnWalls,
    threads: Callable[[], Iterable[tuple[int, OwnWalls]]],
) -> Effect | None:
    """What the call that ``pid`` has begun adds to its walls; None where it adds nothing.

    ``threads``: all that are traced. Raises OSError and struct.error where its arguments cannot
    be read, and the kernel could not read them either.
    """
    first, second, third, *_ = arguments
    match name:
        case "seccomp" if first == _SET_MODE_FILTER:
            return _filter(pid, own, third, threads if second & _TSYNC else None)
        case "prctl" if (first, second) == (_PR_SET_SECCOMP, _MODE_FILTER):
            return _filter(pid, own, third, None)
        case "landlock_create_ruleset" if not third:
            data = ptrace.memory(pid, first, min(second, 24)).ljust(24, b"\0")
            rules = Rules(*struct.unpack("=3Q", data))
            return lambda fd: own.rulesets.update({fd: rules})
        case "landlock_add_rule" if second == _PATH_BENEATH:
            allowed, fd = struct.unpack("=Qi", ptrace.memory(pid, third, 12))
            status = os.stat(f"/proc/{pid}/fd/{fd}")
            return lambda _: _allow(own.rulesets.get(first), status, allowed)
        case "landlock_restrict_self" if first in own.rulesets:
            # What is added to the ruleset afterwards is no part of the domain.
            rules = own.rulesets[first]
            layer = replace(rules, allowed=dict(rules.allowed))
            return lambda _: setattr(own, "layers", (*own.layers, layer))
        case _:
            return None


def _filter(
    pid: int,
    own: OwnWalls,
    address: int,
    threads: Callable[[], Iterable[tuple[int, OwnWalls]]] | None,
) -> Effect:
    # struct sock_fprog of linux/filter.h
    length, start = struct.unpack("=H6xQ", ptrace.memory(pid, address, 16))
    program = ptrace.memory(pid, start, length * _INSTRUCTION_SIZE)

    def set_(_: int) -> None:
        under = [own]
        if threads is not None:
            group = _group(pid)
            under += [w for other, w in threads() if w is not own and _group(other) == group]
        for walls in under:
            walls.filters = (*walls.filters, program)

    return set_


def _allow(rules: Rules | None, status: os.stat_result, allowed: int) -> None:
    if rules is not None:
        key = (status.st_dev, status.st_ino)
        rules.allowed[key] = rules.allowed.get(key, 0) | allowed


def _group(ident: int) -> str:
    return procfs.status(str(ident)).get("Tgid", "")
