"""``nsrun exec``: another command in a container's namespaces, with its capabilities."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from nsrun.cli.parser import examples

if TYPE_CHECKING:
    from nsrun.plan.model import Plan
    from nsrun.spec.model import NamespaceType, Spec


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Runs a command beside the one of a running container: in its namespaces and root, with "
        "its ids, capabilities, limits and variables, as they are now, and with its out-of-memory "
        "score, where the caller's is lower or may be lowered. What runs is a plan; `--plan` "
        "prints it."
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
    parser.add_argument(
        "--why",
        action="store_true",
        help="trace the command, and tell at the end which of its system calls were refused, as "
        "`nsrun run --why` does",
    )
    parser.add_argument("--plan", action="store_true", help="print the plan, and run nothing")
    examples(
        parser,
        """
nsrun exec -it web /bin/sh
nsrun exec -u 33 -w /srv web -- ls -l
nsrun exec --ns network web -- ip address
nsrun exec --why web -- mount -t tmpfs t /mnt
""",
    )


_WITH_VALUE = ("--user", "--env", "--workdir", "--ns")
_LETTERS_WITH_VALUE = "uew"


def payload_at(words: Sequence[str]) -> int | None:
    """Where the command of ``CONTAINER COMMAND...`` begins; a `--` before it may be left out."""
    takes_value = False
    for at, word in enumerate(words):
        if takes_value:
            takes_value = False
        elif word.startswith("--"):
            takes_value = word in _WITH_VALUE
        elif word.startswith("-"):
            # -it, -uroot; -itu root
            found = [n for n, letter in enumerate(word) if letter in _LETTERS_WITH_VALUE]
            takes_value = bool(found) and found[0] == len(word) - 1
        else:
            after = words[at + 1 : at + 2]
            return at + 1 if after and not after[0].startswith("-") else None
    return None


def main(args: argparse.Namespace) -> int:
    import os

    from nsrun.cli.run import native_executor, why_refused
    from nsrun.diag import Diagnostic, NsrunError
    from nsrun.runtime import inside, launch, life, store

    container = store.find(args.container)
    if not container.running:
        raise life.not_running(container)
    if args.command is None:
        raise NsrunError(
            Diagnostic(
                code="NS002",
                summary="no command to execute",
                help=("it follows the container: nsrun exec web ls",),
            )
        )
    pairs = [word.partition("=") for word in args.env]
    if not all(name for name, _, _ in pairs):
        raise NsrunError(
            Diagnostic(
                code="NS002",
                summary="--env: a variable has a name",
                help=("give it as NAME=VALUE, or NAME alone for the caller's",),
            )
        )
    wanted = inside.Wanted(
        command=args.command,
        user=args.user,
        env={n: value if equals else os.environ.get(n) for n, equals, value in pairs},
        cwd=args.workdir,
        tty=args.tty,
        stdin=args.interactive,
        kinds=_kinds(args.ns),
    )
    spec = inside.spec_for(container, wanted)
    if args.why and not args.plan:
        return why_refused(spec)
    plan = _traced(spec) if args.why else launch.plan_for(spec)
    if args.plan:
        from nsrun.render.listing import listing

        print(listing(plan))
    else:
        launch.become_sealed(plan, native_executor())
    return 0


def _traced(spec: Spec) -> Plan:
    from nsrun.runtime.why import traced_plan

    return traced_plan(spec)[0]


def _kinds(text: str | None) -> list[NamespaceType] | None:
    from nsrun.diag import Diagnostic, NsrunError
    from nsrun.spec.model import NamespaceType

    if text is None:
        return None
    known = [kind.value for kind in NamespaceType]
    for word in text.split(","):
        if word not in known:
            raise NsrunError(
                Diagnostic(
                    code="NS002",
                    summary=f"--ns: no kind of namespace is called {word!r}",
                    help=("kinds are " + ", ".join(known),),
                )
            )
    return [NamespaceType(word) for word in text.split(",")]
