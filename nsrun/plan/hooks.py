"""OCI hooks: programs of the host, run by the launcher with the container's state on stdin.

Source: the OCI runtime spec, config.md "POSIX-platform Hooks" and runtime.md "State".
"""

from __future__ import annotations

import json
import os.path

from nsrun.kernel.values import Fmt, Reg, Str
from nsrun.plan.draft import Draft
from nsrun.plan.ops import Op, Spawn
from nsrun.spec.model import Hook


def run_hooks(draft: Draft, stage: str, hooks: tuple[Hook, ...], child: Reg) -> None:
    """The hooks of ``prestart`` (status created) or ``poststart`` (status running)."""
    status = "created" if stage == "prestart" else "running"
    for number, hook in enumerate(hooks):
        draft.parent(
            f"{stage} hook {hook.path}",
            _spawn(draft, hook, status, child),
            at=f"hooks.{stage}[{number}]",
        )


def when_stopped(draft: Draft, child: Reg) -> tuple[Op, ...]:
    """The ``poststop`` hooks: they run at the end, however the run ends."""
    return tuple(_spawn(draft, hook, "stopped", child) for hook in draft.spec.hooks.poststop)


def _spawn(draft: Draft, hook: Hook, status: str, child: Reg) -> Spawn:
    # OCI: args is the whole vector, with the program's name in front.
    arguments = hook.args[1:] if hook.args else ()
    return Spawn(
        argv=(Str(hook.path), *(Str(a) for a in arguments)),
        env=hook.env,
        stdin=_state(draft, status, child),
        timeout=hook.timeout,
    )


def _state(draft: Draft, status: str, child: Reg) -> Fmt:
    spec = draft.spec
    state = {
        "ociVersion": "1.2.0",
        "id": spec.name,
        "status": status,
        "bundle": os.path.dirname(spec.file) or ".",
    }
    if spec.labels:
        state["annotations"] = dict(spec.labels)  # type: ignore[assignment]
    text = json.dumps(state, sort_keys=False)
    if status == "stopped":
        return Fmt((text,))
    return Fmt((text[:-1] + ', "pid": ', child, "}"))
