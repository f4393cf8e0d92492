"""The plans that are swept: those of specs/, and some for what no spec there has."""

from __future__ import annotations

from collections.abc import Iterator
from types import MappingProxyType
from typing import Any

from nsrun.kernel.facts import CgroupFolder, Cgroups, Kind, PathFact
from nsrun.plan.build import plan
from nsrun.plan.model import Plan
from nsrun.plan.wanted import wanted
from tests.golden.reference import is_for_root, plan_of, shown_path, spec_files, spec_of
from tests.support.planning import ROOT, folder, knowing, missing
from tests.support.planning import spec_of as spec_with

_V1 = MappingProxyType(
    {
        name: CgroupFolder(path=f"/sys/fs/cgroup/{name}", cpus="0-1", mems="0")
        for name in ("memory", "pids", "devices")
    }
)
_HIERARCHIES = {
    "v1": Cgroups(v1=_V1),
    "v2": Cgroups(
        v2=CgroupFolder(path="/sys/fs/cgroup", controllers=frozenset({"memory", "pids"}))
    ),
    "hybrid": Cgroups(
        v1=MappingProxyType({"memory": _V1["memory"]}),
        v2=CgroupFolder(path="/sys/fs/cgroup/unified", controllers=frozenset({"pids"})),
    ),
}
# Every wall at once: control groups, Landlock, the strict profile with its filter.
_CONFINED: dict[str, Any] = {
    "name": "confined",
    "namespaces": ["mount", "pid", "ipc", "uts", "network", "cgroup"],
    "mounts": [{"type": "proc", "target": "/proc"}],
    "profile": "strict",
    "resources": {"memory": "64m", "pids": 9},
    "landlock": {"read": ["/usr"], "write": ["/tmp"], "scoped": True},
}


def plans() -> Iterator[tuple[str, Plan]]:
    """Each with a name; a spec that an ordinary user can run is planned for root too."""
    for file in spec_files():
        yield shown_path(file), plan_of(file)
        if not is_for_root(spec_of(file)):
            yield f"{shown_path(file)} as root", plan_of(file, root=True)
    for name, cgroups in _HIERARCHIES.items():
        yield f"confined, cgroup {name}", _planned(_CONFINED, cgroups)
    device = {"path": "/dev/zero", "permissions": "r"}
    yield "devices by rules", _planned({**_CONFINED, "devices": [device]}, _HIERARCHIES["v1"])
    into = [*_CONFINED["mounts"], {"type": "tmpfs", "target": "/srv/made"}]
    rooted = {**_CONFINED, "rootfs": "/srv/root", "mounts": into}
    yield "a mount point that is made", _planned(rooted, _HIERARCHIES["v2"])


def _planned(keys: dict[str, Any], cgroups: Cgroups) -> Plan:
    """On a machine with every folder but /srv/made."""
    spec = spec_with(**keys)
    query = wanted(spec)
    zero = PathFact(kind=Kind.FILE, mode=0o666, character="1:5")
    paths = {path: zero if path.startswith("/dev/") else folder() for path in query.paths}
    targets = {path: folder() for path in query.targets}
    targets |= {path: zero for path in targets if path.startswith("/dev/")}
    targets |= {"/srv/made": missing("/srv/made")} if "/srv/made" in targets else {}
    return plan(spec, knowing(ROOT, paths, targets, landlock=7, cgroups=cgroups))
