"""Events as they happen: the log is watched by inotify(7), each end is told by its monitor."""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import time
from collections.abc import Iterator
from types import TracebackType
from typing import BinaryIO

from nsrun.diag import Diagnostic, NsrunError
from nsrun.runtime import events, store
from nsrun.runtime.control import Monitor, end_of
from nsrun.runtime.events import Event
from nsrun.runtime.store import Container

# linux/inotify.h
_IN_MODIFY, _IN_DELETE_SELF, _IN_MOVE_SELF = 0x2, 0x400, 0x800
_MASK = _IN_MODIFY | _IN_DELETE_SELF | _IN_MOVE_SELF
_DRAIN = 1 << 16
_libc = ctypes.CDLL(None, use_errno=True)


def _inotify() -> int:
    fd: int = _libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
    if fd < 0:
        errno = ctypes.get_errno()
        raise NsrunError(
            Diagnostic(
                code="NS402",
                summary=f"events cannot be followed: {os.strerror(errno)}",
                help=("sysctl fs.inotify.max_user_instances",),
            )
        )
    return fd


class Follower:
    """From its making on nothing is missed. Raises NsrunError where there can be no log."""

    def __init__(self) -> None:
        place = events.path()
        if place is None:
            store.folder()  # it says why
            raise AssertionError
        self._place = place
        self._inotify = _inotify()
        self._log = self._open()
        self._log.seek(0, os.SEEK_END)
        self._told: set[tuple[str, ...]] = set()
        self._past: set[tuple[str, ...]] = set()
        self._monitors: dict[int, tuple[Container, Monitor]] = {}
        for container in store.everything():
            self._told |= {e.key for e in events.ends(container)}
            self._watch(container)

    def __enter__(self) -> Follower:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        for _, monitor in self._monitors.values():
            monitor.close()
        self._log.close()
        os.close(self._inotify)

    def _open(self) -> BinaryIO:
        """The log of now, made where there is none, and watched."""
        flags = os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        file = open(os.open(self._place, flags, 0o600), "rb")  # noqa: SIM115 - it stays open
        # The file that is open, not what has come to its name meanwhile.
        name = f"/proc/self/fd/{file.fileno()}".encode()
        if _libc.inotify_add_watch(self._inotify, name, _MASK) < 0:
            errno = ctypes.get_errno()
            raise OSError(errno, os.strerror(errno), self._place)
        return file

    def _watch(self, container: Container) -> None:
        if not container.alive:
            return
        with contextlib.suppress(ConnectionError):
            monitor = Monitor(container)
            self._monitors[monitor.fileno()] = (container, monitor)

    def is_new(self, event: Event) -> bool:
        """Whether it is none that has been told; from now on it has."""
        is_new = event.key not in self._past
        self._past.add(event.key)
        self._told.add(event.key)
        return is_new

    def events(self, until: int | None = None) -> Iterator[Event]:
        """Until the time comes, in nanoseconds since 1970."""
        while until is None or time.time_ns() < until:
            poll = select.poll()
            for fd in (self._inotify, *self._monitors):
                poll.register(fd, select.POLLIN)
            left = None if until is None else max(0, (until - time.time_ns()) // 10**6)
            ready = [fd for fd, _ in poll.poll(left)]
            for fd in ready:
                if fd in self._monitors:
                    yield from self._ended(fd)
            if self._inotify in ready:
                yield from self._written()

    # --- ends --------------------------------------------------------------------------------

    def _ended(self, fd: int) -> Iterator[Event]:
        """What a monitor says; one that hangs up without a word was killed."""
        container, monitor = self._monitors[fd]
        kind, data = monitor.receive()
        if kind not in ("x", ""):
            return
        del self._monitors[fd]
        monitor.close()
        if kind == "" or not container.record.remove:
            yield from self._settle(container.record.name, container.record.id)
            return
        # It has taken its folder away itself, and nobody else will write of it.
        record, end = container.record, end_of(data)
        yield from self._once(events.of(record, "die", 0, **events.how(end.status, end.signal)))
        yield from self._once(events.of(record, "destroy"))

    def _settle(self, name: str, ident: str) -> Iterator[Event]:
        """The end that a folder tells, if it has not been told."""
        found = store.load(os.path.join(store.folder(), name))
        if found is not None and found.record.id == ident:
            for event in events.ends(found):
                yield from self._once(event)

    def _once(self, event: Event | None) -> Iterator[Event]:
        if event is not None and event.key not in self._told:
            self._told.add(event.key)
            yield event

    # --- the log -----------------------------------------------------------------------------

    def _written(self) -> Iterator[Event]:
        with contextlib.suppress(BlockingIOError):
            os.read(self._inotify, _DRAIN)
        yield from self._lines()
        while self._is_rotated():
            # What was written last to the old one, by who had it open.
            yield from self._lines()
            self._log.close()
            self._log = self._open()
            yield from self._lines()

    def _is_rotated(self) -> bool:
        try:
            return os.stat(self._place).st_ino != os.fstat(self._log.fileno()).st_ino
        except FileNotFoundError:
            return True

    def _lines(self) -> Iterator[Event]:
        while True:
            at = self._log.tell()
            line = self._log.readline()
            if not line.endswith(b"\n"):
                self._log.seek(at)
                return
            event = events.parse(line)
            if event is not None:
                yield from self._noted(event)

    def _noted(self, event: Event) -> Iterator[Event]:
        name = event.attributes.get("name", "")
        if event.action == "stop":
            yield from self._settle(name, event.id)
        yield from self._once(event)
        if event.type == "container" and event.action == "start" and "/" not in name:
            found = store.load(os.path.join(store.folder(), name))
            if found is not None and found.record.id == event.id:
                watched = {c.record.id for c, _ in self._monitors.values()}
                if found.alive and event.id not in watched:
                    self._watch(found)
                # It may have ended before its monitor was asked.
                yield from self._settle(name, event.id)
