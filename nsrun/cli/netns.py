"""``nsrun netns``: named network namespaces, as `ip netns` keeps them."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from nsrun.cli.parser import add_format, examples

if TYPE_CHECKING:
    from nsrun.plan.model import Plan

_ACTIONS = ("add", "list", "exec", "delete")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Adds, lists and deletes network namespaces that are kept by a file in /run/netns, and "
        "runs commands in them. What `ip netns` has made is found, and the other way round. Each "
        "change is a plan; `--plan` prints it and makes nothing."
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
nsrun netns exec blue -- ip address
nsrun netns delete blue
""",
    )


def main(args: argparse.Namespace) -> int:
    from nsrun.runtime import netns

    _check_words(args)
    if args.action == "list":
        return _list(args)
    if args.action == "exec":
        return _exec(args)
    status = 0
    for name in args.name:
        plan = netns.add(name) if args.action == "add" else netns.delete(name)
        status = _carry_out(plan, args.plan) or status
    return status


def _check_words(args: argparse.Namespace) -> None:
    wanted = {"list": len(args.name) == 0, "exec": len(args.name) == 1}
    if args.command is not None and args.action != "exec":
        raise _usage(f"`nsrun netns {args.action}` runs no command")
    if not wanted.get(args.action, len(args.name) > 0):
        raise _usage(
            {
                "list": "`nsrun netns list` takes no name",
                "exec": "`nsrun netns exec` takes one name, and a command after `--`",
            }.get(args.action, f"`nsrun netns {args.action}` takes a name")
        )
    if args.action == "exec" and args.command is None:
        raise _usage("no command to execute: it follows `--`")


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

    from nsrun.runtime import netns

    found = netns.named()
    if args.format == "json":
        print(json.dumps([{"name": one.name, "id": one.id} for one in found], indent=2))
        return 0
    for one in found:
        print(one.name if one.id is None else f"{one.name} (id: {one.id})")
    return 0


def _exec(args: argparse.Namespace) -> int:
    from nsrun.cli.run import native_executor
    from nsrun.runtime import launch, netns

    plan = launch.plan_for(netns.exec_in(args.name[0], args.command))
    program = native_executor()
    if program is not None and not args.plan:
        from nsrun.replay.native import become

        become(program, plan)
    return _carry_out(plan, args.plan)
