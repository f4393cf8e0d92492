"""What a plan needs to know of a machine and of its caller: data only.

:mod:`nsrun.host.facts` fills them from the live system; tests and preflights for another
host inject their own. The planner reads nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType


class Kind(StrEnum):
    """What stands at a path."""

    MISSING = "missing"
    FOLDER = "folder"
    FILE = "file"  # anything that is no folder and no symlink: also devices, sockets, FIFOs
    SYMLINK = "symlink"  # only for a last component that is asked for without following
    UNREACHABLE = "unreachable"  # the caller may not look (EACCES), or a loop (ELOOP)


# How the name of a container's control group begins, in each hierarchy.
GROUP_PREFIX = "nsrun-"


@dataclass(frozen=True, slots=True, kw_only=True)
class PathFact:
    """A host path: what it is, and what its identity was (for a cache to compare).

    ``namespace``: for a file on nsfs, the namespace's kind by OCI's name ("network").
    ``block`` and ``character``: a device's own numbers, "8:0".
    ``owner`` is (uid, gid). ``missing_part`` is the first component that does not exist.
    """

    kind: Kind
    device: int = 0
    inode: int = 0
    owner: tuple[int, int] = (0, 0)
    mode: int = 0
    namespace: str | None = None
    missing_part: str = ""
    block: str = ""
    character: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SubIds:
    """A range of subordinate ids of the caller, from /etc/subuid or /etc/subgid (subuid(5))."""

    start: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MapLine:
    """One line of /proc/self/uid_map (user_namespaces(7))."""

    inside: int
    outside: int
    size: int


# user_namespaces(7): what uid_map says in the first one.
ALL_IDS = (MapLine(inside=0, outside=0, size=4294967295),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """A sysctl of the caller's network namespace that is 0 or more; ``ours``: nsrun has turned it
    on for containers that run, and the last of them turns it off."""

    on: bool
    ours: bool


def switch_mark(state: str, netns: int, key: str) -> str:
    """The file in nsrun's folder ``state`` that says that nsrun has turned a sysctl on."""
    return f"{state}/switch-{netns}-{key.replace('/', '.')}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Forwarding:
    """The way out of the caller's network namespace, and what lets packets through.

    ``netns``: its inode. ``ipv4``: the interfaces that routes lead through, ``ipv6``: those with
    an address that is not the link's alone; without loopback and the ends of containers' pairs.
    ``switches``: the sysctls that there are, as files below /proc/sys
    ("net/ipv4/conf/eth0/forwarding").
    """

    netns: int
    ipv4: tuple[str, ...] = ()
    ipv6: tuple[str, ...] = ()
    switches: Mapping[str, Switch] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkFact:
    """An interface of the caller's network namespace as it is, to be put back as it was.

    ``master``: the name of the bridge or bond it is a port of, "" for none. ``addresses`` and
    ``routes``: bodies of rtnetlink(7) messages (struct ifaddrmsg, struct rtmsg, and attributes) as
    the kernel tells them; a route with a next hop stands behind those without. ``sysctls``: its own
    that have another value than a new interface's, (file below /proc/sys, value).
    """

    up: bool
    master: str = ""
    addresses: tuple[bytes, ...] = ()
    routes: tuple[bytes, ...] = ()
    sysctls: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CgroupFolder:
    """The cgroup in which a container's own is made, in one hierarchy (cgroups(7)).

    ``path``: its folder on the host. ``owner``: its user; ``writable``: whether the caller may
    make one in it. ``controllers``: those it can give on, ``enabled``: those of cgroup v2 that it
    gives on already. ``cpus`` and ``mems``: what it has itself of the controller cpuset.
    """

    path: str
    owner: int = 0
    writable: bool = True
    controllers: frozenset[str] = frozenset()
    enabled: frozenset[str] = frozenset()
    cpus: str = ""
    mems: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cgroups:
    """The hierarchies of control groups: ``v2``, None where it is not mounted, and those of
    version 1 by controller."""

    v2: CgroupFolder | None = None
    v1: Mapping[str, CgroupFolder] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What to look up: made from a spec by the planner, answered by a probe.

    ``paths``: host paths, followed to their end. ``rootfs``: the host folder of the rootfs,
    None for the caller's own root. ``targets``: paths inside the rootfs, resolved within it.
    ``users``: whether the rootfs's passwd and group files are needed. ``environment``: the
    variables whose caller's value a spec passes on. ``containers``: names to join. ``helpers``:
    programs to look for. ``forwarding``: whether packets are to be forwarded; ``bridges``, through
    which of the caller's. ``physical``: the caller's interfaces that are to be moved in.
    ``ways``: host paths whose symlinks matter.
    ``cgroups``: whether a control group is to be made, ``landlock``: whether it is to be asked for,
    ``labels``: whether AppArmor and SELinux are.
    """

    paths: tuple[str, ...] = ()
    rootfs: str | None = None
    targets: tuple[str, ...] = ()
    users: bool = False
    environment: tuple[str, ...] = ()
    containers: tuple[str, ...] = ()
    pids: tuple[int, ...] = ()
    helpers: tuple[str, ...] = ()
    forwarding: bool = False
    bridges: tuple[str, ...] = ()
    physical: tuple[str, ...] = ()
    cgroups: bool = False
    landlock: bool = False
    labels: bool = False
    ways: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """The machine and the caller, at one moment.

    ``kernel``: uname's release; ``machine``: uname -m. ``permitted`` and ``bounding`` are
    capability numbers. ``subuid`` and ``subgid`` are the caller's subordinate ranges.
    ``newuidmap`` and ``newgidmap`` are absolute paths, None where not installed.
    ``ignored_signals``: numbers of the signals the caller ignores. ``state``: the folder for
    running containers, None where the caller has none it can write. ``targets`` answers
    Query.targets; ``passwd`` and ``group`` are the texts of the rootfs's files. ``containers``:
    name to pid for those asked and running. ``namespaces``: kinds this kernel supports.
    ``limits``: name of a resource ("nofile") to (soft, hard), None for unlimited.
    ``helpers``: absolute paths of those asked for that are installed. ``links``: those of
    Query.physical that are there, by name. ``cgroups``: where a control group can be made, None
    where that was not asked. ``landlock``: the version of Landlock's ABI, 0 without it. ``labels``:
    which of "apparmor" and "selinux" are in force, of those asked for. ``ways``: where the symlinks
    of each path of Query.ways lie, and last where it leads. ``python``: the interpreter
    that nsrun's own helpers run in, an absolute path.
    """

    kernel: str
    machine: str
    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    user_name: str = ""
    permitted: frozenset[int] = frozenset()
    bounding: frozenset[int] = frozenset()
    last_cap: int = 40
    no_new_privileges: bool = False
    uid_map: tuple[MapLine, ...] = ALL_IDS
    gid_map: tuple[MapLine, ...] = ALL_IDS
    subuid: tuple[SubIds, ...] = ()
    subgid: tuple[SubIds, ...] = ()
    newuidmap: str | None = None
    newgidmap: str | None = None
    cwd: str = "/"
    cpus: int = 1
    ignored_signals: tuple[int, ...] = ()
    state: str | None = None
    namespaces: frozenset[str] = frozenset()
    filesystems: frozenset[str] = frozenset()
    limits: Mapping[str, tuple[int | None, int | None]] = field(
        default_factory=lambda: MappingProxyType({})
    )
    environment: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    paths: Mapping[str, PathFact] = field(default_factory=lambda: MappingProxyType({}))
    targets: Mapping[str, PathFact] = field(default_factory=lambda: MappingProxyType({}))
    passwd: str | None = None
    group: str | None = None
    containers: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    pids: frozenset[int] = frozenset()
    helpers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    forwarding: Forwarding | None = None
    links: Mapping[str, LinkFact] = field(default_factory=lambda: MappingProxyType({}))
    cgroups: Cgroups | None = None
    landlock: int = 0
    labels: frozenset[str] = frozenset()
    ways: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    python: str = "/usr/bin/python3"

    @property
    def kernel_version(self) -> tuple[int, int]:
        """(major, minor) of ``kernel``; (0, 0) where it does not start with two numbers."""
        digits: list[int] = []
        for part in self.kernel.replace("-", ".").split(".")[:2]:
            if not part.isdigit():
                return (0, 0)
            digits.append(int(part))
        return (digits[0], digits[1]) if len(digits) == 2 else (0, 0)
