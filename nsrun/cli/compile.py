"""``nsrun compile``: a spec as one static program."""

from __future__ import annotations

import argparse

from nsrun.cli.parser import add_inputs, add_spec, examples


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Plans the spec for this machine and caller, and writes a static program that carries the "
        "plan and replays it where there is no Python. It looks first whether it is run as it was "
        "planned for (machine, kernel, ids, the folders it needs) and refuses otherwise. Values of "
        "the environment are those of now. `nsrun plan FILE` lists what it carries."
    )
    add_spec(parser)
    parser.add_argument("-o", "--output", metavar="FILE", required=True, help="where to write it")
    add_inputs(parser)
    examples(
        parser,
        """
nsrun compile specs/quickstart.yaml -o quickstart
nsrun plan --brief quickstart
""",
    )


def main(args: argparse.Namespace) -> int:
    from nsrun.cli.inputs import inputs_of, load_spec
    from nsrun.diag import Diagnostic, NsrunError
    from nsrun.host import native
    from nsrun.runtime import compiled

    program = native.find()
    if program is None:
        raise NsrunError(
            Diagnostic(
                code="NS407",
                summary="cannot be compiled: the native program is not installed",
                help=("install nsrun where a C compiler is; `nsrun doctor` says what there is",),
            )
        )
    spec = load_spec(args.spec, args.command, inputs_of(args))
    compiled.write(args.output, compiled.compile_spec(spec, program))
    return 0
