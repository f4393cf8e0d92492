"""Which ends of the channel and which signals two tracks use: seen from their operations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nsrun.kernel.values import Call, Out, Reg
from nsrun.plan.ops import Clone, Init, Op, ReceiveFd, SendFd, Signal, Wait


def channel(ops: Iterable[Op]) -> Reg | None:
    """The end of the channel a track uses: all its operations name the same."""
    for op in ops:
        match op:
            case Signal() | Wait() | SendFd() | ReceiveFd() | Init():
                return op.channel
            case Clone(channel=Reg() as end):
                return end
            case _:
                continue
    return None


def signals(ops: Iterable[Op]) -> Reg | None:
    """The signalfd(2) that a track's waits watch."""
    for op in ops:
        if isinstance(op, Wait | ReceiveFd) and op.signals is not None:
            return op.signals
    return None


def reports_to(parent: Sequence[Op], child: Iterable[Op]) -> Reg | None:
    """The child's end. A child that neither waits nor signals has its end from the
    socketpair(2) of the parent's."""
    return channel(child) or _other_end(parent, channel(parent))


def _other_end(ops: Iterable[Op], end: Reg | None) -> Reg | None:
    """The register that one and the same socketpair(2) filled beside ``end``."""
    for op in ops:
        if not isinstance(op, Call) or op.name != "socketpair":
            continue
        for out in op.args:
            pair = [hole.reg for hole in out.saves] if isinstance(out, Out) else []
            if end in pair:
                return next((reg for reg in pair if reg != end), None)
    return None
