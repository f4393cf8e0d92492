"""``nsrun restart``: containers end and start again."""

from __future__ import annotations

import argparse

from nsrun.cli.parser import examples, seconds


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Stops each container as `nsrun stop` does, if it runs, and starts it by its stored plan."
    )
    parser.add_argument(
        "-t",
        "--time",
        "--timeout",
        type=seconds,
        metavar="SECONDS",
        help="kill it after so long, not after the spec's stop_timeout",
    )
    parser.add_argument("container", nargs="+", metavar="CONTAINER", help="a name or id")
    examples(parser, "nsrun restart web")


def main(args: argparse.Namespace) -> int:
    from nsrun.cli.each import each
    from nsrun.cli.start import begin
    from nsrun.runtime import events, life, stack_store, store
    from nsrun.runtime.store import Container

    def again(container: Container) -> None:
        stack_store.tell(container, stack_store.AWAIT)
        # Who keeps its stack may have started it just before it was told.
        life.stop(store.load(container.folder) or container, args.time)
        life.until_unlocked(container)
        found = store.load(container.folder)
        if found is not None:
            begin(found)
            events.note(events.of(found.record, "restart"))

    return each(args.container, again)
