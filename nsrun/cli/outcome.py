"""``nsrun @outcome PLAN OUTCOME``: tells what a native replay came to.

The native executor executes this in its own place when there is something to tell; the two files
are descriptors it leaves open. No one types it.
"""

from __future__ import annotations

import argparse


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("plan", type=int, help="descriptor of the plan, or of a cache's entry")
    parser.add_argument("outcome", type=int, help="descriptor of the outcome")
    parser.add_argument("--trace", action="store_true", help="print every step")
    parser.add_argument("--by-signal", action="store_true", help="end as the command has")


def main(args: argparse.Namespace) -> int:
    from nsrun.cli.run import conclude, native_executor, say_trace
    from nsrun.plan import binary
    from nsrun.replay.native import become, read_outcome
    from nsrun.runtime import again, launch

    plan = binary.decode(_plan_bytes(args.plan))
    outcome = read_outcome(args.outcome, plan)
    program = native_executor()
    if program is not None and again.has_passed(plan, outcome):
        become(program, plan, trace=args.trace, by_signal=args.by_signal)
    if args.trace:
        say_trace(plan, outcome)
    status = conclude(plan, outcome, launch.hint_context(plan))
    if args.by_signal:
        launch.end_by_signal(outcome)
    return status


def _plan_bytes(fd: int) -> bytes:
    from nsrun.plan import entry

    with open(fd, "rb") as file:
        file.seek(0)
        data = file.read()
    return entry.plan_of(data) if data.startswith(entry.MAGIC) else data
