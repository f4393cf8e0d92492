"""The facts of this machine and caller, gathered for one query.

Reads only: nothing is made, no lock is kept, no file that could hang is opened for reading.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Mapping
from types import MappingProxyType

from nsrun.host import cgroups, containers, forwarding, ids, links, nsfs, paths, procfs
from nsrun.kernel.abi import RlimitResource
from nsrun.kernel.facts import Facts, LinkFact, PathFact, Query

_CPUS = "/sys/devices/system/cpu"
# The last capability of Linux 5.9 and later, where the kernel does not say (capabilities(7)).
_LAST_CAP = 40


def gather(query: Query) -> Facts:
    """Everything that ``query`` asks for, and what every plan needs, as it is now.

    Raises nothing for what is missing or closed to the caller: that is a fact too.
    """
    uname = os.uname()
    status = procfs.status()
    uid, gid = os.getuid(), os.getgid()
    name = ids.user_name(uid)
    state = containers.state_folder(uid, os.environ)
    targets, passwd, group = _inside(query)
    nsfs_device = nsfs.device()
    last_cap = procfs.sysctl("kernel.cap_last_cap")
    return Facts(
        kernel=uname.release,
        machine=uname.machine,
        uid=uid,
        gid=gid,
        groups=tuple(os.getgroups()),
        user_name=name,
        permitted=procfs.bits(status.get("CapPrm", "")),
        bounding=procfs.bits(status.get("CapBnd", "")),
        last_cap=_LAST_CAP if last_cap is None else last_cap,
        no_new_privileges=status.get("NoNewPrivs") == "1",
        uid_map=procfs.id_map("uid"),
        gid_map=procfs.id_map("gid"),
        subuid=ids.subordinates("/etc/subuid", uid, name),
        # newgidmap(1): the lines of /etc/subgid name the user, not a group.
        subgid=ids.subordinates("/etc/subgid", uid, name),
        newuidmap=ids.helper("newuidmap"),
        newgidmap=ids.helper("newgidmap"),
        cwd=_cwd(),
        cpus=_cpus(),
        # Bit 0 of the mask is signal 1.
        ignored_signals=tuple(sorted(n + 1 for n in procfs.bits(status.get("SigIgn", "")))),
        state=state,
        namespaces=nsfs.supported(),
        filesystems=procfs.filesystems(),
        limits=_limits(),
        environment=MappingProxyType(
            {n: os.environ[n] for n in query.environment if n in os.environ}
        ),
        paths=MappingProxyType({p: paths.path_fact(p, nsfs_device) for p in query.paths}),
        targets=targets,
        passwd=passwd,
        group=group,
        containers=MappingProxyType(containers.running(query.containers, state, uid)),
        pids=frozenset(pid for pid in query.pids if procfs.runs(pid)),
        helpers=MappingProxyType(_helpers(query.helpers)),
        forwarding=forwarding.look(query.bridges, state) if query.forwarding else None,
        links=MappingProxyType(_links(query.physical)),
        cgroups=cgroups.look() if query.cgroups else None,
        landlock=_landlock() if query.landlock else 0,
        labels=procfs.labelling_modules() if query.labels else frozenset(),
        ways=MappingProxyType({path: paths.ways(path) for path in query.ways}),
        python=sys.executable,
    )


def _links(names: tuple[str, ...]) -> dict[str, LinkFact]:
    found = {name: links.look(name) for name in names}
    return {name: fact for name, fact in found.items() if fact is not None}


def _landlock() -> int:
    from nsrun.host.probe import landlock_abi

    return landlock_abi()


def _helpers(names: tuple[str, ...]) -> dict[str, str]:
    found = {name: ids.helper(name) for name in names}
    return {name: path for name, path in found.items() if path is not None}


def _cwd() -> str:
    try:
        path = os.getcwd()
    except OSError:
        return "/"
    # getcwd(2): "(unreachable)/..." for a folder outside of the root.
    return path if path.startswith("/") else "/"


def _cpus() -> int:
    """One more than the highest number of a possible CPU."""
    try:
        names = os.listdir(_CPUS)
    except OSError:
        return os.cpu_count() or 1
    numbers = [int(n[3:]) for n in names if n.startswith("cpu") and n[3:].isdigit()]
    return max(numbers, default=0) + 1


def _limits() -> Mapping[str, tuple[int | None, int | None]]:
    def value(limit: int) -> int | None:
        return None if limit == resource.RLIM_INFINITY else limit

    limits: dict[str, tuple[int | None, int | None]] = {}
    for item in RlimitResource:
        soft, hard = resource.getrlimit(item.value)
        limits[item.name.removeprefix("RLIMIT_").lower()] = (value(soft), value(hard))
    return MappingProxyType(limits)


def _inside(query: Query) -> tuple[Mapping[str, PathFact], str | None, str | None]:
    """Targets, passwd and group, seen from the root the container will have."""
    if query.rootfs is None:
        targets = {target: paths.own_target_fact(target) for target in query.targets}
        passwd = paths.read_file("/etc/passwd") if query.users else None
        group = paths.read_file("/etc/group") if query.users else None
        return MappingProxyType(targets), passwd, group
    if not query.targets and not query.users:
        return MappingProxyType({}), None, None
    try:
        root = os.open(query.rootfs, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except (OSError, ValueError):
        # That the rootfs itself is not there is the answer to Query.paths.
        return MappingProxyType({}), None, None
    try:
        targets = {target: paths.target_fact(root, target) for target in query.targets}
        passwd = paths.read_inside(root, "/etc/passwd") if query.users else None
        group = paths.read_inside(root, "/etc/group") if query.users else None
    finally:
        os.close(root)
    return MappingProxyType(targets), passwd, group
