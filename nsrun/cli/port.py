"""``nsrun port``: where a container's ports are published."""

from __future__ import annotations

import argparse

from nsrun.cli.parser import add_format, examples
from nsrun.diag import Diagnostic, NsrunError


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = "Lists the published ports of a container: its own, and the host's."
    parser.add_argument("container", metavar="CONTAINER", help="a name or id")
    parser.add_argument("port", nargs="?", metavar="PORT[/PROTOCOL]", help="of this one alone")
    add_format(parser)
    examples(parser, "nsrun port web")


def main(args: argparse.Namespace) -> int:
    import json

    from nsrun.runtime import store

    pairs = [tuple(port.split("->")) for port in store.find(args.container).record.ports]
    if args.port is not None:
        pairs = [(host, own) for host, own in pairs if _holds(own, args.port)]
        if not pairs:
            summary = f"{args.container} publishes no port {args.port}"
            raise NsrunError(Diagnostic(code="NS002", summary=summary))
    if args.format == "json":
        print(json.dumps([{"host": host, "container": own} for host, own in pairs], indent=2))
        return 0
    for host, own in pairs:
        print(host if args.port is not None else f"{own} -> {host}")
    return 0


def _holds(own: str, wanted: str) -> bool:
    """Whether ``80/tcp`` or ``80-89/tcp`` are, or have, a port (``80``, ``80/tcp``)."""
    numbers, _, protocol = own.partition("/")
    number, _, asked = wanted.partition("/")
    first, _, last = numbers.partition("-")
    if (asked or "tcp") != protocol or not number.isdecimal():
        return False
    return int(first) <= int(number) <= int(last or first)
