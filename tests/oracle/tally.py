"""What a sweep on the real kernel has come to, by fault and executor, for the table at its end.

The processes of pytest-xdist write to one file: a line of JSON for each test, appended at once.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from tests.sim.replays import Tally
from tests.sim.table import table

# The file's path; set by the process that prints the table.
RECORDS = "NSRUN_SWEEP_RECORDS"
# How the words of what is wrong begin (tests/oracle/faults.py, test_oracle.py); others: wrong.
_KINDS = {
    "left:": "leaked",
    "it took": "hung",
    "the run hangs": "hung",
    "the command ran": "fail-open",
    "status 0 ": "fail-open",
}


def kinds(said: Sequence[str]) -> set[str]:
    """The kinds of finding that are in what is wrong with one run."""
    return {
        next((kind for words, kind in _KINDS.items() if one.startswith(words)), "wrong")
        for one in said
    }


def record(fault: str, executor: str, runs: Sequence[Sequence[str]]) -> None:
    """``runs``: what is wrong with each run that a fault was put in."""
    path = os.environ.get(RECORDS)
    if not path:
        return
    line = json.dumps([fault, executor, [sorted(kinds(said)) for said in runs]]) + "\n"
    with open(path, "ab", buffering=0) as file:
        file.write(line.encode())


def read(path: Path) -> dict[tuple[str, str], Tally]:
    tallies: dict[tuple[str, str], Tally] = {}
    for line in path.read_text().splitlines():
        fault, executor, runs = json.loads(line)
        tally = tallies.setdefault((fault, executor), Tally())
        tally.runs += len(runs)
        tally.injected += len(runs)
        for found in runs:
            tally.kinds.update(found)
    return tallies


def shown(path: Path) -> str:
    """The table, "" where no sweep has run."""
    tallies = read(path) if path.exists() else {}
    return table(tallies) if tallies else ""
