"""``nsrun stop``: containers are ended in good order."""

from __future__ import annotations

import argparse

from nsrun.cli.parser import examples, seconds


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Sends each container's stop_signal, and SIGKILL when its stop_timeout has passed. "
        "Prints the names of those that have ended."
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
    examples(parser, "nsrun stop web")


def main(args: argparse.Namespace) -> int:
    from nsrun.cli.each import each
    from nsrun.cli.output import report
    from nsrun.runtime import life, stack_store
    from nsrun.runtime.store import Container

    def stop(container: Container) -> None:
        warning = life.ignores_stop(container)
        if warning is not None:
            report([warning])
        stack_store.tell(container, stack_store.HOLD)
        life.stop(container, args.time)

    return each(args.container, stop)
