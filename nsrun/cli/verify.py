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
        "walls, and ends it. The copy publishes no ports and pins nothing; hooks run. Exit status "
        "0 where everything holds, 1 where something does not, 125 where it could not be looked "
        "at. `--plan` prints the steps."
    )
    add_spec(parser)
    parser.add_argument("--plan", action="store_true", help="print the plan, and run nothing")
    add_format(parser)
    add_color(parser)
    add_inputs(parser)
    examples(
        parser,
        """
nsrun verify specs/build.yaml
nsrun verify --plan specs/build.yaml
""",
    )


def main(args: argparse.Namespace) -> int:
    from nsrun.cli.inputs import inputs_of, load_spec
    from nsrun.cli.output import report
    from nsrun.cli.run import conclude
    from nsrun.runtime import launch, verify

    spec = load_spec(args.spec, None, inputs_of(args))
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
    if args.format == "json":
        print(json.dumps([_shape(spec, finding) for finding in found], indent=2))
    else:
        sys.stdout.write(_table(spec, found))
        sys.stdout.flush()
        report(diagnostic(spec, finding) for finding in found if not finding.holds)
    return 0 if all(finding.holds for finding in found) else 1


def _shape(spec: Spec, finding: Finding) -> dict[str, object]:
    span = spec.span(finding.path)
    return {
        "path": finding.path,
        "expected": finding.what,
        "holds": finding.holds,
        "why": finding.why,
        "file": span.file if span else None,
        "line": span.line if span else None,
    }


def _table(spec: Spec, found: Sequence[Finding]) -> str:
    from nsrun.cli.tables import columns

    rows = []
    for finding in found:
        span = spec.span(finding.path)
        line = f":{span.line}" if span else ""
        rows.append(("holds" if finding.holds else "FAILS", finding.what, line, finding.why))
    return columns(("", "EXPECTED", "LINE", "FOUND"), rows)


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
