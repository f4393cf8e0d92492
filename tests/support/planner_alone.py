"""Plans every spec of specs/ and prints the plans; nothing may reach the kernel meanwhile.

``python -m tests.support.planner_alone``: an audit event of the planner ends it with status 1.
In strace(1), what the planner does lies between a write of ``begin`` and one of ``end``.
With ``--impure`` a folder is listed among the plans, to be found out.
"""

from __future__ import annotations

import os
import sys

# Imported only where a spec has interfaces or a filter: the import is no part of planning.
import nsrun.kernel.seccomp
import nsrun.plan.links  # noqa: F401
from nsrun.plan.build import plan
from nsrun.plan.codec import dumps
from nsrun.plan.wanted import wanted
from tests.golden.reference import facts_of, is_for_root, spec_files, spec_of

BEGIN, END = b"begin\n", b"end\n"

_planning = False
_seen: list[str] = []


def _audit(event: str, arguments: tuple[object, ...]) -> None:
    """Everything with an event is of the world outside, but for what CPython does by itself."""
    if _planning and not event.startswith(("object.__", "gc.", "builtins.id")):
        _seen.append(f"{event}{arguments!r:.200}")


def main() -> int:
    global _planning
    made = []
    impure = "--impure" in sys.argv
    inputs = [
        (spec, facts_of(spec, root=root))
        for spec in map(spec_of, spec_files())
        for root in (False, True)
        if root or not is_for_root(spec)
    ]
    sys.addaudithook(_audit)
    os.write(2, BEGIN)
    _planning = True
    for spec, facts in inputs:
        wanted(spec)
        made.append(plan(spec, facts))
    if impure:
        os.listdir("/")
    _planning = False
    os.write(2, END)
    for one in made:
        sys.stdout.write(dumps(one))
    for event in _seen:
        sys.stderr.write(f"while planning: {event}\n")
    return 1 if _seen else 0


if __name__ == "__main__":
    sys.exit(main())
