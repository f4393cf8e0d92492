"""``nsrun ps``: the containers that were left running, or that have ended and are still there."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from nsrun.cli.filters import filter_of
from nsrun.cli.parser import add_format, examples

if TYPE_CHECKING:
    from nsrun.runtime.store import Container


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Lists the containers of this user that `nsrun run -d` has left running; with -a also "
        "those that have ended and not been removed."
    )
    parser.add_argument("-a", "--all", action="store_true", help="also those that have ended")
    parser.add_argument("-q", "--quiet", action="store_true", help="print ids alone")
    parser.add_argument("--no-trunc", action="store_true", help="print everything at full length")
    parser.add_argument(
        "-f",
        "--filter",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="by health, id, label, name (a part), stack or status; several of one key: any",
    )
    add_format(parser)
    examples(
        parser,
        """
nsrun ps -a
nsrun ps --filter stack=shop --filter status=running
nsrun ps --format json
""",
    )


def main(args: argparse.Namespace) -> int:
    from nsrun.cli.tables import columns
    from nsrun.runtime import store

    health = _Health()
    filters = [filter_of(word, _KEYS) for word in args.filter]
    # Docker looks among those that have ended, too, where they are asked for by their status.
    ended = args.all or any(key == "status" for key, _ in filters)
    # What holds a stack's networks is no container of anybody's.
    found = [
        c
        for c in store.everything()
        if (ended or c.alive or health.restarts(c)) and not c.record.holds_networks
    ]
    found = [c for c in found if _wants(_as_data(c, health), filters)]
    if args.format == "json":
        import json

        print(json.dumps([_as_data(c, health) for c in found], indent=2))
        return 0
    if args.quiet:
        for container in found:
            print(container.record.id[: None if args.no_trunc else store.SHORT_ID])
        return 0
    rows = [_row(container, args.no_trunc, health) for container in found]
    head = ("NAME", "ID", "SPEC", "COMMAND", "CREATED", "STATUS", "PORTS", "ADDRESSES")
    sys.stdout.write(columns(head, rows))
    return 0


_KEYS = ("health", "id", "label", "name", "stack", "status")


def _wants(data: dict[str, object], filters: list[tuple[str, str]]) -> bool:
    keys = {key for key, _ in filters}
    return all(any(_fits(data, k, v) for k, v in filters if k == key) for key in keys)


def _fits(data: dict[str, object], key: str, value: str) -> bool:
    match key:
        case "id":
            return str(data["id"]).startswith(value)
        case "name":
            return value in str(data["name"])
        case "label":
            name, equals, wanted = value.partition("=")
            labels = data["labels"]
            assert isinstance(labels, dict)
            return name in labels and (not equals or labels[name] == wanted)
        case _:
            return (data[key] or "none" if key == "health" else data[key]) == value


def _row(container: Container, whole: bool, health: _Health) -> tuple[str, ...]:
    import shlex

    from nsrun.cli.tables import ago, cut
    from nsrun.runtime import store

    record = container.record
    command = shlex.join(record.command)
    return (
        record.name,
        record.id if whole else record.id[: store.SHORT_ID],
        record.spec if whole else record.spec.rpartition("/")[2],
        command if whole else cut(command, 24),
        f"{ago(record.created)} ago",
        status(container, health),
        ", ".join(record.ports),
        ", ".join(record.addresses),
    )


class _Health:
    """What the processes that keep stacks have written down."""

    def __init__(self) -> None:
        self._known: dict[str, dict[str, dict[str, object]]] = {}

    def of(self, container: Container) -> dict[str, object]:
        from nsrun.runtime import stack_store

        stack = container.record.stack
        if not stack:
            return {}
        if stack not in self._known:
            kept = stack_store.is_kept(stack)
            self._known[stack] = stack_store.members(stack) if kept else {}
        return self._known[stack].get(container.record.name, {})

    def restarts(self, container: Container) -> bool:
        # On a full disk what is written down stays as it was; a folder's lock is the truth.
        return not container.alive and self.of(container).get("state") == "restarting"

    def word(self, container: Container) -> str:
        """``healthy``, ``unhealthy`` or ``starting``; "" without a healthcheck."""
        known = self.of(container)
        if not known.get("has_check"):
            return ""
        healthy = known.get("healthy")
        return "starting" if healthy is None else "healthy" if healthy else "unhealthy"


def status(container: Container, health: _Health) -> str:
    """As Docker words it: ``Up 3 minutes (healthy)``, ``Exited (0) 2 hours ago``."""
    from nsrun.cli.tables import ago
    from nsrun.runtime.store import Status

    if health.restarts(container):
        if container.exit_status is None:
            # Its monitor was killed, and wrote down no end.
            return "Restarting"
        return f"Restarting ({container.exit_status}) {ago(container.finished)} ago"
    match container.status:
        case Status.RUNNING:
            word = health.word(container)
            return f"Up {ago(container.started)}" + (f" ({word})" if word else "")
        case Status.PAUSED:
            return f"Up {ago(container.started)} (Paused)"
        case Status.EXITED:
            why = "out of memory, " if container.out_of_memory else ""
            return f"Exited ({why}{container.exit_status}) {ago(container.finished)} ago"
        case other:
            return other.value.capitalize()


def _as_data(container: Container, health: _Health) -> dict[str, object]:
    from nsrun.kernel.abi import signal_name

    record = container.record
    return {
        "name": record.name,
        "id": record.id,
        "spec": record.spec,
        "command": list(record.command),
        "created": record.created,
        "status": "restarting" if health.restarts(container) else container.status.value,
        "health": health.word(container) or None,
        "restarts": health.of(container).get("restarts", 0),
        "stack": record.stack or None,
        "pid": container.pid,
        "started": container.started,
        "finished": container.finished,
        "exit_status": container.exit_status,
        "signal": signal_name(container.signal) if container.signal else None,
        "out_of_memory": container.out_of_memory,
        "ports": list(record.ports),
        "addresses": list(record.addresses),
        "labels": dict(record.labels),
    }
