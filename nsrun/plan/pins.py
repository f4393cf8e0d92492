"""Namespaces kept alive by a file: ``pin``.

A bind mount of /proc/PID/ns/TYPE holds a namespace without a process (namespaces(7)).
"""

from __future__ import annotations

from nsrun.kernel import calls
from nsrun.kernel.abi import FileType, OpenFlag, UmountFlag
from nsrun.kernel.facts import Facts, Kind
from nsrun.kernel.values import Expect, Fmt, Reg
from nsrun.plan.draft import Draft
from nsrun.plan.launch import PROC_NAMES
from nsrun.plan.model import UndoWhen
from nsrun.plan.mounts import TO_DESCRIPTOR
from nsrun.plan.sources import clone_tree

_DETACH = UmountFlag.MNT_DETACH | UmountFlag.UMOUNT_NOFOLLOW


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
    file = _file(draft, path, at, made=fact is not None and fact.kind is Kind.MISSING)
    own = Fmt(("/proc/", child, f"/ns/{name}"))
    tree, cloned = clone_tree(draft, own, recursive=False, name="pinned")
    # Nothing after the mount in its action: with a step that fails it would not be taken back.
    draft.parent(
        f"keep the namespace on {path}",
        cloned,
        calls.move_mount(tree, "", file, "", TO_DESCRIPTOR),
        at=at,
        undo=(calls.allow(calls.umount2(path, _DETACH), accept=("EINVAL", "ENOENT")),),
        undo_when=UndoWhen.FAILURE,
    )
    draft.parent(
        f"let go of {path}",
        calls.close(tree),
        calls.close(file),
        at=at,
    )


def _file(draft: Draft, path: str, at: str, *, made: bool) -> Reg:
    """A descriptor of the file: in a folder that another user can write to, a symlink in its place
    would have the namespace mounted on a file of the host's."""
    fd = draft.reg("pin")
    if not made:
        place = OpenFlag.O_PATH | OpenFlag.O_NOFOLLOW | OpenFlag.O_CLOEXEC
        kind = FileType.S_IFREG
        regular = Expect(calls.STATX_MODE_AT, 2, calls.S_IFMT, kind, "it is a regular file")
        draft.parent(
            f"open {path}",
            calls.openat(calls.CWD, path, place, save=fd),
            calls.statx(fd, regular),
            at=at,
        )
        return fd
    new = OpenFlag.O_CREAT | OpenFlag.O_EXCL | OpenFlag.O_NOFOLLOW | OpenFlag.O_CLOEXEC
    draft.parent(
        f"make {path}",
        calls.openat(calls.CWD, path, new, 0o644, save=fd),
        at=at,
        undo=(calls.allow(calls.unlinkat(calls.CWD, path), accept=("ENOENT",)),),
        undo_when=UndoWhen.FAILURE,
    )
    return fd
