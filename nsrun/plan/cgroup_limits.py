"""What ``resources`` and device rules come to: the files of which hierarchies get what.

Sources: the kernel's Documentation/admin-guide/{cgroup-v1,cgroup-v2.rst}.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from nsrun.kernel.facts import GROUP_PREFIX, CgroupFolder, Facts
from nsrun.plan.device_program import DeviceRule
from nsrun.plan.draft import Draft
from nsrun.spec.model import CPU_PERIOD, IoLimit, Resources

# A controller of cgroup v2 that has another name in version 1.
_V1_NAMES = {"io": "blkio"}
# Kernel, version 1: where nothing is given, 1024 shares; the weight of version 2 is then 100.
_SHARES, _WEIGHT = 1024, 100
_SHARES_MIN, _SHARES_MAX = 2, 262144


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A text that is written to a file of the group, and the place in the spec that wants it."""

    file: str
    text: str
    at: str
    rule: str = ""


@dataclass(slots=True, kw_only=True)
class Group:
    """The container's group in one hierarchy. ``devices``: the rules of version 2, which are no
    file there; None without any."""

    folder: CgroupFolder
    is_v2: bool
    at: str
    controllers: list[str] = field(default_factory=list)
    limits: list[Limit] = field(default_factory=list)
    devices: tuple[DeviceRule, ...] | None = None


def group_name(container: str) -> str:
    """The name of a container's control group in each hierarchy."""
    return GROUP_PREFIX + container


def limited(draft: Draft, facts: Facts, resources: Resources, *, inherit: bool) -> dict[str, Group]:
    """Each hierarchy that limits something, by the folder of its new group, and what is written
    there; what this machine cannot limit is refused. ``inherit``: a new cpuset gets what it needs
    to be entered."""
    made: dict[str, Group] = {}
    wants = [
        *_memory(resources),
        *_processes(resources),
        *_devices(draft, facts, resources),
        *_pages(resources),
        *_unified(resources),
    ]
    for controller, v1, v2 in wants:
        at = (v1 or v2)[0].at
        found = _folder(facts, controller, v2_alone=not v1)
        if found is None:
            refuse_controller(draft, facts, controller, at, v2_alone=not v1)
            continue
        folder, is_v2 = found
        if at == "resources.memory_swap" and not is_v2 and resources.memory is None:
            draft.refuse(
                "NS318",
                "`memory_swap` without `memory`",
                at,
                "add `memory`",
                why="cgroup version 1 limits swap only together with memory",
            )
        group = made.setdefault(folder.path, Group(folder=folder, is_v2=is_v2, at=at))
        if controller not in group.controllers:
            group.controllers.append(controller)
            if inherit and controller == "cpuset" and not is_v2:
                group.limits += _inherited_cpuset(folder, resources)
        group.limits += v2 if is_v2 else v1
    return made


Want = tuple[str, list[Limit], list[Limit]]


def _memory(resources: Resources) -> Iterator[Want]:
    memory, swap = resources.memory, resources.memory_swap
    if memory is not None:
        at = "resources.memory"
        yield (
            "memory",
            [Limit(file="memory.limit_in_bytes", text=str(memory), at=at)],
            [Limit(file="memory.max", text=str(memory), at=at)],
        )
    if swap is not None:
        at = "resources.memory_swap"
        # Version 1 counts both together, and takes no less than the memory alone.
        both = str((memory or 0) + swap)
        yield (
            "memory",
            [Limit(file="memory.memsw.limit_in_bytes", text=both, at=at)],
            [Limit(file="memory.swap.max", text=str(swap), at=at)],
        )


def _processes(resources: Resources) -> Iterator[Want]:
    if resources.pids is not None:
        pids = [Limit(file="pids.max", text=str(resources.pids), at="resources.pids")]
        yield "pids", pids, pids
    quota, weight = resources.cpu_quota, resources.cpu_weight
    if quota is not None:
        at = "resources.cpus"
        yield (
            "cpu",
            [
                Limit(file="cpu.cfs_period_us", text=str(CPU_PERIOD), at=at),
                Limit(file="cpu.cfs_quota_us", text=str(quota), at=at),
            ],
            [Limit(file="cpu.max", text=f"{quota} {CPU_PERIOD}", at=at)],
        )
    if weight is not None:
        at = "resources.cpu_weight"
        shares = min(max(weight * _SHARES // _WEIGHT, _SHARES_MIN), _SHARES_MAX)
        yield (
            "cpu",
            [Limit(file="cpu.shares", text=str(shares), at=at)],
            [Limit(file="cpu.weight", text=str(weight), at=at)],
        )
    for name, text in (("cpus", resources.cpus), ("mems", resources.mems)):
        if text is not None:
            limit = [Limit(file=f"cpuset.{name}", text=text, at=f"resources.cpuset.{name}")]
            yield "cpuset", limit, limit


def _inherited_cpuset(folder: CgroupFolder, resources: Resources) -> list[Limit]:
    """Kernel: no process enters a cpuset of version 1 without processors or memory nodes."""
    missing = (("cpus", resources.cpus, folder.cpus), ("mems", resources.mems, folder.mems))
    return [
        Limit(file=f"cpuset.{name}", text=own, at="resources.cpuset", rule="as the caller's own")
        for name, given, own in missing
        if given is None
    ]


def _devices(draft: Draft, facts: Facts, resources: Resources) -> Iterator[Want]:
    for limit in resources.io:
        fact = facts.paths.get(limit.device)
        if fact is None or not fact.block:
            draft.refuse(
                "NS305",
                f"{limit.device} is no block device",
                f"{limit.path}.device",
                why="" if fact is None or not fact.missing_part else "it does not exist",
            )
            continue
        yield "io", _io_v1(limit, fact.block), [_io_v2(limit, fact.block)]


def _io_v1(limit: IoLimit, device: str) -> list[Limit]:
    files = {
        "read_bps": "blkio.throttle.read_bps_device",
        "write_bps": "blkio.throttle.write_bps_device",
        "read_iops": "blkio.throttle.read_iops_device",
        "write_iops": "blkio.throttle.write_iops_device",
    }
    return [
        Limit(file=file, text=f"{device} {value}", at=f"{limit.path}.{key}")
        for key, file in files.items()
        if (value := getattr(limit, key)) is not None
    ]


def _io_v2(limit: IoLimit, device: str) -> Limit:
    names = {"read_bps": "rbps", "write_bps": "wbps", "read_iops": "riops", "write_iops": "wiops"}
    words = [
        f"{name}={value}"
        for key, name in names.items()
        if (value := getattr(limit, key)) is not None
    ]
    return Limit(file="io.max", text=" ".join((device, *words)), at=limit.path)


def _pages(resources: Resources) -> Iterator[Want]:
    for size, most in resources.hugepages.items():
        at = f"resources.hugepages.{size}"
        yield (
            "hugetlb",
            [Limit(file=f"hugetlb.{size}.limit_in_bytes", text=str(most), at=at)],
            [Limit(file=f"hugetlb.{size}.max", text=str(most), at=at)],
        )


def _unified(resources: Resources) -> Iterator[Want]:
    for file, text in resources.unified.items():
        at = f'resources.unified["{file}"]'
        yield file.partition(".")[0], [], [Limit(file=file, text=text, at=at)]


def _folder(facts: Facts, controller: str, *, v2_alone: bool) -> tuple[CgroupFolder, bool] | None:
    found = facts.cgroups
    if found is None:
        return None
    if found.v2 is not None and controller in found.v2.controllers:
        return found.v2, True
    old = found.v1.get(_V1_NAMES.get(controller, controller))
    return (old, False) if old is not None and not v2_alone else None


def refuse_controller(
    draft: Draft, facts: Facts, controller: str, at: str, *, v2_alone: bool
) -> None:
    on_v1 = facts.cgroups is not None and controller in facts.cgroups.v1
    why = "neither cgroup v2 nor a hierarchy of version 1 has it where the caller is"
    if v2_alone and on_v1:
        why = "this machine has it in a hierarchy of version 1, and `unified` is of cgroup v2"
    helps = ("leave `permissions` away, or give `rw`",) if controller == "devices" else ()
    draft.refuse("NS401", f"there is no controller `{controller}` here", at, *helps, why=why)
