"""The kinds of namespaces: OCI's word, the name below /proc/PID/ns, the flag (namespaces(7))."""

from __future__ import annotations

from nsrun.kernel.abi import CloneFlag

_KINDS: tuple[tuple[str, str, CloneFlag], ...] = (
    ("user", "user", CloneFlag.CLONE_NEWUSER),
    ("mount", "mnt", CloneFlag.CLONE_NEWNS),
    ("pid", "pid", CloneFlag.CLONE_NEWPID),
    ("network", "net", CloneFlag.CLONE_NEWNET),
    ("ipc", "ipc", CloneFlag.CLONE_NEWIPC),
    ("uts", "uts", CloneFlag.CLONE_NEWUTS),
    ("cgroup", "cgroup", CloneFlag.CLONE_NEWCGROUP),
    ("time", "time", CloneFlag.CLONE_NEWTIME),
)
# By the word; the name is that of user.max_NAME_namespaces as well.
PROC_NAMES: dict[str, str] = {word: name for word, name, _ in _KINDS}
FLAGS: dict[str, CloneFlag] = {word: flag for word, _, flag in _KINDS}
