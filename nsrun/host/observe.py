"""How a running container is now: its files in /proc, and its network and names from within.

What is asked inside is asked by a process of ours that has joined the container's user, network,
UTS and IPC namespaces, but not its mounts: it reads the host's /proc, whose /proc/sys shows the
namespaces of whoever reads it, so no file of the container's is opened. Places in its mounts are
opened as O_PATH and never read.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from ipaddress import IPv4Network, IPv6Network, ip_network

from nsrun.host import cgroups, links, paths, procfs
from nsrun.host.bpf import device_programs
from nsrun.host.syscalls import not_dumpable, open_inside, syscall
from nsrun.kernel.namespaces import FLAGS, PROC_NAMES
from nsrun.kernel.observed import (
    ADDRESS,
    LINK,
    ONCE,
    ROUTE,
    Link,
    Observed,
    Question,
    Route,
    SeenMount,
    Source,
    address_of,
    link_of,
    nft_rules,
    route_of,
)

_KINDS = tuple(PROC_NAMES.values())
_ENTERED = {PROC_NAMES[word]: FLAGS[word] for word in ("user", "network", "uts", "ipc")}
_RTM_GETLINK, _RTM_GETADDR, _RTM_GETROUTE = 18, 22, 26
_LINK_LOCAL = "fe80:"
# nft(8) that does not answer has nothing to say.
_PATIENCE = 10


def observe(pid: int, question: Question) -> Observed:
    """What there is to say of the container whose first process is ``pid``."""
    above = procfs.status(str(pid)).get("PPid", "0")
    pid = _open_one(pid, forked=question.forked)
    status = procfs.status(str(pid))
    mounts = tuple(_mounts(pid))
    inside = _ask_inside(pid, question.sysctls)
    hosts, _ = _network()
    callers = _namespaces(above if above != "0" else "self")
    return Observed(
        namespaces=_namespaces(str(pid)),
        callers=callers,
        joined={path: ident for path in question.namespaces if (ident := _inode(path))},
        mounts=mounts,
        places=_places(pid, question.targets, {line.ident: line for line in mounts}),
        sources={p: s for p in question.sources if (s := _source(p)) is not None},
        hostname=inside.hostname,
        domainname=inside.domainname,
        links=inside.links,
        routes=inside.routes,
        sysctls=inside.sysctls,
        host_links=hosts,
        files={p: text for p in question.files if (text := procfs.read(p)) is not None},
        status=status,
        limits=_limits(pid),
        oom_score_adj=(procfs.read(f"/proc/{pid}/oom_score_adj") or "").strip() or None,
        tables={name: _rules(program, name) for program, name in question.tables},
        groups=tuple(cgroups.folders_of(pid)),
        programs={p: n for p in question.programs if (n := _programs(p)) is not None},
        once=_once(pid) if callers.get("user") == _inode("/proc/self/ns/user") else {},
        labels=dict(_labels(pid)),
    )


def _open_one(pid: int, *, forked: bool) -> int:
    """The process itself, or where ``forked`` its first child; or the first below it that lets
    itself be looked at.

    Kernel: the files in /proc of who cannot be dumped, as nsrun's own init, are root's alone
    (proc(5)). What it has started was born in its namespaces.
    """
    left = _children(pid) if forked else [pid]
    while left:
        one = left.pop(0)
        if _inode(f"/proc/{one}/ns/mnt"):
            return one
        left += _children(one)
    return pid


def _children(pid: int) -> list[int]:
    text = procfs.read(f"/proc/{pid}/task/{pid}/children") or ""
    return [int(word) for word in text.split()]


# --- /proc -----------------------------------------------------------------------------------


def _namespaces(process: str) -> dict[str, int]:
    found = ((kind, _inode(f"/proc/{process}/ns/{kind}")) for kind in _KINDS)
    return {kind: ident for kind, ident in found if ident}


def _inode(path: str) -> int:
    """0 where it cannot be looked at."""
    try:
        return os.stat(path).st_ino
    except (OSError, ValueError):
        return 0


def _limits(pid: int) -> dict[int, int | None]:
    """Hard limits: the lines of proc_pid_limits(5) stand in the order of the numbers
    (fs/proc/base.c)."""
    found: dict[int, int | None] = {}
    for number, line in enumerate((procfs.read(f"/proc/{pid}/limits") or "").splitlines()[1:]):
        # The name has 25 letters, and words of its own.
        words = line[26:].split()
        if len(words) >= 2:
            found[number] = int(words[1]) if words[1].isdigit() else None
    return found


def _once(pid: int) -> dict[str, str]:
    found = ((name, procfs.read(f"/proc/{pid}/{name}")) for name in ONCE)
    return {name: text for name, text in found if text is not None}


def _labels(pid: int) -> Iterator[tuple[str, str]]:
    """What each security module calls the process (LSM.rst, /proc/PID/attr)."""
    for module, file in (("apparmor", "apparmor/current"), ("selinux", "current")):
        text = procfs.read(f"/proc/{pid}/attr/{file}")
        if text:
            yield module, text.strip("\0\n")


def _programs(folder: str) -> int | None:
    """How many programs for devices are attached to a control group of version 2; None where that
    is not told."""
    try:
        return device_programs(folder)[0]
    except OSError:
        return None


def _mounts(pid: int) -> Iterator[SeenMount]:
    for line in procfs.mounts(str(pid)):
        yield SeenMount(
            ident=line.ident,
            target=line.target,
            fstype=line.fstype,
            root=line.root,
            source=line.source,
            options=frozenset(line.options),
            super_options=frozenset(line.super_options),
            propagation=line.propagation,
        )


def _places(
    pid: int, targets: Iterable[str], mounts: dict[int, SeenMount]
) -> dict[str, int | None]:
    """By target the number of the mount whose root it is."""
    try:
        root = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return {}
    try:
        return {target: _place(root, target, mounts) for target in targets}
    finally:
        os.close(root)


def _place(root: int, target: str, mounts: dict[int, SeenMount]) -> int | None:
    """0 where no mount stands there, None where nothing does."""
    try:
        fd = open_inside(root, target)
    except (OSError, ValueError):
        return None
    try:
        ident = _mount_id(fd)
        line = mounts.get(ident)
        # Kernel: the path of a file of another mount namespace is told from that one's root.
        shown = os.readlink(f"/proc/self/fd/{fd}")
        return ident if line is not None and line.target == shown else 0
    finally:
        os.close(fd)


def _mount_id(fd: int) -> int:
    for line in (procfs.read(f"/proc/self/fdinfo/{fd}") or "").splitlines():
        if line.startswith("mnt_id:"):
            return int(line.partition(":")[2])
    return 0


def _source(path: str) -> Source | None:
    """None for what is not there."""
    mount = procfs.mount_of(path)
    if mount is None:
        return None
    real = os.path.realpath(path)
    inner = os.path.relpath(real, mount.target)
    root = mount.root if inner == "." else os.path.join(mount.root, inner)
    return Source(fstype=mount.fstype, root=root)


def _rules(program: str, table: str) -> int | None:
    try:
        done = subprocess.run(
            (program, "list", "table", "inet", table),
            capture_output=True,
            text=True,
            check=False,
            timeout=_PATIENCE,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return nft_rules(done.stdout) if done.returncode == 0 else None


# --- the network -----------------------------------------------------------------------------


def _network() -> tuple[tuple[Link, ...], tuple[Route, ...]]:
    """The interfaces and routes of the caller's network namespace. Raises OSError."""
    addresses: dict[int, list[str]] = {}
    for body in links.dump(_RTM_GETADDR, bytes(ADDRESS.size)):
        index, address, lasting = address_of(body)
        if lasting and not address.startswith(_LINK_LOCAL):
            addresses.setdefault(index, []).append(address)
    found = (link_of(body) for body in links.dump(_RTM_GETLINK, bytes(LINK.size)))
    own = tuple(replace(link, addresses=tuple(addresses.get(link.index, ()))) for link in found)
    routes = (route_of(body) for body in links.dump(_RTM_GETROUTE, bytes(ROUTE.size)))
    return own, tuple(route for route in routes if route is not None)


def subnets() -> tuple[IPv4Network | IPv6Network, ...]:
    """The networks that the caller's network namespace has addresses in or routes to. Raises
    OSError."""
    own, routes = _network()
    words = [address for link in own for address in link.addresses]
    words += [route.to for route in routes if not route.to.endswith("/0")]
    return tuple(dict.fromkeys(ip_network(word, strict=False) for word in words))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Inside:
    """What only a process in there sees; None where it could not be looked at."""

    hostname: str | None = None
    domainname: str | None = None
    links: tuple[Link, ...] | None = None
    routes: tuple[Route, ...] = ()
    sysctls: dict[str, str] = field(default_factory=dict)


def _ask_inside(pid: int, sysctls: tuple[str, ...]) -> _Inside:
    """Asked by a process that ends at once."""
    import json

    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        try:
            os.close(read_end)
            answer = json.dumps(asdict(_from_within(pid, sysctls))).encode()
            with os.fdopen(write_end, "wb") as pipe:
                pipe.write(answer)
        finally:
            os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        data = pipe.read()
    os.waitpid(child, 0)
    if not data:
        return _Inside()
    answer = json.loads(data)
    return _Inside(
        hostname=answer["hostname"],
        domainname=answer["domainname"],
        links=tuple(
            Link(**{**one, "addresses": tuple(one["addresses"])}) for one in answer["links"]
        ),
        routes=tuple(Route(**one) for one in answer["routes"]),
        sysctls=answer["sysctls"],
    )


def _from_within(pid: int, sysctls: tuple[str, ...]) -> _Inside:
    # From inside, with no pid namespace between, it could be traced.
    not_dumpable()
    opened = []
    for kind, flag in _ENTERED.items():
        path = f"/proc/{pid}/ns/{kind}"
        if _inode(path) != _inode(f"/proc/self/ns/{kind}"):
            opened.append((os.open(path, os.O_RDONLY | os.O_CLOEXEC), flag))
    for fd, flag in opened:
        syscall("setns", fd, int(flag))
    own, routes = _network()
    kernel = "/proc/sys/kernel"
    return _Inside(
        hostname=(paths.read_file(f"{kernel}/hostname") or "").rstrip("\n"),
        domainname=(paths.read_file(f"{kernel}/domainname") or "").rstrip("\n"),
        links=own,
        routes=routes,
        sysctls={p: text for p in sysctls if (text := paths.read_file(p)) is not None},
    )
