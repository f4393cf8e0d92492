"""``nsrun render``: what a template comes to, and which line of it each line comes from."""

from __future__ import annotations

import argparse
import sys

from nsrun.cli.parser import add_inputs, add_spec, examples


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Prints the YAML that a template renders to, also where it is no valid spec. What is "
        "printed, in a file beside the template, is the same spec."
    )
    add_spec(parser, help="the template's file")
    parser.add_argument(
        "--lines", action="store_true", help="say of each line which line of which file made it"
    )
    add_inputs(parser)
    examples(
        parser,
        """
nsrun render specs/template.yaml.j2
nsrun render --lines specs/template.yaml.j2 --set greeting=hello
""",
    )


def main(args: argparse.Namespace) -> int:
    from nsrun.cli.inputs import inputs_of
    from nsrun.spec.template import render

    rendered = render(args.spec, inputs_of(args))
    if not args.lines:
        sys.stdout.write(rendered.text)
        if rendered.text and not rendered.text.endswith("\n"):
            sys.stdout.write("\n")
        return 0
    rows = [(f"{span.file}:{span.line}", line) for span, line in rendered.map.lines()]
    width = max((len(place) for place, _ in rows), default=0)
    sys.stdout.writelines(f"{place:<{width}} | {line}".rstrip() + "\n" for place, line in rows)
    return 0
