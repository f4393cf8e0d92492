"""``nsrun @keep STACK LOCK``: the process that keeps a stack which `nsrun up -d` has brought up.

LOCK is a descriptor that holds the stack's lock. No one types it.
"""

from __future__ import annotations

import argparse


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("stack", help="the stack's name")
    parser.add_argument("lock", type=int, help="descriptor of its lock")


def main(args: argparse.Namespace) -> int:
    from nsrun.runtime.stack import Supervisor
    from nsrun.runtime.stack_watched import watched

    supervisor = Supervisor(stack=watched(args.stack), say=lambda *_: None, report=lambda _: None)
    supervisor.resume(args.lock)
    while not supervisor.ending:
        supervisor.keep_once()
    # Told to end, it leaves the containers as they are: `down` is what ends them.
    supervisor.close(remove=False)
    return 0
