"""``nsrun prune``: what has ended and is still there goes."""

from __future__ import annotations

import argparse

from nsrun.cli.parser import add_format, examples


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Removes the containers of this user that have ended, with their logs, and what killed "
        "processes have left: folders that belong to nobody, and switches that no container "
        "needs any more. What runs stays. Prints what it removes, with --json each as an "
        "object with kind (container, folder, stack, control group or switch) and name."
    )
    parser.add_argument("--dry-run", action="store_true", help="print it, and remove nothing")
    parser.add_argument(
        "-f", "--force", action="store_true", help="as it is: it asks nobody before"
    )
    add_format(parser)
    examples(parser, "nsrun prune --dry-run")


def main(args: argparse.Namespace) -> int:
    import json

    from nsrun.runtime import prune

    for gone in prune.prune(dry_run=args.dry_run):
        print(json.dumps(gone.as_data()) if args.format == "json" else gone, flush=True)
    return 0
