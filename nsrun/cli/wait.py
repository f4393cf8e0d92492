"""``nsrun wait``: until containers have ended."""

from __future__ import annotations

import argparse

from nsrun.cli.parser import add_format, examples


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Waits until the containers have ended, and prints their exit statuses, with --json each "
        "as an object with name and exit_status."
    )
    parser.add_argument("container", nargs="+", metavar="CONTAINER", help="a name or id")
    add_format(parser)
    examples(parser, "nsrun wait web")


def main(args: argparse.Namespace) -> int:
    import json

    from nsrun.runtime import life, store

    for container in [store.find(word) for word in args.container]:
        status = life.wait(container)
        ended = {"name": container.record.name, "exit_status": status}
        print(json.dumps(ended) if args.format == "json" else status, flush=True)
    return 0
