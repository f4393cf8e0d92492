"""``python -m bench [--only NAME] [--quick]``: measure, and write docs/benchmarks.md.

Two processes: the outer one owns the bench's folder and cleans up, the inner one measures in a
mount namespace of its own, whose mounts end with it.
"""

from __future__ import annotations

import argparse
import datetime
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import FrameType

from bench import machine, memory, mounts, network, processes, stacks, starts, storm, subject
from bench.area import ROOT, Area, BenchError, cover, lasting
from bench.goals import Results
from bench.peers import Peers
from bench.report import Run, page
from bench.subject import Nsrun

SUBJECTS = ("starts", "memory", "storm", "mounts", "network", "stacks")
_ROUNDS, _QUICK_ROUNDS = 5, 1
_QUICK_STARTS = 20
_DOCUMENT = ROOT / "docs/benchmarks.md"
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main() -> int:
    args = _arguments()
    try:
        return _inner(args) if args.inside else _outer(args)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", action="append", choices=SUBJECTS, help="this subject alone")
    parser.add_argument("--quick", action="store_true", help="few repetitions")
    parser.add_argument(
        "--nsrun", type=Path, help="the nsrun to measure (this checkout, installed)"
    )
    parser.add_argument(
        "--output",
        type=Path,
        help="where the page goes; a whole run that is not quick writes docs/benchmarks.md, "
        "any other prints it",
    )
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.output is None and not args.quick and not args.only:
        args.output = _DOCUMENT
    return args


# --- the outer process -------------------------------------------------------------------------


def _outer(args: argparse.Namespace) -> int:
    if os.geteuid() != 0:
        raise BenchError("it compares with tools that only root can run: run it as root")
    for program in ("hyperfine", "unshare", "strace"):
        if shutil.which(program) is None:
            raise BenchError(f"no {program}: bench/setup installs it")
    processes.adopt_orphans()
    for number in _ENDING:
        signal.signal(number, _stop)
    # Not /tmp: on many machines that is a tmpfs, and a rootfs on disk is the common case.
    with lasting(Path("/var/tmp")) as area:
        command = [
            *("unshare", "--mount", "--propagation", "private"),
            *(sys.executable, "-m", "bench", *sys.argv[1:], "--inside", str(area.folder)),
        ]
        # A session of its own: the terminal's SIGINT is for the outer process, which ends it.
        inner = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True
        )
        text, _ = inner.communicate()
        if inner.returncode:
            return 1
        if args.output is None:
            sys.stdout.write(text)
        else:
            args.output.write_text(text.lstrip())
            print(f"bench: written to {args.output}", file=sys.stderr)
    return 0


def _stop(number: int, frame: FrameType | None) -> None:
    # Once is enough: the second must not end the cleaning up.
    for other in _ENDING:
        signal.signal(other, signal.SIG_IGN)
    raise BenchError(f"ended by {signal.Signals(number).name}")


# --- the inner process -------------------------------------------------------------------------


def _inner(args: argparse.Namespace) -> int:
    processes.adopt_orphans()
    processes.end_with_parent()
    begun = time.monotonic()
    date = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    area = Area(folder=args.inside)
    cover(area)
    nsrun = subject.find(args.nsrun, area)
    ids = subject.id_map(nsrun, area.spec)
    busy = [machine.others()]
    results = Results()
    for name in args.only or SUBJECTS:
        print(f"bench: {name}", file=sys.stderr)
        results = _with(results, name, nsrun, ids, args.quick)
        busy.append(machine.others())
    run = Run(
        machine=machine.look([str(nsrun.program)]),
        date=date,
        minutes=(time.monotonic() - begun) / 60,
        busy=busy,
        quick=args.quick,
        native=nsrun.native,
        area=str(area.folder),
        results=results,
    )
    sys.stdout.write(page(run))
    return 0


def _with(
    results: Results, name: str, nsrun: Nsrun, ids: tuple[int, int, int], quick: bool
) -> Results:
    """``results`` and those of one more subject."""
    area = nsrun.area
    rounds = _QUICK_ROUNDS if quick else _ROUNDS
    true = Peers(area=area, ids=ids, command=("/bin/true",))
    if name == "starts":
        return replace(results, starts=starts.run(nsrun, true, rounds))
    if name == "memory":
        sleep = Peers(area=area, ids=ids, command=memory.PAYLOAD)
        return replace(results, memory=memory.run(nsrun, sleep))
    if name == "storm":
        both = [subject.warm(nsrun, area.spec), true.bwrap()]
        total = _QUICK_STARTS if quick else storm.TOTAL
        return replace(results, storms=storm.run(area, both, total))
    if name == "network":
        return replace(results, network=network.run(nsrun, rounds))
    if name == "stacks":
        return replace(results, stacks=stacks.run(nsrun))
    return replace(results, growths=mounts.run(nsrun, true, rounds))


if __name__ == "__main__":
    sys.exit(main())
