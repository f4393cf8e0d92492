"""The machine that golden plans are made for: it is always the same, and none in particular.

The specs lie in /nsrun/specs there. An ordinary user has uid 1000 and subordinate ids; a spec
without a user namespace of its own is planned for root.
"""

from __future__ import annotations

import dataclasses
import functools
import os.path
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from types import MappingProxyType

from nsrun.kernel.facts import (
    CgroupFolder,
    Cgroups,
    Facts,
    Forwarding,
    Kind,
    PathFact,
    Query,
    SubIds,
    Switch,
)
from nsrun.plan.build import plan
from nsrun.plan.model import Plan
from nsrun.plan.wanted import wanted
from nsrun.render.listing import listing
from nsrun.spec.build import build
from nsrun.spec.document import parse_document
from nsrun.spec.model import NamespaceType, Spec
from tests.support.paths import ROOT, SPECS

HOME = PurePosixPath("/nsrun")
_CAPABILITIES = frozenset(range(41))
_SUBORDINATE = (SubIds(start=100_000, size=65_536),)
# What is no folder there, and the devices among it.
_FILES = frozenset({"/dev/null", "/dev/full"})
_DEVICES = {"/dev/null": "1:3", "/dev/full": "1:7"}
_CGROUPS = Cgroups(
    v2=CgroupFolder(path="/sys/fs/cgroup", controllers=frozenset({"cpu", "memory", "pids"}))
)
_HELPERS = {"nft": "/usr/sbin/nft", "pasta": "/usr/bin/pasta"}
# One way out, which forwards nothing yet; the kernel is older than 6.17.
_FORWARDING = Forwarding(
    netns=4026531840,
    ipv4=("eth0",),
    ipv6=("eth0",),
    switches=MappingProxyType(
        dict.fromkeys(
            ("net/ipv4/conf/eth0/forwarding", "net/ipv6/conf/all/forwarding"),
            Switch(on=False, ours=False),
        )
    ),
)
_ENVIRONMENT = {"LANG": "C.UTF-8", "TERM": "xterm-256color", "HOME": "/home/ann", "USER": "ann"}


def spec_files() -> Iterator[Path]:
    """Every spec below specs/, in order; the golden plan of ``web.yaml`` is ``web.plan``."""
    yield from sorted(SPECS.glob("*.yaml"))
    yield from sorted((SPECS / "network").glob("*.yaml"))
    yield from sorted((SPECS / "seeds").glob("*.yaml"))


def spec_of(file: Path) -> Spec:
    """The spec as it is read on the reference machine."""
    name = shown_path(file)
    document = parse_document(file.read_text(), name)
    # Places are shown as in a run from the checkout; relative paths begin in its folder there.
    spec = build(dataclasses.replace(document, file=str(HOME / name)))
    return dataclasses.replace(spec, file=name)


def is_for_root(spec: Spec) -> bool:
    """Nothing delegates control groups to the ordinary user there."""
    return not spec.new(NamespaceType.USER) or wanted(spec).cgroups


def plan_of(file: Path, *, root: bool | None = None) -> Plan:
    """The plan on the reference machine; ``root`` None: as whom the spec is meant for."""
    spec = spec_of(file)
    return plan(spec, facts_of(spec, root=is_for_root(spec) if root is None else root))


def facts_of(spec: Spec, *, root: bool) -> Facts:
    """Everything that the spec wants to know of the reference machine."""
    known = facts(wanted(spec), root=root)
    return dataclasses.replace(known, paths={**known.paths, **_joined(spec)})


def _joined(spec: Spec) -> dict[str, PathFact]:
    """Every namespace that a spec joins by its path is there."""
    return {
        n.join_path: PathFact(kind=Kind.FILE, namespace=n.type.value)
        for n in spec.namespaces
        if n.join_path is not None
    }


def text_of(file: Path, *, root: bool | None = None) -> str:
    return listing(plan_of(file, root=root))


def facts(query: Query, *, root: bool) -> Facts:
    """What the reference machine answers."""
    held = _CAPABILITIES if root else frozenset[int]()
    known = Facts(
        kernel="6.12.0",
        machine="x86_64",
        uid=0 if root else 1000,
        gid=0 if root else 1000,
        user_name="root" if root else "ann",
        permitted=held,
        bounding=_CAPABILITIES,
        last_cap=40,
        cwd=str(HOME),
        cpus=2,
        namespaces=frozenset(kind.value for kind in NamespaceType),
        filesystems=frozenset({"proc", "sysfs", "tmpfs", "devpts", "mqueue", "overlay"}),
        limits=MappingProxyType({"nofile": (1024, 1_048_576), "core": (0, None)}),
        environment=MappingProxyType(
            {name: _ENVIRONMENT[name] for name in query.environment if name in _ENVIRONMENT}
        ),
        paths=MappingProxyType({path: _host_fact(path) for path in query.paths}),
        targets=MappingProxyType({path: _target_fact(query, path) for path in query.targets}),
        state="/run/nsrun" if root else "/run/user/1000/nsrun",
        helpers=MappingProxyType({n: _HELPERS[n] for n in query.helpers if n in _HELPERS}),
        forwarding=_FORWARDING if query.forwarding else None,
        cgroups=_CGROUPS if query.cgroups else Cgroups(),
        landlock=6 if query.landlock else 0,
    )
    if root:
        return known
    return dataclasses.replace(
        known,
        subuid=_SUBORDINATE,
        subgid=_SUBORDINATE,
        newuidmap="/usr/bin/newuidmap",
        newgidmap="/usr/bin/newgidmap",
    )


def _host_fact(path: str) -> PathFact:
    here = PurePosixPath(path)
    if here.is_relative_to(HOME):
        return _checkout_fact(ROOT / here.relative_to(HOME), path)
    kind = Kind.FILE if path in _FILES else Kind.FOLDER
    return PathFact(kind=kind, mode=0o755, character=_DEVICES.get(path, ""))


def _target_fact(query: Query, target: str) -> PathFact:
    if query.rootfs is None:
        return _host_fact(target)
    rootfs = ROOT / PurePosixPath(query.rootfs).relative_to(HOME)
    return _checkout_fact(rootfs / target.lstrip("/"), target)


def _checkout_fact(file: Path, shown: str) -> PathFact:
    """A path of the checkout, owned by user 1000; ``shown`` is its name on that machine."""
    if not file.exists():
        missing, there = PurePosixPath(shown), file
        while not there.parent.exists():
            missing, there = missing.parent, there.parent
        return PathFact(kind=Kind.MISSING, missing_part=str(missing))
    kind = Kind.FOLDER if file.is_dir() else Kind.FILE
    return PathFact(kind=kind, owner=(1000, 1000), mode=0o755)


def golden_file(file: Path) -> Path:
    return file.with_suffix(".plan")


@functools.cache
def golden_files() -> dict[Path, str]:
    """Every golden file and what it is to hold: beside each spec its plan for whom it is meant,
    and in tests/golden/root/ root's plan of those that an ordinary user can run too."""
    found: dict[Path, str] = {}
    for file in spec_files():
        found[golden_file(file)] = text_of(file)
        if not is_for_root(spec_of(file)):
            name = "-".join(file.relative_to(SPECS).with_suffix(".plan").parts)
            found[ROOT / "tests/golden/root" / name] = text_of(file, root=True)
    return found


def shown_path(file: Path) -> str:
    return os.path.relpath(file, ROOT)
