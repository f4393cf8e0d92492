"""Whether what a spec expects holds: a copy of the container runs, and its records are judged."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass

from nsrun.diag import Diagnostic, NsrunError
from nsrun.host import native, nsfs
from nsrun.host.facts import gather
from nsrun.kernel.values import Call, Int
from nsrun.plan import assertions
from nsrun.plan.assertions import PATIENCE
from nsrun.plan.build import plan, wanted
from nsrun.plan.launch import PROC_NAMES
from nsrun.plan.model import Action, Plan, Track
from nsrun.plan.ops import Op
from nsrun.replay.outcome import Outcome, State, StepResult, Trace
from nsrun.spec.model import Expectations, NamespaceType, Spec

# Of an empty folder getdents64(2) tells `.` and `..`, 24 bytes each.
_EMPTY_FOLDER = 48


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """``path``: the expectation's place in the spec; ``what`` it says; ``holds``: whether it
    does; ``why``: what the kernel answered."""

    path: str
    what: str
    holds: bool
    why: str


def plan_of(spec: Spec) -> Plan:
    """The plan that looks at what ``spec`` expects; nothing is made.

    Raises NsrunError: NS621 where it expects nothing, and what a plan of the spec can raise.
    """
    if not assertions.count(spec.expect):
        raise NsrunError(
            Diagnostic(
                code="NS621",
                summary="the spec says nothing under `expect`",
                span=spec.span("expect"),
                help=("say what must hold: `expect: {read_only: [/], capabilities: []}`",),
            )
        )
    copy = assertions.copy_of(spec, f"{spec.name[:48]}-verify-{secrets.token_hex(4)}")
    return plan(copy, gather(wanted(copy)), callers=own_namespaces())


def own_namespaces() -> dict[NamespaceType, int]:
    """The inode numbers of the namespaces that this process is in."""
    found = {kind: nsfs.inode(f"/proc/self/ns/{name}") for kind, name in PROC_NAMES.items()}
    return {kind: number for kind, number in found.items() if number is not None}


def replay(looking: Plan) -> Outcome:
    """Replay the plan of :func:`plan_of`, with a record of each step."""
    from nsrun.replay import native as native_replay
    from nsrun.runtime.launch import replay_plan

    program = native.chosen(os.environ)
    if program is None:
        return replay_plan(looking)
    return native_replay.replay(program, looking)


# --- the judgement -----------------------------------------------------------------------------


Looked = list[tuple[Op, StepResult]]


def judge(plan: Plan, expected: Expectations, trace: Trace) -> tuple[Finding, ...]:
    """What the records of a replay of ``plan`` say of each expectation, in the spec's order."""
    found: dict[str, list[Looked]] = {}
    last: Action | None = None
    for placed in plan.track(Track.CHILD):
        path = placed.action.origin.path
        if not path.startswith("expect."):
            continue
        looks = found.setdefault(path, [])
        if placed.action is not last:
            looks.append([])
        last = placed.action
        looks[-1].append((placed.op, trace.result(Track.CHILD, placed.index)))
    return tuple(_judged(found, expected))


def _judged(found: dict[str, list[Looked]], expected: Expectations) -> Iterator[Finding]:
    for key in ("unreachable", "reachable"):
        for number, end in enumerate(getattr(expected, key)):
            path = f"expect.{key}[{number}]"
            open_, why = _reached(found[path][0])
            yield Finding(
                path=path, what=f"{key} {end}", holds=open_ is (key == "reachable"), why=why
            )
    for key in ("unreadable", "readable"):
        for number, name in enumerate(getattr(expected, key)):
            path = f"expect.{key}[{number}]"
            opened, empty, why = _readable(found[path][0])
            holds = opened if key == "readable" else not opened or empty
            yield Finding(path=path, what=f"{key} {name}", holds=holds, why=why)
    for key in ("read_only", "writable"):
        for number, name in enumerate(getattr(expected, key)):
            path = f"expect.{key}[{number}]"
            written, there, why = _writable(found[path][0])
            holds = written if key == "writable" else there and not written
            yield Finding(path=path, what=f"{key} {name}", holds=holds, why=why)
    for number, kind in enumerate(expected.namespaces_new):
        path = f"expect.namespaces_new[{number}]"
        new, why = _new(found[path][0])
        yield Finding(path=path, what=f"a new {kind.value} namespace", holds=new, why=why)
    if expected.capabilities is not None:
        yield _capabilities(found["expect.capabilities"], expected.capabilities)


def _answer(result: StepResult) -> str:
    return result.errno_name or "it succeeded"


def _reached(steps: Looked) -> tuple[bool, str]:
    socket, connect = steps[0][1], steps[2][1]
    if socket.state is not State.DONE:
        return False, f"socket: {_answer(socket)}"
    if connect.state is State.DONE:
        return True, "a connection is accepted"
    if connect.errno in (errno.EINPROGRESS, errno.EAGAIN, errno.ETIMEDOUT):
        return False, f"no answer within {PATIENCE // 1000} s"
    return False, f"connect: {_answer(connect)}"


def _readable(steps: Looked) -> tuple[bool, bool, str]:
    opened, read, entries = (step[1] for step in steps[:3])
    if opened.state is not State.DONE:
        return False, False, f"open: {_answer(opened)}"
    if read.errno == errno.EISDIR:
        if entries.state is not State.DONE:
            return False, False, f"getdents: {_answer(entries)}"
        empty = entries.result <= _EMPTY_FOLDER
        return True, empty, "an empty folder" if empty else "its entries can be read"
    if read.state is not State.DONE:
        # A pipe that is empty, a device: it is open, and what comes can be read.
        waits = read.errno == errno.EAGAIN
        return waits, False, "it can be read" if waits else f"read: {_answer(read)}"
    return True, read.result == 0, "it can be read" if read.result else "there is nothing in it"


def _writable(steps: Looked) -> tuple[bool, bool, str]:
    opened, made = steps[0][1], steps[1][1]
    if opened.state is State.DONE:
        return True, True, "it can be opened for writing"
    if made.state is State.DONE:
        return True, True, "a folder can be made in it"
    if opened.errno == errno.ENXIO:
        return True, True, "a pipe or socket that nobody reads; it could be opened for writing"
    if opened.errno == errno.ENOENT:
        return False, False, "there is no such path"
    if opened.errno == errno.EISDIR:
        return False, True, f"mkdir: {_answer(made)}"
    return False, True, f"open: {_answer(opened)}"


def _new(steps: Looked) -> tuple[bool, str]:
    opened, compared = steps[0][1], steps[1][1]
    if opened.state is not State.DONE:
        return False, f"it cannot be looked at: {_answer(opened)}"
    new = compared.state is State.SKIPPED
    return new, "not the caller's" if new else "it is the caller's"


def _capabilities(looks: list[Looked], wanted: tuple[str, ...]) -> Finding:
    path = "expect.capabilities"
    what = f"capabilities {', '.join(wanted) or 'none'}"
    asked = looks[0][0][1]
    unknown = [_answer(r) for look in looks for _, r in look if r.state is State.ACCEPTED and
               r.errno != errno.EINVAL]  # fmt: skip
    if unknown:
        return Finding(path=path, what=what, holds=False, why=f"not to be told: {unknown[0]}")
    held = []
    for (op, bounded), (_, lacking) in looks[1:]:
        # Kernel: with no_new_privs execve(2) gives nothing that is not held already.
        gets = asked.result == 0 and bounded.state is State.DONE and bounded.result == 1
        if gets or lacking.state is State.SKIPPED:
            held.append(_name(op))
    more = [name for name in held if name not in wanted]
    less = [name for name in wanted if name not in held]
    words = [f"also {', '.join(more)}"] if more else []
    words += [f"not {', '.join(less)}"] if less else []
    why = "; ".join(words) or "exactly these"
    return Finding(path=path, what=what, holds=not words, why=why)


def _name(op: Op) -> str:
    assert isinstance(op, Call)
    number = op.args[1]
    assert isinstance(number, Int)
    return number.text
