"""``nsrun cp``: files into and out of a running container."""

from __future__ import annotations

import argparse

from nsrun.cli.parser import examples


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Copies a file or folder into a running container, or out of it. One of the two is "
        "CONTAINER:PATH; - is a tar stream. Into a folder that is there the copy goes under its "
        "own name, of a folder that ends in /. what is in it. No symlink of the container leads "
        "out of it. What is copied belongs to the container's root, or to the caller; devices, "
        "FIFOs and sockets are left out."
    )
    parser.add_argument("-a", "--archive", action="store_true", help="keep owners")
    parser.add_argument(
        "-L", "--follow-link", action="store_true", help="follow SOURCE where it is a symlink"
    )
    parser.add_argument("source", metavar="SOURCE", help="a path, CONTAINER:PATH or -")
    parser.add_argument("target", metavar="TARGET", help="a path, CONTAINER:PATH or -")
    examples(
        parser,
        """
nsrun cp -a web:/etc/passwd - > passwd.tar
nsrun cp web:/etc/passwd passwd.web
""",
    )


def main(args: argparse.Namespace) -> int:
    import sys

    from nsrun.diag import Diagnostic, NsrunError
    from nsrun.runtime import cp, life, store

    source, target = _split(args.source), _split(args.target)
    if (source is None) == (target is None):
        raise NsrunError(
            Diagnostic(
                code="NS002",
                summary="one of SOURCE and TARGET is CONTAINER:PATH",
                help=("a local path with a colon begins with ./",),
            )
        )
    name, path = source or target or ("", "")
    container = store.find(name)
    if not container.running:
        raise life.not_running(container)
    how = cp.Manner(owned=args.archive, follow=args.follow_link)
    if source is not None:
        cp.copy_out(container, path, args.target, sys.stdout.buffer, how)
    else:
        _require(args.source)
        cp.copy_in(container, args.source, path, sys.stdin.buffer, how)
    return 0


def _require(source: str) -> None:
    """Raises NsrunError (NS001) for a local file that is not there: the copy would tell of what
    came of it at the other end."""
    import os

    from nsrun.diag import Diagnostic, NsrunError

    if source != "-" and not os.path.lexists(source):
        raise NsrunError(
            Diagnostic(code="NS001", summary=f"cannot read `{source}`: no such file or directory")
        )


def _split(word: str) -> tuple[str, str] | None:
    """The container and path of a word; None for a local path."""
    name, colon, path = word.partition(":")
    return (name, path or "/") if colon and name and not word.startswith(("/", ".")) else None
