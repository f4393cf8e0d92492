"""What a plan says strace will show, and the search for it in what strace has shown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from nsrun.kernel.values import Arg, Bytes, Call, Fmt, Int, Out, Str
from nsrun.plan.model import Placed, Plan, Track
from nsrun.plan.ops import Await, Clone, Init, Netlink, ReceiveFd, SendFd, Signal, Spawn, Wait
from tests.oracle.strace import CLONES, Traced

_SENDS, _RECEIVES = frozenset({"sendmsg", "sendto"}), frozenset({"recvmsg", "recvfrom"})
# An interrupted message is sent, or waited for, once more.
_AGAIN = ("EINTR",)
# What strace calls a system call where its name differs from the kernel's table.
_ALIASES = {"umount2": "umount", "fstatfs": "fstatfs64", "sendto": "send"}
# strace shortens longer strings.
_SHOWN = 200
# What follows struct nlmsghdr in a message that strace does not decode.
NETLINK_BODY = re.compile(r'(?<=\}, )"((?:[^"\\]|\\.)*)"')
_NLMSGHDR_SIZE = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """One call of the plan: its names, and texts that the line of strace has to hold.

    ``action`` tells actions apart; ``skips`` are errnos that end one, and with ``checks`` so
    does what the kernel answers. With ``forks`` the track goes on in the new process.
    ``message``: the bytes that are sent, but for its holes.
    """

    address: str
    names: frozenset[str]
    action: int
    texts: tuple[str, ...] = ()
    accepts: tuple[str, ...] = ()
    skips: tuple[str, ...] = ()
    checks: bool = False
    forks: bool = False
    message: Bytes | None = None


def expected(plan: Plan, track: Track) -> list[Expected]:
    """The calls of a track, in their order."""
    numbers = {id(action): number for number, action in enumerate(plan.actions)}
    found = [_expected(p, numbers[id(p.action)]) for p in plan.steps() if p.track is track]
    return [one for one in found if one is not None]


def _expected(placed: Placed, action: int) -> Expected | None:
    op, address = placed.op, placed.address
    match op:
        case Call():
            expects = [e for arg in op.args if isinstance(arg, Out) for e in arg.expects]
            return Expected(
                address=address,
                names=frozenset({op.name, _ALIASES.get(op.name, op.name)}),
                action=action,
                texts=tuple(_texts(op)),
                accepts=op.accept,
                skips=op.skip,
                checks=any(e.otherwise == "skip" for e in expects),
            )
        case Clone():
            # The executor's own clones, of which the plan says nothing, ask for no pidfd.
            return Expected(
                address=address,
                names=frozenset({"clone3"}),
                action=action,
                texts=("CLONE_PIDFD",),
                forks=op.hand_over,
            )
        case Init():
            return Expected(address=address, names=CLONES, action=action, forks=True)
        case Netlink():
            return Expected(
                address=address,
                names=frozenset({"sendto"}),
                action=action,
                # What `accept` and `skip` are about is the kernel's answer.
                message=op.message,
            )
        case Signal() | SendFd():
            return Expected(address=address, names=_SENDS, action=action, accepts=_AGAIN)
        case Wait() | ReceiveFd():
            return Expected(address=address, names=_RECEIVES, action=action, accepts=_AGAIN)
        case Spawn() | Await():
            return None


def _texts(op: Call) -> Iterable[str]:
    for arg in op.args:
        text = _text(arg)
        plain = text and text.isascii() and text.isprintable() and not set(text) & set('"\\')
        if text and plain and len(text) < _SHOWN:
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


@dataclass(slots=True)
class Search:
    """Goes through the calls of a track's processes with what the plan expects in hand."""

    calls: Mapping[int, list[Traced]]
    pid: int
    position: int = 0

    def next(self, one: Expected) -> Traced | None:
        """The next call that may be the expected one; what is passed over is the executor's."""
        mine = self.calls.get(self.pid, [])
        for at in range(self.position, len(mine)):
            if _matches(one, mine[at]):
                self.position = at + 1
                call = mine[at]
                if one.forks and call.result is not None and call.result > 0:
                    self.pid, self.position = _outer_pid(self.calls, call), 0
                return call
        return None

    def follows(self, one: Expected) -> bool:
        mine = self.calls.get(self.pid, [])
        return self.position < len(mine) and _matches(one, mine[self.position])

    def rest(self) -> list[Traced]:
        return self.calls.get(self.pid, [])[self.position :]


def _outer_pid(calls: Mapping[int, list[Traced]], call: Traced) -> int:
    """The new process as strace numbers it: a clone's result is of the caller's pid namespace."""
    assert call.result is not None
    later = [pid for pid, made in calls.items() if made and made[0].begin >= call.begin]
    if call.result in later:
        return call.result
    return min((p for p in later if p != call.pid), key=lambda p: calls[p][0].begin, default=0)


def match(wanted: list[Expected], calls: Mapping[int, list[Traced]], pid: int) -> dict[str, Traced]:
    """Find every expected call, in order; its line by the step's address.

    A track that a failure has cut short ends the search: the injected call is the last one
    found. Raises Mismatch where a call is missing although nothing has failed.
    """
    search, found = Search(calls, pid), dict[str, Traced]()
    skipped = -1
    for number, one in enumerate(wanted):
        if one.action == skipped:
            continue
        call = search.next(one)
        if call is None:
            shown = "\n".join(c.text[:160] for c in search.rest()[:8])
            raise Mismatch(
                f"step {one.address} {sorted(one.names)} {one.texts} is not in the trace:\n{shown}"
            )
        found[one.address] = call
        if call.injected and call.errno not in (*one.accepts, *one.skips):
            return found
        if call.name == "execve" and not call.errno:
            # The command runs: further candidates of the search in PATH are not tried.
            return found
        if call.errno in one.skips or (one.checks and not _goes_on(search, wanted, number)):
            skipped = one.action
    return found


def _goes_on(search: Search, wanted: list[Expected], number: int) -> bool:
    """Whether the action of a step that may skip the rest of it is gone on with."""
    following = wanted[number + 1] if number + 1 < len(wanted) else None
    if following is None or following.action != wanted[number].action:
        return True
    return search.follows(following)


def _matches(one: Expected, call: Traced) -> bool:
    if call.name not in one.names or any(text not in call.text for text in one.texts):
        return False
    if one.message is not None and not _is_message(one.message, call.text):
        return False
    # Another error is not this step: a receive that would wait is tried again after poll(2).
    return not call.errno or call.injected or call.errno in (*one.accepts, *one.skips)


def _is_message(message: Bytes, text: str) -> bool:
    """Whether a line of strace shows this netlink message, as far as it shows its bytes."""
    if "nlmsg_len" not in text:
        return False
    found = NETLINK_BODY.search(text)
    if found is None:
        return True
    body = bytearray(found[1].encode().decode("unicode_escape").encode("latin-1"))
    wanted = message.value[_NLMSGHDR_SIZE:][: len(body)]
    for hole in message.holes:
        place = hole.offset - _NLMSGHDR_SIZE
        body[place : place + hole.size] = wanted[place : place + hole.size]
    return bytes(body) == wanted
