"""``nsrun diff``: two specs or plans, in terms of what they do."""

from __future__ import annotations

import argparse
import sys

from nsrun.cli.parser import add_color, add_inputs, add_spec, examples


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Compares two specs or plans step by step. Exit status 0 where they do the same, 1 where "
        "they differ, 2 where one cannot be planned."
    )
    add_spec(parser, "OLD", help="a spec's or a plan's file")
    add_spec(parser, "NEW", help="a spec's or a plan's file")
    add_color(parser)
    add_inputs(parser)
    examples(
        parser,
        """
nsrun diff yesterday.plan.json web.yaml
nsrun diff web.yaml web-readonly.yaml
""",
    )


def main(args: argparse.Namespace) -> int:
    from nsrun.cli.inputs import inputs_of, load_plan
    from nsrun.cli.output import wants_color
    from nsrun.plan.diff import diff
    from nsrun.render.diff import render_diff

    inputs = inputs_of(args)
    found = diff(load_plan(args.old, None, inputs), load_plan(args.new, None, inputs))
    sys.stdout.write(render_diff(found, color=wants_color(args.color, sys.stdout)))
    return 0 if found.same else 1
