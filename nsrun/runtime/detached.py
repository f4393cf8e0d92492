"""Starting a container that goes on by itself: its folder, and the monitor that keeps it."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from nsrun.plan.model import Plan
from nsrun.runtime import events, joined, store
from nsrun.runtime import launch as replay
from nsrun.runtime.store import Record
from nsrun.spec.model import Network, Port, Spec

MONITOR = "nsrun-monitor"
# The signals that a monitor finds ignored, whoever starts it: glibc's posix_spawn(3) resets all
# that it is told to, but leaves its own two (SIGCANCEL and SIGSETXID) ignored.
IGNORED = (32, 33)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """``words``: the command line that asks; ``remove``: the folder goes with the end."""

    words: tuple[str, ...] = ()
    remove: bool = False
    stack: str = ""
    service: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """``status`` 0 where the command runs (or ran and ended), else nsrun's exit status; what
    there is to say has been said on standard error."""

    record: Record
    folder: str
    status: int
    monitor: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A plan, and the pids that it has of other containers, by their names."""

    plan: Plan
    joined: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A container whose folder has its plan; nothing of it runs."""

    record: Record
    folder: str
    plan: Plan

    def discard(self) -> None:
        store.remove(self.folder)


@dataclass(frozen=True, slots=True, kw_only=True)
class Starting:
    """A container whose monitor has been started ``at`` (ns since the epoch), and tells on
    ``pipe`` how the start went."""

    prepared: Prepared
    monitor: int
    pipe: int
    at: int

    def finish(self) -> Started:
        """Wait until the command runs, or could not be run: then no folder is left."""
        record, is_started = self.prepared.record, False
        try:
            result = _told(self.prepared.folder, record, self.monitor, self.pipe)
            is_started = result.status == 0
            if is_started:
                created = events.of(record, "create", record.created)
                events.note(created, events.of(record, "start", self.at))
            return result
        finally:
            if not is_started:
                self.prepared.discard()


def socket_of(folder: str) -> str:
    return os.path.join(folder, "notify")


def record_of(spec: Spec, options: Options) -> Record:
    """What is written down of a container that is about to be made."""
    network = spec.network or Network()
    return Record(
        id=store.new_id(),
        name=spec.name,
        spec=spec.file if spec.file == "-" else os.path.abspath(spec.file),
        sha256=spec.sha256,
        command=spec.command,
        created=time.time_ns(),
        words=options.words,
        cwd=os.getcwd(),
        tty=spec.tty,
        stdin=spec.tty or spec.stdin == "open",
        stop_signal=spec.stop_signal,
        stop_timeout=spec.stop_timeout,
        ports=tuple(shown_port(port) for port in network.ports),
        addresses=tuple(str(a.ip) for i in network.interfaces for a in i.addresses),
        labels=dict(spec.labels),
        log_size=spec.logging.max_size,
        log_files=spec.logging.files,
        remove=options.remove,
        stack=options.stack,
        service=options.service,
    )


def shown_port(port: Port) -> str:
    """As `docker ps` shows it: ``127.0.0.1:8080->80/tcp``."""

    def numbers(first: int) -> str:
        return str(first) if port.count == 1 else f"{first}-{first + port.count - 1}"

    place = f"[{port.address}]" if port.address is not None and port.address.version == 6 else (
        str(port.address or "0.0.0.0")
    )
    return f"{place}:{numbers(port.host)}->{numbers(port.container)}/{port.protocol}"


def run(spec: Spec, options: Options = Options()) -> Started:
    """Start ``spec`` detached; returns when its command has been executed, or could not be.

    Raises NsrunError (NS606) where its name is taken, and whatever planning it raises. What has
    never run leaves no folder.
    """
    return launch(prepare(spec, options)).finish()


def prepare(spec: Spec, options: Options) -> Prepared:
    """The folder of ``spec`` with its plan in it. Raises NsrunError as :func:`run` does."""
    return prepare_plan(lambda socket: planned(spec, socket), record_of(spec, options))


def prepare_plan(make: Callable[[str], Planned], record: Record) -> Prepared:
    """As :func:`prepare`, for any plan that tells the socket it is made for when it is ready."""
    folder = store.claim(record.name)
    try:
        made = make(socket_of(folder))
        keep(folder, made)
        store.save(folder, record)
    except BaseException:
        store.remove(folder)
        raise
    return Prepared(record=record, folder=folder, plan=made.plan)


def run_plan(make: Callable[[str], Planned], record: Record) -> Started:
    """As :func:`run`, for any plan that tells the socket it is made for when it is ready."""
    return launch(prepare_plan(make, record)).finish()


def launch(prepared: Prepared) -> Starting:
    """Start a monitor on what is prepared; how that goes is for :meth:`Starting.finish` to say."""
    # The end of a quick command comes before a start is noted, but not before this.
    at = time.time_ns()
    try:
        monitor, pipe = _launch(prepared.folder, prepared.record, prepared.plan)
    except BaseException:
        prepared.discard()
        raise
    return Starting(prepared=prepared, monitor=monitor, pipe=pipe, at=at)


def planned(spec: Spec, socket: str) -> Planned:
    """The plan of ``spec`` that tells ``socket`` when the command runs. Raises NsrunError.

    It is the same whatever signals the caller ignores: see IGNORED.
    """
    from nsrun.host.facts import gather
    from nsrun.plan.build import plan, wanted

    facts = replace(gather(wanted(spec)), ignored_signals=IGNORED)
    return Planned(plan=plan(spec, facts, notify=socket), joined=facts.containers)


def keep(folder: str, made: Planned) -> None:
    """Put away the plan that a start replays."""
    from nsrun.plan.binary import encode

    # This order: pids that are written down are never newer than the plan's.
    store.write(folder, "plan", encode(made.plan))
    joined.keep(folder, made.joined)


def again(container: store.Container, options: Options | None = None) -> Started:
    """Replay the stored plan of a container that has ended.

    Raises NsrunError (NS404) where another container that it joins is not running.
    """
    joined.renew(container)
    record = container.record
    if options is not None:
        record = replace(record, remove=options.remove)
    # The start takes the file away that tells of the last end.
    last, at = events.ends(container), time.time_ns()
    result = start(container.folder, record, store.plan_of(container))
    events.note(*last, events.of(record, "start", at) if result.status == 0 else None)
    return result


def start(folder: str, record: Record, made: Plan) -> Started:
    """Start a monitor on a folder that has the plan ``made``, and wait for what it tells."""
    return _told(folder, record, *_launch(folder, record, made))


def _launch(folder: str, record: Record, made: Plan) -> tuple[int, int]:
    """The pid of a monitor on ``folder``, and the pipe on which it tells how the start went."""
    ours, theirs = os.pipe()
    place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    plan = os.open(os.path.join(folder, "plan"), os.O_RDONLY)
    cwd = _working_folder(record.cwd)
    fds = (place, plan, theirs, cwd)
    try:
        chosen = (("t", record.tty), ("i", record.stdin), ("r", record.remove))
        letters = "".join(letter for letter, is_set in chosen if is_set)
        words = [
            *(MONITOR, *map(str, fds), letters or "-"),
            *(str(record.log_size), str(record.log_files), record.name),
        ]
        monitor = _spawn(words, fds, sealed=replay.joins(made))
    except BaseException:
        os.close(ours)
        raise
    finally:
        for fd in fds:
            os.close(fd)
    return monitor, ours


def _told(folder: str, record: Record, monitor: int, pipe: int) -> Started:
    """What a monitor tells of its start, once it does."""
    with open(pipe, "rb") as told:
        try:
            said = told.read().split()
        except KeyboardInterrupt:
            # It is in a session of its own, so the terminal's signal has not come to it.
            os.kill(monitor, signal.SIGTERM)
            os.waitpid(monitor, 0)
            raise
    if len(said) == 2 and said[0] == b"ready":
        return Started(record=record, folder=folder, status=0, monitor=monitor)
    os.waitpid(monitor, 0)
    code = int(said[1]) if len(said) == 2 and said[1].isdigit() else 125
    return Started(record=record, folder=folder, status=code or 125, monitor=-1)


def _working_folder(path: str) -> int:
    """A descriptor of where the launcher is to be, / where the folder is gone."""
    try:
        return os.open(path, os.O_PATH | os.O_DIRECTORY)
    except OSError:
        return os.open("/", os.O_PATH | os.O_DIRECTORY)


def _spawn(words: Sequence[str], fds: tuple[int, ...], *, sealed: bool) -> int:
    """``sealed``: its launcher, which is the same program, enters other containers."""
    from nsrun.host import native
    from nsrun.runtime import monitor

    program = native.chosen(os.environ)
    # What the caller was started with is not the container's to hold open.
    for fd in _inheritable():
        os.set_inheritable(fd, False)
    for fd in fds:
        os.set_inheritable(fd, True)
    if program is not None:
        copy = replay.sealed(program) if sealed else -1
        try:
            return os.posix_spawn(
                f"/proc/self/fd/{copy}" if sealed else program,
                list(words),
                os.environ,
                file_actions=[(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0)],
                setsigdef=signal.valid_signals(),
            )
        finally:
            if sealed:
                os.close(copy)
    return monitor.spawn(words)


def _inheritable() -> list[int]:
    """Our descriptors above the standard ones that an execve(2) leaves open."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the one that lists them
            if int(name) > 2 and os.get_inheritable(int(name)):
                found.append(int(name))
    return found
