"""``nsrun netns``: named network namespaces, as `ip netns` keeps them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from nsrun.cli.commands import NSRUN_FAILED
from nsrun.cli.parser import add_format, examples

if TYPE_CHECKING:
    from nsrun.plan.model import Plan

_ACTIONS = ("add", "list", "exec", "delete")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Adds, lists and deletes network namespaces that are kept by a file in /run/netns, and "
        "runs commands in them. What `ip netns` has made is found, and the other way round. A "
        "command that is executed keeps its terminal, descriptors and variables, sees /sys as the "
        "namespace has it, and the files of /etc/netns/NAME in the place of those in /etc. All "
        "but `list` are plans; `--plan` prints them and makes nothing."
    )
    parser.add_argument("action", choices=_ACTIONS, metavar="add|list|exec|delete")
    parser.add_argument("name", nargs="*", metavar="NAME", help="their names")
    parser.add_argument("--plan", action="store_true", help="print the plan, and do nothing")
    add_format(parser)
    examples(
        parser,
        """
nsrun netns add blue
nsrun netns list
nsrun netns exec blue ip address
nsrun netns delete blue
""",
    )


def payload_at(words: Sequence[str]) -> int | None:
    """Where the command of ``exec NAME COMMAND...`` begins; a `--` before it may be left out."""
    plain: list[str] = []
    takes_value = False
    for at, word in enumerate(words):
        if word == "--":
            return None
        if takes_value or word.startswith("-"):
            takes_value = word == "--format" and not takes_value
            continue
        if len(plain) == 2 and plain[0] == "exec":
            return at
        plain.append(word)
    return None


def main(args: argparse.Namespace) -> int:
    from nsrun.cli.output import report
    from nsrun.diag import NsrunError

    if args.action != "exec":
        return _list(args) if args.action == "list" else _change(args)
    try:
        return _exec(args)
    except NsrunError as error:
        # A command's own statuses come through here; 1 and 2 are among them.
        report(error.diagnostics)
        return NSRUN_FAILED


def _change(args: argparse.Namespace) -> int:
    from nsrun.diag import Diagnostic, NsrunError
    from nsrun.runtime import netns

    if args.command is not None:
        raise _usage(f"`nsrun netns {args.action}` runs no command")
    if not args.name:
        raise _usage(f"`nsrun netns {args.action}` takes a name")
    plans: list[Plan] = []
    refused: dict[Diagnostic, None] = {}
    for name in dict.fromkeys(args.name):
        try:
            plans.append(netns.add(name) if args.action == "add" else netns.delete(name))
        except NsrunError as error:
            refused.update(dict.fromkeys(error.diagnostics))
    if refused:
        raise NsrunError(refused)
    status = 0
    for plan in plans:
        status = _carry_out(plan, args.plan) or status
    return status


def _usage(summary: str) -> Exception:
    from nsrun.diag import Diagnostic, NsrunError

    return NsrunError(Diagnostic(code="NS002", summary=summary))


def _carry_out(plan: Plan, only_print: bool) -> int:
    from nsrun.cli.run import conclude
    from nsrun.runtime import launch

    if only_print:
        from nsrun.render.listing import listing

        print(listing(plan))
        return 0
    return conclude(plan, launch.replay_plan(plan))


def _list(args: argparse.Namespace) -> int:
    import json

    from nsrun.render.text import visible
    from nsrun.runtime import netns

    if args.name or args.command is not None:
        raise _usage("`nsrun netns list` takes no name")
    found = netns.named()
    if args.format == "json":
        print(json.dumps([{"name": one.name, "id": one.id} for one in found], indent=2))
        return 0
    for one in found:
        name = visible(one.name)
        print(name if one.id is None else f"{name} (id: {one.id})")
    return 0


def _exec(args: argparse.Namespace) -> int:
    from nsrun.cli.output import report
    from nsrun.runtime import netns

    if len(args.name) != 1:
        raise _usage("`nsrun netns exec` takes one name, and a command after it")
    if args.command is None:
        raise _usage("no command to execute: it follows the name")
    plan, warnings = netns.exec_in(args.name[0], args.command)
    if warnings:
        report(warnings)
    return _carry_out(plan, args.plan)
