"""A kernel that only remembers: which processes, descriptors and things on the host there are.

It knows as much as replays need to come to their execve, and keeps what would outlive them: files
and folders, mounts, links, tables, switches and control groups of the host, with who holds what.
Everything is deterministic; time passes only while somebody waits.

    launcher ── fork ──▶ child, on a thread of its own, which runs only while the launcher waits
       └─────── fork ──▶ heir, helpers, holders: processes that are known, and run no code
"""

from __future__ import annotations

import errno as errnos
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

# PEP 475: Python itself makes these again.
_RETRIED = frozenset({"open", "read", "write", "wait4", "waitid", "poll"})
# wait(2): nothing but ECHILD for one's own children; sigprocmask(2): nothing for a valid mask;
# poll(2): ENOMEM, but few descriptors lie on the kernel's stack (POLL_STACK_ALLOC, fs/select.c).
CANNOT_FAIL = frozenset({"wait4", "waitid", "rt_sigprocmask", "poll", "read a pipe"})
HOST = "host"


class GoneError(BaseException):
    """The process that would run this code has been killed, has ended, or runs another program."""


class HungError(BaseException):
    """Everyone waits, and nothing is left that could happen."""


@dataclass(frozen=True, slots=True)
class Fault:
    """The ``at``-th call of a run fails with ``errno``, or kills ``victim`` before it is made."""

    at: int = 0
    errno: int = 0
    victim: str = ""


@dataclass(slots=True)
class Place:
    """Where a call was made: ``step`` with its address, ``undo`` with its action and number, or
    ``own``: the executor's."""

    kind: str = "own"
    address: str = ""
    op: object = None
    action: int = -1
    number: int = -1


@dataclass(slots=True, eq=False)
class File:
    """An open file description; ``refs`` counts descriptors and messages that hold it."""

    kind: str
    name: str = ""
    refs: int = 0
    peer: File | None = None
    queue: deque[tuple[bytes, File | None]] = field(default_factory=deque)
    process: Process | None = None
    net: str = HOST
    lock: str = ""
    device: str = ""
    data: bytes = b""


@dataclass(slots=True, eq=False)
class Process:
    """``code``: a replay runs in it. ``waits`` says whether what it waits for has come."""

    pid: int
    name: str
    parent: Process | None = None
    fds: dict[int, File] = field(default_factory=dict)
    alive: bool = True
    code: bool = True
    reaped: bool = False
    status: int = 0
    by_signal: int = 0
    death_signal: int = 0
    subreaper: bool = False
    private: bool = False
    net: str = HOST
    place: Place = field(default_factory=Place)
    cgroups: set[str] = field(default_factory=set)
    own_places: set[str] = field(default_factory=set)
    waits: Callable[[], bool] | None = None
    inner: Process | None = None
    pid_init: bool = False


@dataclass(slots=True)
class Machine:
    """``things``: what is on the host and was not before. ``ever``: the paths and links that the
    plan makes, known from a run without a fault: they are missing until it does."""

    fault: Fault = field(default_factory=Fault)
    ever: set[str] = field(default_factory=set)
    things: set[str] = field(default_factory=set)
    switched: set[str] = field(default_factory=set)
    processes: list[Process] = field(default_factory=list)
    count: int = 0
    clock: int = 1
    fired: Place | None = None
    fired_call: str = ""
    execed: bool = False
    open_steps: list[str] = field(default_factory=list)
    performed: set[str] = field(default_factory=set)
    undone: list[tuple[int, int]] = field(default_factory=list)
    hung: bool = False
    survivors: list[str] = field(default_factory=list)
    before_exec: Callable[[], list[str]] = list
    links: dict[str, tuple[int, str]] = field(default_factory=dict)
    exposed: bool = False
    coroutines: list[Coroutine] = field(default_factory=list)
    launcher: Process = field(init=False)
    current: Process = field(init=False)

    def __post_init__(self) -> None:
        self.launcher = self.process("launcher", None)
        null = File("null")
        self.launcher.fds = dict.fromkeys(range(3), null)
        null.refs = 3
        self.current = self.launcher

    # --- calls -------------------------------------------------------------------------------

    def point(self, name: str) -> int:
        """Every call begins here: the errno that it fails with, 0 as a rule."""
        if not (self.current.alive and self.current.code):
            raise GoneError
        self.count += 1
        if self.count != self.fault.at:
            return 0
        self.fired, self.fired_call = self.current.place, name
        if self.fault.victim:
            victim = self._victim()
            if victim is None:
                self.fired = None
            else:
                self.kill(victim)
            if not self.current.alive:
                raise GoneError
        return self.fault.errno

    def check(self, name: str) -> None:
        """A call that Python makes; raises OSError."""
        errno = self.point(name)
        if errno == errnos.EINTR and name in _RETRIED:
            errno = 0
        if errno and name not in CANNOT_FAIL:
            raise OSError(errno, name)

    def _victim(self) -> Process | None:
        if self.fault.victim == "launcher":
            return self.launcher
        named = [p for p in self.processes if p.name in ("child", "command") and p.alive]
        return named[-1] if named else None

    # --- processes ---------------------------------------------------------------------------

    def process(self, name: str, parent: Process | None) -> Process:
        made = Process(pid=1000 + len(self.processes), name=name, parent=parent)
        if parent is not None:
            made.private, made.net = parent.private, parent.net
            made.cgroups = set(parent.cgroups)
            made.own_places = set(parent.own_places)
            for fd, file in parent.fds.items():
                self.install(made, fd, file)
        self.processes.append(made)
        return made

    def children(self, process: Process) -> list[Process]:
        return [p for p in self.processes if p.parent is process and not p.reaped]

    def kill(self, process: Process, status: int = 137, by_signal: int = 9) -> None:
        """End a process: its descriptors, its children's parent, and what ends with it."""
        if not process.alive:
            return
        process.alive, process.code = False, False
        process.status, process.by_signal = status, by_signal
        for fd in list(process.fds):
            self.close(process, fd)
        if process.pid_init and process.inner is not None:
            self.kill(process.inner)
        for child in [p for p in self.processes if p.parent is process]:
            child.parent = self._reaper(process)
            if child.death_signal:
                self.kill(child)
        for other in self.processes:
            if other.inner is process and other.alive:
                # nsrun's init ends with its command, and with its status.
                self.kill(other, status, by_signal)
        self._end_networks()

    def _reaper(self, process: Process) -> Process | None:
        above = process.parent
        while above is not None and not (above.alive and above.subreaper):
            above = above.parent
        return above

    def _end_networks(self) -> None:
        """A network namespace ends with its last process, and a veth with its peer."""
        alive = {p.net for p in self.processes if p.alive} | {HOST}
        for name, (_, peer) in list(self.links.items()):
            if peer not in alive and not peer.startswith("/"):
                self.remove_link(name)

    def remove_link(self, name: str) -> None:
        del self.links[name]
        self.things = {t for t in self.things if t != f"link {name}" and f"/{name}/" not in t}

    def end_command(self) -> bool:
        """Let the command end, if it runs: nobody else has anything to do."""
        for process in self.processes:
            if process.name == "command" and process.alive and not process.code:
                self.kill(process, 0, 0)
                return True
        return False

    # --- descriptors -------------------------------------------------------------------------

    def install(self, process: Process, fd: int, file: File) -> int:
        file.refs += 1
        process.fds[fd] = file
        return fd

    def open(self, file: File) -> int:
        fds = self.current.fds
        fd = 3
        while fd in fds:
            fd += 1
        return self.install(self.current, fd, file)

    def file(self, fd: int) -> File | None:
        return self.current.fds.get(fd)

    def close(self, process: Process, fd: int) -> bool:
        file = process.fds.pop(fd, None)
        if file is None:
            return False
        self.drop(file)
        return True

    def drop(self, file: File) -> None:
        file.refs -= 1
        if file.refs:
            return
        file.lock = ""
        for _, passed in file.queue:
            if passed is not None:
                self.drop(passed)
        file.queue.clear()
        if file.kind == "writer":
            for holder in self.processes:
                # What a holder waits for is the end of its pipe, on descriptor 0.
                if holder.name == "holder" and holder.fds.get(0) is file.peer:
                    self.kill(holder, 125, 0)

    def readable(self, file: File) -> bool:
        match file.kind:
            case "pidfd":
                return file.process is None or not file.process.alive
            case "socket" | "reader":
                ended = file.peer is not None and not file.peer.refs
                return bool(file.queue) or ended
            case "netlink":
                return bool(file.queue)
            case "pty":
                return True
            case _:
                return False

    # --- waiting -----------------------------------------------------------------------------

    def wait(self, ready: Callable[[], bool], nanoseconds: int | None = None) -> bool:
        """Let others run until ``ready``; False where the time is over before."""
        me = self.inside()
        while not ready():
            if me is not None:
                self.current.waits = ready
                me.pause()
                if not me.process.alive:
                    raise GoneError
                self.current.waits = None
                continue
            moved = self.turn() or (nanoseconds is None and self.end_command())
            if not self.current.alive:
                raise GoneError
            if moved:
                continue
            if nanoseconds is None:
                self.hung = True
                raise HungError
            if self.end_command():
                continue
            self.clock += nanoseconds
            return ready()
        return True

    def inside(self) -> Coroutine | None:
        """Whose thread this is, None for the launcher's."""
        return next((made for made in self.coroutines if made.inside()), None)

    def turn(self) -> bool:
        """Let another process run until it waits; False where none can."""
        for made in self.coroutines:
            waits = made.process.waits
            if made.ended or (made.process.alive and waits is not None and not waits()):
                continue
            me, self.current = self.current, made.process
            made.resume()
            made.process, self.current = self.current, me
            return True
        return False

    def settle(self) -> None:
        """The launcher is gone: all others come to their end, if they do."""
        while self.turn():
            pass
        self.survivors = [process.name for process in self.processes if process.alive]
        for made in self.coroutines:
            while not made.ended:
                made.process.alive = made.process.code = False
                self.current = made.process
                made.resume()

    # --- the host's files --------------------------------------------------------------------

    def exists(self, path: str) -> bool:
        if path in self.ever:
            return path in self.things
        parts = path.split("/")
        if path.startswith("/proc/sys/net/") and any(
            f"link {part}" in self.ever and part not in self.links for part in parts
        ):
            return False
        above = path.rpartition("/")[0]
        while above:
            if above in self.ever:
                return above in self.things
            above = above.rpartition("/")[0]
        return True

    def make(self, path: str) -> None:
        self.ever.add(path)
        self.things.add(path)


class Coroutine:
    """A thread that runs only while the machine's own waits for it."""

    def __init__(self, process: Process, main: Callable[[], None]) -> None:
        self.process = process
        self.ended = False
        self._main = main
        self._go, self._back = threading.Lock(), threading.Lock()
        self._go.acquire()
        self._back.acquire()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._started = False

    def inside(self) -> bool:
        # By the object: the number of a thread that has ended is given again.
        return threading.current_thread() is self._thread

    def resume(self) -> None:
        if not self._started:
            self._started = True
            self._thread.start()
        self._go.release()
        self._back.acquire()

    def pause(self) -> None:
        self._back.release()
        self._go.acquire()

    def _run(self) -> None:
        self._go.acquire()
        try:
            if self.process.alive:
                self._main()
        except GoneError:
            pass
        finally:
            self.ended = True
            self._back.release()
