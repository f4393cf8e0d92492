"""``nsrun attach``: a container's streams or terminal in this one."""

from __future__ import annotations

import argparse

from nsrun.cli.parser import examples


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Shows what a running container writes from now on, and passes on what is typed if it has "
        "a terminal or `stdin: open`. The detach keys leave it running; a signal that ends "
        "`nsrun attach` does too. Ends with the container's exit status."
    )
    parser.add_argument("container", metavar="CONTAINER", help="a name or id")
    parser.add_argument(
        "--detach-keys",
        default="ctrl-p,ctrl-q",
        metavar="KEYS",
        help="what leaves it running: letters and ctrl-LETTER, with commas (ctrl-p,ctrl-q)",
    )
    parser.add_argument("--no-stdin", action="store_true", help="only look")
    examples(parser, "nsrun attach web")


def main(args: argparse.Namespace) -> int:
    from nsrun.runtime import attach, life, store

    container = store.find(args.container)
    keys = attach.detach_keys(args.detach_keys)
    with life.monitor_of(container) as monitor:
        return attach.attach(container, monitor, keys, stdin=not args.no_stdin)
