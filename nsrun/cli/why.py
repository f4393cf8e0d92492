"""``nsrun @why``: the tracer of `nsrun run --why`, which a plan's launcher starts.

It attaches to PID, leaves a process behind that writes what was refused into REPORT, and ends. No
one types it.
"""

from __future__ import annotations

import argparse
import sys


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--known", metavar="FILE", help="the walls that the command will have")
    parser.add_argument("report", help="the file of the report")
    parser.add_argument("pid", type=int, help="the process that becomes the command")


def main(args: argparse.Namespace) -> int:
    from nsrun.host.tracer import watch

    try:
        watch(args.pid, args.report, args.known)
    except OSError as error:
        print(f"cannot trace process {args.pid}: {error.strerror}", file=sys.stderr)
        return 1
    return 0
