"""``nsrun logs``: what a container has written."""

from __future__ import annotations

import argparse

from nsrun.cli.parser import add_format, examples


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Prints what a container has written, standard error on standard error. A time is RFC "
        "3339 (2026-11-26T12:00:00Z), or how long ago: 90s, 10m, 2h. With --json each line is an "
        "object with time (RFC 3339), stream (stdout or stderr), name (of the container) and text, "
        "all on standard output; one that has `part: true` too goes on in the next of its stream."
    )
    parser.add_argument("container", metavar="CONTAINER", help="a name or id")
    parser.add_argument("-f", "--follow", action="store_true", help="go on until it ends")
    parser.add_argument("-n", "--tail", type=_count, metavar="N", help="the last N lines, or all")
    parser.add_argument("--since", metavar="WHEN", help="nothing from before")
    parser.add_argument("--until", metavar="WHEN", help="nothing from after")
    parser.add_argument("-t", "--timestamps", action="store_true", help="with the time of each")
    add_format(parser)
    examples(
        parser,
        """
nsrun logs -f --tail 20 web
nsrun logs --json web
""",
    )


def _count(word: str) -> int | None:
    if word == "all":
        return None
    if not (word.isascii() and word.isdigit()):
        raise argparse.ArgumentTypeError(f"{word!r} is neither a number nor all")
    return int(word)


def main(args: argparse.Namespace) -> int:
    from nsrun.runtime import logs, store

    container = store.find(args.container)
    chosen = logs.Chosen(
        tail=args.tail,
        since=logs.moment(args.since),
        until=logs.moment(args.until),
        timestamps=args.timestamps,
        json=args.format == "json",
    )
    logs.show(container, chosen, follow=args.follow)
    return 0
