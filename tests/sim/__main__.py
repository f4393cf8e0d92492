"""Every fault of every plan on the simulated machine: ``python -m tests.sim [PART]``.

PART is in the names of the plans to sweep. Exit status 1 where anything is found.
"""

from __future__ import annotations

import multiprocessing
import os
import sys

from tests.sim.each import sweep_one
from tests.sim.plans import plans
from tests.sim.replays import Tally
from tests.sim.table import table


def main(part: str = "") -> int:
    names = [name for name, _ in plans() if part in name]
    total: dict[tuple[str, str], Tally] = {}
    bad = 0
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        for name, tallies in pool.imap_unordered(sweep_one, names):
            for fault, tally in tallies.items():
                line = total.setdefault((fault, "simulated"), Tally())
                line.runs += tally.runs
                line.injected += tally.injected
                line.kinds.update(f.kind for f in tally.findings)
                bad += len(tally.findings)
                for found in tally.findings[:5]:
                    print(f"{name}: {found.kind} at {found.where}: {found.what}")
    print(table(total))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
