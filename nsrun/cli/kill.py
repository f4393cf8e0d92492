"""``nsrun kill``: a signal for containers' processes."""

from __future__ import annotations

import argparse

from nsrun.cli.parser import examples


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Sends a signal to the process of each container; without --signal it is SIGKILL, which "
        "all in its control group get too, where it has one (`resources`)."
    )
    parser.add_argument(
        "-s", "--signal", default="KILL", metavar="SIGNAL", help="a name or number; SIGKILL"
    )
    parser.add_argument("container", nargs="+", metavar="CONTAINER", help="a name or id")
    examples(parser, "nsrun kill --signal HUP web")


def main(args: argparse.Namespace) -> int:
    from nsrun.cli.each import each, signal_number
    from nsrun.runtime import life

    number = signal_number(args.signal)

    return each(args.container, lambda c: life.kill(c, number))
