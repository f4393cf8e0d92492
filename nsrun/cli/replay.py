"""``nsrun @replay PLAN MONITOR OPTIONS``: the launcher of a detached container in Python.

PLAN is a descriptor, MONITOR the pid of the monitor, with which it ends, 0 for none; OPTIONS `t`:
the standard input becomes the controlling terminal, `T`: every step is told. No one types it.
"""

from __future__ import annotations

import argparse

# linux/prctl.h
_PR_SET_PDEATHSIG = 1


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("plan", type=int, help="descriptor of the plan")
    parser.add_argument("monitor", type=int, help="the pid of the monitor, 0 for none")
    parser.add_argument("options", help="t: a terminal, T: a trace")


def main(args: argparse.Namespace) -> int:
    import ctypes
    import fcntl
    import os
    import signal
    import termios

    from nsrun.cli.run import conclude, say_trace
    from nsrun.host.sealed import is_sealed
    from nsrun.plan import binary
    from nsrun.runtime import launch

    if args.monitor:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        # prctl(2): the monitor may have ended just before.
        if os.getppid() != args.monitor:
            return 125
    if "t" in args.options:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    with open(args.plan, "rb") as file:
        plan = binary.decode(file.read())
    if launch.joins(plan) and not is_sealed():
        # The same process: its parent is still the monitor, and what is set of it stays.
        launch.become_sealed(plan, None, monitor=args.monitor)
    outcome = launch.replay_to_the_end(plan)
    if "T" in args.options:
        say_trace(plan, outcome)
    status = conclude(plan, outcome, launch.hint_context(plan))
    if args.monitor:
        launch.end_by_signal(outcome)
    return status
