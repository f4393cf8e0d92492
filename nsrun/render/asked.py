"""What explainers are asked about: a step as plain values, and what was replayed before it."""

from __future__ import annotations

from typing import assert_never

from nsrun.kernel.values import Arg, Bytes, Call, Fmt, Int, Length, Out, Reg, Str, Strings
from nsrun.plan.model import Placed, Plan, Track
from nsrun.plan.ops import Clone, Netlink, Op, ReceiveFd, SendFd, Spawn
from nsrun.render.steps import buffer_text, format_text
from nsrun.replay.outcome import Failure

# (call, arguments, the register that took the result as ``%name``, or "").
Replayed = tuple[str, tuple[str | int, ...], str]


def replayed_before(plan: Plan, failure: Failure) -> tuple[Replayed, ...]:
    """The steps of both tracks that stand before the failed one in the plan's order.

    A descriptor that was received is told as (``receivefd``, the register that was sent).
    """
    sent: dict[str, Reg] = {}
    found: list[Replayed] = []
    for placed in plan.steps():
        if _is(placed, failure):
            break
        op = placed.op
        if isinstance(op, SendFd):
            sent[op.sync] = op.fd
        if isinstance(op, ReceiveFd) and op.sync in sent:
            found.append(("receivefd", (f"%{sent[op.sync].name}",), f"%{op.save.name}"))
            continue
        save = op.save if isinstance(op, Call) else None
        found.append((call_name(op), call_values(op), f"%{save.name}" if save else ""))
    return tuple(found)


def is_inside(plan: Plan, failure: Failure) -> bool:
    """Whether the failed step finds its paths in the container: the child's do, once it has
    entered the root, where it is given another."""
    entered = [
        placed.index
        for placed in plan.steps()
        if placed.track is Track.CHILD and call_name(placed.op) == "pivot_root"
    ]
    return failure.track is Track.CHILD and all(index < failure.index for index in entered)


def _is(placed: Placed, failure: Failure) -> bool:
    return placed.track is failure.track and placed.index == failure.index


def call_name(op: Op) -> str:
    """What an explainer is asked about: a system call's name, or the operation's."""
    match op:
        case Call():
            return op.name
        case Clone():
            return "clone3"
        case _:
            return type(op).__name__.lower()


def call_values(op: Op) -> tuple[str | int, ...]:
    """The arguments as plain values: numbers, strings, and for the rest what the listing shows."""
    match op:
        case Call():
            return tuple(map(_value, op.args))
        case Clone():
            return (op.flags.value,)
        case Netlink():
            return (op.message.text,)
        case Spawn():
            return tuple(map(_value, op.argv))
        case _:
            return ()


def _value(arg: Arg) -> str | int:
    match arg:
        case Int():
            return arg.value
        case Str():
            return arg.value
        case Fmt():
            return format_text(arg)
        case Length():
            return format_text(arg.of)
        case Strings():
            return " ".join(arg.values)
        case Bytes():
            return arg.text or buffer_text(arg, full=True)
        case Out():
            return arg.text
        case Reg():
            return f"%{arg.name}"
        case _:
            assert_never(arg)
