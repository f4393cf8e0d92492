"""What running containers use, as their control groups count it, else as /proc shows it."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from nsrun.host import groups, paths, processes
from nsrun.runtime import life
from nsrun.runtime.store import Container

# Between the two looks that a share of the processor is made of, in seconds.
_MOMENT = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """``share`` of one processor, 1 for all of it; ``cpu`` in seconds.

    In bytes: ``memory``, as its control group counts it, else what is resident; ``memory_limit``,
    None without one; ``read`` and ``written`` by block devices, None where no group counts it;
    ``received`` and ``sent`` by all interfaces but lo, None where the network is the caller's: what
    it has moved says nothing of the container.
    """

    name: str
    share: float
    cpu: float
    memory: int
    processes: int
    received: int | None
    sent: int | None
    memory_limit: int | None = None
    read: int | None = None
    written: int | None = None

    def as_data(self) -> dict[str, object]:
        return asdict(self)

    def cells(self) -> tuple[str, ...]:
        return (
            self.name,
            f"{self.share * 100:.1f} %",
            f"{self.cpu:.2f} s",
            _size(self.memory)
            + (f" / {_size(self.memory_limit)}" if self.memory_limit is not None else ""),
            str(self.processes),
            *map(_known, (self.received, self.sent, self.read, self.written)),
        )


def _known(value: int | None) -> str:
    return "-" if value is None else _size(value)


def _size(value: int) -> str:
    """``12.3 MiB``"""
    amount = float(value)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def look(containers: Sequence[Container]) -> list[Use]:
    """Raises NsrunError (NS607) for one that does not run."""
    for container in containers:
        if not container.running:
            raise life.not_running(container)
    before = [_look(c) for c in containers]
    begun = time.monotonic()
    if containers:
        time.sleep(_MOMENT)
    after = [_look(c) for c in containers]
    took = time.monotonic() - begun
    uses = []
    for container, first, last in zip(containers, before, after, strict=True):
        received, sent = _moved(container.pid)
        uses.append(
            Use(
                name=container.record.name,
                share=max(0.0, (last.cpu or 0.0) - (first.cpu or 0.0)) / took if took else 0.0,
                cpu=last.cpu or 0.0,
                memory=last.memory or 0,
                memory_limit=last.memory_limit,
                processes=last.processes or 0,
                received=received,
                sent=sent,
                read=last.read,
                written=last.written,
            )
        )
    return uses


def _look(container: Container) -> groups.Use:
    """What its control groups count, and for what they do not the sum of its processes."""
    counted = groups.use(container.groups())
    if None not in (counted.memory, counted.cpu, counted.processes):
        return counted
    found = [p for pid in life.everyone(container) if (p := processes.look(pid)) is not None]
    cpu, memory = sum(p.cpu for p in found), sum(p.rss for p in found)
    return replace(
        counted,
        cpu=cpu if counted.cpu is None else counted.cpu,
        memory=memory if counted.memory is None else counted.memory,
        processes=len(found) if counted.processes is None else counted.processes,
    )


def _moved(pid: int) -> tuple[int, int] | tuple[None, None]:
    """proc_pid_net(5): /proc/PID/net/dev, bytes received and sent."""
    with contextlib.suppress(OSError):
        if os.path.samefile(f"/proc/{pid}/ns/net", "/proc/self/ns/net"):
            return None, None
    received = sent = 0
    for line in (paths.read_file(f"/proc/{pid}/net/dev") or "").splitlines()[2:]:
        name, _, rest = line.partition(":")
        fields = rest.split()
        if name.strip() != "lo" and len(fields) > 8:
            received += int(fields[0])
            sent += int(fields[8])
    return received, sent
