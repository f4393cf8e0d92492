"""``nsrun events``: what has happened to containers and stacks, and what happens."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from nsrun.cli.filters import filter_of
from nsrun.cli.parser import add_format, examples

if TYPE_CHECKING:
    from nsrun.runtime.events import Event

_NS = 10**9


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Prints what has happened to the containers and stacks of this user: create, start, die, "
        "stop, kill, restart, pause, unpause, health_status, destroy; of stacks start and stop. "
        "With -f it goes on with what happens, and without --since it begins now. Nobody knows "
        "the end of a container whose monitor was killed, and no die is told of it. Of one of "
        "`run --rm` only -f sees the end."
    )
    parser.add_argument("-f", "--follow", action="store_true", help="go on with what happens")
    parser.add_argument(
        "--since", metavar="WHEN", help="nothing from before: RFC 3339, or how long ago, 10m"
    )
    parser.add_argument("--until", metavar="WHEN", help="nothing from after")
    parser.add_argument(
        "--filter",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="by container, event, label, service, stack or type; several of one key: any",
    )
    add_format(parser)
    examples(
        parser,
        """
nsrun events --since 1h --filter event=die
nsrun events -f --filter stack=shop --format json
""",
    )


def main(args: argparse.Namespace) -> int:
    from nsrun.runtime import events
    from nsrun.runtime.events_follow import Follower

    filters = [filter_of(word, events.KEYS) for word in args.filter]
    since, until = _nanoseconds(args.since), _nanoseconds(args.until)

    def show(event: Event) -> None:
        if events.wants(event, filters):
            print(_line(event, args.format), flush=True)

    if not args.follow:
        for event in events.shown(events.past(), since or 0, until):
            show(event)
        return 0
    with Follower() as follower:
        for event in events.shown(events.past(), since, until) if since is not None else ():
            # What is told here is not told again as what happens.
            if follower.is_new(event):
                show(event)
        for event in follower.events(until):
            show(event)
    return 0


def _nanoseconds(text: str | None) -> int | None:
    """Since 1970, in UTC. Raises NsrunError (NS002)."""
    import datetime

    from nsrun.runtime import logs

    if text is None:
        return None
    at = datetime.datetime.fromisoformat(logs.moment(text)).replace(tzinfo=datetime.UTC)
    since = at - datetime.datetime.fromtimestamp(0, datetime.UTC)
    return since // datetime.timedelta(microseconds=1) * 1000


def _line(event: Event, form: str) -> str:
    import json

    from nsrun.runtime.events import as_data

    if form == "json":
        return json.dumps(as_data(event))
    known = ", ".join(f"{k}={v}" for k, v in sorted(event.attributes.items()))
    return f"{_time(event.time)} {event.type} {event.action} {event.id} ({_plain(known)})"


def _time(moment: int) -> str:
    import datetime

    at = datetime.datetime.fromtimestamp(moment // _NS, datetime.UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{moment % _NS:09}Z"


def _plain(text: str) -> str:
    """A label cannot move the terminal's cursor."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
