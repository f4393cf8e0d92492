"""What is no longer as a plan has made it: the expected and the observed, compared.

Only what the plan says is compared; of what it says nothing of (what the command does in its own
files) nothing is told. A process may lower its own soft limits and drop capabilities: that is no
drift, and neither is told.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from nsrun.kernel.observed import Observed, Question
from nsrun.plan.difference import Difference, Note, differ, short
from nsrun.plan.drift_files import is_text, texts
from nsrun.plan.drift_groups import DEVICES, groups
from nsrun.plan.drift_mounts import mounts
from nsrun.plan.drift_network import host, links, routes
from nsrun.plan.drift_process import labels, once, process
from nsrun.plan.expected import Expected, Text, expected
from nsrun.plan.model import Action, Origin, Plan, Track

_UPDATE = Action(
    track=Track.PARENT, what="change limits", origin=Origin(rule="nsrun update"), steps=()
)


def updated(wanted: Expected, limits: Mapping[str, str]) -> tuple[Expected, tuple[Note, ...]]:
    """``wanted`` with ``limits`` that nsrun itself has written since the start, texts by their
    files, and what was planned otherwise."""
    files, notes = dict(wanted.files), []
    for path, text in limits.items():
        planned = wanted.files.get(path)
        if planned is not None and is_text(planned, text):
            continue
        before = short(planned.text) if planned is not None else "without a limit"
        notes.append(Note(what=path, why=f"{short(text)} by nsrun update, planned {before}"))
        files[path] = Text(path=path, text=text, action=_UPDATE)
    return replace(wanted, files=files), tuple(notes)


def question(wanted: Expected) -> Question:
    """What :func:`compare` has to know."""
    return Question(
        targets=tuple(dict.fromkeys(m.target for m in wanted.mounts)),
        sources=tuple(dict.fromkeys(m.bound for m in wanted.mounts if m.bound)),
        files=(*wanted.files, *(f"{folder}/{DEVICES}" for folder in wanted.groups.devices)),
        sysctls=tuple(wanted.sysctls),
        namespaces=tuple(dict.fromkeys(j.path for j in wanted.joined)),
        tables=tuple((t.program, t.name) for t in wanted.tables),
        programs=tuple(wanted.groups.programs),
        forked=wanted.running.forked,
    )


def drift(plan: Plan, seen: Observed) -> tuple[Difference, ...]:
    """The differences in the order of the plan's subjects."""
    return tuple(compare(expected(plan), seen))


def compare(wanted: Expected, seen: Observed) -> Iterator[Difference]:
    """All that ``seen`` tells otherwise than ``wanted``."""
    yield from _namespaces(wanted, seen)
    yield from _names(wanted, seen)
    yield from mounts(wanted, seen)
    yield from links(wanted, seen)
    yield from routes(wanted, seen)
    yield from host(wanted, seen)
    yield from texts(wanted, seen)
    yield from groups(wanted, seen)
    yield from once(wanted, seen)
    yield from process(wanted, seen)
    yield from labels(wanted, seen)


def unseen(wanted: Expected, seen: Observed) -> Iterator[Note]:
    """What of the plan could not be compared, and why: it must not pass for what is as planned."""
    if wanted.running.walls:
        yield Note(what="landlock", why="cannot be seen: the kernel shows no process's rules")
    asked = question(wanted)
    closed = "cannot be seen: closed to this user"
    if asked.targets and not seen.places:
        yield Note(what="mounts", why=closed)
    if wanted.networks.inside and seen.links is None:
        yield Note(what="network", why=closed)
    if wanted.hostname is not None and seen.hostname is None:
        yield Note(what="hostname", why=closed)
    for path, text in {**wanted.files, **wanted.sysctls}.items():
        if text.sure and path not in (seen.sysctls if path in wanted.sysctls else seen.files):
            yield Note(what=path, why="cannot be read")
    for folder in asked.programs:
        if folder not in seen.programs:
            yield Note(what=f"device programs of {folder}", why=closed)
    if wanted.running.once and not seen.once:
        why = "cannot be compared: the container was started from another user namespace"
        yield Note(what=", ".join(wanted.running.once), why=why)
    for module in wanted.running.labels:
        if module not in seen.labels:
            yield Note(what=module, why="cannot be read")


# --- namespaces ------------------------------------------------------------------------------


def _namespaces(wanted: Expected, seen: Observed) -> Iterator[Difference]:
    joined = {entry.kind for entry in wanted.joined}
    for kind, action in wanted.made.items():
        own, callers = seen.namespaces.get(kind), seen.callers.get(kind)
        if own is not None and own == callers and kind not in joined:
            yield from differ(f"namespace {kind}", "its own", "the host's", action)
    for entry in wanted.joined:
        own, there = seen.namespaces.get(entry.kind), seen.joined.get(entry.path)
        if own is not None and there is not None and entry.kind not in wanted.made:
            yield from differ(
                f"namespace {entry.kind}", f"that of {entry.path}: {there}", _same(own, there,
                f"that of {entry.path}: {there}"), entry.action
            )  # fmt: skip
    for kind, own in seen.namespaces.items():
        callers = seen.callers.get(kind)
        known = kind in wanted.made or kind in joined
        if not known and callers is not None:
            yield from differ(
                f"namespace {kind}", "the host's", _same(own, callers, "the host's"), None
            )


def _same(own: int, other: int, text: str) -> str:
    return text if own == other else f"another: {own}"


def _names(wanted: Expected, seen: Observed) -> Iterator[Difference]:
    for what, entry, found in (
        ("hostname", wanted.hostname, seen.hostname),
        ("domainname", wanted.domainname, seen.domainname),
    ):
        if entry is not None and found is not None:
            yield from differ(what, entry[0], found, entry[1])
