"""``nsrun prune``: what has ended and is still there goes."""

from __future__ import annotations

import argparse

from nsrun.cli.parser import examples


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Removes the containers of this user that have ended, with their logs, and what killed "
        "processes have left: folders that belong to nobody, and switches that no container "
        "needs any more. What runs stays. Prints what it removes."
    )
    parser.add_argument("--dry-run", action="store_true", help="print it, and remove nothing")
    examples(parser, "nsrun prune --dry-run")


def main(args: argparse.Namespace) -> int:
    from nsrun.runtime import prune

    for what in prune.prune(dry_run=args.dry_run):
        print(what)
    return 0
