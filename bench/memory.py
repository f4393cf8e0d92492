"""What an idle container costs beside its command: the processes between it and the caller."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.hyper import Contestant
from bench.peers import Peers
from bench.processes import Process, descendants
from bench.subject import Nsrun

PAYLOAD = ("/bin/sleep", "1000")
NSRUN, NSRUN_INIT = "nsrun", "nsrun, init: true"
_PATIENCE = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """Kilobytes, summed over the ``processes`` supervisors; ``peak`` is VmHWM."""

    name: str
    processes: int = 0
    pss: int = 0
    rss: int = 0
    peak: int = 0
    missing: str = ""


def run(nsrun: Nsrun, peers: Peers) -> list[Use]:
    """``peers`` are those that start PAYLOAD."""
    uses = [use(c) for c in _contestants(nsrun)]
    for contestant in peers.all():
        uses.append(use(contestant))
    return uses


def _contestants(nsrun: Nsrun) -> list[Contestant]:
    program, made = str(nsrun.program), []
    text = nsrun.area.spec.read_text().replace("[/bin/true]", f"[{', '.join(PAYLOAD)}]")
    for name, more in ((NSRUN, ""), (NSRUN_INIT, "init: true\n")):
        file = nsrun.area.spec.with_name("init.yaml" if more else "sleep.yaml")
        file.write_text(text + more)
        # Twice: what is measured is the start from the cache.
        made.append(Contestant(name=name, argv=(program, str(file)), env=nsrun.env))
    return made


def use(contestant: Contestant) -> Use:
    """Start the container twice, the first time for its caches, and look at the second."""
    if contestant.missing:
        return Use(name=contestant.name, missing=contestant.missing)
    for _ in range(2):
        seen = _once(contestant)
    return seen


def _once(contestant: Contestant) -> Use:
    started = subprocess.Popen(
        [*contestant.wrapper, *contestant.argv],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=contestant.environment(),
    )
    try:
        payload = _wait_for_payload(started)
        if payload is None:
            return Use(name=contestant.name, missing="its command has not started")
        time.sleep(0.2)
        between = [p.pid for p in descendants() if p.pid != payload.pid]
        return summed(contestant.name, [read_memory(Path(f"/proc/{pid}")) for pid in between])
    finally:
        _end(started)


def _wait_for_payload(started: subprocess.Popen[bytes]) -> Process | None:
    name = PAYLOAD[0].rpartition("/")[2]
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline and started.poll() is None:
        for process in descendants():
            if process.name == name:
                return process
        time.sleep(0.02)
    return None


def _end(started: subprocess.Popen[bytes]) -> None:
    """End the command first: what supervises it then takes its container down."""
    deadline = time.monotonic() + _PATIENCE
    while left := descendants():
        name = PAYLOAD[0].rpartition("/")[2]
        patient = time.monotonic() < deadline
        for process in left:
            if not patient or process.name == name:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
        started.poll()
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.02)
    with contextlib.suppress(ChildProcessError):
        started.wait()
    if started.stderr:
        started.stderr.close()


def read_memory(folder: Path) -> tuple[int, int, int]:
    """Pss and Rss of smaps_rollup and VmHWM of status, in kilobytes."""
    rollup = (folder / "smaps_rollup").read_text()
    status = (folder / "status").read_text()
    return field(rollup, "Pss"), field(rollup, "Rss"), field(status, "VmHWM")


def field(text: str, name: str) -> int:
    """The number of a line `Name:   123 kB`."""
    for line in text.splitlines():
        key, _, rest = line.partition(":")
        if key == name:
            return int(rest.split()[0])
    raise ValueError(f"no {name}")


def summed(name: str, parts: Sequence[tuple[int, int, int]]) -> Use:
    return Use(
        name=name,
        processes=len(parts),
        pss=sum(pss for pss, _, _ in parts),
        rss=sum(rss for _, rss, _ in parts),
        peak=sum(peak for _, _, peak in parts),
    )
