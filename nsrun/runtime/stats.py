"""What running containers use, as /proc shows it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from nsrun.host import paths, processes
from nsrun.runtime import life
from nsrun.runtime.store import Container

# Between the two looks that a share of the processor is made of, in seconds.
_MOMENT = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """``share`` of one processor, 1 for all of it; ``cpu`` in seconds; ``memory`` is resident,
    ``received`` and ``sent`` by all interfaces but lo; in bytes."""

    name: str
    share: float
    cpu: float
    memory: int
    processes: int
    received: int
    sent: int

    def as_data(self) -> dict[str, object]:
        return asdict(self)

    def cells(self) -> tuple[str, ...]:
        return (
            self.name,
            f"{self.share * 100:.1f} %",
            f"{self.cpu:.2f} s",
            _size(self.memory),
            str(self.processes),
            _size(self.received),
            _size(self.sent),
        )


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
    before = [_sum(c) for c in containers]
    begun = time.monotonic()
    if containers:
        time.sleep(_MOMENT)
    after = [_sum(c) for c in containers]
    took = time.monotonic() - begun
    uses = []
    for container, (cpu0, *_), (cpu, memory, count) in zip(containers, before, after, strict=True):
        received, sent = _moved(container.pid)
        uses.append(
            Use(
                name=container.record.name,
                share=max(0.0, cpu - cpu0) / took if took else 0.0,
                cpu=cpu,
                memory=memory,
                processes=count,
                received=received,
                sent=sent,
            )
        )
    return uses


def _sum(container: Container) -> tuple[float, int, int]:
    found = [p for pid in life.processes(container.pid) if (p := processes.look(pid)) is not None]
    return sum(p.cpu for p in found), sum(p.rss for p in found), len(found)


def _moved(pid: int) -> tuple[int, int]:
    """proc_pid_net(5): /proc/PID/net/dev, bytes received and sent."""
    received = sent = 0
    for line in (paths.read_file(f"/proc/{pid}/net/dev") or "").splitlines()[2:]:
        name, _, rest = line.partition(":")
        fields = rest.split()
        if name.strip() != "lo" and len(fields) > 8:
            received += int(fields[0])
            sent += int(fields[8])
    return received, sent
