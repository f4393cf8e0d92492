"""``nsrun @replay PLAN MONITOR OPTIONS``: the launcher of a detached container in Python.

PLAN is a descriptor, MONITOR the pid of the monitor, with which it ends; OPTIONS `t`: the standard
input becomes the controlling terminal. No one types it.
"""

from __future__ import annotations

import argparse

# linux/prctl.h
_PR_SET_PDEATHSIG = 1


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("plan", type=int, help="descriptor of the plan")
    parser.add_argument("monitor", type=int, help="the pid of the monitor")
    parser.add_argument("options", help="t: a terminal")


def main(args: argparse.Namespace) -> int:
    import ctypes
    import fcntl
    import os
    import signal
    import termios

    from nsrun.cli.run import conclude
    from nsrun.plan import binary
    from nsrun.runtime import launch

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    # prctl(2): the monitor may have ended just before.
    if os.getppid() != args.monitor:
        return 125
    if "t" in args.options:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    with open(args.plan, "rb") as file:
        plan = binary.decode(file.read())
    outcome = launch.replay_to_the_end(plan)
    return conclude(plan, outcome, launch.hint_context(plan))
