"""``nsrun wait``: until containers have ended."""

from __future__ import annotations

import argparse

from nsrun.cli.parser import examples


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = "Waits until the containers have ended, and prints their exit statuses."
    parser.add_argument("container", nargs="+", metavar="CONTAINER", help="a name or id")
    examples(parser, "nsrun wait web")


def main(args: argparse.Namespace) -> int:
    from nsrun.runtime import life, store

    for container in [store.find(word) for word in args.container]:
        print(life.wait(container), flush=True)
    return 0
