"""Namespaces kept alive by a file: ``pin``.

A bind mount of /proc/PID/ns/TYPE holds a namespace without a process (namespaces(7)).
"""

from __future__ import annotations

from nsrun.kernel import abi, calls
from nsrun.kernel.facts import Facts, Kind
from nsrun.kernel.values import Fmt, Reg
from nsrun.plan.draft import Draft
from nsrun.plan.launch import PROC_NAMES
from nsrun.plan.model import UndoWhen
from nsrun.plan.ops import Op


def pin_namespaces(draft: Draft, facts: Facts, child: Reg) -> None:
    """Bind every namespace that has a ``pin`` on its file; undone only if the start fails."""
    for number, namespace in enumerate(draft.spec.namespaces):
        if namespace.pin is None:
            continue
        at = f"namespaces[{number}]"
        _pin(draft, facts, namespace.pin, PROC_NAMES[namespace.type], child, at)


def _pin(draft: Draft, facts: Facts, path: str, name: str, child: Reg, at: str) -> None:
    fact = facts.paths.get(path)
    if fact is not None and fact.namespace is not None:
        draft.refuse(
            "NS318",
            f"{path} already holds a {fact.namespace} namespace",
            at,
            f"let go of it first: nsrun unpin {path}",
        )
    made = fact is not None and fact.kind is Kind.MISSING
    fd = draft.reg("pin")
    undo: list[Op] = [
        calls.allow(
            calls.umount2(path, abi.UmountFlag.MNT_DETACH | abi.UmountFlag.UMOUNT_NOFOLLOW),
            accept=("EINVAL", "ENOENT"),
        )
    ]
    if made:
        oflags = abi.OpenFlag.O_CREAT | abi.OpenFlag.O_CLOEXEC | abi.OpenFlag.O_NOFOLLOW
        draft.parent(
            f"make {path}",
            calls.openat(calls.CWD, path, oflags, 0o644, save=fd),
            at=at,
            undo=(calls.allow(calls.unlinkat(calls.CWD, path), accept=("ENOENT",)),),
            undo_when=UndoWhen.FAILURE,
        )
        # An action of its own: one that fails half-way is not undone.
        draft.parent(f"close {path}", calls.close(fd), at=at)
    draft.parent(
        f"keep the namespace on {path}",
        calls.bind(Fmt(("/proc/", child, f"/ns/{name}")), path),
        at=at,
        undo=tuple(undo),
        undo_when=UndoWhen.FAILURE,
    )
