"""What the kernel holds, and whether it grows with the number of starts."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

MEMORY = Path("/sys/fs/cgroup/memory")
# How often it is looked again whether memory has been freed meanwhile, and the seconds between.
_LOOKS, _BETWEEN = 20, 0.03


@dataclass(frozen=True, slots=True, kw_only=True)
class Gauge:
    """``per_start``: how much more for each start is no finding. What a start could leave is far
    more: a mount has 384 bytes in mnt_cache and some KiB in its file system, a process 16 KiB of
    stack. ``floor``: what a measurement differs by, whatever the number of starts.

    ``own``: nothing of other processes counts in it.
    """

    unit: str
    per_start: float
    floor: float
    own: bool = False


# slabinfo(5): kinds of which a start makes some and keeps none. Its count has the free objects of
# the slabs that a processor holds, hence the floor.
_SLABS = (
    *("mnt_cache", "net_namespace", "pid_namespace", "user_namespace", "uts_namespace"),
    *("nsproxy", "task_struct", "pid", "filp", "sock_inode_cache", "kernfs_node_cache"),
    *("mem_cgroup", "mqueue_inode_cache", "shmem_inode_cache"),
)
GAUGES: Mapping[str, Gauge] = {
    # cgroup v1, memory.kmem.usage_in_bytes of the group that the whole soak runs in.
    "kernel memory of ours": Gauge(unit="B", per_start=256, floor=512 << 10, own=True),
    "SUnreclaim": Gauge(unit="B", per_start=512, floor=4 << 20),
    "KernelStack": Gauge(unit="B", per_start=256, floor=2 << 20),
    "PageTables": Gauge(unit="B", per_start=256, floor=8 << 20),
    "Percpu": Gauge(unit="B", per_start=128, floor=1 << 20),
    "open files": Gauge(unit="", per_start=0.1, floor=1500),
    # In use: one that is merely remembered costs nothing that the kernel would not give back.
    "dentries in use": Gauge(unit="", per_start=0.3, floor=3000),
    **{name: Gauge(unit="", per_start=0.1, floor=300) for name in _SLABS},
}


def read(group: Path | None = None) -> dict[str, float]:
    """The value of each gauge that this kernel has; ``group``: of cgroup v1, the soak's own."""
    found: dict[str, float] = {}
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name in GAUGES:
            found[name] = int(rest.split()[0]) * 1024
    # proc_sys_fs(5)
    found["open files"] = int(Path("/proc/sys/fs/file-nr").read_text().split()[0])
    total, unused, *_ = map(int, Path("/proc/sys/fs/dentry-state").read_text().split())
    found["dentries in use"] = total - unused
    if os.access("/proc/slabinfo", os.R_OK):
        for line in Path("/proc/slabinfo").read_text().splitlines():
            words = line.split()
            if words[0] in _SLABS:
                found[words[0]] = int(words[1])
    if group is not None:
        found["kernel memory of ours"] = _own(group)
    return found


def _own(group: Path) -> int:
    """Once it falls no more: what ends together is freed after a grace period (RCU), or by a work
    queue, and the more of it the later."""
    lowest = _own_now(group)
    for _ in range(_LOOKS):
        time.sleep(_BETWEEN)
        now = _own_now(group)
        if now >= lowest:
            break
        lowest = now
    return lowest


def _own_now(group: Path) -> int:
    # Documentation/admin-guide/cgroup-v1/memory.rst: gives back what nobody uses any more, such
    # as dentries of paths that are gone.
    (group / "memory.force_empty").write_text("0")
    return int((group / "memory.kmem.usage_in_bytes").read_text())


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """From the first third of the samples to the last: medians, which one odd moment does not
    move. ``starts`` lie between the middles of the two."""

    name: str
    first: float
    last: float
    starts: float

    @property
    def allowed(self) -> float:
        gauge = GAUGES[self.name]
        return max(gauge.floor, gauge.per_start * self.starts)

    @property
    def is_finding(self) -> bool:
        return self.last - self.first > self.allowed


def growths(samples: Sequence[Mapping[str, float]], starts: int) -> list[Growth]:
    """How each gauge went over ``samples``, which were taken evenly over ``starts`` starts."""
    third = len(samples) // 3
    assert third >= 1, "three samples at least"
    return [
        Growth(
            name=name,
            first=statistics.median(sample[name] for sample in samples[:third]),
            last=statistics.median(sample[name] for sample in samples[-third:]),
            starts=starts * (len(samples) - third) / len(samples),
        )
        for name in GAUGES
        if name in samples[0]
    ]
