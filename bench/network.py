"""What a pair with addresses and routes adds to a start, beside ip(8) and netavark doing the same.

Two clocks: until the command runs (or the scripts have ended), and to the end of all, with the
pair taken away again. All in a network namespace of the bench's own.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.area import Area
from bench.hyper import Contestant, Timing, measure
from bench.subject import Nsrun

PLAIN, PAIR = "nsrun, no network", "nsrun, pair"
IP, BATCH, NETAVARK = "ip commands", "ip -batch", "netavark"
_NAMED = "bench"
_CLONE_NEWNET = 0x40000000
_STARTS = 20
_NETAVARK = Path("/usr/lib/podman/netavark")
# A line of `strace -c`: percent of the time, seconds, microseconds a call, calls, errors, name.
_LINE = re.compile(r"^\s*(?P<percent>[\d.]+)\s.*\s(?P<name>\w+)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """``starts``: until the command runs; ``timings``: to the end, with everything undone.

    ``calls``: of a start with a pair, the calls that most of the kernel's time goes to, in per
    cent of it as `strace -c` counts; ``user`` and ``system`` its seconds.
    """

    starts: tuple[Timing, ...]
    timings: tuple[Timing, ...]
    calls: tuple[tuple[str, float], ...]
    user: float
    system: float

    def start(self, name: str) -> Timing:
        return next(t for t in self.starts if t.name == name)

    def whole(self, name: str) -> Timing:
        return next(t for t in self.timings if t.name == name)

    @property
    def added(self) -> float:
        """Seconds that the pair adds to a start of nsrun; medians."""
        return self.start(PAIR).median - self.start(PLAIN).median


def run(nsrun: Nsrun, rounds: int) -> Cost:
    area = nsrun.area
    host = host_namespace(area)
    wrapper = ("nsenter", f"--net={host}", "--")
    contestants = (
        _nsrun(PLAIN, nsrun, "plain.yaml", wrapper),
        _nsrun(PAIR, nsrun, "network.yaml", wrapper),
        _script(IP, area, "network.sh", wrapper),
        _script(BATCH, area, "batch.sh", wrapper),
        _netavark(area, wrapper),
    )
    starts = tuple(_start(c, rounds * _STARTS) for c in contestants)
    timings = tuple(measure(contestants, rounds, area.folder / "network.json"))
    user, system = _times(contestants[1])
    return Cost(
        starts=starts,
        timings=timings,
        calls=_calls(contestants[1], area.folder / "strace-network"),
        user=user,
        system=system,
    )


def _start(contestant: Contestant, runs: int) -> Timing:
    """The times until the first byte comes, which the command or the script writes when all of
    the network is there; what follows is waited for, and not in the time."""
    if contestant.missing:
        return Timing(name=contestant.name, missing=contestant.missing)
    times = []
    # nsenter would be in the time: this process goes into the namespace itself.
    with inside(Path(contestant.wrapper[1].partition("=")[2])):
        for turn in range(runs + contestant.warmup):
            begun = time.perf_counter()
            process = subprocess.Popen(
                contestant.argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=contestant.environment(),
            )
            assert process.stdout is not None
            said = process.stdout.read(1)
            took = time.perf_counter() - begun
            process.stdout.read()
            if process.wait() or not said:
                missing = f"it ends with {process.returncode}"
                return Timing(name=contestant.name, missing=missing)
            if turn >= contestant.warmup:
                times.append(took)
    return Timing(name=contestant.name, times=tuple(times))


@contextlib.contextmanager
def inside(file: Path) -> Iterator[None]:
    """In the network namespace of ``file`` for the time of the block."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/self/ns/net") as home, file.open() as there:
        if libc.setns(there.fileno(), _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
        try:
            yield
        finally:
            libc.setns(home.fileno(), _CLONE_NEWNET)


def host_namespace(area: Area) -> Path:
    """A network namespace in the place of the host's, and a named one beside it."""
    file = area.folder / "host.net"
    if not file.exists():
        file.touch()
        subprocess.run(["unshare", f"--net={file}", "ip", "link", "set", "lo", "up"], check=True)
        subprocess.run(["ip", "netns", "add", _NAMED], check=True)
    return file


def _nsrun(name: str, nsrun: Nsrun, spec: str, wrapper: tuple[str, ...]) -> Contestant:
    file = nsrun.area.spec.with_name(spec)
    argv = (str(nsrun.program), str(file))
    return Contestant(name=name, argv=argv, env=nsrun.env, wrapper=wrapper, runs=20)


def _script(name: str, area: Area, script: str, wrapper: tuple[str, ...]) -> Contestant:
    missing = "" if shutil.which("ip") else "no ip (iproute2)"
    argv = ("/bin/sh", str(area.spec.with_name(script)), _NAMED)
    return Contestant(name=name, argv=argv, wrapper=wrapper, runs=20, missing=missing)


def _netavark(area: Area, wrapper: tuple[str, ...]) -> Contestant:
    argv = (
        "/bin/sh",
        "-ec",
        '"$0" setup "$1" <"$2" >/dev/null; echo; exec "$0" teardown "$1" <"$2"',
        str(_NETAVARK),
        f"/run/netns/{_NAMED}",
        str(area.spec.with_name("netavark.json")),
    )
    missing = "" if _NETAVARK.exists() else "no netavark"
    return Contestant(name=NETAVARK, argv=argv, wrapper=wrapper, runs=5, missing=missing)


def _times(contestant: Contestant) -> tuple[float, float]:
    """Seconds of user and of system time of ten starts, with all their processes."""
    before = os.times()
    for _ in range(10):
        subprocess.run(
            [*contestant.wrapper, *contestant.argv], check=True, env=contestant.environment()
        )
    after = os.times()
    return (
        after.children_user - before.children_user,
        after.children_system - before.children_system,
    )


def _calls(contestant: Contestant, report: Path) -> tuple[tuple[str, float], ...]:
    strace = shutil.which("strace") or "strace"
    argv = [strace, "--follow-forks", "--summary-only", "--output", str(report)]
    done = subprocess.run(
        [*contestant.wrapper, *argv, *contestant.argv], env=contestant.environment()
    )
    return busiest(report.read_text()) if done.returncode == 0 else ()


def busiest(summary: str) -> tuple[tuple[str, float], ...]:
    """The four calls of a `strace -c` that took the most of the kernel's time, in per cent."""
    found = [m for line in summary.splitlines() if (m := _LINE.match(line))]
    rows = [(m["name"], float(m["percent"])) for m in found if m["name"] != "total"]
    return tuple(sorted(rows, key=lambda row: -row[1])[:4])
