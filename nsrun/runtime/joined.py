"""The other containers that a stored plan reaches by their pids: found anew at each start.

A plan opens /proc/PID/ns/KIND of a container that it joins. When the plan is replayed later, that
one may have another pid, and its old one may be a stranger's. So beside the plan stands who was
meant, in the file ``joined``, and whoever replays the plan puts today's pids in first.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from nsrun.diag import Diagnostic, NsrunError
from nsrun.host import containers, paths
from nsrun.runtime import store

if TYPE_CHECKING:
    from nsrun.plan.model import Action, Plan
    from nsrun.plan.ops import Op

_FILE = "joined"
_NAMESPACE = re.compile(r"/proc/([0-9]+)/ns/([a-z_]+)", re.ASCII)


def keep(folder: str, joined: Mapping[str, int]) -> None:
    """Write down whom the plan in ``folder`` reaches: names, and the pids that it has for them."""
    if joined:
        store.write(folder, _FILE, json.dumps(dict(joined)).encode() + b"\n")
        return
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(folder, _FILE))


def renew(container: store.Container) -> None:
    """Put the pids of now into the stored plan.

    Raises NsrunError (NS404) where one that it joins is not running.
    """
    known = _read(container.folder)
    if not known:
        return
    uid = os.getuid()
    state = containers.state_folder(uid, os.environ)
    now = containers.running(known, state, uid)
    missing = [name for name in known if name not in now]
    if missing:
        raise NsrunError(tuple(_not_running(container, name) for name in missing))
    changed = {str(known[name]): str(now[name]) for name in known if known[name] != now[name]}
    if not changed:
        return
    from nsrun.plan import binary
    from nsrun.plan.verify import verify

    plan = exchanged(store.plan_of(container), changed)
    verify(plan)
    # This order: after a kill between the two nothing takes the plan's pids for newer ones.
    store.write(container.folder, "plan", binary.encode(plan))
    keep(container.folder, now)


def exchanged(plan: Plan, pids: Mapping[str, str]) -> Plan:
    """``plan`` with other pids, in digits, wherever it opens a namespace of a process."""
    return replace(plan, actions=tuple(_action(action, pids) for action in plan.actions))


def _action(action: Action, pids: Mapping[str, str]) -> Action:
    return replace(
        action,
        what=_text(action.what, pids),
        steps=tuple(_op(op, pids) for op in action.steps),
        undo=tuple(_op(op, pids) for op in action.undo),
    )


def _op(op: Op, pids: Mapping[str, str]) -> Op:
    from nsrun.kernel.values import Call, Str

    if not isinstance(op, Call) or op.name not in ("openat", "openat2"):
        return op
    args = tuple(Str(_text(a.value, pids)) if isinstance(a, Str) else a for a in op.args)
    return replace(op, args=args)


def _text(text: str, pids: Mapping[str, str]) -> str:
    return _NAMESPACE.sub(lambda m: f"/proc/{pids.get(m[1], m[1])}/ns/{m[2]}", text)


def _read(folder: str) -> dict[str, int]:
    try:
        data = json.loads(paths.read_file(os.path.join(folder, _FILE)) or "{}")
    except (ValueError, RecursionError):
        return {}
    is_sound = isinstance(data, dict) and all(type(pid) is int for pid in data.values())
    return data if is_sound else {}


def _not_running(container: store.Container, name: str) -> Diagnostic:
    is_there = store.load(os.path.join(os.path.dirname(container.folder), name)) is not None
    return Diagnostic(
        code="NS404",
        summary=f"{container.record.name} joins the container {name}, which is not running",
        help=(f"nsrun start {name}" if is_there else f"start it first: nsrun run -d {name}.yaml",),
    )
