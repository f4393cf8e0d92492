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
    import re

    from nsrun.cli.each import each, signal_number
    from nsrun.diag import Diagnostic, NsrunError
    from nsrun.runtime import life

    for word in filter(re.compile(r"-\d+").fullmatch, args.container):
        # kill(1) has it so.
        raise NsrunError(
            Diagnostic(
                code="NS002",
                summary=f"{word} is no container",
                help=(f"a signal is given so: nsrun kill --signal {word[1:]} NAME",),
            )
        )
    number = signal_number(args.signal)

    return each(args.container, lambda c: life.kill(c, number))
