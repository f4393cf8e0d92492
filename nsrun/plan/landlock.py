"""The second wall: Landlock rules, which bind the command and all that it starts for good.

What a folder's rule allows holds for everything below it; everything else that the ruleset
handles is forbidden. The paths are those inside, opened once the root has been entered.

Sources: landlock(7), the kernel's Documentation/userspace-api/landlock.rst.
"""

from __future__ import annotations

import os.path
from collections.abc import Iterable, Mapping

from nsrun.kernel import calls
from nsrun.kernel.abi import LandlockAccessFs as Access
from nsrun.kernel.abi import LandlockScope, OpenFlag
from nsrun.kernel.facts import Facts, Kind
from nsrun.kernel.values import Bytes, Call, Str
from nsrun.plan.covers import ancestors
from nsrun.plan.draft import Draft
from nsrun.plan.model import Action
from nsrun.plan.mounts import is_skipped
from nsrun.spec.model import Landlock, LandlockRules

# The first ABI that knows each right (landlock(7)).
_SINCE = {Access.REFER: 2, Access.TRUNCATE: 3, Access.IOCTL_DEV: 5}
_SCOPES_SINCE = 6
_READ = Access.EXECUTE | Access.READ_FILE | Access.READ_DIR
# landlock_add_rule(2), EINVAL: a file is given no right that only a folder can have.
_OF_FILES = (
    Access.EXECUTE | Access.READ_FILE | Access.WRITE_FILE | Access.TRUNCATE | Access.IOCTL_DEV
)
# Written to by any program: devices, the terminal, its own files in /proc.
_ALWAYS = ("/dev", "/proc")
_OPEN = OpenFlag.O_PATH | OpenFlag.O_CLOEXEC


def wall(draft: Draft, facts: Facts) -> None:
    """Set the rules; refused where they are required and the kernel has none."""
    wanted = draft.spec.landlock
    if wanted is None:
        return
    if isinstance(wanted, LandlockRules):
        _set(draft, facts, wanted, {})
        return
    if not facts.landlock or (wanted.scoped and facts.landlock < _SCOPES_SINCE):
        _refuse(draft, facts, wanted)
        if not facts.landlock:
            return
    given = {
        _place(path): f"landlock.{key}[{number}]"
        for key, paths in (("read", wanted.read), ("write", wanted.write))
        for number, path in enumerate(paths or ())
    }
    _set(draft, facts, _rules(draft, facts, wanted), given)


def _place(path: str) -> str:
    return ancestors(os.path.normpath(path))[-1]


def planned_rules(actions: Iterable[Action]) -> LandlockRules | None:
    """The rules of a plan that was made before, None where it has none."""
    handled = scoped = 0
    rules = []
    for action in actions:
        path = ""
        for op in action.steps:
            match op:
                case Call(name="openat", args=(_, Str(value=opened), *_)):
                    path = opened
                case Call(name="landlock_create_ruleset", args=(Bytes(value=attr), *_)):
                    words = [int.from_bytes(attr[at : at + 8], "little") for at in (0, 16)]
                    handled, scoped = words
                case Call(name="landlock_add_rule", args=(_, _, Bytes(value=attr), *_)):
                    rules.append((path, int.from_bytes(attr[:8], "little")))
                case _:
                    pass
    return LandlockRules(handled=handled, scoped=scoped, rules=tuple(rules)) if handled else None


def _refuse(draft: Draft, facts: Facts, wanted: Landlock) -> None:
    if not wanted.required:
        return
    what = "Landlock" if not facts.landlock else "Landlock's scopes"
    since = "5.13" if not facts.landlock else "6.12"
    draft.refuse(
        "NS401",
        f"this kernel has no {what}",
        "landlock",
        "leave `required` away: what the mounts and rights forbid is forbidden all the same",
        why=f"it is {facts.kernel}; since Linux {since}, where `lsm=` names landlock at boot",
    )


def _handled(abi_version: int) -> Access:
    every = Access(0)
    for right in Access:
        if _SINCE.get(right, 1) <= abi_version:
            every |= right
    return every


def _rules(draft: Draft, facts: Facts, wanted: Landlock) -> LandlockRules:
    handled = _handled(facts.landlock)
    read = ("/",) if wanted.read is None else wanted.read
    write = _writable(draft) if wanted.write is None else wanted.write
    # What can be written and executed, too, would be a way around a list of what may be executed.
    writing = handled if wanted.read is None else handled & ~Access.EXECUTE
    allowed: dict[str, Access] = {}
    for paths, rights in ((read, _READ), (write, writing), (_ALWAYS, writing)):
        for path in paths:
            place = _place(path)
            allowed[place] = allowed.get(place, Access(0)) | rights
    scoped = LandlockScope.SIGNAL | LandlockScope.ABSTRACT_UNIX_SOCKET
    return LandlockRules(
        handled=int(handled),
        scoped=int(scoped) if wanted.scoped and facts.landlock >= _SCOPES_SINCE else 0,
        rules=tuple((path, int(_fitting(draft, facts, path, r))) for path, r in allowed.items()),
    )


def _writable(draft: Draft) -> tuple[str, ...]:
    """What the mounts of the spec let be written."""
    root = draft.spec.rootfs
    found = {} if root is not None and root.readonly else {"/": True}
    for mount in draft.spec.mounts:
        if mount.type == "umount":
            continue
        found[mount.target] = not mount.readonly
    return tuple(path for path, written in found.items() if written)


def _left_out(draft: Draft, facts: Facts) -> frozenset[str]:
    """The targets of optional mounts whose source is not there: nothing may stand there, either."""
    return frozenset(_place(m.target) for m in draft.spec.mounts if is_skipped(facts, m))


def _fitting(draft: Draft, facts: Facts, path: str, rights: Access) -> Access:
    """The rights that what stands at ``path`` can have."""
    kind = None
    for mount in draft.spec.mounts:
        if os.path.normpath(mount.target) == path and not is_skipped(facts, mount):
            fact = facts.paths.get(mount.source) if mount.type == "bind" else None
            kind = fact.kind if fact is not None else Kind.FOLDER
    if kind is None:
        target = facts.targets.get(path)
        kind = target.kind if target is not None else Kind.FOLDER
    return rights & _OF_FILES if kind is Kind.FILE else rights


def _set(draft: Draft, facts: Facts, rules: LandlockRules, given: Mapping[str, str]) -> None:
    """``given``: the place in the spec of the paths that it names."""
    written = "landlock" in draft.spec.spans
    at, rule = ("landlock", "") if written else ("", "the container's Landlock rules")
    ruleset = draft.reg("ruleset")
    draft.child(
        "forbid all that follows does not allow",
        calls.landlock_create_ruleset(facts.landlock, rules.handled, rules.scoped, save=ruleset),
        at=at,
        rule=rule,
    )
    absent = _left_out(draft, facts)
    for path, rights in rules.rules:
        below = draft.reg("below")
        opened = calls.openat(calls.CWD, path, _OPEN, save=below)
        # What the spec names itself has to be there, if it has not said that it may be missing.
        implied = path in _ALWAYS and path not in given
        may_miss = implied or not absent.isdisjoint(ancestors(path))
        opened = calls.allow(opened, skip=("ENOENT",)) if may_miss else opened
        draft.child(
            f"allow {_words(rights)} in {path}",
            opened,
            calls.landlock_add_rule(ruleset, below, rights),
            calls.close(below),
            at=given.get(path, at),
            rule=rule,
        )
    draft.child(
        "let it hold for good",
        calls.landlock_restrict_self(ruleset),
        calls.close(ruleset),
        at=at,
        rule=rule,
    )


def _words(rights: int) -> str:
    return "reading and writing" if rights & Access.WRITE_FILE else "reading"
