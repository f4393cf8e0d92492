"""``nsrun port``: where a container's ports are published."""

from __future__ import annotations

import argparse

from nsrun.cli.parser import add_format, examples


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = "Lists the published ports of a container: its own, and the host's."
    parser.add_argument("container", metavar="CONTAINER", help="a name or id")
    add_format(parser)
    examples(parser, "nsrun port web")


def main(args: argparse.Namespace) -> int:
    import json

    from nsrun.runtime import store

    pairs = [tuple(port.split("->")) for port in store.find(args.container).record.ports]
    if args.format == "json":
        print(json.dumps([{"host": host, "container": own} for host, own in pairs], indent=2))
        return 0
    for host, own in pairs:
        print(f"{own} -> {host}")
    return 0
