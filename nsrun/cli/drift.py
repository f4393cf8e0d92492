"""``nsrun drift``: what of a container is no longer as it was planned."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from nsrun.cli.parser import add_format, examples

if TYPE_CHECKING:
    from nsrun.plan.difference import Difference
    from nsrun.runtime.drift import Drift


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Compares running containers with the plans that they were started with: namespaces, "
        "id maps, mounts with their options, host name, kernel parameters, interfaces, addresses, "
        "routes, the host's ends of pairs and its nft tables, control groups with limits and "
        "devices, seccomp, capabilities, ids and limits of the process. Of a stack all of its "
        "containers and its networks. Each difference has the line of the spec that asked for it; "
        "what cannot be seen, as rules of Landlock, is said (docs/drift.md lists all). What "
        "`nsrun update` has changed is expected so, and noted. A container of a stack that does "
        "not run differs too, but for one that has ended with exit status 0 and is not to be "
        "started again, which is noted. Exit status 0 where all is as planned, 1 where something "
        "differs, 2 where it cannot be told. With --json a list with an object for each "
        "container: container, status (as `nsrun ps` has it, or missing), differences, notes."
    )
    parser.add_argument("name", metavar="NAME", help="a container's name or id, or a stack's name")
    add_format(parser)
    examples(
        parser,
        """
nsrun drift web
nsrun drift --json shop
""",
    )


def main(args: argparse.Namespace) -> int:
    import json

    from nsrun.runtime import drift

    found = drift.drifts(args.name)
    if args.format == "json":
        print(json.dumps([one.as_data() for one in found], indent=2))
    else:
        _print(found)
    return 1 if any(one.differences for one in found) else 0


def _print(found: list[Drift]) -> None:
    from nsrun.cli.tables import columns

    rows = [
        (one.name, each.what, each.expected, each.found, _place(each))
        for one in found
        for each in one.differences
    ]
    if rows:
        head = ("CONTAINER", "WHAT", "PLANNED", "FOUND", "ASKED FOR")
        sys.stdout.write(columns(head, rows))
    for one in found:
        for note in one.notes:
            print(f"{one.name}: {note.what}: {note.why}")
    counts = {0: "no difference", 1: "1 difference"}
    print(counts.get(len(rows), f"{len(rows)} differences"))


def _place(difference: Difference) -> str:
    """``web.yaml:4 hostname``, or the rule that implied it."""
    origin = difference.origin
    if origin is None:
        return "by nobody"
    where = f"{origin.span.file}:{origin.span.line}" if origin.span is not None else ""
    return " ".join(word for word in (where, origin.path or origin.rule) if word)
