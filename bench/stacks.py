"""Stacks: how long they take to come up and go, what listing them takes, what keeping one takes.

In network and mount namespaces of the bench's own, as bench.network is.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from bench.network import host_namespace, inside
from bench.peers import WITHOUT_UNIFIED
from bench.subject import Nsrun

SIZES = (20, 200)
_PSS = re.compile(r"^Pss:\s+(\d+) kB", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rise:
    """One size: ``up``, ``down`` and ``ps`` in seconds, ``keeper`` and ``each`` in kB of PSS: of
    the process that keeps the stack, and of all there is for one container."""

    size: int
    up: float
    down: float
    ps: float
    keeper: int
    each: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Stacks:
    """``podman``: seconds for as many containers of it, one by one; None where ``missing`` says
    why."""

    rises: tuple[Rise, ...]
    podman: float | None
    missing: str


def run(nsrun: Nsrun) -> Stacks:
    with inside(host_namespace(nsrun.area)):
        rises = tuple(_rise(nsrun, size) for size in SIZES)
        podman, missing = _podman(nsrun, SIZES[0])
    return Stacks(rises=rises, podman=podman, missing=missing)


def _rise(nsrun: Nsrun, size: int) -> Rise:
    file = nsrun.area.folder / f"stack{size}.yaml"
    name = f"bench{size}"
    file.write_text(
        f"name: {name}\n"
        "networks: {n: {subnet: 10.99.0.0/22}}\n"
        "containers:\n"
        "  c:\n"
        "    namespaces: [mount, pid, ipc, uts, network]\n"
        "    rootfs: ./specs/rootfs\n"
        "    networks: [n]\n"
        f"    replicas: {size}\n"
        "    stop_signal: SIGKILL\n"
        '    command: [/bin/sleep, "3600"]\n'
    )
    up = _timed(nsrun, "up", "-d", str(file))
    try:
        ps = min(_timed(nsrun, "ps") for _ in range(5))
        keeper, each = _memory(size)
    finally:
        down = _timed(nsrun, "down", name)
    return Rise(size=size, up=up, down=down, ps=ps, keeper=keeper, each=each)


def _timed(nsrun: Nsrun, *words: str) -> float:
    begun = time.monotonic()
    done = nsrun.run(*words)
    took = time.monotonic() - begun
    if done.returncode:
        raise RuntimeError(f"nsrun {' '.join(words)}: {done.stderr}")
    return took


def _memory(size: int) -> tuple[int, float]:
    keeper = monitors = 0
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = Path("/proc", pid, "cmdline").read_bytes().split(b"\0")
            found = _PSS.search(Path("/proc", pid, "smaps_rollup").read_text())
        except OSError:
            continue
        pss = int(found[1]) if found is not None else 0
        if b"@keep" in words:
            keeper += pss
        elif words[0] in (b"nsrun-monitor", b"nsrun-replay"):
            monitors += pss
    return keeper, monitors / size


def _podman(nsrun: Nsrun, size: int) -> tuple[float | None, str]:
    podman = shutil.which("podman")
    if podman is None:
        return None, "no podman"
    rootfs = str(nsrun.area.rootfs)
    names = [f"nsrun-bench-{n}" for n in range(size)]
    # Hard limits cannot be raised without CAP_SYS_RESOURCE, and crun knows no hybrid cgroups.
    limits = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024")
    wrapper = WITHOUT_UNIFIED if os.path.ismount("/sys/fs/cgroup/unified") else ()
    command = (*wrapper, podman, "run", "-d", "--cgroups=disabled", *limits)
    begun = time.monotonic()
    try:
        for name in names:
            done = subprocess.run(
                [*command, "--name", name, "--rootfs", rootfs, "/bin/sleep", "60"],
                capture_output=True,
                text=True,
                timeout=60,
            )
            if done.returncode:
                last = done.stderr.strip().splitlines()[-1:] or ["nothing is said"]
                return None, f"podman ends with {done.returncode}: {last[0]}"
        return time.monotonic() - begun, ""
    except subprocess.TimeoutExpired:
        return None, "podman does not come to an end"
    finally:
        gone = [*wrapper, podman, "rm", "--force", "--ignore", "--time", "0", *names]
        subprocess.run(gone, capture_output=True, check=False)
