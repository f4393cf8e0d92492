"""OCI hooks: programs of the host, run by the launcher with the container's state on stdin.

Source: the OCI runtime spec, config.md "POSIX-platform Hooks" and runtime.md "State".
"""

from __future__ import annotations

import json
import os.path
from collections.abc import Iterator

from nsrun.kernel.facts import Facts
from nsrun.kernel.values import Fmt, Reg, Str
from nsrun.plan.covers import below
from nsrun.plan.draft import Draft
from nsrun.plan.ops import Op, Spawn
from nsrun.spec.model import Hook, Spec


def run_hooks(draft: Draft, facts: Facts, stage: str, hooks: tuple[Hook, ...], child: Reg) -> None:
    """The hooks of ``prestart`` (status created) or ``poststart`` (status running)."""
    status = "created" if stage == "prestart" else "running"
    for number, hook in enumerate(hooks):
        at = f"hooks.{stage}[{number}]"
        _keep_out_of_reach(draft, facts, hook, at)
        draft.parent(
            f"run the {stage} hook {hook.path}", _spawn(draft, facts, hook, status, child), at=at
        )


def when_stopped(draft: Draft, facts: Facts, child: Reg) -> tuple[Op, ...]:
    """The ``poststop`` hooks: they run at the end, however the run ends."""
    hooks = draft.spec.hooks.poststop
    for number, hook in enumerate(hooks):
        _keep_out_of_reach(draft, facts, hook, f"hooks.poststop[{number}]")
    return tuple(_spawn(draft, facts, hook, "stopped", child) for hook in hooks)


def _keep_out_of_reach(draft: Draft, facts: Facts, hook: Hook, at: str) -> None:
    """A hook runs with the caller's rights: the container must not be able to write it anew, nor
    a symlink on the way to it."""
    places = (hook.path, *facts.ways.get(hook.path, ()))
    for folder in written_by(draft.spec):
        tops = (folder, *facts.ways.get(folder, ())[-1:])
        within = [place for place in places if any(below(place, top) for top in tops)]
        if not within:
            continue
        what = "" if within[0] == hook.path else f" leads through {within[0]}, which"
        draft.refuse(
            "NS318",
            f"the container could write to its own hook {hook.path}",
            at,
            "keep the program outside of what the container may write to",
            why=f"it runs with the caller's rights, and{what} is in {folder}",
        )


def written_by(spec: Spec) -> Iterator[str]:
    """The folders and files of the host that the spec lets the container write to, but for a spec
    that leaves it in the caller's own root."""
    root = spec.rootfs
    if root is not None and not root.readonly and root.overlay is None:
        yield root.path
    for mount in spec.mounts:
        if mount.type == "bind" and not mount.readonly:
            yield mount.source


def _spawn(draft: Draft, facts: Facts, hook: Hook, status: str, child: Reg) -> Spawn:
    # OCI: args is the whole vector, with the program's name in front.
    arguments = hook.args[1:] if hook.args else ()
    return Spawn(
        argv=(Str(hook.path), *(Str(a) for a in arguments)),
        env=hook.env,
        stdin=_state(draft, facts, status, child),
        timeout=hook.timeout,
    )


def _state(draft: Draft, facts: Facts, status: str, child: Reg) -> Fmt:
    spec = draft.spec
    state: dict[str, object] = {
        "ociVersion": "1.2.0",
        "id": spec.name,
        "status": status,
        "bundle": os.path.dirname(os.path.join(facts.cwd, spec.file)),
    }
    if spec.labels:
        state["annotations"] = dict(spec.labels)
    text = json.dumps(state)
    if status == "stopped":
        return Fmt((text,))
    return Fmt((text[:-1] + ', "pid": ', child, "}"))
