"""``nsrun unpin``: a namespace kept alive by a file is let go."""

from __future__ import annotations

import argparse

from nsrun.cli.parser import examples, mark


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Unmounts a namespace that a spec pinned on FILE and removes the file. The namespace ends "
        "with its last process."
    )
    file = parser.add_argument("file", metavar="FILE", help="the file that `pin` named")
    mark(file, "file")
    examples(parser, "nsrun unpin ./uts")


def main(args: argparse.Namespace) -> int:
    from nsrun.cli.run import conclude
    from nsrun.runtime import launch

    plan = launch.unpin_plan(args.file)
    return conclude(plan, launch.replay_plan(plan))
