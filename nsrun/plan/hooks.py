"""OCI hooks: programs of the host, run by the launcher with the container's state on stdin.

Source: the OCI runtime spec, config.md "POSIX-platform Hooks" and runtime.md "State".
"""

from __future__ import annotations

import json
import os.path

from nsrun.kernel.facts import Facts
from nsrun.kernel.values import Fmt, Reg, Str
from nsrun.plan.draft import Draft
from nsrun.plan.ops import Op, Spawn
from nsrun.spec.model import Hook


def run_hooks(
    draft: Draft, facts: Facts, stage: str, hooks: tuple[Hook, ...], child: Reg
) -> None:
    """The hooks of ``prestart`` (status created) or ``poststart`` (status running)."""
    status = "created" if stage == "prestart" else "running"
    for number, hook in enumerate(hooks):
        draft.parent(
            f"run the {stage} hook {hook.path}",
            _spawn(draft, facts, hook, status, child),
            at=f"hooks.{stage}[{number}]",
        )


def when_stopped(draft: Draft, facts: Facts, child: Reg) -> tuple[Op, ...]:
    """The ``poststop`` hooks: they run at the end, however the run ends."""
    hooks = draft.spec.hooks.poststop
    return tuple(_spawn(draft, facts, hook, "stopped", child) for hook in hooks)


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
