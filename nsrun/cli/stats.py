"""``nsrun stats``: what running containers use."""

from __future__ import annotations

import argparse
import sys

from nsrun.cli.parser import add_format, examples


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Lists what each running container uses: processor time of the last moment and in all, "
        "memory and its limit, processes, and what its interfaces and block devices have moved; as "
        "its control group counts it, else as /proc shows its processes. Without names all of them."
    )
    parser.add_argument("container", nargs="*", metavar="CONTAINER", help="a name or id")
    parser.add_argument("--no-stream", action="store_true", help="as it is: it prints them once")
    add_format(parser)
    examples(parser, "nsrun stats")


def main(args: argparse.Namespace) -> int:
    import json

    from nsrun.cli.tables import columns
    from nsrun.runtime import stats, store

    chosen = [store.find(word) for word in args.container] or [
        c for c in store.everything() if c.running and not c.record.holds_networks
    ]
    found = stats.look(chosen)
    if args.format == "json":
        print(json.dumps([one.as_data() for one in found], indent=2))
        return 0
    head = ("NAME", "CPU", "CPU TIME", "MEMORY", "PROCESSES", "RECEIVED", "SENT", "READ", "WRITTEN")
    sys.stdout.write(columns(head, [one.cells() for one in found]))
    return 0
