"""``nsrun down``: a stack's containers and networks go, its volumes stay."""

from __future__ import annotations

import argparse

from nsrun.cli.parser import examples


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Stops and removes the containers of a stack, the last started first, and its networks. "
        "Volumes stay, with --volumes nsrun's own go too. STACK is its name or its file."
    )
    parser.add_argument("stack", metavar="STACK", help="the stack's name, or its file")
    parser.add_argument(
        "--volumes", action="store_true", help="also remove the volumes that nsrun has made"
    )
    examples(parser, "nsrun down shop")


def main(args: argparse.Namespace) -> int:
    from nsrun.cli.stacks import Teller
    from nsrun.runtime import stack

    name = _name(args.stack)
    stack.down(name, Teller(name).say, volumes=args.volumes)
    return 0


def _name(word: str) -> str:
    """The name of a stack that is known by it, or that a file has."""
    import os

    from nsrun.runtime import stack_store
    from nsrun.spec.build import default_name
    from nsrun.spec.document import read_document

    if word in stack_store.names() or not os.path.isfile(word):
        return word
    data = read_document(word).data
    given = data.get("name") if isinstance(data, dict) else None
    return given if isinstance(given, str) else default_name(word)
