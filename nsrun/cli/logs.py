"""``nsrun logs``: what a container has written."""

from __future__ import annotations

import argparse

from nsrun.cli.parser import examples


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Prints what a container has written, standard error on standard error. A time is RFC "
        "3339 (2026-11-26T12:00:00Z), or how long ago: 90s, 10m, 2h."
    )
    parser.add_argument("container", metavar="CONTAINER", help="a name or id")
    parser.add_argument("-f", "--follow", action="store_true", help="go on until it ends")
    parser.add_argument("-n", "--tail", type=int, metavar="N", help="the last N lines alone")
    parser.add_argument("--since", metavar="WHEN", help="nothing from before")
    parser.add_argument("--until", metavar="WHEN", help="nothing from after")
    parser.add_argument("-t", "--timestamps", action="store_true", help="with the time of each")
    examples(parser, "nsrun logs -f --tail 20 web")


def main(args: argparse.Namespace) -> int:
    from nsrun.runtime import logs, store

    container = store.find(args.container)
    chosen = logs.Chosen(
        tail=args.tail,
        since=logs.moment(args.since),
        until=logs.moment(args.until),
        timestamps=args.timestamps,
    )
    logs.show(container, chosen, follow=args.follow)
    return 0
