"""``nsrun verify``: whether what a spec expects holds inside."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from nsrun.cli.parser import add_color, add_format, add_inputs, add_spec, examples

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nsrun.diag import Diagnostic
    from nsrun.runtime.verify import Finding
    from nsrun.spec.model import Spec


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Starts a copy of the spec's container in which the command does not run, looks there at "
        "everything that the spec says under `expect`, as the command's user and behind all of its "
        "walls, and ends it. The copy publishes no ports and pins nothing; hooks run. Of a stack a "
        "whole copy comes up, with names, networks, volumes and, where its own are in use, "
        "addresses of its own, in which the commands run; beside each container that expects "
        "something another one looks in its place, and all of it goes down again. Exit status 0 "
        "where everything holds, 1 where something does not, 125 where it could not be looked at. "
        "`--plan` prints the steps, of one container. With --json a list with an object for each "
        "expectation: path, expected, holds, why, file, line, and of a stack container."
    )
    add_spec(parser)
    parser.add_argument("--plan", action="store_true", help="print the plan, and run nothing")
    add_format(parser)
    add_color(parser)
    from nsrun.cli.stacks import add_profiles

    add_profiles(parser)
    add_inputs(parser)
    examples(
        parser,
        """
nsrun verify specs/build.yaml
nsrun verify --plan specs/build.yaml
nsrun verify specs/stacks/shop.yaml
""",
    )


def main(args: argparse.Namespace) -> int:
    from nsrun.cli import stacks
    from nsrun.cli.inputs import inputs_of, load_spec
    from nsrun.cli.run import conclude
    from nsrun.runtime import launch, verify

    inputs = inputs_of(args)
    document = stacks.source(args.spec, inputs)
    if document is not None and stacks.is_stack(document):
        from nsrun.cli import verify_stack

        return verify_stack.main(args, document)
    spec = load_spec(args.spec, None, inputs, document)
    plan = verify.plan_of(spec)
    if args.plan:
        from nsrun.render.listing import listing

        print(listing(plan))
        return 0
    outcome = verify.replay(plan)
    if outcome.failure is not None or outcome.status:
        status = conclude(plan, outcome, launch.hint_context(plan))
        return status if status >= 125 else 125
    found = verify.judge(plan, spec.expect, outcome.trace)
    tell(args, [("", spec, finding) for finding in found])
    return 0 if all(finding.holds for finding in found) else 1


def tell(args: argparse.Namespace, found: Sequence[tuple[str, Spec, Finding]]) -> None:
    """Print what was found; with each a container's name, "" where there is but one."""
    from nsrun.cli.output import report

    if args.format == "json":
        print(json.dumps([_shape(*one) for one in found], indent=2))
        return
    sys.stdout.write(_table(found))
    sys.stdout.flush()
    report(diagnostic(spec, one) for _, spec, one in found if not one.holds)


def _shape(name: str, spec: Spec, finding: Finding) -> dict[str, object]:
    span = spec.span(finding.path)
    return ({"container": name} if name else {}) | {
        "path": finding.path,
        "expected": finding.what,
        "holds": finding.holds,
        "why": finding.why,
        "file": span.file if span else None,
        "line": span.line if span else None,
    }


def _table(found: Sequence[tuple[str, Spec, Finding]]) -> str:
    from nsrun.cli.tables import columns

    rows = []
    for name, spec, finding in found:
        span = spec.span(finding.path)
        line = f":{span.line}" if span else ""
        rows.append((name, "holds" if finding.holds else "FAILS", finding.what, line, finding.why))
    head = ("CONTAINER", "", "EXPECTED", "LINE", "FOUND")
    if any(name for name, _, _ in found):
        return columns(head, rows)
    return columns(head[1:], [row[1:] for row in rows])


def diagnostic(spec: Spec, finding: Finding) -> Diagnostic:
    """What is told of an expectation that does not hold."""
    from nsrun.diag import Diagnostic as Made

    return Made(
        code="NS620",
        summary=f"expected {finding.what}: it does not hold",
        span=spec.span(finding.path),
        path=finding.path,
        why=(finding.why,),
    )
