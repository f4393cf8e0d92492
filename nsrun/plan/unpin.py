"""``nsrun unpin FILE`` as a plan: the parent's track alone."""

from __future__ import annotations

from nsrun.kernel import abi, calls
from nsrun.kernel.facts import Facts, Kind
from nsrun.kernel.values import Expect
from nsrun.plan.build import finished
from nsrun.plan.draft import Draft
from nsrun.plan.model import Plan
from nsrun.spec.model import Spec


def plan_unpin(path: str, facts: Facts) -> Plan:
    """The program that lets go of the namespace on ``path``.

    Raises NsrunError (NS305, NS309) where the facts know of no namespace there.
    """
    draft = Draft(Spec(name="unpin", file=path, sha256=""))
    unpin_actions(draft, facts, path)
    return finished(draft, facts, root=True)


def unpin_actions(draft: Draft, facts: Facts, path: str) -> None:
    """Let go of the namespace on ``path`` and remove the file that held it, if it is empty."""
    fact = facts.paths.get(path)
    if fact is None or fact.kind is Kind.MISSING:
        draft.refuse("NS305", f"{path} does not exist", "")
    elif fact.namespace is None:
        draft.refuse("NS309", f"{path} holds no namespace", "")
    empty = Expect(calls.STATX_SIZE_AT, 8, (1 << 64) - 1, 0, "it is empty", otherwise="skip")
    regular = Expect(
        calls.STATX_MODE_AT, 2, calls.S_IFMT, 0o100000, "a regular file", otherwise="skip"
    )
    draft.parent(
        f"unmount {path}",
        calls.umount2(path, abi.UmountFlag.MNT_DETACH | abi.UmountFlag.UMOUNT_NOFOLLOW),
        rule="nsrun unpin",
    )
    draft.parent(
        f"remove {path}",
        calls.statx(calls.CWD, regular, empty, path=path),
        calls.unlinkat(calls.CWD, path),
        rule="nsrun unpin",
    )
