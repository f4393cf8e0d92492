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
        "Volumes stay, with --volumes nsrun's own go too, also of a stack that is down already. "
        "STACK is its name or its file."
    )
    parser.add_argument("stack", metavar="STACK", help="the stack's name, or its file")
    parser.add_argument(
        "-v",
        "--volumes",
        action="store_true",
        help="also remove the volumes that nsrun has made",
    )
    add_inputs(parser)
    examples(parser, "nsrun down shop")


def main(args: argparse.Namespace) -> int:
    from nsrun.cli.inputs import inputs_of
    from nsrun.cli.stacks import Teller
    from nsrun.runtime import stack_down

    name = _name(args.stack, inputs_of(args))
    say = Teller(name).say
    if args.volumes and _had_volumes_alone(name):
        say(f"{name}.volumes", "removed")
    else:
        stack_down.down(name, say, volumes=args.volumes)
    return 0


def _name(word: str, inputs: Inputs) -> str:
    """The name of a stack that is known by it, or that a file has; also where the file cannot be
    read as it is now, or says another name: what it has brought up is meant. Raises NsrunError."""
    import os

    from nsrun.diag import NsrunError
    from nsrun.runtime import stack_store

    known = stack_store.names()
    if word in known or not os.path.isfile(word):
        return word
    brought_up = [name for name in known if _is_of(name, word)]
    try:
        name = _name_in(word, inputs)
    except NsrunError:
        if len(brought_up) != 1:
            raise
        return brought_up[0]
    return brought_up[0] if len(brought_up) == 1 and name not in known else name


def _is_of(name: str, file: str) -> bool:
    """Whether the stack ``name`` has been brought up from ``file``."""
    import os

    from nsrun.runtime import stack_store

    record = stack_store.record(name)
    try:
        return record is not None and os.path.samefile(record["file"], file)
    except OSError:
        return False


def _name_in(file: str, inputs: Inputs) -> str:
    from nsrun.spec.build import default_name
    from nsrun.spec.source import read_source

    data = read_source(file, inputs).data
    given = data.get("name") if isinstance(data, dict) else None
    return given if isinstance(given, str) else default_name(file)


def _had_volumes_alone(name: str) -> bool:
    """Whether the stack is down and had volumes, which are gone then."""
    import os

    from nsrun.cli.stacks import volumes_folder
    from nsrun.host import trees
    from nsrun.runtime import stack_store
    from nsrun.spec.names import CONTAINER_NAME

    # Below this folder there are those of other stacks.
    if CONTAINER_NAME.fullmatch(name) is None or name in stack_store.names():
        return False
    place = os.path.join(volumes_folder(os.environ), name)
    if stack_store.containers(name) or not os.path.isdir(place) or os.path.islink(place):
        return False
    trees.remove(place)
    return True
