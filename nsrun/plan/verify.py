"""What must hold of every plan, whoever made it: proven before a replay, in one pass.

Registers are written once and before they are read, of the kind that is asked for; syncs are
paired and cannot wait for each other in a circle; nothing follows the command's execve; what
the parent does to the host is undone.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import assert_never

from nsrun.diag import Diagnostic, NsrunError
from nsrun.kernel.values import Arg, Bytes, Call, Fmt, Int, Length, Out, Reg, Str, Strings
from nsrun.plan.model import Action, Placed, Plan, Track
from nsrun.plan.ops import (
    EXEC,
    LAST_CALLS,
    Await,
    Clone,
    Init,
    Netlink,
    Op,
    ReceiveFd,
    SendFd,
    Signal,
    Spawn,
    Wait,
)

# Calls that leave something on the host which outlives the process that made it.
_VISIBLE = frozenset(
    {"mount", "move_mount", "mkdirat", "mknodat", "symlinkat", "linkat", "renameat2"}
)
# linux/netlink.h and linux/rtnetlink.h: struct nlmsghdr (length, type, flags, sequence, port),
# struct ifinfomsg behind it, then struct rtattr (length, type) with their values.
_NLMSGHDR, _RTATTR = struct.Struct("=IHHII"), struct.Struct("=HH")
_IFINFOMSG_SIZE = 16
_NLA_TYPE_MASK = 0x3FFF
_NLM_F_CREATE, _RTM_NEWLINK = 0x400, 16
# linux/if_link.h: the network namespace that a link is made in, or moves to, said in three ways.
_IFLA_NET_NS_PID, _IFLA_NET_NS_FD, _IFLA_TARGET_NETNSID = 19, 28, 46

_Tracks = Mapping[Track, Sequence[Placed]]


def verify(plan: Plan) -> None:
    """Raise NsrunError (NS405) with everything that is wrong with ``plan``."""
    steps = tuple(plan.steps())
    tracks = {track: [placed for placed in steps if placed.track is track] for track in Track}
    problems = [
        *_check_registers(plan, steps),
        *_check_syncs(tracks),
        *_check_end(tracks),
        *_check_undo(plan, steps),
    ]
    if problems:
        raise NsrunError(
            tuple(Diagnostic(code="NS405", summary=problem) for problem in problems)
        )


# --- registers -------------------------------------------------------------------------------


@dataclass(slots=True)
class _Written:
    registers: dict[str, Reg] = field(default_factory=dict)


def _check_registers(plan: Plan, steps: Sequence[Placed]) -> Iterator[str]:
    """Follow each track; the child starts with what the parent had at the clone."""
    parent, child = _Written(), _Written()
    everywhere: dict[str, str] = {}
    following = iter(steps)
    for action in plan.actions:
        written = parent if action.track is Track.PARENT else child
        for placed in islice(following, len(action.steps)):
            yield from _check_step(placed, placed.op, written, everywhere)
            if isinstance(placed.op, Clone) and not placed.op.hand_over and not placed.op.hold:
                own = (placed.op.pid, placed.op.pidfd)
                child.registers.update(
                    {name: reg for name, reg in parent.registers.items() if reg not in own}
                )
        if action.track is Track.PARENT:
            yield from _check_undo_steps(action, parent)


def _check_step(
    placed: Placed, op: Op, written: _Written, everywhere: dict[str, str]
) -> Iterator[str]:
    for reg in reads(op):
        known = written.registers.get(reg.name)
        if known is None:
            yield f"step {placed.address} reads %{reg.name}, which nothing has written"
        elif known.kind is not reg.kind:
            yield f"step {placed.address} reads %{reg.name} as {reg.kind}, it is {known.kind}"
    for reg in writes(op):
        if reg.name in everywhere:
            yield f"step {placed.address} writes %{reg.name} again ({everywhere[reg.name]} has)"
        everywhere[reg.name] = placed.address
        written.registers[reg.name] = reg


def _check_undo_steps(action: Action, parent: _Written) -> Iterator[str]:
    """A run may end right after ``action``, so its undo has what is written by then."""
    undoing, own = f"undoing '{action.what}'", dict[str, Reg]()
    for op in action.undo:
        for reg in reads(op):
            known = own.get(reg.name) or parent.registers.get(reg.name)
            if known is None:
                yield f"{undoing} reads %{reg.name}, which nothing has written by then"
            elif known.kind is not reg.kind:
                yield f"{undoing} reads %{reg.name} as {reg.kind}, it is {known.kind}"
        own.update({reg.name: reg for reg in writes(op)})


def reads(op: Op) -> tuple[Reg, ...]:
    """The registers that an operation needs."""
    match op:
        case Call():
            logs = (op.log,) if op.log is not None else ()
            return (*(r for arg in op.args for r in _in_argument(arg)), *logs)
        case Clone():
            return (op.channel,) if op.channel is not None else ()
        case Signal():
            return (op.channel, op.value) if op.value is not None else (op.channel,)
        case Wait() | ReceiveFd():
            return (op.channel, op.signals) if op.signals is not None else (op.channel,)
        case SendFd():
            return (op.channel, op.fd)
        case Netlink():
            return (op.socket, *_in_argument(op.message))
        case Spawn():
            stdin = _in_argument(op.stdin) if op.stdin is not None else ()
            return (*(r for a in op.argv for r in _in_argument(a)), *stdin)
        case Init():
            return (op.channel,)
        case Await():
            terminal = (op.terminal,) if op.terminal is not None else ()
            return (op.child, op.pidfd, op.signals, *terminal)
        case _:
            assert_never(op)


def writes(op: Op) -> tuple[Reg, ...]:
    """The registers that an operation sets."""
    match op:
        case Call():
            saved = (op.save,) if op.save is not None else ()
            holes = (h.reg for arg in op.args if isinstance(arg, Out) for h in arg.saves)
            return (*saved, *holes)
        case Clone():
            return (op.pid, op.pidfd)
        case Wait():
            return (op.save,) if op.save is not None else ()
        case ReceiveFd():
            return (op.save, op.value) if op.value is not None else (op.save,)
        case Await():
            return (op.status,)
        case Signal() | SendFd() | Netlink() | Spawn() | Init():
            return ()
        case _:
            assert_never(op)


def _in_argument(arg: Arg) -> tuple[Reg, ...]:
    match arg:
        case Reg():
            return (arg,)
        case Fmt():
            return tuple(part for part in arg.parts if isinstance(part, Reg))
        case Length():
            return _in_argument(arg.of)
        case Bytes():
            inner = (r for pointer in arg.pointers for r in _in_argument(pointer.target))
            return (*(hole.reg for hole in arg.holes), *inner)
        case Int() | Str() | Strings() | Out():
            return ()
        case _:
            assert_never(arg)


# --- syncs -----------------------------------------------------------------------------------


def _check_syncs(tracks: _Tracks) -> Iterator[str]:
    """Messages of each direction arrive in the order they are sent, so their names must agree."""
    sent: dict[Track, list[str]] = {Track.PARENT: [], Track.CHILD: []}
    awaited: dict[Track, list[str]] = {Track.PARENT: [], Track.CHILD: []}
    for placed in chain.from_iterable(tracks.values()):
        op = placed.op
        if isinstance(op, Signal | SendFd) or (isinstance(op, Clone) and op.hand_over):
            sent[placed.track].append(op.sync)
        elif isinstance(op, ReceiveFd) or (isinstance(op, Wait) and op.sync != EXEC):
            awaited[placed.track].append(op.sync)
    for sender, receiver in ((Track.PARENT, Track.CHILD), (Track.CHILD, Track.PARENT)):
        if sent[sender] != awaited[receiver]:
            yield (
                f"the {sender} sends {_names(sent[sender])}, "
                f"the {receiver} waits for {_names(awaited[receiver])}"
            )
    if not _runs_through(tracks):
        yield "the two tracks wait for each other"


def _names(syncs: Iterable[str]) -> str:
    return ", ".join(f"#{name}" for name in syncs) or "nothing"


def _runs_through(tracks: _Tracks) -> bool:
    """Step both tracks until both are through, or neither can go on."""
    queues = {track: deque(steps) for track, steps in tracks.items()}
    sent: set[tuple[Track, str]] = set()
    moved = True
    while moved and any(queues.values()):
        moved = False
        for track, other in ((Track.PARENT, Track.CHILD), (Track.CHILD, Track.PARENT)):
            while queues[track]:
                op = queues[track][0].op
                waits = isinstance(op, ReceiveFd) or (isinstance(op, Wait) and op.sync != EXEC)
                if waits and (other, getattr(op, "sync", "")) not in sent:
                    break
                if isinstance(op, Wait) and op.sync == EXEC and queues[other]:
                    break
                if isinstance(op, Signal | SendFd) or (isinstance(op, Clone) and op.hand_over):
                    sent.add((track, op.sync))
                queues[track].popleft()
                moved = True
    return not any(queues.values())


# --- the end, and undoing --------------------------------------------------------------------


def _check_end(tracks: _Tracks) -> Iterator[str]:
    """Only further candidates of the same search may follow an execve."""
    child = tracks[Track.CHILD]
    if child and not any(_is_exec(placed.op) for placed in child):
        yield "the child's track does not end in execve"
    for track, steps in tracks.items():
        yield from _check_exec(steps, track)


def _check_exec(steps: Sequence[Placed], track: Track) -> Iterator[str]:
    first = next((n for n, placed in enumerate(steps) if _is_exec(placed.op)), None)
    if first is None:
        return
    for placed in steps[first:]:
        if not _is_exec(placed.op) or placed.action is not steps[first].action:
            yield f"step {placed.address} follows the command's execve"
    last = steps[-1]
    if isinstance(last.op, Call) and last.op.accept:
        yield f"step {last.address} lets the {track} go on after a failed execve"


def _is_exec(op: Op) -> bool:
    return isinstance(op, Call) and op.name in LAST_CALLS


def _check_undo(plan: Plan, steps: Sequence[Placed]) -> Iterator[str]:
    started = {placed.op.pid for placed in steps if isinstance(placed.op, Clone)}
    own = _OwnMounts()
    for action in plan.actions:
        if action.track is Track.CHILD:
            if action.undo:
                yield f"'{action.what}' of the child has undo steps, which only the parent runs"
            continue
        visible = [
            op for op in action.steps if not own.ends_with(op) and is_host_visible(op, started)
        ]
        if visible and not action.undo:
            yield f"'{action.what}' does {_name(visible[0])} on the host and does not undo it"


@dataclass(slots=True)
class _OwnMounts:
    """Whether the parent has gone into a mount namespace of its own, from which nothing
    propagates: what it mounts then ends with it (mount_namespaces(7))."""

    unshared: bool = False
    cut_off: bool = False

    def ends_with(self, op: Op) -> bool:
        """Whether ``op`` mounts there; to be told of the parent's steps in their order."""
        if not isinstance(op, Call):
            return False
        if op.name == "unshare":
            self.unshared |= "CLONE_NEWNS" in _flags(op.args[0])
        elif op.name == "mount" and self.unshared and op.args[1] == Str("/"):
            how = _flags(op.args[3])
            self.cut_off |= how in ({"MS_REC", "MS_SLAVE"}, {"MS_REC", "MS_PRIVATE"})
        return self.cut_off and op.name in ("mount", "move_mount")


def _flags(arg: Arg) -> set[str]:
    return set(arg.text.split("|")) if isinstance(arg, Int) else set()


def _name(op: Op) -> str:
    match op:
        case Call():
            return op.name
        case Netlink():
            return op.message.text or "rtnl"
        case _:
            return "clone3"


def is_host_visible(op: Op, started: Container[Reg] = ()) -> bool:
    """Whether the step leaves something on the host that outlives the parent.

    ``started``: the registers with the pids of the plan's own processes, whose namespaces go with
    them.
    """
    match op:
        case Clone():
            return True
        case Netlink():
            return _leaves_link(op.message, started)
        case Call():
            creates = any(isinstance(a, Int) and "O_CREAT" in a.text.split("|") for a in op.args)
            return op.name in _VISIBLE or (op.name in ("openat", "openat2") and creates)
        case _:
            return False


def _leaves_link(message: Bytes, started: Container[Reg]) -> bool:
    """Whether an rtnetlink(7) message adds a link that stays outside, or moves one anywhere."""
    if len(message.value) < _NLMSGHDR.size:
        return False
    _, kind, flags, *_ = _NLMSGHDR.unpack_from(message.value)
    if kind != _RTM_NEWLINK:
        return False
    places = dict(_attributes(message.value, _NLMSGHDR.size + _IFINFOMSG_SIZE))
    if not flags & _NLM_F_CREATE:
        return bool({_IFLA_NET_NS_PID, _IFLA_NET_NS_FD, _IFLA_TARGET_NETNSID} & places.keys())
    inside = places.get(_IFLA_NET_NS_PID)
    return not any(hole.offset == inside and hole.reg in started for hole in message.holes)


def _attributes(data: bytes, offset: int) -> Iterator[tuple[int, int]]:
    """(type, place of the value) of each attribute that stands in ``data`` from ``offset``."""
    while offset + _RTATTR.size <= len(data):
        length, kind = _RTATTR.unpack_from(data, offset)
        if length < _RTATTR.size:
            return
        yield kind & _NLA_TYPE_MASK, offset + _RTATTR.size
        offset += (length + 3) & ~3
