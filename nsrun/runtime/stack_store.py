"""What is known of stacks: a folder each, and the lock of the process that keeps one.

stacks/NAME/lock         held by the stack's process: it is kept up if and only if it is
stacks/NAME/stack.json   file, sha256, folder and words of the last `up`
stacks/NAME/members.json health and restarts of each container, as they change
stacks/NAME/socket       asks the process: one JSON line, answered by lines
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from nsrun.host import paths
from nsrun.host.containers import make_private
from nsrun.runtime import store
from nsrun.runtime.store import Container

NETWORKS = "networks"
_LIMIT = 4 << 20
# Seconds for it to open its door.
_PATIENCE = 5.0


def folder(name: str) -> str:
    return os.path.join(os.path.dirname(store.folder()), "stacks", name)


@dataclass(frozen=True, slots=True)
class Lock:
    """Held as long as the descriptor is open."""

    fd: int

    def release(self) -> None:
        os.close(self.fd)


def take(name: str) -> Lock | None:
    """The stack's lock, None where another process has it."""
    place = folder(name)
    make_private(place)
    fd = os.open(os.path.join(place, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return Lock(fd)


def is_kept(name: str) -> bool:
    """Whether a process keeps the stack up."""
    return store.is_locked(folder(name))


def write(name: str, file: str, data: Any) -> None:
    store.write(folder(name), file, json.dumps(data, indent=1).encode() + b"\n")


def read(name: str, file: str) -> Any:
    """None where it is not there, or damaged."""
    text = paths.read_file(os.path.join(folder(name), file), _LIMIT)
    try:
        return json.loads(text) if text else None
    # json.loads: a text of brackets alone is too deep for it.
    except (ValueError, RecursionError):
        return None


def record(name: str) -> dict[str, Any] | None:
    """stack.json; None where it is not there, or what is read of it is of another type."""
    known = read(name, "stack.json")
    if not isinstance(known, dict):
        return None
    texts = [known.get("file"), known.get("cwd")]
    for several in (known.get("volumes", []), known.get("words", [])):
        texts += several if isinstance(several, list) else [0]
    return known if all(map(store.is_text, texts)) else None


def members(name: str) -> dict[str, dict[str, Any]]:
    """By the container's name what members.json says of it, as far as it is of its type."""
    known = read(name, "members.json")
    if not isinstance(known, dict):
        return {}
    return {
        member: {key: value for key, value in said.items() if _is_said(key, value)}
        for member, said in known.items()
        if isinstance(said, dict)
    }


def _is_said(key: str, value: object) -> bool:
    match key:
        case "state":
            return isinstance(value, str)
        case "healthy":
            return value is None or isinstance(value, bool)
        case "has_check":
            return isinstance(value, bool)
        case "restarts":
            return type(value) is int and 0 <= value < 1 << 63
        case _:
            return False


def remove(name: str) -> None:
    place = folder(name)
    shutil.rmtree(place, ignore_errors=True)
    above = os.path.dirname(place)
    for empty in (above, os.path.dirname(above)):
        with contextlib.suppress(OSError):
            os.rmdir(empty)


def names() -> list[str]:
    """All stacks, kept or not."""
    try:
        return sorted(os.listdir(os.path.join(os.path.dirname(store.folder()), "stacks")))
    except FileNotFoundError:
        return []


def containers(name: str) -> list[Container]:
    """The stack's containers by the time they were made; its networks' holder is one."""
    return [c for c in store.everything() if c.record.stack == name]


# What is said to the process that keeps a stack about one of its containers: it is stopped and to
# stay so; it is stopped and started again by who says so; it has been started.
HOLD, AWAIT, ADOPT = "hold", "await", "adopt"


def tell(container: Container, word: str) -> None:
    """Say HOLD, AWAIT or ADOPT to the process that keeps the container's stack, if there is one,
    and wait until it knows."""
    record = container.record
    if record.stack:
        with contextlib.suppress(OSError):
            for _ in ask(record.stack, {"do": word, "name": record.name}):
                pass


def ask(name: str, question: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Ask the stack's process; its answers until it hangs up. Raises ConnectionError.

    It opens its door anew when it has brought the stack up: who was at the old one asks again.
    """
    deadline = time.monotonic() + _PATIENCE
    while True:
        answered = False
        try:
            for answer in _ask_once(name, question):
                answered = True
                yield answer
        except ConnectionError:
            if answered or not is_kept(name) or time.monotonic() > deadline:
                raise
        if answered or not is_kept(name) or time.monotonic() > deadline:
            return
        time.sleep(0.01)


def _ask_once(name: str, question: dict[str, Any]) -> Iterator[dict[str, Any]]:
    try:
        place = os.open(folder(name), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise ConnectionError(f"{name} is not kept up") from error
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        try:
            client.connect(f"/proc/self/fd/{place}/socket")
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise ConnectionError(f"{name} is not kept up") from error
        finally:
            os.close(place)
        client.sendall(json.dumps(question).encode() + b"\n")
        with client.makefile("rb") as lines:
            for line in lines:
                yield json.loads(line)
