"""Places inside the new root: resolved by descriptor, made where missing, taken back after.

Every path is walked from the root's own descriptor with RESOLVE_IN_ROOT, so a symlink of the
rootfs cannot lead outside of it (openat2(2)). What is made on the host for a mount to stand
on is removed when the run ends.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from nsrun.kernel import abi, calls
from nsrun.kernel.abi import FlockOperation, OpenFlag, ResolveFlag
from nsrun.kernel.facts import Facts, Kind, PathFact
from nsrun.kernel.values import Call, Expect, Reg
from nsrun.plan.covers import Cover, Covers, Mounted, components
from nsrun.plan.draft import Draft
from nsrun.plan.model import Action, Track
from nsrun.plan.ops import Op

# The rule of actions that take back what was made for mounts to stand on.
LEFT_BEHIND = "nothing is left behind"
_WITHIN = ResolveFlag.RESOLVE_IN_ROOT | ResolveFlag.RESOLVE_NO_MAGICLINKS
_STRICT = ResolveFlag.RESOLVE_BENEATH | ResolveFlag.RESOLVE_NO_SYMLINKS
_READ = OpenFlag.O_DIRECTORY | OpenFlag.O_CLOEXEC
# What flock(2) answers where others hold the lock, or where a file system has none.
_UNLOCKED = ("EAGAIN", "ENOLCK", "ENOTSUP")
_HANDLE = OpenFlag.O_PATH | OpenFlag.O_CLOEXEC
# A folder by one of these names that is a symlink is an attack, not a habit (CVE-2023-27561).
_REAL_FOLDERS = frozenset({"/proc", "/sys", "/dev"})
# What undoing may meet when somebody was there in between: nothing of it is ours to remove.
_GONE = ("ENOENT", "ENOTEMPTY", "EBUSY", "EBADF", "ENOTDIR", "ELOOP", "EXDEV", "EISDIR")


@dataclass(slots=True)
class Tree:
    """The new root while it is furnished.

    ``base``: the host folder behind it, None where what is made inside never reaches the
    host (an overlay). ``early``: the position in the draft before the child is started.
    """

    draft: Draft
    facts: Facts
    root: Reg
    base: str | None
    early: int

    _covers: Covers = field(init=False)
    _held: Reg | None = field(default=None, init=False)
    _hold: Action | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._covers = Covers(self.base or "")

    def hold(self) -> None:
        """Tell other runs in the same root that mounts of this one stand on its folders.

        Kernel: removing a folder takes away what other mount namespaces have mounted on it
        (vfs_rmdir, detach_mounts), so nobody removes one while another run holds the root.
        Who cannot read the root, or meets who is just removing, goes on without a lock: a
        lock that is waited for could be held by anybody.
        """
        assert self.base is not None
        self._held = self.draft.reg("held")
        shared = FlockOperation.LOCK_SH | FlockOperation.LOCK_NB
        opened = calls.openat(calls.CWD, self.base, _READ, save=self._held)
        self._hold = Action(
            track=Track.PARENT,
            what=f"hold {self.base}: mounts stand on its folders",
            origin=self.draft.origin("rootfs", LEFT_BEHIND),
            steps=(
                calls.allow(opened, skip=("EACCES",)),
                calls.allow(calls.flock(self._held, shared), accept=_UNLOCKED),
            ),
        )
        self.draft.parent_at(self.early, self._hold)

    # --- what is known -------------------------------------------------------------------

    def mounted(self, target: str, cover: Cover, source: str = "") -> None:
        """Note that a mount now covers ``target``."""
        self._covers.mounted(Mounted(target=target, cover=cover, source=source))

    def unmounted(self, target: str) -> None:
        """Note that the topmost mount on ``target`` is gone."""
        self._covers.unmounted(target)

    def cover(self, target: str) -> Mounted:
        """The mount of this plan that ``target`` lies in, or the root."""
        return self._covers.over(target)

    def fact(self, target: str) -> PathFact | None:
        """What the facts know of a target in the root itself or in a bound host folder."""
        cover = self.cover(target)
        match cover.cover:
            case Cover.ROOT:
                return self.facts.targets.get(target)
            case Cover.BIND:
                return self.facts.paths.get(host_path(cover, target))
            case Cover.FRESH | Cover.FILE | Cover.CALLERS | Cover.OTHER:
                return None

    def of_others(self, target: str) -> str | None:
        """Whose the file system behind ``target`` is, None where this plan has made it."""
        cover = self.cover(target)
        match cover.cover:
            case Cover.ROOT:
                base = target if self.base == "/" else self.base
                return f"{base} is the host's" if base else None
            case Cover.BIND | Cover.FILE:
                return f"{cover.source} is the host's"
            case Cover.CALLERS:
                return f"{cover.target} is the caller's"
            case Cover.FRESH | Cover.OTHER:
                return None

    def _first_missing(self, target: str) -> int | None:
        """The index of the first component that may have to be made, None if all are there."""
        cover = self.cover(target)
        depth = len(components(cover.target))
        if len(components(target)) <= depth:
            return None
        match cover.cover:
            case Cover.ROOT:
                fact = self.facts.targets.get(target)
                if fact is None:
                    return 0
                if fact.kind is not Kind.MISSING:
                    return None
                return self._unmade(target, max(len(components(fact.missing_part)) - 1, 0))
            case Cover.FRESH:
                return self._unmade(target, depth)
            case Cover.BIND | Cover.FILE | Cover.CALLERS | Cover.OTHER:
                return depth

    def _unmade(self, target: str, first: int) -> int | None:
        parts = components(target)
        while first < len(parts) and self._covers.is_made("/" + "/".join(parts[: first + 1])):
            first += 1
        return first if first < len(parts) else None

    def _missing_before(self, target: str) -> int | None:
        """The index of the first component that the host lacked before the run, None where
        nothing of ``target`` was missing, or where what is made does not reach the host."""
        cover, fact = self.cover(target), self.fact(target)
        if not cover.source or fact is None or fact.kind is not Kind.MISSING:
            return None
        depth = len(components(cover.target))
        first = len(components(fact.missing_part)) - 1
        if cover.cover is Cover.BIND:
            # The facts count from the host's root, the target from the container's.
            first += depth - len(components(cover.source))
        return max(first, depth)

    # --- steps ---------------------------------------------------------------------------

    def open(
        self, target: str, *, folder: bool, create: bool, name: str = ""
    ) -> tuple[Reg, list[Op]]:
        """Steps that make ``target`` where it is missing and open it (O_PATH)."""
        steps = self.make(target, folder=folder) if create else []
        fd = self.draft.reg(name or "at_" + (components(target) or ["root"])[-1])
        steps.append(self.resolve(target, save=fd))
        return fd, steps

    def resolve(self, target: str, *, save: Reg, oflags: int = _HANDLE) -> Call:
        """openat2(2) of a place inside the root."""
        how = _WITHIN
        if target in _REAL_FOLDERS:
            how |= ResolveFlag.RESOLVE_NO_SYMLINKS
        return calls.openat2(self.root, inner(target), oflags, how, save=save)

    def make(self, target: str, *, folder: bool) -> list[Op]:
        """Steps that make the missing components of ``target``, one mkdirat(2) each."""
        first = self._first_missing(target)
        if first is None:
            return []
        parts = components(target)
        steps: list[Op] = []
        for index in range(first, len(parts)):
            last = index == len(parts) - 1
            steps += self._make_one(parts[:index], parts[index], folder or not last)
            self._covers.make("/" + "/".join(parts[: index + 1]))
        self._take_back(target, folder=folder)
        return steps

    def _make_one(self, parents: list[str], name: str, folder: bool) -> list[Op]:
        parent = self.root
        steps: list[Op] = []
        if parents:
            parent = self.draft.reg("in_" + parents[-1])
            opened = _HANDLE | OpenFlag.O_DIRECTORY
            steps.append(self.resolve("/" + "/".join(parents), save=parent, oflags=opened))
        # An existing one is what was wanted; a dangling symlink is found by the next openat2.
        made = (
            calls.mkdirat(parent, name, 0o755)
            if folder
            else calls.mknodat(parent, name, abi.FileType.S_IFREG | 0o644)
        )
        steps.append(calls.allow(made, accept=("EEXIST",)))
        if parents:
            steps.append(calls.close(parent))
        return steps

    def will_make(self, target: str) -> None:
        """A link that the caller makes at ``target``: removed again if it was missing."""
        self._take_back(target, folder=False, link=True)

    def _take_back(self, target: str, *, folder: bool, link: bool = False) -> None:
        """The parent removes at the end what was not there before, if it is still empty.

        Each target takes back every folder that was missing above it: whichever comes last
        finds them empty.
        """
        first = self._missing_before(target)
        if first is None:
            return
        cover = self.cover(target)
        parts = components(target)
        inside, made = parts[len(components(cover.target)) : first], parts[first:]
        host, keep = self.draft.reg("host"), self.draft.reg("keep")
        steps: tuple[Op, ...] = (
            calls.openat(
                calls.CWD, cover.source, _HANDLE | OpenFlag.O_DIRECTORY, save=host
            ),
            calls.openat2(
                host, "/".join(inside) or ".", _HANDLE | OpenFlag.O_DIRECTORY, _WITHIN, save=keep
            ),
            calls.close(host),
        )
        action = Action(
            track=Track.PARENT,
            what=f"remember that {target} is missing, to be removed again",
            origin=self.draft.origin("", LEFT_BEHIND),
            steps=steps,
            undo=self._if_alone(cover, _removal(self.draft, keep, made, folder, link)),
        )
        self.draft.parent_at(self._after_hold(), action)

    def _after_hold(self) -> int:
        """The first position in the draft at which the root is held."""
        actions = self.draft.actions
        return next((i + 1 for i, one in enumerate(actions) if one is self._hold), self.early)

    def _if_alone(self, cover: Mounted, removal: list[Op]) -> tuple[Op, ...]:
        """Undo steps that are left out while other runs hold the root."""
        if self._held is None or cover.cover is not Cover.ROOT:
            return tuple(removal)
        last = self.draft.reg("last")
        alone = FlockOperation.LOCK_EX | FlockOperation.LOCK_NB
        opened = calls.openat(calls.CWD, cover.source, _READ, save=last)
        return (
            calls.allow(calls.flock(self._held, FlockOperation.LOCK_UN), accept=_UNLOCKED),
            calls.allow(opened, accept=("EACCES",), skip=("ENOENT", "ENOTDIR")),
            calls.allow(calls.flock(last, alone), skip=("EAGAIN",), accept=_UNLOCKED[1:]),
            *removal,
            calls.close(last),
        )


def _removal(
    draft: Draft, keep: Reg, made: list[str], folder: bool, link: bool
) -> list[Op]:
    steps: list[Op] = []
    for index in range(len(made) - 1, -1, -1):
        parent = keep
        if index:
            parent = draft.reg("was")
            steps.append(
                calls.allow(
                    calls.openat2(
                        keep,
                        "/".join(made[:index]),
                        _HANDLE | OpenFlag.O_DIRECTORY,
                        _STRICT,
                        save=parent,
                    ),
                    accept=_GONE,
                )
            )
        if index == len(made) - 1 and link:
            # EISDIR, EPERM: a folder stands there now.
            gone = calls.unlinkat(parent, made[index])
            steps.append(calls.allow(gone, accept=(*_GONE, "EPERM")))
        elif index == len(made) - 1 and not folder:
            steps += _remove_empty_file(parent, made[index])
        else:
            gone = calls.unlinkat(parent, made[index], abi.AtFlag.AT_REMOVEDIR)
            steps.append(calls.allow(gone, accept=_GONE))
        if index:
            steps.append(calls.allow(calls.close(parent), accept=("EBADF",)))
    return steps


def _remove_empty_file(parent: Reg, name: str) -> list[Op]:
    # A file that somebody has filled in the meantime is theirs.
    empty = Expect(calls.STATX_SIZE_AT, 8, (1 << 64) - 1, 0, "it is empty", otherwise="skip")
    look = calls.allow(calls.statx(parent, empty, path=name), accept=_GONE)
    return [look, calls.allow(calls.unlinkat(parent, name), accept=_GONE)]


def inner(target: str) -> str:
    """A container path as openat2 takes it from the root's descriptor."""
    return "/".join(components(target)) or "."


def host_path(cover: Mounted, target: str) -> str:
    """The host's path behind a target that lies in ``cover``, a bind."""
    parts = components(target)[len(components(cover.target)) :]
    return "/" + "/".join([*components(cover.source), *parts])


def unmount(tree: Tree, fd: Reg) -> list[Op]:
    """Steps that unmount, lazily, what is mounted last where ``fd`` was opened.

    umount2(2) takes no descriptor, so the working directory goes there and back; without a
    rootfs the command is to start in the caller's, if the container's root may enter it.
    """
    home = tree.draft.reg("home") if tree.draft.spec.rootfs is None else None
    opened = _HANDLE | OpenFlag.O_DIRECTORY
    steps: list[Op] = []
    if home is not None:
        steps.append(
            calls.allow(calls.openat(calls.CWD, ".", opened, save=home), accept=("EACCES",))
        )
    steps += [
        calls.fchdir(fd),
        calls.umount2(".", abi.UmountFlag.MNT_DETACH),
        calls.fchdir(tree.root),
    ]
    if home is not None:
        steps.append(calls.allow(calls.fchdir(home), accept=("EBADF", "EACCES")))
        steps.append(calls.allow(calls.close(home), accept=("EBADF",)))
    return steps
