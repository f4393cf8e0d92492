"""The words of mount options, as mount(8) and the OCI runtime spec have them.

Only what a check needs to know: which words are about the mount itself, and which of them
contradict each other. What they do is the planner's.
"""

from __future__ import annotations

PROPAGATION = frozenset(
    ("private", "rprivate", "slave", "rslave", "shared", "rshared", "unbindable", "runbindable")
)

# word -> (attribute, what it says of it). The access time has three modes; relatime is what
# the kernel does without a word.
_ATTRIBUTES: dict[str, tuple[str, str]] = {
    "ro": ("write", "no"), "rw": ("write", "yes"),
    "nosuid": ("suid", "no"), "suid": ("suid", "yes"),
    "nodev": ("dev", "no"), "dev": ("dev", "yes"),
    "noexec": ("exec", "no"), "exec": ("exec", "yes"),
    "nosymfollow": ("symfollow", "no"), "symfollow": ("symfollow", "yes"),
    "nodiratime": ("diratime", "no"), "diratime": ("diratime", "yes"),
    "atime": ("atime", "relative"), "relatime": ("atime", "relative"),
    "nostrictatime": ("atime", "relative"), "noatime": ("atime", "never"),
    "strictatime": ("atime", "always"), "norelatime": ("atime", "always"),
}  # fmt: skip
# Words about the file system itself, which mount_setattr(2) cannot change.
_SUPERBLOCK: dict[str, tuple[str, str]] = {
    "sync": ("sync", "yes"), "async": ("sync", "no"),
    "lazytime": ("lazytime", "yes"), "nolazytime": ("lazytime", "no"),
    "iversion": ("iversion", "yes"), "noiversion": ("iversion", "no"),
    "mand": ("mand", "yes"), "nomand": ("mand", "no"),
    "silent": ("silent", "yes"), "loud": ("silent", "no"),
}  # fmt: skip
_TREE = {f"r{word}": (f"r{name}", says) for word, (name, says) in _ATTRIBUTES.items()}
_MEANING = _ATTRIBUTES | _TREE | _SUPERBLOCK

# Every word that a mount without a file system of its own can have (bind, remount, change).
ATTRIBUTES = (*_ATTRIBUTES, *_TREE)


def contradictions(options: tuple[str, ...]) -> list[tuple[str, str]]:
    """Pairs of words that cannot both hold, in the order of ``options``."""
    said: dict[str, tuple[str, str]] = {}
    found: list[tuple[str, str]] = []
    for word in options:
        if word not in _MEANING:
            continue
        attribute, says = _MEANING[word]
        first, before = said.setdefault(attribute, (word, says))
        if before != says:
            found.append((first, word))
    return found
