"""``nsrun plan``: the program of system calls, as a listing or as JSON."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from nsrun.cli.parser import add_color, add_inputs, add_spec, examples

if TYPE_CHECKING:
    from nsrun.plan.model import Plan
    from nsrun.spec.document import Document
    from nsrun.spec.values import Inputs


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Prints what a run of the spec would do, every step in its order, and where in the spec "
        "each comes from. Nothing is made. A plan that `--json` wrote is listed again."
    )
    add_spec(parser, help="the spec's file, or a plan's")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--brief", action="store_true", help="a line an action, not a line a step")
    how.add_argument("--json", action="store_true", help="the plan itself, as `nsrun schema plan`")
    parser.add_argument(
        "--why", action="store_true", help="the plan of `nsrun run --why`, with its tracer"
    )
    parser.add_argument("--ascii", action="store_true", help="draw with plain ASCII characters")
    add_color(parser)
    add_inputs(parser)
    examples(
        parser,
        """
nsrun plan specs/quickstart.yaml
nsrun plan --brief specs/quickstart.yaml
nsrun plan --json specs/quickstart.yaml > quickstart.plan.json
""",
    )


def main(args: argparse.Namespace) -> int:
    from nsrun.cli.inputs import inputs_of, load_plan
    from nsrun.cli.stacks import is_stack, source

    inputs = inputs_of(args)
    if args.why:
        from nsrun.cli.inputs import load_spec
        from nsrun.runtime.why import traced_plan

        _print(args, traced_plan(load_spec(args.spec, args.command, inputs))[0])
        return 0
    document = source(args.spec, inputs)
    if args.command is None and document is not None and is_stack(document):
        return _stack(args, inputs, document)
    _print(args, load_plan(args.spec, args.command, inputs, document))
    return 0


def _print(args: argparse.Namespace, plan: Plan) -> None:
    from nsrun.cli.output import wants_ascii, wants_color

    if args.json:
        from nsrun.plan.codec import dumps

        sys.stdout.write(dumps(plan))
        return
    from nsrun.render.listing import listing

    sys.stdout.write(
        listing(
            plan,
            brief=args.brief,
            ascii=wants_ascii(args.ascii, sys.stdout),
            color=wants_color(args.color, sys.stdout),
        )
    )


def _stack(args: argparse.Namespace, inputs: Inputs, document: Document) -> int:
    """The plans of a stack, one after the other as `up` would replay them; in JSON a line each."""
    from nsrun.cli.stacks import load
    from nsrun.runtime.stack_changes import plans

    for number, plan in enumerate(plans(load(args.spec, inputs, document))):
        if number and not args.json:
            sys.stdout.write("\n")
        _print(args, plan)
    return 0
