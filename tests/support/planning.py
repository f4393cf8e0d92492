"""Specs planned for a machine that is only described: nothing is read, nothing is made."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from types import MappingProxyType

import pytest

from nsrun.diag import Diagnostic, NsrunError
from nsrun.kernel.facts import Facts, Kind, PathFact, SubIds
from nsrun.plan.build import plan
from nsrun.plan.model import Action, Plan, Track
from nsrun.plan.ops import Op
from nsrun.render.steps import step_text
from nsrun.spec.build import build
from nsrun.spec.document import parse_document
from nsrun.spec.model import NamespaceType, Spec

EVERY_CAPABILITY = frozenset(range(41))
SUBORDINATE = (SubIds(start=100_000, size=65_536),)

# An ordinary user without subordinate ids.
ORDINARY = Facts(
    kernel="6.1.0",
    machine="x86_64",
    uid=1000,
    gid=1000,
    user_name="ann",
    bounding=EVERY_CAPABILITY,
    cwd="/here",
    namespaces=frozenset(kind.value for kind in NamespaceType),
    limits=MappingProxyType({"nofile": (1024, 4096)}),
)
WITH_IDS = dataclasses.replace(
    ORDINARY,
    subuid=SUBORDINATE,
    subgid=SUBORDINATE,
    newuidmap="/usr/bin/newuidmap",
    newgidmap="/usr/bin/newgidmap",
)
ROOT = dataclasses.replace(
    ORDINARY, uid=0, gid=0, user_name="root", permitted=EVERY_CAPABILITY
)


def spec_of(**keys: object) -> Spec:
    """The spec of these keys, in a file /here/spec.yaml; its command is ``true``, and None is
    no key."""
    given = {name: value for name, value in keys.items() if value is not None}
    text = json.dumps({"command": ["/bin/true"], **given})
    return build(parse_document(text, "/here/spec.yaml"))


def folder(owner: int = 0) -> PathFact:
    return PathFact(kind=Kind.FOLDER, owner=(owner, owner), mode=0o755)


def file(owner: int = 0) -> PathFact:
    return PathFact(kind=Kind.FILE, owner=(owner, owner), mode=0o644)


def missing(part: str) -> PathFact:
    """``part``: the first component that is not there."""
    return PathFact(kind=Kind.MISSING, missing_part=part)


def knowing(
    facts: Facts,
    paths: dict[str, PathFact] | None = None,
    targets: dict[str, PathFact] | None = None,
    **others: object,
) -> Facts:
    """``facts`` that also know these host paths, these places inside the root, and ``others``."""
    changes = dict(others)
    changes |= {"paths": paths} if paths is not None else {}
    changes |= {"targets": targets} if targets is not None else {}
    return dataclasses.replace(facts, **changes)  # type: ignore[arg-type]


def planned(facts: Facts, **keys: object) -> Plan:
    return plan(spec_of(**keys), facts)


def refused(facts: Facts, **keys: object) -> list[tuple[str, str]]:
    """Code and place of everything that the planner refuses."""
    return [(found.code, found.path) for found in refusals(facts, **keys)]


def refusals(facts: Facts, **keys: object) -> tuple[Diagnostic, ...]:
    with pytest.raises(NsrunError) as caught:
        planned(facts, **keys)
    return caught.value.diagnostics


# --- reading a plan ----------------------------------------------------------------------------


def only(plan: Plan, what: str) -> Action:
    """The one action that begins with these words."""
    (found,) = (action for action in plan.actions if action.what.startswith(what))
    return found


def has(plan: Plan, what: str) -> bool:
    return any(action.what.startswith(what) for action in plan.actions)


def order(plan: Plan, track: Track, *whats: str) -> None:
    """Each of these actions is in the track once, in this order."""
    places = [n for w in whats for n, a in enumerate(plan.actions) if a.what.startswith(w)]
    assert all(plan.actions[n].track is track for n in places)
    assert len(places) == len(whats), f"{whats} are at {places}"
    assert places == sorted(places), f"{whats} are at {places}"


def lines(steps: Action | Iterable[Op]) -> list[str]:
    """The steps in the words of the listing, with every flag's whole name."""
    ops = steps.steps if isinstance(steps, Action) else steps
    return [step_text(op, full=True) for op in ops]


def calls_of(plan: Plan, name: str, track: Track | None = None) -> list[str]:
    """Every step of one operation, in the plan's order."""
    texts = (step_text(p.op, full=True) for p in plan.steps() if track in (None, p.track))
    return [text for text in texts if f"{name}(" in text]


def why(action: Action) -> str:
    """Where an action comes from: the place in the spec, else ``(rule)``, or both."""
    origin = action.origin
    rule = f"({origin.rule})" if origin.rule else ""
    return " ".join(part for part in (origin.path, rule) if part)
