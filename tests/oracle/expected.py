"""What a plan says strace will show, and the search for it in what strace has shown."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from nsrun.kernel.values import Arg, Call, Fmt, Int, Str
from nsrun.plan.model import Placed, Plan, Track
from nsrun.plan.ops import (
    Await,
    Clone,
    Init,
    Netlink,
    ReceiveFd,
    SendFd,
    Signal,
    Spawn,
    Wait,
)
from tests.oracle.strace import Traced


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """One call of the plan: its name, and texts that have to be in the line of strace.

    ``ends_action``: errnos after which the rest of the same action is left out; ``action`` tells
    actions apart.
    """

    address: str
    names: tuple[str, ...]
    texts: tuple[str, ...]
    action: int
    skips: tuple[str, ...] = ()
    accepts: tuple[str, ...] = ()
    may_skip: bool = False


def expected(plan: Plan, track: Track) -> list[Expected]:
    """The calls of a track in their order; what the executor does on its own part is not among
    them."""
    found = []
    for placed in plan.steps():
        if placed.track is not track:
            continue
        one = _expected(placed, plan)
        if one is not None:
            found.append(one)
    return found


def _expected(placed: Placed, plan: Plan) -> Expected | None:
    op = placed.op
    action = next(n for n, a in enumerate(plan.actions) if a is placed.action)
    match op:
        case Call():
            return Expected(
                address=placed.address,
                names=_names(op.name),
                texts=tuple(_texts(op)),
                action=action,
                skips=op.skip,
                accepts=op.accept,
                may_skip=any("skip" in str(getattr(e, "otherwise", "")) for e in _expects(op)),
            )
        case Clone():
            return Expected(address=placed.address, names=("clone3",), texts=(), action=action)
        case Signal() | SendFd():
            return Expected(
                address=placed.address, names=("sendmsg", "sendto"), texts=(), action=action
            )
        case Wait() | ReceiveFd():
            return Expected(
                address=placed.address, names=("recvmsg", "recvfrom"), texts=(), action=action
            )
        case Netlink():
            return Expected(address=placed.address, names=("sendto",), texts=(), action=action)
        case Spawn() | Init() | Await():
            return None


def _expects(op: Call) -> Iterable[object]:
    return [expect for arg in op.args for expect in getattr(arg, "expects", ())]


# What strace calls a system call where its name differs from the kernel's table.
_ALIASES = {"umount2": ("umount2", "umount"), "fstatfs": ("fstatfs", "fstatfs64")}


def _names(name: str) -> tuple[str, ...]:
    return _ALIASES.get(name, (name,))


def _texts(op: Call) -> Iterable[str]:
    """Strings of the call that strace shows in full."""
    for arg in op.args:
        text = _text(arg)
        if text is not None and len(text) <= 30 and text.isprintable() and '"' not in text:
            yield f'"{text}"'
    if op.name == "prctl" and isinstance(op.args[0], Int):
        yield op.args[0].text


def _text(arg: Arg) -> str | None:
    match arg:
        case Str():
            return arg.value
        case Fmt() if all(isinstance(part, str) for part in arg.parts):
            return "".join(str(part) for part in arg.parts)
        case _:
            return None


class Mismatch(AssertionError):
    """strace does not show what the plan says."""


def match(wanted: list[Expected], calls: list[Traced]) -> dict[str, Traced]:
    """Find every expected call among ``calls`` in order; its line by the step's address.

    Between two expected calls there may be others: the interpreter's own. Raises Mismatch.
    """
    found: dict[str, Traced] = {}
    position, skipped = 0, -1
    for number, one in enumerate(wanted):
        if one.action == skipped:
            continue
        at = _find(one, calls, position)
        if at is None:
            before = wanted[number - 1].address if number else "the start"
            raise Mismatch(
                f"step {one.address} {one.names} {one.texts} is not in the trace after {before}:\n"
                + "\n".join(call.text[:160] for call in calls[position : position + 8])
            )
        found[one.address] = calls[at]
        position = at + 1
        # A step whose answer ends its action shows in that the next step is not there.
        ends = one.may_skip and not _goes_on(wanted, number, calls, at)
        if ends or calls[at].errno in one.skips:
            skipped = one.action
    return found


def _goes_on(wanted: list[Expected], number: int, calls: list[Traced], at: int) -> bool:
    following = wanted[number + 1] if number + 1 < len(wanted) else None
    if following is None or following.action != wanted[number].action:
        return True
    return _matches(following, calls[at + 1]) if at + 1 < len(calls) else False


def _find(one: Expected, calls: list[Traced], start: int) -> int | None:
    for at in range(start, len(calls)):
        if _matches(one, calls[at]):
            return at
    return None


def _matches(one: Expected, call: Traced) -> bool:
    if call.name not in one.names or any(text not in call.text for text in one.texts):
        return False
    return not call.errno or call.errno in (*one.accepts, *one.skips) or call.name == "execve"
