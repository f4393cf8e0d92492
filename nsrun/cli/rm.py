"""``nsrun rm``: containers that have ended are removed, with their logs."""

from __future__ import annotations

import argparse

from nsrun.cli.parser import examples


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Removes containers that have ended, with their logs; their names are free then."
    )
    parser.add_argument("-f", "--force", action="store_true", help="kill those that are running")
    parser.add_argument("container", nargs="+", metavar="CONTAINER", help="a name or id")
    examples(parser, "nsrun rm web")


def main(args: argparse.Namespace) -> int:
    from nsrun.cli.each import each
    from nsrun.runtime import life, stack_store, store
    from nsrun.runtime.store import Container

    def is_damaged(word: str) -> bool:
        """What cannot be read is removed under its name."""
        place = store.damaged(word)
        if place is not None:
            store.remove(place)
        return place is not None

    def remove(container: Container) -> None:
        if args.force:
            stack_store.tell(container, stack_store.HOLD)
        life.remove(container, force=args.force)

    return each(args.container, remove, instead=is_damaged)
