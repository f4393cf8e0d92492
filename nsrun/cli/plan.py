"""``nsrun plan``: the program of system calls, as a listing or as JSON."""

from __future__ import annotations

import argparse
import sys

from nsrun.cli.parser import add_color, add_spec, examples


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Prints what a run of the spec would do, every step in its order, and where in the spec "
        "each comes from. Nothing is made. A plan that `--json` wrote is listed again."
    )
    add_spec(parser, help="the spec's file, or a plan's")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--brief", action="store_true", help="a line an action, not a line a step")
    how.add_argument("--json", action="store_true", help="the plan itself, as `nsrun schema plan`")
    parser.add_argument("--ascii", action="store_true", help="draw with plain ASCII characters")
    add_color(parser)
    examples(
        parser,
        """
nsrun plan specs/quickstart.yaml
nsrun plan --brief specs/quickstart.yaml
nsrun plan --json specs/quickstart.yaml > quickstart.plan.json
""",
    )


def main(args: argparse.Namespace) -> int:
    from nsrun.cli.inputs import load_plan
    from nsrun.cli.output import wants_ascii, wants_color

    plan = load_plan(args.spec, args.command)
    if args.json:
        from nsrun.plan.codec import dumps

        sys.stdout.write(dumps(plan))
        return 0
    from nsrun.render.listing import listing

    sys.stdout.write(
        listing(
            plan,
            brief=args.brief,
            ascii=wants_ascii(args.ascii, sys.stdout),
            color=wants_color(args.color, sys.stdout),
        )
    )
    return 0
