"""A plan made ready to run: every step of both tracks prepared before the clone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import assert_never

from nsrun.kernel.abi import UnknownSyscallError
from nsrun.kernel.values import Call, Reg
from nsrun.plan.channels import channel, reports_to, signals
from nsrun.plan.heirs import renewals
from nsrun.plan.model import Action, Plan, Track
from nsrun.plan.ops import (
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
from nsrun.replay.channel import NAME_MAX, Channel, PreparedSendFd, PreparedSignal
from nsrun.replay.hold import PreparedHold
from nsrun.replay.initproc import PreparedInit
from nsrun.replay.nlsocket import PreparedNetlink
from nsrun.replay.prepare import PreparedCall, PrepareError, errno_numbers
from nsrun.replay.spawn import PreparedSpawn
from nsrun.replay.step import Runnable
from nsrun.replay.syscalls import Forker

# Steps that end what a failed step leaves behind stand on their own; the others need a track.
_UNDO_OPS = (Call, Netlink, Spawn)


class PlanError(Exception):
    """A plan that cannot be replayed here: which step, and why."""

    def __init__(self, track: Track, index: int, reason: str) -> None:
        super().__init__(reason)
        self.track = track
        self.index = index


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step: what it is, where, and what runs it.

    ``runnable`` is set for the operations that need only registers, ``forker`` for ``Clone``
    (and ``hold`` where its process only holds), ``init`` for ``Init``; ``sync`` is a sync's name
    in bytes.
    """

    track: Track
    index: int
    op: Op
    runnable: Runnable | None = None
    forker: Forker | None = None
    hold: PreparedHold | None = None
    init: PreparedInit | None = None
    sync: bytes = b""

    @property
    def is_exec(self) -> bool:
        return isinstance(self.op, Call) and self.op.name in LAST_CALLS


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """An action with its steps; ``number`` is its place in Plan.actions. ``renews``: the heir there
    is knows too little to undo it (nsrun.plan.heirs)."""

    number: int
    action: Action
    steps: tuple[Step, ...]
    undo: tuple[Runnable, ...]
    renews: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """Both tracks, and what one has to know about the other before it is forked.

    ``reports_to`` and ``listens_on`` are the child's and the parent's end of the channel; a
    child that neither waits nor signals has its end from the socketpair(2) of the parent's.
    ``signals`` is where the launcher's waits see signals.
    ``hand_overs`` are the syncs by which a new process of the child's track announces itself.
    """

    parent: tuple[Prepared, ...]
    child: tuple[Prepared, ...]
    messages: Channel
    reports_to: Reg | None
    listens_on: Reg | None
    hand_overs: frozenset[bytes]
    signals: Reg | None
    terminal: Reg | None
    has_init: bool

    def steps(self, track: Track) -> Iterator[Step]:
        for prepared in self.parent if track is Track.PARENT else self.child:
            yield from prepared.steps


def prepare(plan: Plan, machine: str) -> Program:
    """Ready a plan for ``machine`` (uname -m); raises PlanError and changes nothing."""
    if plan.needs.machine and plan.needs.machine != machine:
        reason = f"the plan is for {plan.needs.machine}, this machine is {machine}"
        raise PlanError(Track.PARENT, -1, reason)
    messages = Channel()
    counts = {Track.PARENT: 0, Track.CHILD: 0}
    tracks: dict[Track, list[Prepared]] = {Track.PARENT: [], Track.CHILD: []}
    renewing = renewals(plan.actions)
    for number, action in enumerate(plan.actions):
        first = counts[action.track]
        steps = tuple(
            _step(action.track, first + offset, op, machine, messages)
            for offset, op in enumerate(action.steps)
        )
        counts[action.track] += len(steps)
        undo = _undo(action, first, machine)
        made = Prepared(
            number=number, action=action, steps=steps, undo=undo, renews=number in renewing
        )
        tracks[action.track].append(made)
    return _program(tuple(tracks[Track.PARENT]), tuple(tracks[Track.CHILD]), messages)


def _program(
    parent: tuple[Prepared, ...], child: tuple[Prepared, ...], messages: Channel
) -> Program:
    ops = {
        Track.PARENT: [step for prepared in parent for step in prepared.steps],
        Track.CHILD: [step for prepared in child for step in prepared.steps],
    }
    clones = [s for s in ops[Track.PARENT] if isinstance(s.op, Clone) and not s.op.hold]
    if len(clones) > 1:
        raise PlanError(Track.PARENT, clones[1].index, "the parent's track clones twice")
    parent_ops = [step.op for step in ops[Track.PARENT]]
    child_ops = [step.op for step in ops[Track.CHILD]]
    waits = [step.op for step in ops[Track.PARENT] if isinstance(step.op, Await)]
    return Program(
        parent=parent,
        child=child,
        messages=messages,
        reports_to=reports_to(parent_ops, child_ops),
        listens_on=channel(parent_ops),
        hand_overs=frozenset(s.sync for s in ops[Track.CHILD] if isinstance(s.op, Clone)),
        signals=signals(parent_ops),
        terminal=waits[0].terminal if waits else None,
        has_init=any(isinstance(step.op, Init) for step in ops[Track.CHILD]),
    )


def _step(track: Track, index: int, op: Op, machine: str, messages: Channel) -> Step:
    try:
        _belongs(track, op)
        forker = _forker(op) if isinstance(op, Clone) else None
        holds = isinstance(op, Clone) and op.hold
        return Step(
            track=track,
            index=index,
            op=op,
            runnable=_runnable(op, machine, messages),
            forker=forker,
            hold=PreparedHold(forker) if holds and forker is not None else None,
            init=PreparedInit() if isinstance(op, Init) else None,
            sync=_sync(getattr(op, "sync", "")),
        )
    except (PrepareError, UnknownSyscallError, UnicodeError) as error:
        raise PlanError(track, index, str(error)) from error


def _undo(action: Action, first: int, machine: str) -> tuple[Runnable, ...]:
    if action.undo and action.track is not Track.PARENT:
        raise PlanError(action.track, first, "only the parent's actions can be undone")
    undo: list[Runnable] = []
    for op in action.undo:
        if not isinstance(op, _UNDO_OPS):
            raise PlanError(action.track, first, f"{type(op).__name__} cannot undo anything")
        try:
            prepared = _runnable(op, machine, None)
        except (PrepareError, UnknownSyscallError, UnicodeError) as error:
            raise PlanError(action.track, first, str(error)) from error
        assert prepared is not None
        undo.append(prepared)
    return tuple(undo)


def _belongs(track: Track, op: Op) -> None:
    """Operations that only one of the tracks can do."""
    match op:
        case Clone():
            if op.hold and (op.hand_over or track is not Track.PARENT):
                raise PrepareError("a process that only holds is the parent's")
            if op.hand_over != (track is Track.CHILD):
                raise PrepareError("the child's track hands over in a clone, the parent's does not")
            if op.hand_over and (op.channel is None or not op.sync):
                raise PrepareError("a clone that hands over needs a sync and a channel")
        case Init():
            if track is not Track.CHILD:
                raise PrepareError("an init is part of the child's track")
        case Await() | Spawn():
            if track is not Track.PARENT:
                raise PrepareError(f"{type(op).__name__} is part of the parent's track")
        case Call() | Signal() | Wait() | SendFd() | ReceiveFd() | Netlink():
            pass
        case _:
            assert_never(op)


def _runnable(op: Op, machine: str, messages: Channel | None) -> Runnable | None:
    match op:
        case Call():
            return PreparedCall(op, machine)
        case Netlink():
            accept, skip = errno_numbers(op.accept), errno_numbers(op.skip)
            return PreparedNetlink(op.socket, op.message, accept, skip)
        case Spawn():
            return PreparedSpawn(op)
        case Signal():
            assert messages is not None
            return PreparedSignal(_sync(op.sync), op.channel, op.value, messages)
        case SendFd():
            assert messages is not None
            return PreparedSendFd(_sync(op.sync), op.channel, op.fd, messages)
        case Clone() | Wait() | ReceiveFd() | Init() | Await():
            return None
        case _:
            assert_never(op)


def _forker(op: Clone) -> Forker:
    return Forker(flags=op.flags.value, exit_signal=op.exit_signal.value, pidfd=True)


def _sync(name: str) -> bytes:
    encoded = name.encode()
    if len(encoded) > NAME_MAX:
        raise PrepareError(f"the name of a sync is over {NAME_MAX} bytes")
    return encoded
