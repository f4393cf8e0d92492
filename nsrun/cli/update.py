"""``nsrun update``: other limits for containers that run."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from nsrun.cli.parser import examples

if TYPE_CHECKING:
    from nsrun.runtime.store import Container
    from nsrun.spec.model import Resources

# Option to its place in `resources`, what it takes, and its help.
_OPTIONS = {
    "memory": ("memory", "SIZE", "most memory: bytes, or 64k, 512m, 2g"),
    "memory-swap": ("memory_swap", "SIZE", "most swap beside it"),
    "pids": ("pids", "N", "most processes"),
    "cpus": ("cpus", "N", "processors' time, as a number of them: 1.5"),
    "cpu-weight": ("cpu_weight", "N", "weight against others, 1 to 10000"),
    "cpuset-cpus": ("cpuset.cpus", "LIST", "processors that may be used: 0-3,6"),
    "cpuset-mems": ("cpuset.mems", "LIST", "memory nodes that may be used"),
}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Changes the limits of containers that were started with `resources`. The change is a "
        "plan; where one limit is refused, those before it are put back. It holds until the "
        "container ends: `nsrun start` begins with what the spec says. `nsrun drift` knows of it. "
        "Less memory than is used is refused by cgroup v1 where none can be taken back; on v2 the "
        "kernel takes it, and ends processes of the container where that is not enough."
    )
    for option, (_, metavar, text) in _OPTIONS.items():
        parser.add_argument(f"--{option}", metavar=metavar, help=text)
    parser.add_argument("--plan", action="store_true", help="print the plan, and change nothing")
    parser.add_argument("container", nargs="+", metavar="CONTAINER", help="a name or id")
    examples(
        parser,
        """
nsrun update --memory 256m --memory-swap 0 web
nsrun update --cpus 0.5 --plan web
""",
    )


def main(args: argparse.Namespace) -> int:
    from nsrun.cli.each import each
    from nsrun.cli.run import conclude
    from nsrun.render.listing import listing
    from nsrun.runtime import launch, update, updates

    resources = _resources(args)
    status = 0

    def change(container: Container) -> bool:
        nonlocal status
        if args.plan:
            print(listing(update.plan_for(container, resources).plan))
            return True
        with updates.held(container, change=True):
            wanted = update.plan_for(container, resources)
            ended = conclude(wanted.plan, launch.replay_plan(wanted.plan))
            if ended == 0:
                updates.note(container, wanted.limits)
        status = ended or status
        return ended == 0

    failed = each(args.container, change)
    return status or failed


def _resources(args: argparse.Namespace) -> Resources:
    """Raises NsrunError (NS002)."""
    import json

    from nsrun.diag import Diagnostic, NsrunError
    from nsrun.spec.build import build
    from nsrun.spec.document import parse_document
    from nsrun.spec.schema import validate

    data: dict[str, Any] = {}
    for option, (path, metavar, _) in _OPTIONS.items():
        word = getattr(args, option.replace("-", "_"))
        if word is None:
            continue
        outer, _, inner = path.rpartition(".")
        holder = data.setdefault(outer, {}) if outer else data
        holder[inner] = _number(word) if metavar == "N" else word
    if not data:
        raise NsrunError(Diagnostic(code="NS002", summary="nothing to change: no limit is given"))
    document = parse_document(json.dumps({"command": ["true"], "resources": data}), "")
    try:
        wrong = validate(document)
        if wrong:
            raise NsrunError(wrong)
        found = build(document).resources
    except NsrunError as error:
        raise NsrunError(tuple(_by_option(one) for one in error.diagnostics)) from None
    assert found is not None
    return found


def _number(word: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return word


def _by_option(found: Any) -> Any:
    """A problem of a document that was made from the options, in their words."""
    from nsrun.diag import Diagnostic

    path = found.path.removeprefix("resources.")
    option = next((o for o, (p, _, _) in _OPTIONS.items() if p == path), path)
    return Diagnostic(
        code="NS002", summary=f"--{option}: {found.summary}", help=found.help, why=found.why
    )
