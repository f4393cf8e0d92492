"""Whether what a stack's containers expect holds: a copy of the stack is up, and beside each
container another one looks in its place, on its networks.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from nsrun.diag import Diagnostic, NsrunError
from nsrun.host import procfs
from nsrun.host.facts import gather
from nsrun.host.observe import subnets
from nsrun.plan import assertions
from nsrun.plan.build import plan, wanted
from nsrun.plan.model import Plan
from nsrun.replay.outcome import Outcome
from nsrun.runtime import stack_copy, store, verify
from nsrun.runtime.stack import Failed, Supervisor
from nsrun.runtime.stack_member import State
from nsrun.runtime.verify import Finding
from nsrun.spec.model import Expectations
from nsrun.spec.stack import Member, Stack

# Seconds for who is to be reached to listen.
_PATIENCE = 5.0
# TCP_LISTEN of include/net/tcp_states.h, as /proc/net/tcp has it.
_LISTEN = "0A"
_OVER = (State.EXITED, State.FAILED)


class Stopped(Exception):
    """A signal has asked for the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """One container, as the stack itself has it: the plan that looked in its place, how its replay
    went, and what was found."""

    member: Member
    plan: Plan
    outcome: Outcome
    found: tuple[Finding, ...]


def copy_of(original: Stack, read: Stack, volumes: str) -> Stack:
    """The copy that comes up: ``read`` is the stack's file under another name.

    Raises NsrunError: NS621 where nobody expects anything, NS622 where there can be no copy.
    """
    if not any(assertions.count(m.spec.expect) for m in original.members):
        raise NsrunError(
            Diagnostic(
                code="NS621",
                summary="no container of the stack says anything under `expect`",
                help=("say what must hold: `expect: {read_only: [/], capabilities: []}`",),
            )
        )
    wrong = list(stack_copy.refusals(original, read, volumes))
    if wrong:
        raise NsrunError(wrong)
    copy, wrong = stack_copy.placed(original, read, subnets())
    if wrong:
        raise NsrunError(wrong)
    return copy


@contextmanager
def brought_up(
    copy: Stack, say: Callable[[str, str], None], report: Callable[[Iterable[Diagnostic]], None]
) -> Iterator[Supervisor]:
    """The copy, up while the block lasts, and gone after it whatever happens.

    Raises Failed where it does not come up, Stopped where a signal came before.
    """
    members = tuple(replace(m, spec=stack_copy.running(m.spec)) for m in copy.members)
    supervisor = Supervisor(stack=replace(copy, members=members), say=say, report=report)
    supervisor.thorough = True
    supervisor.prepare()
    try:
        supervisor.up(supervisor.plan())
        yield supervisor
    except Failed:
        if supervisor.ending:
            raise Stopped from None
        raise
    finally:
        supervisor.down()
        supervisor.close(remove=True)


def look(supervisor: Supervisor, original: Stack, copy: Stack) -> Iterator[Looked]:
    """What is found for each container that expects something, in the stack's order; a replay
    that has failed has found nothing. Raises Stopped, and NsrunError where one cannot look."""
    originals = {(m.service, m.number): m for m in original.members}
    for member in copy.members:
        if assertions.count(member.spec.expect) == 0:
            continue
        silent = _await_listeners(supervisor, copy, member.spec.expect)
        looking = _plan(copy, member)
        outcome = verify.replay(looking)
        _turn(supervisor)
        own = originals[member.service, member.number]
        found: tuple[Finding, ...] = ()
        if outcome.failure is None and outcome.status == 0:
            told = verify.judge(looking, own.spec.expect, outcome.trace)
            found = tuple(_with_silence(one, member.spec.expect, silent) for one in told)
        yield Looked(member=own, plan=looking, outcome=outcome, found=found)


def _plan(copy: Stack, member: Member) -> Plan:
    spec = stack_copy.looking(copy, member)
    return plan(spec, gather(wanted(spec)), callers=verify.own_namespaces())


def _turn(supervisor: Supervisor) -> None:
    """Hear of what has happened, without waiting. Raises Stopped."""
    for key, _ in supervisor.selector.select(0):
        key.data()
    if supervisor.ending:
        raise Stopped


# --- who is to be reached ------------------------------------------------------------------------


def _await_listeners(
    supervisor: Supervisor, copy: Stack, expect: Expectations
) -> set[tuple[str, int]]:
    """Wait until the containers listen that are named by an address, for a while; those that do
    not, as address and port: that nothing is reached there says nothing of walls."""
    names = {
        str(address.ip): member.spec.name
        for member in copy.members
        for given in member.addresses.values()
        for address in given
    }
    ends = (*expect.reachable, *expect.unreachable)
    left = {(str(end.address), end.port) for end in ends if str(end.address) in names}
    deadline = time.monotonic() + _PATIENCE
    while left:
        left = {(a, port) for a, port in left if not _listens(names[a], port)}
        over = all(supervisor.kept[names[a]].state in _OVER for a, _ in left)
        if over or time.monotonic() > deadline:
            break
        _turn(supervisor)
        time.sleep(0.02)
    return left


def _listens(name: str, port: int) -> bool:
    found = store.load(os.path.join(store.folder(), name))
    if found is None or not found.pid:
        return False
    lines = [
        line.split()
        for family in ("tcp", "tcp6")
        for line in (procfs.read(f"/proc/{found.pid}/net/{family}") or "").splitlines()[1:]
    ]
    return any(
        words[3] == _LISTEN and int(words[1].rpartition(":")[2], 16) == port
        for words in lines
        if len(words) > 3
    )


def _with_silence(finding: Finding, expect: Expectations, silent: set[tuple[str, int]]) -> Finding:
    key, _, rest = finding.path.removeprefix("expect.").partition("[")
    if key not in ("reachable", "unreachable"):
        return finding
    end = getattr(expect, key)[int(rest.rstrip("]"))]
    if (str(end.address), end.port) not in silent:
        return finding
    return replace(finding, why=f"{finding.why}; nothing listens there")
