"""What has happened to containers and stacks: a log of JSON lines, and what folders tell.

There is no daemon that sees everything. Who changes a container writes a line; that one has
ended is told by the file `exit` of its folder, and goes into the log only when that file is about
to go (docs/decisions/0019-state.md). A container whose monitor was killed has no `exit`: nobody
knows how or when it ended, and no `die` is told.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nsrun.host.containers import state_folder
from nsrun.runtime import store
from nsrun.runtime.store import Container, Record

# In bytes; of two files the older one goes when the newer one has grown so large.
LIMIT = 1 << 20
_OLDER = ".1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """``type``: container or stack; ``time`` in nanoseconds since 1970; ``id``: of a stack its
    name."""

    type: str
    action: str
    id: str
    time: int
    attributes: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, ...]:
        """The same for an end that the folder tells, and the log too."""
        return (self.id, self.action, str(self.time))


# --- writing ---------------------------------------------------------------------------------


def path(environ: Mapping[str, str] = os.environ) -> str | None:
    """The log: beside the state folder, which goes with the last container."""
    state = state_folder(os.getuid(), environ)
    return None if state is None else f"{state}-events"


def of(record: Record, action: str, at: int = 0, **more: str) -> Event:
    """``at``: nanoseconds since 1970, 0 for now."""
    attributes = {**record.labels, "name": record.name, "spec": record.spec}
    if record.stack:
        attributes |= {"stack": record.stack, "service": record.service}
    return Event(
        type="container",
        action=action,
        id=record.id,
        time=at or time.time_ns(),
        attributes={**attributes, **more},
    )


def of_stack(name: str, action: str) -> Event:
    return Event(
        type="stack", action=action, id=name, time=time.time_ns(), attributes={"name": name}
    )


def die(container: Container) -> Event | None:
    """Its end as its folder tells it; None where it has not ended, or nobody knows how."""
    if container.exit_status is None or not container.started:
        return None
    known = how(container.exit_status, container.signal)
    return of(container.record, "die", container.finished, **known)


def how(status: int, number: int) -> dict[str, str]:
    """The attributes of an end: the exit status; the signal that was it, 0 for none, as that of
    a `kill` is told."""
    return {"exitCode": str(status), **({"signal": str(number)} if number else {})}


def oom(container: Container) -> Event | None:
    """That the kernel has ended a process of it for want of memory. Told with its end: the kernel
    counts, and does not say when."""
    last = die(container)
    if last is None or not container.out_of_memory:
        return None
    return of(container.record, "oom", container.finished)


def ends(container: Container) -> tuple[Event, ...]:
    """All that its folder tells of its end, in this order; none where it has not ended."""
    return tuple(e for e in (oom(container), die(container)) if e is not None)


def note(*events: Event | None) -> None:
    """Write them into the log, by one write(2). That a log cannot be written stops nobody."""
    place = path()
    if place is None:
        return
    data = "".join(json.dumps(as_data(e)) + "\n" for e in events if e is not None).encode()
    if not data:
        return
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    with contextlib.suppress(OSError):
        fd = os.open(place, flags, 0o600)
        try:
            os.write(fd, data)
            if os.lseek(fd, 0, os.SEEK_CUR) > LIMIT:
                _rotate(place, fd)
        finally:
            os.close(fd)


def _rotate(place: str, fd: int) -> None:
    """One of those who find it full; another's new file is not put in the place of the full one."""
    fcntl.flock(fd, fcntl.LOCK_EX)
    if os.fstat(fd).st_ino == os.stat(place).st_ino:
        os.rename(place, place + _OLDER)


# --- their form ------------------------------------------------------------------------------


def as_data(event: Event) -> dict[str, Any]:
    """As Docker's API shapes it."""
    return {
        "Type": event.type,
        "Action": event.action,
        "Actor": {"ID": event.id, "Attributes": dict(event.attributes)},
        "scope": "local",
        "time": event.time // 10**9,
        "timeNano": event.time,
    }


def parse(line: bytes) -> Event | None:
    """None for what is no whole event."""
    try:
        data = json.loads(line)
        actor = data["Actor"]
        attributes = {str(k): str(v) for k, v in actor["Attributes"].items()}
        return Event(
            type=str(data["Type"]),
            action=str(data["Action"]),
            id=str(actor["ID"]),
            time=int(data["timeNano"]),
            attributes=attributes,
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def wants(event: Event, filters: Sequence[tuple[str, str]]) -> bool:
    """Filters of one key: any of them; of several keys: one of each."""
    keys = {key for key, _ in filters}
    return all(any(_matches(event, k, v) for k, v in filters if k == key) for key in keys)


KEYS = ("container", "event", "label", "service", "stack", "type")


def _matches(event: Event, key: str, value: str) -> bool:
    known = event.attributes
    match key:
        case "container":
            is_one = event.type == "container"
            return is_one and (known.get("name") == value or event.id.startswith(value))
        case "event":
            # `health_status` is that of both `health_status: healthy` and `unhealthy`.
            return value in (event.action, event.action.partition(":")[0])
        case "label":
            name, equals, wanted = value.partition("=")
            return name in known and (not equals or known[name] == wanted)
        case "stack":
            return (event.id if event.type == "stack" else known.get("stack")) == value
        case "service":
            return known.get("service") == value
        case _:
            return event.type == value


# --- reading ---------------------------------------------------------------------------------


def past() -> list[Event]:
    """All that is known, by time."""
    place = path()
    found: dict[tuple[str, ...], Event] = {}
    for file in (place + _OLDER, place) if place is not None else ():
        with contextlib.suppress(OSError), open(file, "rb") as lines:
            found |= {e.key: e for e in map(parse, lines) if e is not None}
    found |= {e.key: e for c in store.everything() for e in ends(c)}
    return sorted(found.values(), key=lambda e: e.time)


def shown(events: Iterable[Event], since: int, until: int | None) -> Iterator[Event]:
    """Those within; times in nanoseconds since 1970."""
    return (e for e in events if e.time >= since and (until is None or e.time <= until))
