"""What a spec means once it is read: frozen values, paths absolute, sizes and times in units.

The planner knows nothing else of the user's text. Sizes are bytes, times nanoseconds, modes
integers; host paths are absolute, container paths start with ``/``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from types import MappingProxyType
from typing import Literal

from nsrun.diag import Span
from nsrun.spec.path import parent_path

SECOND = 1_000_000_000


class NamespaceType(StrEnum):
    """The eight kinds of namespaces(7), by OCI's names."""

    USER = "user"
    MOUNT = "mount"
    PID = "pid"
    NETWORK = "network"
    IPC = "ipc"
    UTS = "uts"
    CGROUP = "cgroup"
    TIME = "time"

    @property
    def one(self) -> str:
        """``a uts namespace``, ``an ipc namespace``"""
        return f"{'an' if self is NamespaceType.IPC else 'a'} {self.value} namespace"


@dataclass(frozen=True, slots=True, kw_only=True)
class Namespace:
    """A namespace to make, or to join (one of ``join_path``, ``join_pid``, ``join_container``).

    ``pin``: the host file a new one is kept on. ``boottime`` and ``monotonic`` are the
    offsets of a new time namespace in nanoseconds, None where not given.
    """

    type: NamespaceType
    join_path: str | None = None
    join_pid: int | None = None
    join_container: str | None = None
    pin: str | None = None
    boottime: int | None = None
    monotonic: int | None = None

    @property
    def joined(self) -> bool:
        return (self.join_path, self.join_pid, self.join_container) != (None, None, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class IdRange:
    """``size`` ids from ``container`` on are ``host`` and following outside."""

    container: int
    host: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class IdMap:
    """The maps of a user namespace; the ranges are only filled for ``explicit``."""

    kind: Literal["explicit", "auto", "root", "keep"]
    uid: tuple[IdRange, ...] = ()
    gid: tuple[IdRange, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlay:
    """An overlay on a rootfs: ephemeral (a tmpfs) without ``upper`` and ``work``."""

    upper: str | None = None
    work: str | None = None

    @property
    def ephemeral(self) -> bool:
        return self.upper is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rootfs:
    path: str
    readonly: bool = False
    propagation: str = "rprivate"
    overlay: Overlay | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Ids of the container; None for its root, where that is mapped."""

    uid: int | None = None
    gid: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """One entry of ``mounts``.

    ``type`` is ``bind``, ``overlay``, ``umount``, a kernel file system's name, or "" for an
    entry that changes what is mounted on the target. ``idmap`` is True for the container's
    own user namespace. ``path`` is the entry's place in the spec (``mounts[2]``). ``uncovered``:
    the source of a bind is meant as it is before any other entry is mounted over it. ``owner``:
    whose the source, a file of nsrun's own that belongs to the caller, is to be on the host.
    ``volume``: the source is a folder that nsrun makes and keeps for what runs inside, so that
    its owner there is the container's root.
    """

    type: str
    target: str
    path: str
    source: str = ""
    options: tuple[str, ...] = ()
    propagation: tuple[str, ...] = ()
    recursive: bool = True
    create: bool = True
    optional: bool = False
    remount: bool = False
    idmap: IdMap | Literal[True] | None = None
    lower: tuple[str, ...] = ()
    upper: str | None = None
    work: str | None = None
    uncovered: bool = False
    owner: Owner | None = None
    volume: bool = False

    @property
    def readonly(self) -> bool:
        """Whether its options forbid writing through it."""
        return not {"ro", "rro"}.isdisjoint(self.options)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """One entry of ``files``: exactly one of ``content``, ``symlink`` and ``folder``.

    ``path``: its place in the spec; ``uid`` and ``gid``, of a content alone, are the container's.
    """

    path: str
    target: str
    content: bytes | None = None
    symlink: str | None = None
    folder: bool = False
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Who the command runs as: numbers, or names to be looked up in the rootfs; None: not given."""

    uid: int | str | None = None
    gid: int | str | None = None
    groups: tuple[int | str, ...] = ()
    umask: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What ``capabilities`` says, names as in capabilities(7) (``CAP_CHOWN``).

    ``base`` is the named start; ``explicit`` replaces it; then ``add`` and ``drop``. ``sets`` holds
    OCI's form, each of the five sets by name; a set that is not named is empty.
    """

    base: Literal["default", "none", "all"] = "default"
    explicit: tuple[str, ...] | None = None
    add: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    sets: Mapping[str, tuple[str, ...]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SeccompArgument:
    """A condition on argument ``index`` (0 to 5), ``op`` as libseccomp names it
    (``SCMP_CMP_EQ``); for ``SCMP_CMP_MASKED_EQ`` ``value`` is the mask."""

    index: int
    op: str
    value: int
    value_two: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SeccompWhen:
    """When a rule of a profile counts, empty for always: ``capabilities`` that are held (all of
    them, or to exclude a rule any), ``machines`` by Go's names, the oldest kernel."""

    capabilities: tuple[str, ...] = ()
    machines: tuple[str, ...] = ()
    kernel: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SeccompRule:
    """What happens to the calls ``names``, where all of ``arguments`` hold; names and actions as
    OCI has them (``SCMP_ACT_ERRNO``). ``path``: its place in the spec or in the profile's file."""

    path: str
    names: tuple[str, ...]
    action: str
    errno: int | None = None
    arguments: tuple[SeccompArgument, ...] = ()
    includes: SeccompWhen = SeccompWhen()
    excludes: SeccompWhen = SeccompWhen()


NOTIFY = "SCMP_ACT_NOTIFY"


@dataclass(frozen=True, slots=True, kw_only=True)
class SeccompProfile:
    """An OCI seccomp object. ``architectures`` empty is the machine's own; ``arch_map`` is
    Docker's: an architecture and those that come with it. ``listener``: the host's socket that gets
    the descriptor of SCMP_ACT_NOTIFY, with ``metadata``. ``file``: the host file it is from."""

    default_action: str
    default_errno: int | None = None
    architectures: tuple[str, ...] = ()
    arch_map: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    flags: tuple[str, ...] = ()
    rules: tuple[SeccompRule, ...] = ()
    listener: str = ""
    metadata: str = ""
    file: str = ""

    @property
    def notifies(self) -> bool:
        """Whether some call is asked of the listener."""
        return NOTIFY in (self.default_action, *(rule.action for rule in self.rules))


@dataclass(frozen=True, slots=True, kw_only=True)
class SeccompFilter:
    """A filter that has been compiled before: a container's own, for another command in it.
    ``flags`` are those of seccomp(2)."""

    program: bytes
    flags: int = 0


Seccomp = Literal["default", "unconfined"] | SeccompProfile | SeccompFilter


@dataclass(frozen=True, slots=True, kw_only=True)
class Landlock:
    """A second wall around the file system (landlock(7)): ``read`` are paths inside that may be
    read and executed, ``write`` those that may be written and read; ``read`` None is everything,
    ``write`` None what the mounts let it. ``scoped``: signals and abstract sockets stay inside.
    Without ``required`` a kernel without Landlock starts the container all the same.
    """

    read: tuple[str, ...] | None = None
    write: tuple[str, ...] | None = None
    scoped: bool = False
    required: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LandlockRules:
    """Rules that have been planned before: a container's own, for another command in it.
    ``handled`` and ``scoped`` as struct landlock_ruleset_attr has them, ``rules`` the path and what
    may be done below it."""

    handled: int
    scoped: int
    rules: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Selinux:
    """SELinux's ``label`` of the command, and ``mount_label`` of the file systems made for it;
    None leaves either to the host's policy (OCI: process.selinuxLabel, linux.mountLabel)."""

    label: str | None = None
    mount_label: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rlimit:
    """``soft`` and ``hard`` of setrlimit(2); None is unlimited."""

    name: str
    soft: int | None
    hard: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """A program of the host run in the caller's namespaces; ``timeout`` in ns, 0 for none."""

    path: str
    args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    timeout: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    prestart: tuple[Hook, ...] = ()
    poststart: tuple[Hook, ...] = ()
    poststop: tuple[Hook, ...] = ()


class LinkType(StrEnum):
    """Kinds of interfaces, by the kernel's names (ip-link(8)); ``physical`` is one that exists."""

    VETH = "veth"
    MACVLAN = "macvlan"
    IPVLAN = "ipvlan"
    DUMMY = "dummy"
    BRIDGE = "bridge"
    VLAN = "vlan"
    PHYSICAL = "physical"


InterfaceAddress = IPv4Interface | IPv6Interface
IPAddress = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """The end of a veth that stays outside: in the caller's network namespace, or in the one
    of ``netns`` (a file) or of ``container`` (a name). ``bridge`` is one of the caller's."""

    name: str | None = None
    addresses: tuple[InterfaceAddress, ...] = ()
    bridge: str | None = None
    netns: str | None = None
    container: str | None = None

    @property
    def outside(self) -> bool:
        """Whether it is in the caller's own network namespace."""
        return self.netns is None and self.container is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """An interface of the container; ``mtu`` in bytes, ``mac`` as six pairs of hex digits.

    ``parent``: the host's interface below, or the physical one that is moved in. ``id``: the tag
    of a vlan.
    """

    path: str
    name: str
    type: LinkType
    addresses: tuple[InterfaceAddress, ...] = ()
    mac: str | None = None
    mtu: int | None = None
    up: bool = True
    peer: Peer = Peer()
    parent: str | None = None
    mode: str | None = None
    id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A route of the main table; ``to`` is the whole family's network for ``default``."""

    path: str
    to: IPv4Network | IPv6Network
    via: IPAddress | None = None
    dev: str | None = None
    metric: int | None = None
    on_link: bool = False
    type: Literal["unicast", "blackhole", "unreachable", "prohibit"] = "unicast"


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """Ports of the host that lead to the container: ``count`` from ``host`` on to as many from
    ``container`` on. ``address`` None is every address of the host, of both families."""

    path: str
    host: int
    container: int
    count: int = 1
    address: IPAddress | None = None
    protocol: Literal["tcp", "udp"] = "tcp"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dns:
    """The lines of resolv.conf(5)."""

    nameservers: tuple[IPAddress, ...] = ()
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """The ``network`` block; ``loopback`` brings lo up, ``mode`` is ``user`` for a network in
    user mode. ``hosts`` maps a name to its address."""

    loopback: bool = True
    interfaces: tuple[Interface, ...] = ()
    routes: tuple[Route, ...] = ()
    masquerade: bool = False
    ports: tuple[Port, ...] = ()
    dns: Dns | None = None
    hosts: Mapping[str, IPAddress] = field(default_factory=lambda: MappingProxyType({}))
    mode: Literal["user"] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A device of the host at ``target``; ``permissions``: some of "rwm", as in the device rules of
    control groups. ``path``: its place in the spec."""

    path: str
    source: str
    target: str
    permissions: str = "rwm"


# Microseconds: the period in which a quota of processor time is given, the kernel's default.
CPU_PERIOD = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class IoLimit:
    """Limits of one block device, bytes or operations a second; None is no limit."""

    path: str
    device: str
    read_bps: int | None = None
    write_bps: int | None = None
    read_iops: int | None = None
    write_iops: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """Limits of the container's control group (cgroups(7)); None is no limit.

    ``memory`` in bytes, ``memory_swap`` bytes of swap beside it. ``cpu_quota``: microseconds of
    processor time in each CPU_PERIOD. ``cpus`` and ``mems`` are lists as cpuset(7) writes them.
    ``hugepages``: the kernel's name of a page size ("2MB") to bytes. ``unified``: file of cgroup
    v2 to its text.
    """

    memory: int | None = None
    memory_swap: int | None = None
    pids: int | None = None
    cpu_quota: int | None = None
    cpu_weight: int | None = None
    cpus: str | None = None
    mems: str | None = None
    io: tuple[IoLimit, ...] = ()
    hugepages: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    unified: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Logging:
    """Where the output of a container goes that is left running: ``none`` keeps nothing, ``file``
    at most ``max_files`` files of ``max_size`` bytes; 0 bytes is no limit, and one file."""

    driver: Literal["file", "none"] = "file"
    max_size: int = 10 << 20
    max_files: int = 3

    @property
    def files(self) -> int:
        """How many there are at most, 0 for none."""
        return self.max_files if self.driver == "file" else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where a stream is connected to: ``address`` and TCP ``port``, or a socket of the host's
    unix(7): ``unix`` is a path, or ``@`` and a name of the abstract namespace."""

    address: IPAddress | None = None
    port: int = 0
    unix: str = ""

    def __str__(self) -> str:
        if self.address is None:
            return f"unix:{self.unix}"
        host = f"[{self.address}]" if self.address.version == 6 else str(self.address)
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectations:
    """What must hold inside. ``capabilities``: exactly these, None where nothing is said."""

    unreachable: tuple[Endpoint, ...] = ()
    reachable: tuple[Endpoint, ...] = ()
    unreadable: tuple[str, ...] = ()
    readable: tuple[str, ...] = ()
    read_only: tuple[str, ...] = ()
    writable: tuple[str, ...] = ()
    namespaces_new: tuple[NamespaceType, ...] = ()
    capabilities: tuple[str, ...] | None = None


PathList = Literal["default", "none"] | tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """One container, as the planner sees it.

    ``env`` maps a name to its value, or to None where the caller's own value is passed on;
    ``env_file`` has been read into ``env`` before. ``command`` is the argument vector; a
    string has become ``/bin/sh -c``. ``cgroups``: control groups of another container that are
    entered, folders of the host. ``preset``: the keys that ``profile`` has set. ``spans`` tells
    where each path of the document stands, ``key_spans`` where the key of each does.
    """

    name: str
    file: str
    sha256: str
    namespaces: tuple[Namespace, ...] = ()
    idmap: IdMap | None = None
    rootfs: Rootfs | None = None
    hostname: str | None = None
    domainname: str | None = None
    propagation: str = "rprivate"
    default_mounts: bool = True
    mounts: tuple[Mount, ...] = ()
    files: tuple[FileEntry, ...] = ()
    network: Network | None = None
    command: tuple[str, ...] = ()
    env: Mapping[str, str | None] = field(default_factory=lambda: MappingProxyType({}))
    cwd: str | None = None
    user: User = User()
    tty: bool = False
    stdin: Literal["inherit", "closed", "open"] = "inherit"
    init: bool = False
    stop_signal: str = "SIGTERM"
    stop_timeout: int = 10 * SECOND
    timeout: int = 0
    logging: Logging = Logging()
    capabilities: Capabilities = Capabilities()
    no_new_privileges: bool = True
    seccomp: Seccomp = "default"
    landlock: Landlock | LandlockRules | None = None
    apparmor: str | None = None
    selinux: Selinux = Selinux()
    rlimits: tuple[Rlimit, ...] = ()
    sysctl: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    masked_paths: PathList = "default"
    readonly_paths: PathList = "default"
    devices: tuple[Device, ...] = ()
    resources: Resources | None = None
    cgroups: tuple[str, ...] = ()
    oom_score_adj: int | None = None
    labels: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    expect: Expectations = Expectations()
    hooks: Hooks = Hooks()
    profile: Literal["default", "strict", "none"] = "default"
    preset: frozenset[str] = frozenset()
    spans: Mapping[str, Span] = field(default_factory=lambda: MappingProxyType({}), compare=False)
    key_spans: Mapping[str, Span] = field(
        default_factory=lambda: MappingProxyType({}), compare=False
    )

    def namespace(self, kind: NamespaceType) -> Namespace | None:
        """The entry of ``namespaces`` of this kind, None where the caller's is shared."""
        return next((n for n in self.namespaces if n.type is kind), None)

    def new(self, kind: NamespaceType) -> bool:
        """Whether a namespace of this kind is made for the container (not joined)."""
        found = self.namespace(kind)
        return found is not None and not found.joined

    def span(self, path: str) -> Span | None:
        """Where ``path`` (``mounts[0].target``) stands, or the nearest parent that has a place."""
        while path:
            if path in self.spans:
                return self.spans[path]
            path = parent_path(path)
        return self.spans.get("")
