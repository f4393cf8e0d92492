"""Names of the kernel as users write them: capabilities, signals, limits and sysctls.

Sources: capabilities(7), signal(7), getrlimit(2), and for the sysctls ipc_namespaces(7),
network_namespaces(7), uts_namespaces(7) and namespaces(7).
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable

from nsrun.kernel.abi import Capability, RlimitResource, signal_number
from nsrun.spec.model import NamespaceType

CAPABILITIES = tuple(Capability.__members__)
RLIMITS = tuple(name.removeprefix("RLIMIT_").lower() for name in RlimitResource.__members__)
SIGNALS = tuple(signal.Signals.__members__)

CONTAINER_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,63}")
VARIABLE_NAME = re.compile(r"[^=\x00-\x1f\x7f]+")
USER_NAME = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9_.@-]*\$?")
# dev_valid_name() of net/core/dev.c; what is not ASCII it takes as bytes, tools do not.
_BAD_IN_NAME = re.compile(r"[\s/:]|[^\x21-\x7e]")
SYSCTL_NAME = re.compile(r"[a-z0-9_]+(?:\.[a-zA-Z0-9_-]+)+")

_IPC = {
    f"kernel.{name}"
    for name in ("msgmax", "msgmnb", "msgmni", "auto_msgmni", "msg_next_id", "sem", "sem_next_id",
                 "shmall", "shmmax", "shmmni", "shm_rmid_forced", "shm_next_id")
}  # fmt: skip
_UTS = {"kernel.hostname", "kernel.domainname"}


def capability(name: str) -> str | None:
    """``CAP_CHOWN`` for ``chown``, ``Cap_Chown`` or itself; None for no capability's name."""
    full = name.upper() if name.upper().startswith("CAP_") else f"CAP_{name.upper()}"
    return full if full in Capability.__members__ else None


def rlimit(name: str) -> str | None:
    """``nofile`` for ``RLIMIT_NOFILE`` in any case; None for no limit's name."""
    short = name.lower().removeprefix("rlimit_")
    return short if short in RLIMITS else None


def signal_name(value: int | str) -> str | None:
    """``SIGTERM`` for ``term``, ``15`` or itself, ``SIGRTMIN+3`` for 37; None for no signal."""
    text = str(value)
    if re.fullmatch(r"[0-9]{1,3}", text):
        return _name_of(int(text))
    full = text.upper() if text.upper().startswith("SIG") else f"SIG{text.upper()}"
    try:
        signal_number(full)
    except ValueError:
        return None
    return full


def _name_of(number: int) -> str | None:
    first, last = int(signal.SIGRTMIN), int(signal.SIGRTMAX)
    if first < number <= last:
        return f"SIGRTMIN+{number - first}"
    # 32 and 33 are the C library's own (nptl(7)): signal.Signals has no names for them.
    names = {int(member): name for name, member in signal.Signals.__members__.items()}
    return names.get(number)


def sysctl_namespace(name: str) -> NamespaceType | None:
    """The kind of namespace that holds ``name``; None for one the whole machine shares."""
    if not SYSCTL_NAME.fullmatch(name):
        return None
    if name.startswith("net."):
        return NamespaceType.NETWORK
    if name in _IPC or name.startswith("fs.mqueue."):
        return NamespaceType.IPC
    if name in _UTS:
        return NamespaceType.UTS
    # Limits of a user namespace, see namespaces(7), "the /proc/sys/user directory".
    return NamespaceType.USER if name.startswith("user.max_") else None


def nearest(word: str, known: Iterable[str]) -> str:
    """``did you mean ...?`` for a kernel's name, with or without its prefix."""
    from nsrun.spec.words import did_you_mean

    names = {name.removeprefix("CAP_").removeprefix("SIG"): name for name in known}
    bare = word.upper().removeprefix("CAP_").removeprefix("SIG").removeprefix("RLIMIT_")
    found = did_you_mean(bare, names)
    for short, full in names.items():
        found = found.replace(f"`{short}`", f"`{full}`")
    return found


def is_interface_name(text: str) -> bool:
    """Whether the kernel takes it, dev_valid_name(): at most 15, no space, slash or colon."""
    return text not in ("", ".", "..") and len(text) <= 15 and not _BAD_IN_NAME.search(text)
