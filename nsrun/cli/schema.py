"""``nsrun schema``: the JSON Schemas that nsrun itself checks against."""

from __future__ import annotations

import argparse
import sys

from nsrun.cli.parser import examples
from nsrun.diag import Diagnostic, NsrunError

NAMES = ("container", "stack", "plan")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Prints a JSON Schema (draft 2020-12): of a container's spec, of a stack's, or of a plan. "
        "Editors complete and check specs with it."
    )
    parser.add_argument(
        "schema",
        metavar="SCHEMA",
        nargs="?",
        choices=NAMES,
        default="container",
        help="container (the default), stack or plan",
    )
    examples(
        parser,
        """
nsrun schema > container.schema.json
nsrun schema plan
""",
    )


def main(args: argparse.Namespace) -> int:
    from nsrun.spec.schema import schema_text

    try:
        text = schema_text(args.schema)
    except OSError as error:
        raise NsrunError(
            Diagnostic(
                code="NS001",
                summary=f"cannot read the schema: {error.filename}: {error.strerror}",
                help=("this installation of nsrun is not complete",),
            )
        ) from None
    sys.stdout.write(text)
    return 0
