"""``nsrun inspect``: all that is known of containers."""

from __future__ import annotations

import argparse

from nsrun.cli.parser import examples


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Prints containers as JSON: what they were made of, their state as Docker shapes it, and "
        "of those that run the namespaces, mounts, interfaces and addresses as they are now."
    )
    parser.add_argument("container", nargs="+", metavar="CONTAINER", help="a name or id")
    parser.add_argument("--plan", action="store_true", help="with the whole plan")
    parser.add_argument("--json", action="store_true", help="as it is: it prints nothing else")
    examples(parser, "nsrun inspect web")


def main(args: argparse.Namespace) -> int:
    import json

    from nsrun.runtime import inspect, store

    found = [store.find(word) for word in args.container]
    print(json.dumps([inspect.look(c, plan=args.plan) for c in found], indent=2))
    return 0
