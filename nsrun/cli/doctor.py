"""``nsrun doctor``: what works here, and which lines of a spec will not."""

from __future__ import annotations

import argparse
import json
import os
from typing import TYPE_CHECKING

from nsrun.cli.parser import add_spec, examples

if TYPE_CHECKING:
    from nsrun.spec.model import Spec


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Says what this kernel and this user can do, namespace by namespace and feature by "
        "feature; with a spec: which of its lines will not work here, and why. Exit status 0 "
        "where everything that is asked for works, 1 where something does not."
    )
    add_spec(parser, nargs="?", help="a spec's file")
    parser.add_argument("--json", action="store_true", help="as JSON, for other programs")
    examples(
        parser,
        """
nsrun doctor
nsrun doctor specs/quickstart.yaml
""",
    )


def main(args: argparse.Namespace) -> int:
    from nsrun.cli.inputs import load_spec
    from nsrun.host.probe import features

    # A spec that cannot be read is told before anything is tried.
    spec = None if args.spec is None else load_spec(args.spec, None)
    found = features()
    if args.json:
        rows = [{"name": f.name, "ok": f.ok, "detail": f.detail} for f in found]
        kernel = os.uname()
        head = {"kernel": kernel.release, "machine": kernel.machine, "uid": os.getuid()}
        print(json.dumps({**head, "features": rows}, indent=2))
    else:
        kernel = os.uname()
        print(f"Linux {kernel.release} {kernel.machine}, uid {os.getuid()}\n")
        width = max(len(f.name) for f in found)
        for f in found:
            print(f"{'ok' if f.ok else 'no':3} {f.name:<{width}}  {f.detail}")
    return 0 if spec is None else _check_spec(spec, quiet=args.json)


def _check_spec(spec: Spec, *, quiet: bool) -> int:
    """Plan the spec for this machine; what cannot be planned is reported at its line."""
    from nsrun.cli.output import report
    from nsrun.diag import NsrunError
    from nsrun.runtime.launch import plan_for

    try:
        made = plan_for(spec)
    except NsrunError as error:
        report(error.diagnostics)
        return 1
    if not quiet:
        count = sum(1 for _ in made.steps())
        print(f"\n{spec.file}: every line can be planned here ({count} steps)")
    return 0
