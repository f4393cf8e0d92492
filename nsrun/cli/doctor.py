"""``nsrun doctor``: what works here, and which lines of a spec will not."""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import TYPE_CHECKING

from nsrun.cli.parser import add_format, add_inputs, add_spec, examples

if TYPE_CHECKING:
    from nsrun.diag import Diagnostic
    from nsrun.host.probe import Feature
    from nsrun.spec.values import Inputs


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Says what this kernel and this user can do, namespace by namespace and feature by "
        "feature; with a spec: every line of it that will not work here, and why. Exit status 0 "
        "where the whole spec works here, 1 where a line of it does not."
    )
    add_spec(parser, nargs="?", help="a spec's file")
    add_format(parser)
    add_inputs(parser)
    examples(
        parser,
        """
nsrun doctor
nsrun doctor specs/quickstart.yaml
nsrun doctor --format json specs/quickstart.yaml
""",
    )


def main(args: argparse.Namespace) -> int:
    if args.spec is None:
        from nsrun.host.probe import features

        found = features()
        sys.stdout.write(_features_json(found) if args.format == "json" else _table(found))
        return 0
    from nsrun.cli.inputs import inputs_of

    diagnostics = _check(args.spec, inputs_of(args))
    works = not any(d.is_error for d in diagnostics)
    if args.format == "json":
        from nsrun.render.diagnostic import diagnostic_data

        rows = [diagnostic_data(d) for d in diagnostics]
        _print_json({**_machine(), "file": args.spec, "works": works, "diagnostics": rows})
    else:
        from nsrun.cli.output import report

        if diagnostics:
            report(diagnostics)
        if works:
            sys.stdout.write(f"{args.spec}: every line works here\n")
    return 0 if works else 1


def _check(file: str, inputs: Inputs) -> tuple[Diagnostic, ...]:
    """What is wrong with the spec, cannot be planned, and has been seen not to work here."""
    from nsrun.spec.load import load_parts

    loaded = load_parts(file, None, inputs)
    if loaded.spec is None:
        return loaded.diagnostics
    from nsrun.runtime.preflight import preflight

    return preflight(loaded.spec, loaded.diagnostics, loaded.broken)


def _machine() -> dict[str, object]:
    kernel = os.uname()
    return {"kernel": kernel.release, "machine": kernel.machine, "uid": os.getuid()}


def _features_json(found: tuple[Feature, ...]) -> str:
    rows = [{"name": f.name, "ok": f.ok, "detail": f.detail} for f in found]
    return json.dumps({**_machine(), "executor": _executor(), "features": rows}, indent=2) + "\n"


def _print_json(document: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(document, indent=2) + "\n")


def _table(found: tuple[Feature, ...]) -> str:
    kernel = os.uname()
    width = max(len(f.name) for f in found)
    lines = [f"Linux {kernel.release} {kernel.machine}, uid {os.getuid()}"]
    lines += [f"executor {_executor()}", ""]
    lines += [f"{'ok' if f.ok else 'no':3} {f.name:<{width}}  {f.detail}" for f in found]
    return "\n".join(lines) + "\n"


def _executor() -> str:
    """Which executor a run gets, and why; `none` where NSRUN_EXECUTOR asks for what is not."""
    from nsrun.diag import NsrunError
    from nsrun.host import native

    try:
        return ": ".join(native.choice(os.environ))
    except NsrunError as error:
        return f"none: {error}"
