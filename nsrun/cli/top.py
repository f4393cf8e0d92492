"""``nsrun top``: a container's processes."""

from __future__ import annotations

import argparse
import sys

from nsrun.cli.parser import add_format, examples


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Lists the processes of a container, by their ids on the host and inside, with the "
        "processor time and memory of each."
    )
    parser.add_argument("container", metavar="CONTAINER", help="a name or id")
    add_format(parser)
    examples(parser, "nsrun top web")


def main(args: argparse.Namespace) -> int:
    import json

    from nsrun.cli.tables import columns
    from nsrun.host import processes
    from nsrun.runtime import life, store

    container = store.find(args.container)
    if not container.running:
        raise life.not_running(container)
    rows = [row for pid in life.everyone(container) if (row := processes.look(pid))]
    if args.format == "json":
        print(json.dumps([row.as_data() for row in rows], indent=2))
        return 0
    head = ("PID", "INSIDE", "PARENT", "USER", "STATE", "TIME", "RSS", "COMMAND")
    sys.stdout.write(columns(head, [row.cells() for row in rows]))
    return 0
