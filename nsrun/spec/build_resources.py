"""The ``resources`` of a spec: sizes in bytes, processors in microseconds of each period."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType

from nsrun.spec.model import CPU_PERIOD, IoLimit, Resources
from nsrun.spec.path import item_path, key_path
from nsrun.spec.reader import Reader, Value
from nsrun.spec.units import parse_size
from nsrun.spec.words import quote

# Kernel: a smaller quota is refused (kernel/sched/core.c, min_cfs_quota_period).
_MIN_QUOTA = 1_000
_SIZE_MAX = (1 << 63) - 1
_LIST = re.compile(r"[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*")
# A controller's name, a dot, the rest: never a path.
_UNIFIED = re.compile(r"[a-z]+(?:\.[a-zA-Z0-9_]+)+")


def resources(reader: Reader, value: Value, path: str) -> Resources:
    cpuset = value.get("cpuset", {})
    return Resources(
        memory=_size(reader, value, path, "memory", least=1),
        memory_swap=_size(reader, value, path, "memory_swap"),
        pids=value.get("pids"),
        cpu_quota=_quota(reader, value, path),
        cpu_weight=value.get("cpu_weight"),
        cpus=_ranges(reader, cpuset, key_path(path, "cpuset"), "cpus"),
        mems=_ranges(reader, cpuset, key_path(path, "cpuset"), "mems"),
        io=tuple(
            _io(reader, entry, item_path(key_path(path, "io"), index))
            for index, entry in enumerate(value.get("io", []))
        ),
        hugepages=_hugepages(reader, value.get("hugepages", {}), key_path(path, "hugepages")),
        unified=_unified(reader, value.get("unified", {}), key_path(path, "unified")),
    )


def _size(reader: Reader, value: Value, path: str, key: str, least: int = 0) -> int | None:
    if key not in value:
        return None
    size = parse_size(value[key])
    place = key_path(path, key)
    if size > _SIZE_MAX:
        reader.problem("NS203", place, f"{quote(str(value[key]))} is over 8 EiB")
    if size < least:
        reader.problem("NS203", place, f"`{key}: {value[key]}` leaves nothing to run in")
    return size


def _quota(reader: Reader, value: Value, path: str) -> int | None:
    if "cpus" not in value:
        return None
    quota = int(Decimal(str(value["cpus"])) * CPU_PERIOD)
    if quota < _MIN_QUOTA:
        reader.problem(
            "NS203",
            key_path(path, "cpus"),
            f"`cpus: {value['cpus']}` is too small",
            label="the kernel gives at least 1 ms of each 100 ms: 0.01",
        )
    return quota


def _ranges(reader: Reader, value: Value, path: str, key: str) -> str | None:
    if key not in value:
        return None
    text = reader.text(value[key], key_path(path, key))
    if not _LIST.fullmatch(text):
        reader.problem(
            "NS203",
            key_path(path, key),
            f"{quote(text)} is no list of numbers",
            help=('write numbers and ranges: "0-3,6"',),
        )
    return text


def _io(reader: Reader, value: Value, path: str) -> IoLimit:
    return IoLimit(
        path=path,
        device=reader.host_path(value["device"], key_path(path, "device")),
        read_bps=_size(reader, value, path, "read_bps", least=1),
        write_bps=_size(reader, value, path, "write_bps", least=1),
        read_iops=value.get("read_iops"),
        write_iops=value.get("write_iops"),
    )


def _hugepages(reader: Reader, value: Value, path: str) -> Mapping[str, int]:
    sizes = {key: _size(reader, value, path, key) for key in value}
    return MappingProxyType({key: size for key, size in sizes.items() if size is not None})


def _unified(reader: Reader, value: Value, path: str) -> Mapping[str, str]:
    made = {}
    for key, entry in value.items():
        place = key_path(path, key)
        if not _UNIFIED.fullmatch(key) or key.startswith("cgroup."):
            reader.problem(
                "NS203",
                place,
                f"{quote(key)} is no limit's file",
                label="a file of a controller, such as `memory.high`",
                key=True,
            )
        made[key] = reader.text(entry, place)
    return MappingProxyType(made)
