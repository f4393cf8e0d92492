"""``nsrun generate systemd``: a unit that starts a stack at boot."""

from __future__ import annotations

import argparse

from nsrun.cli.parser import examples


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Prints a unit of systemd that brings a stack up at boot, or a container that was left "
        "running, keeps it up, and takes it down. NAME is a stack's, or a container's."
    )
    parser.add_argument("kind", choices=("systemd",), help="systemd")
    parser.add_argument("name", metavar="NAME", help="the name of a stack or container")
    examples(parser, "nsrun generate systemd shop > /etc/systemd/system/shop.service")


def main(args: argparse.Namespace) -> int:
    from nsrun.runtime import systemd

    print(systemd.unit(args.name), end="")
    return 0
