"""``nsrun unpause``: a paused container goes on."""

from __future__ import annotations

import argparse

from nsrun.cli.parser import examples


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = "Lets every process of the containers go on."
    parser.add_argument("container", nargs="+", metavar="CONTAINER", help="a name or id")
    examples(parser, "nsrun unpause web")


def main(args: argparse.Namespace) -> int:
    from nsrun.cli.each import each
    from nsrun.runtime import life

    return each(args.container, life.unpause)
