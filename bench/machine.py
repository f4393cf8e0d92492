"""The machine that a run was made on, and whether it was busy with something else."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# A machine that does this much beside a run is not quiet.
BUSY = 0.10
_SAMPLE = 1.0
_PROGRAMS = (
    ("hyperfine", ("hyperfine", "--version")),
    ("bubblewrap", ("bwrap", "--version")),
    ("crun", ("crun", "--version")),
    ("runc", ("runc", "--version")),
    ("lxc", ("lxc-execute", "--version")),
    ("systemd-nspawn", ("systemd-nspawn", "--version")),
    ("util-linux", ("unshare", "--version")),
    ("gcc", ("gcc", "--version")),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """``versions``: of every program that a run uses, by name."""

    system: str
    kernel: str
    processor: str
    cpus: int
    memory_gb: float
    cgroups: str
    versions: dict[str, str]


def look(nsrun: Sequence[str]) -> Machine:
    info = _pairs(Path("/proc/meminfo").read_text(), ":")
    release = _pairs(_read("/etc/os-release"), "=")
    virtual = "hypervisor" in _read("/proc/cpuinfo")
    model = _pairs(_read("/proc/cpuinfo"), ":").get("model name", platform.machine())
    programs = (
        ("nsrun", (*nsrun, "--version")),
        ("its commit", ("git", "describe", "--always", "--dirty", "--exclude=*")),
        *_PROGRAMS,
    )
    return Machine(
        system=release.get("PRETTY_NAME", "?").strip('"'),
        kernel=platform.release(),
        processor=model + (", virtual machine" if virtual else ""),
        cpus=os.cpu_count() or 1,
        memory_gb=int(info["MemTotal"].split()[0]) / 2**20,
        cgroups=_cgroups(),
        versions={name: _version(argv) for name, argv in programs},
    )


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _pairs(text: str, separator: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in text.splitlines():
        key, _, value = line.partition(separator)
        found.setdefault(key.strip(), value.strip())
    return found


def _cgroups() -> str:
    if os.path.ismount("/sys/fs/cgroup/unified"):
        return "hybrid"
    return "version 2" if os.path.exists("/sys/fs/cgroup/cgroup.controllers") else "version 1"


def _version(argv: Sequence[str]) -> str:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return "not here"
    lines = (done.stdout or done.stderr).strip().splitlines()
    return lines[0] if lines else "?"


# --- is it quiet? ------------------------------------------------------------------------------


def busy_share(before: str, after: str) -> float:
    """The part of the time between two texts of /proc/stat in which the processors worked, or
    were taken by the hypervisor (proc_stat(5))."""
    old, new = _jiffies(before), _jiffies(after)
    spent = [b - a for a, b in zip(old, new, strict=True)]
    total = sum(spent)
    idle = spent[3] + spent[4]
    return (total - idle) / total if total else 0.0


def _jiffies(text: str) -> list[int]:
    """user nice system idle iowait irq softirq steal; guest is a part of user."""
    return [int(word) for word in text.splitlines()[0].split()[1:9]]


def others() -> float:
    """How busy the machine is while this process only waits."""
    before = Path("/proc/stat").read_text()
    time.sleep(_SAMPLE)
    return busy_share(before, Path("/proc/stat").read_text())
