"""The monitor in Python, where the native one is not built; its words and files are the same.

docs/decisions/0019-state.md has the messages, native/monitor.c the comments.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from nsrun.runtime import store

_LINE_MAX = 8192
_EARLY_MAX = 65536
_INT = struct.Struct("=i")
_END = struct.Struct("=ii")
_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
_VEOF = b"\x04"
# More than a small file of the folder has.
_FILE_BYTES = 96


def spawn(words: Sequence[str]) -> int:
    """Start it in a process of its own, which ``words`` are for; its pid."""
    argv = [sys.executable, "-P", "-m", "nsrun.runtime.monitor", *words[1:]]
    actions = [(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0)]
    # Those that the caller ignores are not ignored by what it leaves running.
    every = signal.valid_signals()
    return os.posix_spawn(sys.executable, argv, os.environ, file_actions=actions, setsigdef=every)


class _Log:
    """Lines as CRI has them, rotated by size; what cannot be written is lost, and that is said.

    ``files_max`` 0: nothing is kept. ``lost_fd``: of the file .lost, whose room is taken.
    """

    def __init__(self, size_max: int, files_max: int, lost_fd: int = -1) -> None:
        self._size_max, self._files_max = size_max, files_max
        self._fd = -1
        self._size = 0
        self._lines: dict[str, bytearray] = {"stdout": bytearray(), "stderr": bytearray()}
        # Since the last line that was written.
        self._lost, self._lost_error, self._lost_fd = 0, 0, lost_fd
        if files_max:
            self._inherit_lost()
            with contextlib.suppress(OSError):
                self._open()

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        self._fd = os.open("log", flags, 0o600)
        self._size = os.lseek(self._fd, 0, os.SEEK_END)

    def take(self, stream: str, data: bytes) -> None:
        line = self._lines[stream]
        line += data
        while (at := line.find(b"\n")) >= 0 or len(line) > _LINE_MAX:
            whole = 0 <= at <= _LINE_MAX
            end = at if whole else _LINE_MAX
            self._write(stream, "F" if whole else "P", bytes(line[:end]))
            del line[: end + 1 if whole else end]

    def rest(self) -> None:
        for stream, line in self._lines.items():
            if line:
                self._write(stream, "P", bytes(line))
                line.clear()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            if self._lost:
                self._append(self._told())
                self._find_again()
        # "lost" stays, where that is so.
        with contextlib.suppress(OSError):
            os.unlink(".lost")

    def _write(self, stream: str, kind: str, text: bytes) -> None:
        if not self._files_max:
            return
        told = self._told() if self._lost else b""
        try:
            self._append(told + _line(stream, kind, text))
        except OSError as error:
            self._lose(error.errno or 0)
        else:
            if self._lost:
                self._find_again()

    def _append(self, data: bytes) -> None:
        """All of it, or nothing and OSError."""
        if self._size_max and self._size and self._size + len(data) > self._size_max:
            self._rotate()
        if self._fd < 0:
            self._open()
        written = os.write(self._fd, data)
        if written != len(data):
            os.ftruncate(self._fd, self._size)
            raise OSError(errno.ENOSPC, "")
        self._size += written

    def _told(self) -> bytes:
        lines = "1 line was" if self._lost == 1 else f"{self._lost} lines were"
        name = errno.errorcode.get(self._lost_error, str(self._lost_error))
        return _line("stderr", "F:lost", f"{lines} lost here: {name}".encode())

    def _lose(self, error: int) -> None:
        if not self._lost:
            with contextlib.suppress(OSError):
                os.rename(".lost", "lost")
        self._lost, self._lost_error = self._lost + 1, error
        self._tell_lost()

    def _tell_lost(self) -> None:
        text = f"{self._lost} {self._lost_error}".ljust(_FILE_BYTES - 1) + "\n"
        with contextlib.suppress(OSError):
            os.pwrite(self._lost_fd, text.encode(), 0)

    def _inherit_lost(self) -> None:
        """What a monitor before this one could not say in the log is said by this one."""
        with contextlib.suppress(OSError, ValueError):
            with open("lost", encoding="ascii") as file:
                lost, error = file.read(_FILE_BYTES).split()
            self._lost, self._lost_error = int(lost), int(error)
            os.rename(".lost", "lost")
            self._tell_lost()

    def _find_again(self) -> None:
        self._lost = 0
        with contextlib.suppress(OSError):
            os.rename("lost", ".lost")

    def _rotate(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1
        names = ["log", *(f"log.{n}" for n in range(1, self._files_max))]
        for number in range(len(names) - 1, 0, -1):
            with contextlib.suppress(OSError):
                os.rename(names[number - 1], names[number])
        if len(names) < 2:
            with contextlib.suppress(OSError):
                os.unlink("log")
        self._open()


def _line(stream: str, kind: str, text: bytes) -> bytes:
    now = time.time_ns()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now // 10**9))
    return f"{stamp}.{now % 10**9:09}Z {stream} {kind} ".encode() + text + b"\n"


@dataclass(slots=True)
class _Streams:
    """The monitor's ends of the launcher's streams, -1 where there is none."""

    out: int = -1
    err: int = -1
    input: int = -1
    theirs: tuple[int, int, int] = (-1, -1, -1)
    terminal: bool = False


def _open_streams(terminal: bool, keeps_input: bool) -> _Streams:
    err, their_err = os.pipe()
    if terminal:
        master, slave = os.openpty()
        os.set_blocking(master, False)
        os.set_blocking(err, False)
        return _Streams(master, err, master, (slave, slave, their_err), True)
    out, their_out = os.pipe()
    their_in, ours = os.open("/dev/null", os.O_RDONLY), -1
    if keeps_input:
        os.close(their_in)
        their_in, ours = os.pipe()
    for fd in (out, err, *((ours,) if ours >= 0 else ())):
        os.set_blocking(fd, False)
    return _Streams(out, err, ours, (their_in, their_out, their_err))


@dataclass(slots=True)
class _Monitor:
    plan: int
    ready: int
    name: str
    removes: bool
    log: _Log
    streams: _Streams
    notify: socket.socket
    door: socket.socket
    signals: int
    launcher: subprocess.Popen[bytes]
    pidfd: int
    # A pipe whose other end the launcher has, and who undoes in its place.
    alive: int
    command: int = -1
    started: int = 0
    clients: dict[int, socket.socket] = field(default_factory=dict)
    attached: set[int] = field(default_factory=set)
    pending: bytearray = field(default_factory=bytearray)
    # Clients of which something typed is not taken yet.
    waiting: set[int] = field(default_factory=set)
    input_ends: bool = False
    # Of standard error, until it is known whether the start succeeds.
    early: bytearray = field(default_factory=bytearray)

    def run(self) -> NoReturn:
        handlers: dict[int, Callable[[], object]] = {
            self.signals: self.pass_signals_on,
            self.notify.fileno(): self.notified,
            self.door.fileno(): self.welcome,
        }
        while True:
            poll = select.poll()
            poll.register(self.alive, select.POLLIN)
            for fd in (*handlers, self.streams.out, self.streams.err):
                if fd >= 0:
                    poll.register(fd, select.POLLIN)
            if self.pending and self.streams.input >= 0:
                mask = select.POLLOUT
                if self.streams.input == self.streams.out:
                    mask |= select.POLLIN
                poll.register(self.streams.input, mask)
            for fd in self.clients.keys() - self.waiting:
                poll.register(fd, select.POLLIN)
            ready = {fd for fd, _ in poll.poll()}
            for fd in ready & handlers.keys():
                handlers[fd]()
            if self.streams.out in ready:
                self.take("out")
            if self.streams.err in ready:
                self.take("err")
            if self.pending:
                self.write_input()
            for fd in ready & (self.clients.keys() - self.waiting):
                self.hear(fd)
            # Not the launcher alone: where it is killed its heir still undoes.
            if self.alive in ready:
                self.notified()
                self.end()

    # --- the launcher ------------------------------------------------------------------------

    def pass_signals_on(self) -> None:
        for number in os.read(self.signals, 64):
            if number in _ENDING or number in (signal.SIGUSR1, signal.SIGUSR2):
                self.signal(self.pidfd, number)

    def signal(self, pidfd: int, number: int) -> None:
        with contextlib.suppress(OSError, ValueError):
            if pidfd >= 0:
                signal.pidfd_send_signal(pidfd, number)

    def notified(self) -> None:
        with contextlib.suppress(BlockingIOError):
            lines = self.notify.recv(256).decode("ascii", "replace").split("\n")
            fields = dict(line.split("=", 1) for line in lines if "=" in line)
            if self.started or fields.get("READY") != "1":
                return
            self.started = time.time_ns()
            word = fields.get("MAINPID", "0")
            pid = int(word) if word.isdecimal() else 0
            with contextlib.suppress(OSError, OverflowError):
                self.command = os.pidfd_open(pid)
            _write_file("pid", f"{pid}\n")
            self.tell_caller("ready", pid)

    def tell_caller(self, word: str, number: int) -> None:
        if self.ready < 0:
            return
        with contextlib.suppress(OSError):
            os.write(self.ready, f"{word} {number}\n".encode())
        os.close(self.ready)
        self.ready = -1
        null = os.open("/dev/null", os.O_RDWR)
        for fd in range(3):
            os.dup2(null, fd)
        os.close(null)

    def take(self, which: str) -> bool:
        fd: int = getattr(self.streams, which)
        if fd < 0:
            return False
        try:
            data = os.read(fd, _LINE_MAX)
        except BlockingIOError:
            return False
        except OSError as error:
            # EIO: a terminal whose other end nobody has open.
            if error.errno != errno.EIO:
                raise
            return False
        if not data:
            os.close(fd)
            setattr(self.streams, which, -1)
            return False
        self.log.take("stdout" if which == "out" else "stderr", data)
        self.show(b"o" if which == "out" else b"e", data)
        if which == "err" and not self.started:
            if len(self.early) + len(data) > _EARLY_MAX:
                self.tell_early()
            self.early += data
        return True

    def tell_early(self) -> None:
        with contextlib.suppress(OSError):
            os.write(2, self.early)
        self.early.clear()

    def end(self) -> NoReturn:
        code = self.launcher.wait()
        status, number = (code, 0) if code >= 0 else (128 - code, -code)
        while self.take("out") or self.take("err"):
            pass
        if not self.started:
            self.tell_early()
        self.log.rest()
        self.log.close()
        _write_file("exit", f"{status} {self.started} {time.time_ns()} {number}\n")
        for name in ("pid", "notify", "socket"):
            with contextlib.suppress(OSError):
                os.unlink(name)
        if self.removes and self.started:
            store.remove(os.getcwd())
        for client in self.clients.values():
            self.send(client, b"x" + _END.pack(status, number))
        self.tell_caller("end", status)
        os._exit(status)

    # --- clients -----------------------------------------------------------------------------

    def welcome(self) -> None:
        with contextlib.suppress(OSError):
            client, _ = self.door.accept()
            client.setblocking(False)
            self.clients[client.fileno()] = client

    def drop(self, fd: int) -> None:
        self.attached.discard(fd)
        self.waiting.discard(fd)
        self.clients.pop(fd).close()

    def send(self, client: socket.socket, packet: bytes) -> bool:
        """Whether the client is to be kept: not where it reads too slowly."""
        try:
            client.send(packet, socket.MSG_NOSIGNAL)
        except (BrokenPipeError, ConnectionResetError):
            # It has closed its end; what it typed before is still to be heard.
            return True
        except OSError:
            return False
        return True

    def show(self, kind: bytes, data: bytes) -> None:
        for fd in tuple(self.attached):
            if not self.send(self.clients[fd], kind + data):
                self.drop(fd)

    def hear(self, fd: int) -> None:
        try:
            packet = self.clients[fd].recv(_LINE_MAX + 1)
        # unix_release_sock(): who closes with something unread leaves ECONNRESET, told once and
        # before what was sent earlier.
        except (BlockingIOError, ConnectionResetError):
            return
        except OSError:
            packet = b""
        kind, rest = packet[:1], packet[1:]
        match kind:
            case b"":
                self.drop(fd)
            case b"a":
                self.attached.add(fd)
                self.send(self.clients[fd], b"o")
            case b"i":
                if self.streams.input >= 0 and not self.input_ends:
                    self.pending += rest
                    self.waiting.add(fd)
                self.write_input()
            case b"c":
                self.input_ends = True
                self.write_input()
            case b"w" if self.streams.terminal and len(rest) == 4:
                fcntl.ioctl(self.streams.input, termios.TIOCSWINSZ, rest + bytes(4))
            case b"s" if len(rest) == _INT.size:
                self.signal(self.pidfd, _INT.unpack(rest)[0])
            case b"k" if len(rest) == _INT.size:
                self.signal(self.command, _INT.unpack(rest)[0])

    def write_input(self) -> None:
        fd = self.streams.input
        if fd < 0:
            return
        if self.pending:
            try:
                del self.pending[: os.write(fd, self.pending)]
            except BlockingIOError:
                return
            except OSError:
                self.pending.clear()
        if self.pending:
            return
        self.waiting.clear()
        if self.input_ends:
            if self.streams.terminal:
                # The end of what one has typed; another may type on.
                self.input_ends = False
                with contextlib.suppress(OSError):
                    os.write(fd, _VEOF)
            else:
                os.close(fd)
                self.streams.input = -1


def _write_file(name: str, text: str) -> None:
    """A file of the folder, whole or not there, in the room that was reserved for it."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    with contextlib.suppress(OSError):
        fd = os.open(f".{name}", flags, 0o600)
        try:
            os.ftruncate(fd, os.write(fd, text.encode()))
        finally:
            os.close(fd)
        os.rename(f".{name}", name)


def _reserve(name: str) -> int:
    """Take the room before the log has taken all there is: how the container ended is written
    down on a full disk too. The file's descriptor."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(f".{name}", flags, 0o600)
    os.write(fd, b" " * _FILE_BYTES)
    return fd


def _bound(name: str, kind: int) -> socket.socket:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name)
    made = socket.socket(socket.AF_UNIX, kind)
    made.bind(name)
    made.setblocking(False)
    return made


def _start(plan: int, cwd: int, alive: int, streams: _Streams) -> subprocess.Popen[bytes]:
    """The launcher: this Python, which replays the plan of a descriptor; it keeps ``alive``."""
    argv = [sys.executable, "-P", "-m", "nsrun", "@replay", str(plan), str(os.getpid())]
    stdin, stdout, stderr = streams.theirs
    started = subprocess.Popen(
        [*argv, "t" if streams.terminal else "-"],
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        pass_fds=(plan, alive),
        # The child goes there before it closes what it is not to have.
        cwd=f"/proc/self/fd/{cwd}",
        start_new_session=streams.terminal,
    )
    for fd in {*streams.theirs, alive}:
        os.close(fd)
    return started


def main(words: Sequence[str]) -> NoReturn:
    ready = int(words[2])
    try:
        monitor = _prepare(words)
    except OSError as error:
        print(f"error: nsrun cannot keep a container: {error}", file=sys.stderr, flush=True)
        os.write(ready, b"end 125\n")
        os._exit(125)
    monitor.run()


def _prepare(words: Sequence[str]) -> _Monitor:
    folder, plan, ready, cwd = (int(word) for word in words[:4])
    letters, size, files, name = words[4], int(words[5]), int(words[6]), words[7]
    for fd in (folder, plan, ready, cwd):
        os.set_inheritable(fd, False)
    os.setsid()
    os.umask(0o077)
    os.fchdir(folder)
    lock = os.open("lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    # Of the time before: a killed monitor leaves its pid, which is somebody else's now.
    with contextlib.suppress(FileNotFoundError):
        os.unlink("pid")
    os.close(_reserve("pid"))
    lost = _reserve("lost")
    # How it ended last is known until there is room to say how it ends next: the same room.
    with contextlib.suppress(FileNotFoundError):
        os.rename("exit", ".exit")
    os.close(_reserve("exit"))
    # The numbers of the signals come as bytes, one each.
    signals, wakes = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wakes)
    for number in (*_ENDING, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTSTP, signal.SIGWINCH):
        signal.signal(number, lambda *_: None)
    log = _Log(size, files, lost)
    notify, door = _bound("notify", socket.SOCK_DGRAM), _bound("socket", socket.SOCK_SEQPACKET)
    door.listen(32)
    streams = _open_streams("t" in letters, "i" in letters)
    alive, others = os.pipe2(os.O_CLOEXEC)
    launcher = _start(plan, cwd, others, streams)
    return _Monitor(
        plan=plan,
        ready=ready,
        name=name,
        removes="r" in letters,
        log=log,
        streams=streams,
        notify=notify,
        door=door,
        signals=signals,
        launcher=launcher,
        pidfd=os.pidfd_open(launcher.pid),
        alive=alive,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
