"""What nsrun.replay sees of the simulated machine instead of os, signal, select, time and libc.

The modules of nsrun.replay run as they are. Their names for the outside world are replaced: a
function that is not here is an AttributeError, so nothing reaches the kernel unseen.
"""

from __future__ import annotations

import copy
import errno as errnos
import os
import select
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest import mock

from nsrun.plan.model import Track
from nsrun.replay import (
    channel,
    child,
    engine,
    heir,
    hold,
    initproc,
    nlsocket,
    parent,
    prepare,
    reap,
    spawn,
    step,
    supervise,
    syscalls,
    terminal,
    watch,
)
from nsrun.replay.program import Program, Step
from nsrun.replay.step import Recorder
from tests.sim.layer import MACHINE, Layer, copied
from tests.sim.machine import File, GoneError, Machine, Place

# Names that are numbers, and functions that only compute.
_PURE_OS = frozenset({"fsencode", "strerror", "waitstatus_to_exitcode"})
_PURE_SIGNAL = frozenset({"valid_signals", "Signals"})


def _pure(module: Any, names: frozenset[str]) -> dict[str, Any]:
    found = {n: getattr(module, n) for n in dir(module) if n.isupper() or n[:3] in ("SIG", "CLD")}
    return found | {name: getattr(module, name) for name in names}


_OS = _pure(os, _PURE_OS)
_SIGNAL = _pure(signal, _PURE_SIGNAL)


class Os:
    """The functions of os that the executor calls."""

    def __init__(self, layer: Layer) -> None:
        self.__dict__.update(_OS)
        self._layer = layer

    @property
    def _m(self) -> Machine:
        return self._layer.m

    def uname(self) -> Any:
        return SimpleNamespace(machine=MACHINE)

    def _exit(self, status: int) -> None:
        m = self._m
        if m.current.code:
            m.kill(m.current, status, 0)
        raise GoneError

    def get_inheritable(self, fd: int) -> bool:
        if self._m.file(fd) is None:
            raise OSError(errnos.EBADF, "")
        return True

    def set_blocking(self, fd: int, blocking: bool) -> None:
        self._m.check("fcntl")

    def open(self, path: str, flags: int) -> int:
        self._m.check("open")
        kind = "children" if path.endswith("/children") else "file"
        return self._m.open(File(kind, path))

    def close(self, fd: int) -> None:
        # close(2): pipes, pidfds and files in memory have nothing to flush, which could fail.
        self._m.point("close")
        if not self._m.close(self._m.current, fd):
            raise OSError(errnos.EBADF, f"close({fd})")

    def pipe2(self, flags: int) -> tuple[int, int]:
        self._m.check("pipe2")
        reader, writer = File("reader"), File("writer")
        reader.peer, writer.peer = writer, reader
        return self._m.open(reader), self._m.open(writer)

    def dup2(self, fd: int, new: int) -> None:
        raise AssertionError("no process that holds or helps runs any code here")

    def memfd_create(self, name: str, flags: int) -> int:
        self._m.check("memfd_create")
        return self._m.open(File("file"))

    def write(self, fd: int, data: bytes) -> int:
        self._m.check("write")
        return len(data)

    def lseek(self, fd: int, offset: int, whence: int) -> int:
        self._m.check("lseek")
        return 0

    def read(self, fd: int, size: int) -> bytes:
        m = self._m
        file = m.file(fd)
        if file is None:
            raise OSError(errnos.EBADF, f"read({fd})")
        # A pipe's read has nothing that could be lacking (pipe(7)).
        m.check("read a pipe" if file.kind == "reader" else "read")
        match file.kind:
            case "children":
                file.kind = "file"
                return b" ".join(b"%d" % p.pid for p in m.children(m.current))
            case "pty":
                raise OSError(errnos.EIO, "read")
            case "signalfd":
                raise BlockingIOError
            case "reader":
                # What a helper writes there comes at once, or its end.
                if m.current is not m.launcher:
                    m.wait(lambda: m.readable(file))
        return b""

    def kill(self, pid: int, number: int) -> None:
        self._m.check("kill")
        for process in self._m.processes:
            if process.pid == pid and number == signal.SIGKILL:
                self._m.kill(process)

    def setsid(self) -> None:
        self._m.check("setsid")

    def getpid(self) -> int:
        return self._m.current.pid

    def pidfd_open(self, pid: int) -> int:
        m = self._m
        m.check("pidfd_open")
        process = next(p for p in m.processes if p.pid == pid)
        return m.open(File("pidfd", process=process))

    def waitpid(self, pid: int, options: int) -> tuple[int, int]:
        m = self._m
        m.check("wait4")
        mine = [p for p in m.children(m.current) if pid in (-1, p.pid)]
        if not mine:
            raise ChildProcessError(errnos.ECHILD, "waitpid")
        if not options & os.WNOHANG:
            m.wait(lambda: any(not p.alive for p in mine))
        for process in mine:
            if not process.alive:
                process.reaped = True
                return process.pid, process.by_signal or process.status << 8
        return 0, 0

    def waitid(self, kind: int, which: int, options: int) -> Any:
        m = self._m
        m.check("waitid")
        mine = m.children(m.current)
        if kind == os.P_PIDFD:
            file = m.file(which)
            mine = [p for p in mine if file is not None and p is file.process]
        elif kind == os.P_PID:
            mine = [p for p in mine if p.pid == which]
        if not mine:
            raise ChildProcessError(errnos.ECHILD, "waitid")
        for process in mine:
            if not process.alive:
                process.reaped = not options & os.WNOWAIT
                code = os.CLD_KILLED if process.by_signal else os.CLD_EXITED
                status = process.by_signal or process.status
                return SimpleNamespace(si_pid=process.pid, si_code=code, si_status=status)
        return None

    def isatty(self, fd: int) -> bool:
        return False

    def set_inheritable(self, fd: int, inheritable: bool) -> None:
        raise AssertionError("0 to 2 are open")


class Signals:
    """The functions of signal that the executor calls."""

    def __init__(self, layer: Layer) -> None:
        self.__dict__.update(_SIGNAL)
        self._layer = layer

    @property
    def _m(self) -> Machine:
        return self._layer.m

    def getsignal(self, number: int) -> Any:
        return signal.SIG_DFL

    def pthread_sigmask(self, how: int, mask: Any) -> set[int]:
        self._m.check("rt_sigprocmask")
        return set()

    def pidfd_send_signal(self, fd: int, number: int) -> None:
        m = self._m
        m.check("pidfd_send_signal")
        file = m.file(fd)
        if file is None or file.process is None:
            raise OSError(errnos.EBADF, "pidfd_send_signal")
        if file.process.reaped:
            raise ProcessLookupError(errnos.ESRCH, "pidfd_send_signal")
        if number == signal.SIGKILL:
            m.kill(file.process)


class Poll:
    """select.poll, of which time passes only here."""

    def __init__(self, machine: Machine) -> None:
        self._m = machine
        self._wanted: dict[int, int] = {}

    def register(self, fd: int, events: int) -> None:
        self._wanted[fd] = events

    def unregister(self, fd: int) -> None:
        del self._wanted[fd]

    def poll(self, milliseconds: int | None = None) -> list[tuple[int, int]]:
        m = self._m
        m.check("poll")
        files = [(fd, m.file(fd)) for fd in self._wanted]

        def ready() -> list[tuple[int, int]]:
            return [(fd, select.POLLIN) for fd, f in files if f is not None and m.readable(f)]

        if milliseconds != 0:
            patience = None if milliseconds is None else milliseconds * 10**6
            m.wait(lambda: bool(ready()), patience)
        return ready()


class SimRecorder(Recorder):
    """Steps as they are recorded say whose calls are made."""

    layer: Layer
    places: dict[tuple[Track, int], Place]

    def enter(self, track: Track, index: int) -> None:
        super().enter(track, index)
        self.layer.m.current.place = self.places[track, index]

    def leave(self, track: Track, index: int, result: step.Result) -> None:
        super().leave(track, index, result)
        self.layer.m.current.place = _OWN


_OWN = Place()


def places_of(program: Program) -> dict[tuple[Track, int], Place]:
    def place(one: Step) -> Place:
        return Place("step", f"{one.track.value[0]}{one.index}", one.op)

    return {(s.track, s.index): place(s) for track in Track for s in program.steps(track)}


class SimHeir(heir.Heir):
    """What the new process has of the launcher's memory is copied when it is forked."""

    layer: Layer

    def _start(self, track: parent.ParentTrack) -> None:
        twin = copy.copy(track)
        twin.registers = copied(track.registers)
        twin.closed, twin.done = set(track.closed), list(track.done)

        def succeed() -> None:
            assert twin_heir._pipe is not None
            twin_heir._succeed(twin_heir._pipe, twin_heir._number + 1, twin)

        twin_heir = copy.copy(self)
        self.layer._heir = succeed
        # There it is at once.
        self._recorder.settled = self._number + 1
        try:
            super()._start(track)
        finally:
            self.layer._heir = None


@contextmanager
def installed(layer: Layer, program: Program) -> Iterator[None]:
    """nsrun.replay on this machine, and on whichever takes its place in the layer."""
    os_, signals = Os(layer), Signals(layer)
    selects = SimpleNamespace(poll=lambda: Poll(layer.m), **_pure(select, frozenset()))
    clock = SimpleNamespace(
        time_ns=lambda: layer.m.clock,
        monotonic_ns=lambda: layer.m.clock,
        sleep=lambda seconds: _sleep(layer.m, seconds),
    )
    nothing: Callable[[], None] = lambda: None  # noqa: E731
    collector = SimpleNamespace(
        isenabled=lambda: False, disable=nothing, enable=nothing, freeze=nothing, unfreeze=nothing
    )
    SimRecorder.layer, SimRecorder.places = layer, places_of(program)
    SimHeir.layer = layer
    layer.program = program

    def made(*args: Any, **keys: Any) -> parent.ParentTrack:
        layer.track = parent.ParentTrack(*args, **keys)
        return layer.track

    with ExitStack() as stack:

        def put(module: Any, **names: Any) -> None:
            stack.enter_context(mock.patch.multiple(module, **names))

        for module in (engine, channel, child, heir, hold, parent, prepare, reap, spawn, supervise,
                       terminal, initproc):  # fmt: skip
            put(module, os=os_)
        for module in (engine, heir, initproc, parent, reap, spawn, supervise, terminal):
            put(module, signal=signals)
        for module in (nlsocket, reap, spawn, supervise, watch):
            put(module, select=selects)
        for module in (nlsocket, parent, reap, spawn, supervise, step):
            put(module, time=clock)
        for module in (prepare, nlsocket, spawn, channel, syscalls):
            put(module, syscall=layer.syscall)
        put(engine, gc=collector, Heir=SimHeir, Recorder=SimRecorder, ParentTrack=made,
            prepare=lambda plan, machine: program)  # fmt: skip
        put(parent, gc=collector, one_thread=lambda: True)
        put(child, _forget_imports=nothing)
        put(terminal, fcntl=SimpleNamespace(ioctl=_no_terminal))
        put(step, mmap=SimpleNamespace(mmap=lambda fd, size: bytearray(size)))
        put(syscalls.Forker, fork=lambda forker: layer.fork(forker))
        yield


def _sleep(m: Machine, seconds: float) -> None:
    m.clock += int(seconds * 10**9)
    m.turn()


def _no_terminal(*args: Any) -> None:
    raise OSError(errnos.ENOTTY, "ioctl")
