"""``nsrun pause``: every process of a container stops."""

from __future__ import annotations

import argparse

from nsrun.cli.parser import examples


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Stops every process of the containers until `nsrun unpause`: by its control group where "
        "it has one (`resources`), which no process can notice or leave, else by SIGSTOP."
    )
    parser.add_argument("container", nargs="+", metavar="CONTAINER", help="a name or id")
    examples(parser, "nsrun pause web")


def main(args: argparse.Namespace) -> int:
    from nsrun.cli.each import each
    from nsrun.runtime import life

    return each(args.container, life.pause)
