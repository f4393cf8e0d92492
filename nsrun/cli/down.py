"""``nsrun down``: a stack's containers and networks go, its volumes stay."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from nsrun.cli.parser import add_inputs, examples

if TYPE_CHECKING:
    from nsrun.spec.values import Inputs


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Stops and removes the containers of a stack, the last started first, and its networks. "
        "Volumes stay, with --volumes nsrun's own go too. STACK is its name or its file."
    )
    parser.add_argument("stack", metavar="STACK", help="the stack's name, or its file")
    parser.add_argument(
        "--volumes", action="store_true", help="also remove the volumes that nsrun has made"
    )
    add_inputs(parser)
    examples(parser, "nsrun down shop")


def main(args: argparse.Namespace) -> int:
    from nsrun.cli.inputs import inputs_of
    from nsrun.cli.stacks import Teller
    from nsrun.runtime import stack_down

    name = _name(args.stack, inputs_of(args))
    stack_down.down(name, Teller(name).say, volumes=args.volumes)
    return 0


def _name(word: str, inputs: Inputs) -> str:
    """The name of a stack that is known by it, or that a file has."""
    import os

    from nsrun.runtime import stack_store
    from nsrun.spec.build import default_name
    from nsrun.spec.source import read_source

    if word in stack_store.names() or not os.path.isfile(word):
        return word
    data = read_source(word, inputs).data
    given = data.get("name") if isinstance(data, dict) else None
    return given if isinstance(given, str) else default_name(word)
