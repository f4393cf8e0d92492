"""The words of mount options: attributes of the mount, and what is left for the file system.

Sources: mount(8), mount_setattr(2), and the OCI runtime spec for the recursive forms.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from nsrun.kernel.abi import MountAttr, MountFlag

_SETS: dict[str, MountAttr] = {
    "ro": MountAttr.MOUNT_ATTR_RDONLY,
    "nosuid": MountAttr.MOUNT_ATTR_NOSUID,
    "nodev": MountAttr.MOUNT_ATTR_NODEV,
    "noexec": MountAttr.MOUNT_ATTR_NOEXEC,
    "nodiratime": MountAttr.MOUNT_ATTR_NODIRATIME,
    "nosymfollow": MountAttr.MOUNT_ATTR_NOSYMFOLLOW,
}
_CLEARS: dict[str, MountAttr] = {
    "rw": MountAttr.MOUNT_ATTR_RDONLY,
    "suid": MountAttr.MOUNT_ATTR_NOSUID,
    "dev": MountAttr.MOUNT_ATTR_NODEV,
    "exec": MountAttr.MOUNT_ATTR_NOEXEC,
    "diratime": MountAttr.MOUNT_ATTR_NODIRATIME,
    "symfollow": MountAttr.MOUNT_ATTR_NOSYMFOLLOW,
}
# The access-time modes are one field of three values, not flags; relatime is its zero.
_ATIME: dict[str, MountAttr] = {
    "relatime": MountAttr(0),
    "atime": MountAttr(0),
    "nostrictatime": MountAttr(0),
    "noatime": MountAttr.MOUNT_ATTR_NOATIME,
    "norelatime": MountAttr.MOUNT_ATTR_STRICTATIME,
    "strictatime": MountAttr.MOUNT_ATTR_STRICTATIME,
}
_NONE = MountAttr(0)
_IGNORED = frozenset({"defaults", "bind", "rbind", "remount"})
PROPAGATION: dict[str, MountFlag] = {
    "shared": MountFlag.MS_SHARED,
    "slave": MountFlag.MS_SLAVE,
    "private": MountFlag.MS_PRIVATE,
    "unbindable": MountFlag.MS_UNBINDABLE,
}


@dataclass(frozen=True, slots=True)
class Attributes:
    """What mount_setattr(2) sets and clears."""

    set: MountAttr = _NONE
    clear: MountAttr = _NONE

    def __bool__(self) -> bool:
        return bool(self.set or self.clear)

    def with_defaults(self, defaults: MountAttr) -> Attributes:
        """``defaults`` are set as well, save what is cleared or another access-time mode."""
        keep = defaults & ~self.clear
        return Attributes(self.set | keep, self.clear)


@dataclass(frozen=True, slots=True)
class Options:
    """``top`` is for the mount alone, ``tree`` for everything below it too (``rro``)."""

    top: Attributes
    tree: Attributes
    filesystem: tuple[str, ...]


def parse(options: Iterable[str]) -> Options:
    """Sort the words; a later word wins over an earlier one of the same attribute."""
    top, tree = Attributes(), Attributes()
    rest: list[str] = []
    for word in options:
        if word in _IGNORED:
            continue
        if (plain := _attribute(top, word)) is not None:
            top = plain
        elif word.startswith("r") and (deep := _attribute(tree, word[1:])) is not None:
            tree = deep
        else:
            rest.append(word)
    return Options(top, tree, tuple(rest))


def _attribute(so_far: Attributes, word: str) -> Attributes | None:
    if word in _ATIME:
        field = MountAttr.MOUNT_ATTR__ATIME
        return Attributes((so_far.set & ~field) | _ATIME[word], so_far.clear | field)
    if word in _SETS:
        return Attributes(so_far.set | _SETS[word], so_far.clear & ~_SETS[word])
    if word in _CLEARS:
        return Attributes(so_far.set & ~_CLEARS[word], so_far.clear | _CLEARS[word])
    return None


def propagation(word: str) -> tuple[MountFlag, bool]:
    """The kernel's flag of ``rslave`` or ``slave``, and whether it holds for the whole tree."""
    if word in PROPAGATION:
        return (PROPAGATION[word], False)
    return (PROPAGATION[word.removeprefix("r")], True)
