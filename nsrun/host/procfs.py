"""Files of /proc, read once and parsed (proc(5))."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from nsrun.kernel.facts import MapLine

_OCTAL = re.compile(r"\\([0-7]{3})")
# More than any file of /proc that is read here; the mount table of a busy host is the largest.
_LIMIT = 64 << 20


def read(path: str) -> str | None:
    """A small text file; None where it is missing or closed to the caller."""
    try:
        with open(path, "rb", buffering=0) as file:
            parts = []
            left = _LIMIT
            while left and (part := file.read(min(left, 1 << 16))):
                parts.append(part)
                left -= len(part)
    except (OSError, ValueError):
        return None
    return b"".join(parts).decode("utf-8", "surrogateescape")


def labelling_modules() -> frozenset[str]:
    """Which of the security modules "apparmor" and "selinux" are in force.

    securityfs tells them; where it is not mounted, as in most containers, what only a module in
    force has: AppArmor answers for a process, SELinux has registered its file system.
    """
    known = read("/sys/kernel/security/lsm")
    if known:
        return frozenset(known.strip().split(",")) & {"apparmor", "selinux"}
    found = set()
    if read("/proc/self/attr/apparmor/current"):
        found.add("apparmor")
    if "selinuxfs" in filesystems():
        found.add("selinux")
    return frozenset(found)


def number(path: str) -> int | None:
    """A file that holds one number; None where it does not, or cannot be read."""
    text = read(path)
    try:
        return int(text) if text is not None else None
    except ValueError:
        return None


def sysctl(name: str) -> int | None:
    """A sysctl's number by its dotted name."""
    return number("/proc/sys/" + name.replace(".", "/"))


def status(process: str = "self") -> Mapping[str, str]:
    """The fields of /proc/PID/status; empty where the process is gone."""
    fields = {}
    for line in (read(f"/proc/{process}/status") or "").splitlines():
        name, colon, value = line.partition(":")
        if colon:
            fields[name] = value.strip()
    return fields


def bits(mask: str) -> frozenset[int]:
    """The numbers of the bits of a hexadecimal mask, from 0; empty for "". """
    value = int(mask or "0", 16)
    return frozenset(n for n in range(value.bit_length()) if value >> n & 1)


def capabilities(which: str = "CapEff") -> frozenset[int]:
    """A capability set of this process (capabilities(7)), as numbers."""
    return bits(status().get(which, ""))


def id_map(kind: str, process: str = "self") -> tuple[MapLine, ...]:
    """/proc/PID/uid_map or gid_map (user_namespaces(7)); ``kind`` is ``uid`` or ``gid``."""
    lines = []
    for line in (read(f"/proc/{process}/{kind}_map") or "").splitlines():
        inside, outside, size = map(int, line.split())
        lines.append(MapLine(inside=inside, outside=outside, size=size))
    return tuple(lines)


def filesystems() -> frozenset[str]:
    """The file system types this kernel has registered (filesystems(5))."""
    text = read("/proc/filesystems") or ""
    return frozenset(line.split()[-1] for line in text.splitlines() if line.strip())


def runs(pid: int) -> bool:
    """Whether a process with this pid lives: a zombie holds no namespaces any more."""
    text = read(f"/proc/{pid}/stat")
    if text is None:
        return False
    # The name in parentheses may hold anything, also a ")".
    return text.rpartition(")")[2].split()[:1] not in ([], ["Z"], ["X"])


@dataclass(frozen=True, slots=True, kw_only=True)
class MountLine:
    """One line of /proc/self/mountinfo (proc_pid_mountinfo(5)).

    ``options`` are the mount's own words, ``propagation`` its optional fields (``shared:1``,
    ``unbindable``), ``super_options`` those of its superblock.
    """

    ident: int
    parent: int
    root: str
    target: str
    options: tuple[str, ...]
    propagation: tuple[str, ...]
    fstype: str
    source: str
    super_options: tuple[str, ...]

    @property
    def shared(self) -> bool:
        return any(word.startswith("shared:") for word in self.propagation)

    @property
    def readonly(self) -> bool:
        return "ro" in self.options or "ro" in self.super_options


def mounts(process: str = "self") -> tuple[MountLine, ...]:
    """The mount table, in the kernel's order: what covers comes after what it covers."""
    return tuple(_mount_lines(read(f"/proc/{process}/mountinfo") or ""))


def _mount_lines(text: str) -> Iterator[MountLine]:
    # splitlines() would also split at characters that the kernel leaves as they are.
    for line in text.split("\n"):
        before, dash, after = line.partition(" - ")
        words, rest = before.split(" "), after.split(" ")
        if not dash or len(words) < 6 or len(rest) < 3:
            continue
        yield MountLine(
            ident=int(words[0]),
            parent=int(words[1]),
            root=_plain(words[3]),
            target=_plain(words[4]),
            options=tuple(words[5].split(",")),
            propagation=tuple(words[6:]),
            fstype=rest[0],
            source=_plain(rest[1]),
            super_options=tuple(rest[2].split(",")),
        )


def _plain(text: str) -> str:
    """The kernel writes a space, tab, newline and backslash as three octal digits.

    A byte at a time, so that a name in UTF-8 comes out whole.
    """
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text)


def mount_of(path: str) -> MountLine | None:
    """The mount that ``path`` lies on, followed to its end; None where that cannot be said."""
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (OSError, ValueError):
        return None
    try:
        return mount_of_descriptor(fd)
    finally:
        os.close(fd)


def mount_of_descriptor(fd: int) -> MountLine | None:
    """The mount a descriptor lies on, by its mnt_id in /proc/self/fdinfo (proc(5))."""
    for line in (read(f"/proc/self/fdinfo/{fd}") or "").splitlines():
        if line.startswith("mnt_id:"):
            ident = int(line.partition(":")[2])
            return next((m for m in mounts() if m.ident == ident), None)
    return None


def mounts_below(path: str) -> tuple[MountLine, ...]:
    """The mounts whose targets lie strictly below ``path``."""
    top = path.rstrip("/") + "/"
    return tuple(m for m in mounts() if m.target.startswith(top) and m.target != top)
