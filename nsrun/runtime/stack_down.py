"""Taking a stack down: its containers, its networks, and its volumes where that is asked for."""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Callable

from nsrun.diag import Diagnostic, NsrunError
from nsrun.host import trees
from nsrun.runtime import events, life, stack_store
from nsrun.runtime.store import Container

Say = Callable[[str, str], None]

# Seconds within which a process that has hung up has ended.
_GONE = 5.0


def take_down(name: str, say: Say) -> None:
    """Stop and remove the containers of a stack, the last made first, and its networks; those of
    one name in the file at once."""
    containers = stack_store.containers(name)[::-1]
    for _, alike in itertools.groupby(containers, key=lambda c: c.record.service):
        group = list(alike)
        for container in group:
            say(container.record.name, "stopping")
        life.stop_all(group)
        for container in group:
            life.remove(container, force=True)
            say(container.record.name, "removed")
    events.note(events.of_stack(name, "stop"))


def end(container: Container) -> None:
    """Stop and remove one container."""
    life.stop(container)
    life.remove(container, force=True)


def remove_volumes(name: str) -> None:
    """The folders that nsrun has made for a stack, with all that is in them."""
    known = stack_store.record(name) or {}
    for folder in known.get("volumes", ()):
        with contextlib.suppress(OSError):
            trees.remove(folder)
            os.rmdir(os.path.dirname(folder))


def _asked_down(name: str, say: Say, *, volumes: bool) -> bool:
    """Whether the process that keeps the stack has taken it down."""
    with contextlib.suppress(ConnectionError):
        for answer in stack_store.ask(name, {"do": "down", "volumes": volumes}):
            if answer.get("name"):
                say(answer["name"], answer.get("what", ""))
            elif answer.get("what") == "down":
                return True
    # It has ended on the way, or is just about to.
    deadline = time.monotonic() + _GONE
    while stack_store.is_kept(name) and time.monotonic() < deadline:
        time.sleep(0.01)
    return False


def down(name: str, say: Say, *, volumes: bool = False) -> None:
    """Take a stack down, by the process that keeps it or, where there is none, here.

    Raises NsrunError (NS605) where there is nothing of the name.
    """
    if stack_store.is_kept(name) and _asked_down(name, say, volumes=volumes):
        return
    if not stack_store.containers(name) and name not in stack_store.names():
        raise NsrunError(
            Diagnostic(
                code="NS605",
                summary=f"there is no stack {name}",
                help=("`nsrun ps -a` lists what there is",),
            )
        )
    take_down(name, say)
    if volumes:
        remove_volumes(name)
    stack_store.remove(name)
