"""``make soak``: thousands of starts, after which nothing is left and the kernel holds no more.

Run by tools/soak, in a mount and a network namespace of its own with /run and /tmp of its own:
whatever is found there in the end is nsrun's. Exit status 1 for a finding.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.soak import gauges
from tests.soak.gauges import GAUGES, Growth
from tests.soak.load import (
    HARDENED,
    NAME,
    NETWORK,
    NSRUN,
    USER,
    Soak,
    kept_gauges,
    restarted,
    until,
)
from tests.support.host import adopt_orphans, snapshot

SAMPLES = 30
# What may be left for a moment: lazy unmounts, network namespaces on a work queue.
PATIENCE = 20.0
# Of what is kept between two starts, from the first third to the last; memory after so many starts,
# when what is imported at its first use has been.
WARM = 30
KEPT = {"descriptors": 3.0, "memory": 2.0 * (1 << 20), "state files": 4.0, "state bytes": 64e3}


@dataclass(slots=True, kw_only=True)
class Row:
    """A line of the table: a load, how many starts it had, and what was found after it."""

    load: str
    starts: int
    seconds: float
    findings: list[str] = field(default_factory=list)
    growths: list[Growth] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Run:
    soak: Soak
    group: Path | None
    # Whether what the whole machine holds is judged: only where little else is going on.
    judges_all: bool
    patience: float = PATIENCE
    rows: list[Row] = field(default_factory=list)

    def load(
        self,
        name: str,
        count: int,
        one: Callable[[int], None],
        *,
        parts: int = SAMPLES,
        wide: int = 1,
    ) -> Row:
        """``one(N)`` makes N times ``wide`` starts; the gauges are read ``parts`` times.

        Where one has grown too much all is done once more: what leaks grows again, and what a
        processor holds of slabs that are free (slabinfo(5) counts it) does not.
        """
        parts = min(parts, count)
        each = count // parts
        # What is made once, such as a cache, is made before the first look.
        one(1)
        before = self._look()
        row = Row(load=name, starts=0, seconds=0.0)
        grown: set[str] | None = None
        while grown is None or (grown and row.starts == each * parts * wide):
            samples, begun = [], time.monotonic()
            for number in range(parts):
                one(each)
                samples.append(gauges.read(self.group))
                if sys.stderr.isatty():
                    done = (number + 1) * each
                    print(f"\r{name}: {done}", end="\r", file=sys.stderr, flush=True)
            row.starts += each * parts * wide
            row.seconds += time.monotonic() - begun
            grown = self._judge(row, samples, each * parts * wide, grown)
        row.findings += self._left(before)
        self.rows.append(row)
        say(row)
        return row

    def _judge(
        self, row: Row, samples: list[dict[str, float]], starts: int, before: set[str] | None
    ) -> set[str]:
        """The gauges that have grown too much; findings are those that had already ``before``."""
        row.findings += self.soak.failures
        self.soak.failures = []
        if len(samples) >= 3:
            row.growths = gauges.growths(samples, starts)
        grown = [g for g in row.growths if g.is_finding and (self.judges_all or GAUGES[g.name].own)]
        row.findings += [
            f"{g.name} grew by {g.last - g.first:.0f}, {g.allowed:.0f} is allowed, and before"
            for g in grown
            if g.name in (before or ())
        ]
        return {g.name for g in grown}

    def _look(self) -> dict[str, list[str]]:
        """All that a start could leave, by kind."""
        now = snapshot()
        return {
            "mounts": list(now.mounts),
            # By a socket: /sys shows those of the network namespace that it was mounted in.
            "links": [name for _, name in socket.if_nameindex()],
            "processes": list(now.children),
            "descriptors": list(now.descriptors),
            "files": [*files_of(Path("/run")), *files_of(Path("/tmp"))],
            "control groups": groups(),
            "nft tables": run_lines("nft", "list", "tables"),
            "addresses and routes": run_lines("ip", "-o", "addr") + run_lines("ip", "route"),
        }

    def _left(self, before: dict[str, list[str]]) -> list[str]:
        found: list[str] = []

        def nothing() -> bool:
            now = self._look()
            found[:] = [
                f"{kind}: {len(new)} left: {new[0]}"
                for kind, lines in now.items()
                if (new := sorted(set(lines) - set(before[kind])))
            ]
            return not found

        until(nothing, self.patience)
        return found


def files_of(folder: Path) -> Iterator[str]:
    """Every path but our specs and output, and the plans in the cache, which is to have them."""
    for path in folder.rglob("*"):
        # os.replace(): a plan that is being written has another name.
        if "/tmp/soak/cache" in str(path) and not path.name.startswith("."):
            continue
        if path.name in ("nsrun-events", "nsrun-events.1") or path.parent == Path("/tmp/soak"):
            continue
        yield str(path)


def groups() -> list[str]:
    """The control groups of nsrun's that are ours by their names."""
    found: list[str] = []
    for top, folders, _ in os.walk("/sys/fs/cgroup"):
        found += [os.path.join(top, name) for name in folders if name.startswith(f"nsrun-{NAME}-")]
    return sorted(found)


def run_lines(*words: str) -> list[str]:
    if shutil.which(words[0]) is None:
        return []
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.splitlines()


def say(row: Row) -> None:
    each = 1000 * row.seconds / max(row.starts, 1)
    print(
        f"{row.load:<34} {row.starts:>7} {each:>9.1f} ms {len(row.findings):>4} findings",
        flush=True,
    )
    for finding in row.findings:
        print(f"    {finding}", flush=True)


def say_growths(rows: list[Row]) -> None:
    print(f"\n{'from the first third to the last':<34} {'first':>12} {'last':>12} {'allowed':>12}")
    for row in rows[:1]:
        for growth in row.growths:
            print(f"{growth.name:<34} {growth.first:>12.0f} {growth.last:>12.0f} "
                  f"{'+':>3}{growth.allowed:>9.0f} {GAUGES[growth.name].unit}")  # fmt: skip


# --- the control: a load that leaks is found -----------------------------------------------------


def leaks_are_found(run: Run, starts: int) -> Row:
    """Starts after each of which a mount and a folder are kept, and a link after some."""
    place = Path("/run/leak")
    made: list[Path] = []
    links: list[str] = []

    def one(count: int) -> None:
        run.soak.one_by_one(count, spec)
        for _ in range(count):
            folder = place / str(len(made))
            folder.mkdir(parents=True)
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "leak", folder], check=True)
            # One of them has most of the memory: what is judged is the mounts'.
            if len(made) % 100 == 1:
                link = f"leak{len(made)}"
                subprocess.run(["ip", "link", "add", link, "type", "bridge"], check=True)
                links.append(link)
            made.append(folder)

    spec = run.soak.spec("leak", USER)
    patience, run.patience = run.patience, 0.0
    try:
        row = run.load("control: each start leaks", starts, one)
    finally:
        run.patience = patience
        for folder in made:
            subprocess.run(["umount", folder], check=False)
        for link in links:
            subprocess.run(["ip", "link", "del", link], check=False)
        shutil.rmtree(place, ignore_errors=True)
    run.rows.remove(row)
    text = "\n".join(row.findings)
    wanted = ["mounts:", "links:", "files:"]
    judged = [name for name in ("kernel memory of ours",) if run.group is not None]
    if run.judges_all:
        judged += ["mnt_cache"]
    # A short run proves the lists alone: memory is judged beyond a floor.
    wanted += [f"{name} grew" for name in judged if starts >= 1000]
    missed = [word for word in wanted if word not in text]
    return Row(
        load="control: what leaks is found", starts=row.starts, seconds=row.seconds,
        findings=[f"{word} was not found" for word in missed],
    )  # fmt: skip


# --- all of them ---------------------------------------------------------------------------------


@contextlib.contextmanager
def own_group() -> Iterator[Path | None]:
    """A memory group of cgroup v1 that the soak runs in, None where there is none to have."""
    group = gauges.MEMORY / f"soak-{os.getpid()}"
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    before = [line.split(":", 2)[2] for line in lines if line.split(":")[1] == "memory"]
    if not before or not (gauges.MEMORY / "memory.kmem.usage_in_bytes").exists():
        yield None
        return
    group.mkdir()
    try:
        (group / "cgroup.procs").write_text("0")
        yield group
    finally:
        Path(f"{gauges.MEMORY}{before[0]}/cgroup.procs").write_text("0")
        until(lambda: not (group / "cgroup.procs").read_text(), PATIENCE)
        group.rmdir()


def main() -> int:
    parser = argparse.ArgumentParser(prog="soak", description=__doc__)
    parser.add_argument("--starts", type=int, default=10_000, help="of the hardened spec")
    parser.add_argument("--quick", action="store_true", help="few starts, as a smoke test")
    args = parser.parse_args()
    starts: int = 30 if args.quick else args.starts
    some = 2 if args.quick else min(200, starts)
    wide = 3 if args.quick else 64
    rounds = 4 if args.quick else 30
    restarts = 3 if args.quick else 1000
    folder = Path("/tmp/soak")
    folder.mkdir()
    (folder / "skeleton").mkdir()
    adopt_orphans()
    # So that what was begun is undone.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    soak = Soak(folder=folder)
    begun = time.monotonic()
    with own_group() as group:
        run = Run(soak=soak, group=group, judges_all=not args.quick)
        loads(run, starts=starts, some=some, wide=wide, rounds=rounds, restarts=restarts)
        found = leaks_are_found(run, 3 if args.quick else 1000)
        run.rows.append(found)
        say(found)
    say_growths(run.rows)
    findings = sum(len(row.findings) for row in run.rows)
    total = sum(row.starts for row in run.rows)
    print(f"\n{total} starts in {time.monotonic() - begun:.0f} s: {findings} findings")
    return 1 if findings else 0


def loads(run: Run, *, starts: int, some: int, wide: int, rounds: int, restarts: int) -> None:
    soak = run.soak
    hardened, user = soak.spec("hardened", HARDENED), soak.spec("user", USER)
    network = soak.spec("network", NETWORK)
    storm = soak.spec("storm", HARDENED)
    run.load("hardened, native", starts, lambda n: soak.one_by_one(n, hardened))
    run.load("user namespace, native", some, lambda n: soak.one_by_one(n, user))
    run.load("hardened, Python", some // 2,
             lambda n: soak.one_by_one(n, hardened, executor="python"), parts=6)  # fmt: skip
    run.load("veth and a published port, native", some, lambda n: soak.one_by_one(n, network))
    run.load("veth and a published port, Python", some // 2,
             lambda n: soak.one_by_one(n, network, executor="python"), parts=6)  # fmt: skip

    def storms(count: int) -> None:
        for _ in range(count):
            soak.storm(wide, storm)

    def cold(count: int) -> None:
        for _ in range(count):
            soak.forget_plans()
            soak.storm(wide, storm)

    run.load(f"{wide} at a time, cold cache", 1, cold, wide=wide)
    run.load(f"{wide} at a time", rounds, storms, wide=wide)
    run.rows.append(kept(run, restarts, "native"))
    say(run.rows[-1])
    if restarts >= 100:
        run.rows.append(kept(run, restarts // 5, "python"))
        say(run.rows[-1])


def kept(run: Run, restarts: int, executor: str) -> Row:
    """What stays between two starts: a stack's keeper, monitors, the state folder."""
    before = run._look()
    samples: list[dict[str, float]] = []
    begun = time.monotonic()
    restarted(run.soak, restarts, lambda: samples.append(kept_gauges(Path("/run/nsrun"))), executor)
    row = Row(load=f"nsrun restart, {executor}", starts=restarts, seconds=time.monotonic() - begun)
    row.findings += run.soak.failures
    run.soak.failures = []
    third = max(1, len(samples) // 3)
    for name, allowed in KEPT.items():
        if name == "memory" and len(samples) < WARM:
            continue
        first = statistics.median(sample[name] for sample in samples[:third])
        last = statistics.median(sample[name] for sample in samples[-third:])
        if not samples[0]["descriptors"]:
            row.findings.append("no process was found that keeps the stack")
            break
        if last - first > allowed:
            row.findings.append(f"{name}: {first:.0f} became {last:.0f}")
    row.findings += run._left(before)
    return row


if __name__ == "__main__":
    if not os.access(NSRUN, os.X_OK):
        sys.exit(f"{NSRUN} is not there: run make setup")
    sys.exit(main())
