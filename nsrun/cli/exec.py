"""``nsrun exec``: another command in a container's namespaces, with its capabilities."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from nsrun.cli.parser import examples

if TYPE_CHECKING:
    from nsrun.spec.model import NamespaceType


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Runs a command beside the one of a running container: in its namespaces and root, with "
        "its ids, capabilities, limits and variables, as they are now. What runs is a plan; "
        "`--plan` prints it."
    )
    parser.add_argument("container", metavar="CONTAINER", help="a name or id")
    parser.add_argument("-i", "--interactive", action="store_true", help="pass standard input on")
    parser.add_argument("-t", "--tty", action="store_true", help="a terminal of its own")
    parser.add_argument("-u", "--user", metavar="USER", help="uid[:gid], or names")
    parser.add_argument(
        "-e",
        "--env",
        action="append",
        default=[],
        metavar="NAME[=VALUE]",
        help="a variable; without a value the caller's",
    )
    parser.add_argument("-w", "--workdir", metavar="FOLDER", help="its working directory")
    parser.add_argument(
        "--ns", metavar="KIND,...", help="enter these namespaces alone (mount,network)"
    )
    parser.add_argument("--plan", action="store_true", help="print the plan, and run nothing")
    examples(
        parser,
        """
nsrun exec -it web -- /bin/sh
nsrun exec --ns network web -- ip address
""",
    )


def main(args: argparse.Namespace) -> int:
    import os

    from nsrun.cli.run import native_executor
    from nsrun.diag import Diagnostic, NsrunError
    from nsrun.runtime import inside, launch, life, store

    container = store.find(args.container)
    if not container.running:
        raise life.not_running(container)
    if args.command is None:
        raise NsrunError(Diagnostic(code="NS002", summary="no command to execute: it follows `--`"))
    pairs = (word.partition("=") for word in args.env)
    wanted = inside.Wanted(
        command=args.command,
        user=args.user,
        env={n: value if equals else os.environ.get(n) for n, equals, value in pairs},
        cwd=args.workdir,
        tty=args.tty,
        stdin=args.interactive,
        kinds=_kinds(args.ns),
    )
    plan = launch.plan_for(inside.spec_for(container, wanted))
    if args.plan:
        from nsrun.render.listing import listing

        print(listing(plan))
    else:
        launch.become_sealed(plan, native_executor())
    return 0


def _kinds(text: str | None) -> list[NamespaceType] | None:
    from nsrun.diag import Diagnostic, NsrunError
    from nsrun.spec.model import NamespaceType

    if text is None:
        return None
    try:
        return [NamespaceType(word) for word in text.split(",")]
    except ValueError as error:
        raise NsrunError(
            Diagnostic(
                code="NS002",
                summary=f"{error}",
                help=("kinds are " + ", ".join(kind.value for kind in NamespaceType),),
            )
        ) from None
