"""``nsrun validate``: everything that is wrong with specs, at once."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from nsrun.cli.parser import add_format, add_inputs, add_spec, examples
from nsrun.diag import Diagnostic, NsrunError

if TYPE_CHECKING:
    from nsrun.spec.values import Inputs


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Checks specs against their schema and for what they mean; nothing is planned or made. "
        "Exit status 0 where all of them hold, 1 where one does not."
    )
    add_spec(parser, nargs="+", help="the specs' files")
    add_format(parser)
    add_inputs(parser)
    examples(
        parser,
        """
nsrun validate specs/quickstart.yaml
nsrun validate --format json specs/quickstart.yaml
""",
    )


def main(args: argparse.Namespace) -> int:
    from nsrun.cli.inputs import inputs_of
    from nsrun.cli.output import report

    inputs = inputs_of(args)
    found = {file: _check(file, inputs) for file in args.spec}
    if args.format == "json":
        _print_json(found)
    else:
        for file, diagnostics in found.items():
            if diagnostics:
                report(diagnostics)
            if _holds(diagnostics):
                sys.stdout.write(f"{file}: valid\n")
    return 0 if all(map(_holds, found.values())) else 1


def _check(file: str, inputs: Inputs) -> tuple[Diagnostic, ...]:
    from nsrun.cli import stacks
    from nsrun.spec.load import load, load_document

    try:
        document = stacks.source(file, inputs)
        if stacks.is_stack(document):
            from nsrun.spec.stack_load import load_stack

            return load_stack(file, all_profiles=True, inputs=inputs, document=document)[1]
        _, warnings = load_document(document) if document else load(file, None, inputs)
    except NsrunError as error:
        return error.diagnostics
    return warnings


def _holds(diagnostics: tuple[Diagnostic, ...]) -> bool:
    return not any(d.is_error for d in diagnostics)


def _print_json(found: dict[str, tuple[Diagnostic, ...]]) -> None:
    import json

    from nsrun.render.diagnostic import diagnostic_data

    documents = [
        {
            "file": file,
            "valid": _holds(diagnostics),
            "diagnostics": [diagnostic_data(one) for one in diagnostics],
        }
        for file, diagnostics in found.items()
    ]
    sys.stdout.write(json.dumps(documents, indent=2) + "\n")
