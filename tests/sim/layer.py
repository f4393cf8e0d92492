"""The system calls of the simulated machine, by their numbers and the addresses they are given."""

from __future__ import annotations

import contextlib
import copy
import ctypes
import errno as errnos
import os
import signal
import struct
from collections.abc import Callable
from typing import Any

from nsrun.kernel import abi
from nsrun.kernel.abi import CloneFlag
from nsrun.kernel.values import Call, Str
from nsrun.plan.ops import Clone, Spawn
from nsrun.replay import channel, step
from nsrun.replay.channel import Message, Tag
from nsrun.replay.child import ChildTrack
from nsrun.replay.program import Program
from tests.sim.machine import HOST, Coroutine, File, GoneError, Machine, Process

# What the plans of tests/golden are for.
MACHINE = "x86_64"

_POINTERS = struct.Struct("=6Q")
_NLMSG = struct.Struct("=IHHII")
_LINK = struct.Struct("=BBHiII")
_ATTRIBUTE = struct.Struct("=HH")
_NEWLINK, _DELLINK, _CREATE = 16, 17, 0x400
_IFNAME, _NS_PID, _NS_FD, _INDEX = 3, 19, 28, 56
_MASK = 1 << 32


class Layer:
    """The calls of one run on one machine. ``answers``: what the plan expects to be written to an
    address, which is what this kernel writes there."""

    def __init__(self, machine: Machine, answers: dict[int, list[tuple[int, int, int]]]) -> None:
        self.m = machine
        self.answers = answers
        self.program: Program | None = None

    # --- system calls ------------------------------------------------------------------------

    def syscall(self, number: int, *args: int) -> tuple[int, int]:
        name, handler = _HANDLERS[number]
        errno = self.m.point(name)
        if errno:
            if name == "close":  # the descriptor is gone in any case (close(2))
                self.m.close(self.m.current, args[0])
            return -1, errno
        place = self.m.current.place
        result = handler(self, *args, *(0,) * (6 - len(args))) if handler else 0
        if isinstance(result, tuple):
            return result
        for address in args:
            for offset, size, value in self.answers.get(address, ()):
                ctypes.memmove(address + offset, value.to_bytes(size, "little"), size)
        op = place.op
        if handler is None and isinstance(op, Call) and op.result is not None:
            result = op.result
        self.m.performed.add(place.address)
        return result, 0

    def _path(self, dirfd: int, text: str) -> str:
        """The place on the host that a path names; inside a root it begins with the root's."""
        if text.startswith("/") and dirfd < 0:
            return text.rstrip("/") or "/"
        file = self.m.file(dirfd)
        base = file.name if file is not None else ""
        return f"{base}/{text}".rstrip("/") if text else base

    def _own(self, path: str) -> bool:
        """Whether a place is in a mount that ends with the caller's mount namespace."""
        me = self.m.current
        return path.startswith("*") or (
            me.private and any(path == own or path.startswith(f"{own}/") for own in me.own_places)
        )

    def _new(self, kind: str, name: str = "") -> int:
        return self.m.open(File(kind, name, net=self.m.current.net))

    def openat(self, dirfd: int, path: int, flags: int, *_: int) -> Any:
        return self._open(self._path(_signed(dirfd), _text(path)), flags)

    def openat2(self, dirfd: int, path: int, how: int, *_: int) -> Any:
        flags = int.from_bytes(ctypes.string_at(how, 8), "little")
        return self._open(self._path(_signed(dirfd), _text(path)), flags)

    def _open(self, path: str, flags: int) -> Any:
        if not self.m.exists(path) or (flags & os.O_CREAT and not self._own(path)):
            if not flags & os.O_CREAT:
                return -1, errnos.ENOENT
            self.m.make(path)
        kind = "pty" if path.endswith("/ptmx") else "file"
        return self._new(kind, path)

    def open_tree(self, dirfd: int, path: int, *_: int) -> Any:
        return self._new("tree", self._path(_signed(dirfd), _text(path)))

    def fsmount(self, *_: int) -> Any:
        return self._new("own", f"*{self.m.count}")

    def move_mount(self, from_: int, name: int, to: int, target: int, *_: int) -> int:
        file = self.m.file(from_)
        place = self._path(_signed(to), _text(target))
        if not self.m.current.private:
            self.m.things.add(f"mount {place}")
        elif file is not None and file.kind == "own":
            self.m.current.own_places.add(place)
        return 0

    def mkdirat(self, dirfd: int, path: int, *_: int) -> Any:
        return self._create(self._path(_signed(dirfd), _text(path)))

    def symlinkat(self, target: int, dirfd: int, path: int, *_: int) -> Any:
        return self._create(self._path(_signed(dirfd), _text(path)))

    def _create(self, path: str) -> Any:
        if self._own(path):
            return 0
        if path in self.m.things:
            return -1, errnos.EEXIST
        self.m.make(path)
        return 0

    def unlinkat(self, dirfd: int, path: int, flags: int, *_: int) -> Any:
        place = self._path(_signed(dirfd), _text(path))
        if place not in self.m.things:
            return -1, errnos.ENOENT
        if f"mount {place}" in self.m.things or any(
            place in p.cgroups for p in self.m.processes if p.alive
        ):
            return -1, errnos.EBUSY
        if flags and any(thing.startswith(f"{place}/") for thing in self.m.things):
            return -1, errnos.ENOTEMPTY
        self.m.things.discard(place)
        return 0

    def mount(self, source: int, target: int, kind: int, flags: int, *_: int) -> int:
        # Propagation and the like change no mount of another namespace.
        if flags & 0x1000 and not self.m.current.private:  # MS_BIND
            self.m.things.add(f"mount {_text(target)}")
        return 0

    def umount2(self, target: int, *_: int) -> Any:
        thing = f"mount {_text(target)}"
        if self.m.current.private:
            return 0
        if thing not in self.m.things:
            return -1, errnos.EINVAL
        self.m.things.discard(thing)
        return 0

    def write(self, fd: int, data: int, size: int, *_: int) -> Any:
        file = self.m.file(fd)
        if file is None:
            return -1, errnos.EBADF
        if not self.m.exists(file.name):  # grab_header(), fs/proc/proc_sysctl.c
            return -1, errnos.ENOENT
        text = ctypes.string_at(data, size).decode("utf-8", "replace")
        above, _, name = file.name.rpartition("/")
        if name == "cgroup.procs":
            self.m.current.cgroups.add(above)
        elif name == "cgroup.kill":
            for process in [p for p in self.m.processes if above in p.cgroups]:
                self.m.kill(process)
        elif file.name.startswith("/proc/sys/net/") and file.net == HOST:
            change = self.m.things.discard if text == "0" else self.m.things.add
            change(f"switch {file.name}")
        return size

    def close(self, fd: int, *_: int) -> Any:
        return 0 if self.m.close(self.m.current, fd) else (-1, errnos.EBADF)

    def dup3(self, fd: int, new: int, *_: int) -> Any:
        file = self.m.file(fd)
        if file is None:
            return -1, errnos.EBADF
        self.m.close(self.m.current, new)
        return self.m.install(self.m.current, new, file)

    def close_range(self, first: int, last: int, flags: int, *_: int) -> int:
        if not flags & 4:
            for fd in [fd for fd in self.m.current.fds if first <= fd <= last]:
                self.m.close(self.m.current, fd)
        return 0

    def socketpair(self, family: int, kind: int, protocol: int, pair: int, *_: int) -> int:
        one, two = File("socket"), File("socket")
        one.peer, two.peer = two, one
        ctypes.memmove(pair, struct.pack("=ii", self.m.open(one), self.m.open(two)), 8)
        return 0

    def socket(self, family: int, *_: int) -> int:
        return self._new("netlink" if family == 16 else "inet")

    def setsockopt(self, fd: int, level: int, option: int, value: int, size: int, *_: int) -> Any:
        file = self.m.file(fd)
        if option == 25 and level == 1 and file is not None:  # SO_BINDTODEVICE
            file.device = _text(value)
            if f"link {file.device}" in self.m.ever and file.device not in self.m.links:
                return -1, errnos.ENODEV
        return 0

    def getsockopt(self, fd: int, level: int, option: int, value: int, *_: int) -> int:
        file = self.m.file(fd)
        index = self._index(file.device) if file is not None else 0
        ctypes.memmove(value, index.to_bytes(4, "little"), 4)
        return 0

    def _index(self, name: str) -> int:
        return self.m.links[name][0] if name in self.m.links else 5000 + sum(name.encode())

    def signalfd4(self, *_: int) -> int:
        return self._new("signalfd")

    def bpf(self, command: int, *rest: int) -> int:
        """A program is loaded into a descriptor; what else is done with it leaves nothing."""
        return self.descriptor(command, *rest) if command == abi.BpfCommand.BPF_PROG_LOAD else 0

    def descriptor(self, *_: int) -> int:
        return self._new("file")

    def ioctl(self, fd: int, request: int, *_: int) -> Any:
        return self._new("pty") if request == 0x5441 else 0  # TIOCGPTPEER

    def getpid(self, *_: int) -> int:
        return self.m.current.pid

    def prctl(self, option: int, value: int, *_: int) -> int:
        if option == 1:
            self.m.current.death_signal = value
        elif option == 36:
            self.m.current.subreaper = bool(value)
        return 0

    def setresid(self, *_: int) -> int:
        # prctl(2): the death signal is cleared where the credentials change.
        self.m.current.death_signal = 0
        return 0

    def unshare(self, flags: int, *_: int) -> int:
        self._namespaces(self.m.current, flags)
        return 0

    def _namespaces(self, process: Process, flags: int) -> None:
        if flags & CloneFlag.CLONE_NEWNS:
            process.private = True
        if flags & CloneFlag.CLONE_NEWNET:
            process.net = f"net{process.pid}"
        if flags & CloneFlag.CLONE_NEWPID:
            process.pid_init = True

    def setns(self, fd: int, kind: int, *_: int) -> Any:
        file = self.m.file(fd)
        if file is None:
            return -1, errnos.EBADF
        if kind & CloneFlag.CLONE_NEWNET or file.name.endswith("/net") or "netns" in file.name:
            self.m.current.net = self._net_of(file)
        return 0

    def _net_of(self, file: File) -> str:
        parts = file.name.split("/")
        if parts[1:2] != ["proc"]:
            return file.name
        if parts[2] == "self":
            return file.net
        return next(p.net for p in self.m.processes if str(p.pid) == parts[2])

    def flock(self, fd: int, operation: int, *_: int) -> Any:
        file = self.m.file(fd)
        if file is None:
            return -1, errnos.EBADF
        file.lock = {1: "shared", 2: "exclusive", 8: ""}[operation & ~4]
        others = [
            f
            for p in self.m.processes
            for f in p.fds.values()
            if f is not file and f.name == file.name and f.lock
        ]
        if any("exclusive" in (f.lock, file.lock) for f in others if file.lock):
            file.lock = ""
            return -1, errnos.EAGAIN
        return 0

    def pidfd_send_signal(self, fd: int, number: int, *_: int) -> Any:
        file = self.m.file(fd)
        if file is None or file.process is None:
            return -1, errnos.EBADF
        if file.process.reaped:
            return -1, errnos.ESRCH
        if number == signal.SIGKILL:
            self.m.kill(file.process)
        return 0

    def waitid(self, kind: int, fd: int, *_: int) -> Any:
        file = self.m.file(fd)
        process = file.process if file is not None else None
        if process is None or process not in self.m.children(self.m.current):
            return -1, errnos.ECHILD
        self.m.wait(lambda: not process.alive)
        process.reaped = True
        return 0

    def execve(self, *_: int) -> Any:
        me = self.m.current
        self.m.execed = True
        self.m.performed.add(me.place.address)
        self.m.open_steps += self.m.before_exec()
        me.name, me.code = "command", False
        for fd in [fd for fd in me.fds if fd > 2]:
            self.m.close(me, fd)
        raise GoneError

    # --- messages ----------------------------------------------------------------------------

    def sendmsg(self, fd: int, header: int, *_: int) -> Any:
        file = self.m.file(fd)
        if file is None or file.peer is None:
            return -1, errnos.EBADF
        if not file.peer.refs:
            return -1, errnos.EPIPE
        base, size, control, control_size = _header(header)
        passed = None
        if control_size:
            passed = self.m.file(channel._CONTROL.unpack(ctypes.string_at(control, 24))[3])
            if passed is None:
                return -1, errnos.EBADF
            passed.refs += 1
        file.peer.queue.append((ctypes.string_at(base, size), passed))
        return size

    def recvmsg(self, fd: int, header: int, flags: int, *_: int) -> Any:
        file = self.m.file(fd)
        if file is None:
            return -1, errnos.EBADF
        if not self.m.readable(file):
            if flags & 0x40:  # MSG_DONTWAIT
                return -1, errnos.EAGAIN
            self.m.wait(lambda: self.m.readable(file))
        if not file.queue:
            return 0
        data, passed = file.queue.popleft()
        base, _, control, _ = _header(header)
        ctypes.memmove(base, data, len(data))
        # struct user_msghdr: the length of what came as control data, and the flags
        ctypes.memmove(header + 40, struct.pack("=QI", 20 if passed else 0, 0), 12)
        if passed is not None:
            got = self.m.open(passed)
            passed.refs -= 1
            packed = channel._CONTROL.pack(20, 1, 1, got)
            ctypes.memmove(control, packed, len(packed))
        return len(data)

    def recvfrom(self, fd: int, data: int, size: int, flags: int, *_: int) -> Any:
        file = self.m.file(fd)
        if file is None:
            return -1, errnos.EBADF
        if not file.queue:
            ended = file.peer is not None and not file.peer.refs
            return 0 if ended else (-1, errnos.EAGAIN)
        if flags & 2:  # MSG_PEEK
            return 1
        text, _ = file.queue.popleft()
        ctypes.memmove(data, text, len(text))
        return len(text)

    def sendto(self, fd: int, data: int, size: int, *_: int) -> Any:
        file = self.m.file(fd)
        if file is None:
            return -1, errnos.EBADF
        message = ctypes.string_at(data, size)
        errno = self.m.point("netlink") or self._netlink(file, message)
        _, _, _, sequence, _ = _NLMSG.unpack_from(message)
        answer = struct.pack("=i", -errno) + message[:16]
        file.queue.append((_NLMSG.pack(16 + len(answer), 2, 0, sequence, 0) + answer, None))
        return size

    def _netlink(self, file: File, message: bytes) -> int:
        """The errno of a request: links of the host are made, moved and deleted."""
        _, kind, flags, _, _ = _NLMSG.unpack_from(message)
        if kind not in (_NEWLINK, _DELLINK):
            return 0
        index = _LINK.unpack_from(message, 16)[3]
        attributes = _attributes(message[32:])
        named = {i: name for name, (i, _) in self.m.links.items()}
        text = attributes.get(_IFNAME, b"").rstrip(b"\0").decode()
        if kind == _DELLINK:
            if index not in named:
                return errnos.ENODEV
            self.m.remove_link(named[index])
        elif flags & _CREATE and file.net == HOST and _NS_PID not in attributes:
            if text in self.m.links:
                return errnos.EEXIST
            self.m.links[text] = (100 + len(self.m.links), self._peer(message))
            self.m.ever.add(f"link {text}")
            self.m.things.add(f"link {text}")
        elif flags & _CREATE and file.net.startswith("/"):
            self.m.links[text] = (100 + len(self.m.links), self._peer(message))
            self.m.ever.add(f"link {text}")
            self.m.things.add(f"link {text}")
        elif _NS_PID in attributes and not flags & _CREATE:
            self.m.things.add(f"away {index}")
        elif _NS_FD in attributes:
            back = attributes.get(_INDEX)
            gone = [t for t in self.m.things if t.startswith("away ")]
            if back is not None:
                gone = [f"away {int.from_bytes(back, 'little')}"]
            self.m.things -= set(gone)
        return 0

    def _peer(self, message: bytes) -> str:
        """Where a new link's other end is: with the one child there is."""
        del message
        named = [p for p in self.m.processes if p.name in ("child", "command")]
        return named[-1].net if named else HOST

    # --- new processes -----------------------------------------------------------------------

    def fork(self, forker: Any) -> tuple[int, int]:
        """In the caller of syscalls.Forker.fork(): whose, its place tells."""
        errno = self.m.point("clone3")
        if errno:
            return -1, errno
        flags, pidfd_at = struct.unpack_from("=2Q", forker._args)
        me = self.m.current
        op = me.place.op
        self.m.performed.add(me.place.address)
        if me.name in ("child", "stage"):
            return self._fork_of_child(forker, flags, op)
        if isinstance(op, Spawn):
            return self._helper(op), 0
        if self._heir is not None:
            made = self.m.process("heir", me)
            self.m.coroutines.append(Coroutine(made, self._heir))
            self._heir = None
            return made.pid, 0
        made = self.m.process("holder" if getattr(op, "hold", False) else "child", me)
        self._namespaces(made, flags)
        if pidfd_at:
            forker._pidfd.value = self.m.open(File("pidfd", process=made))
        if made.name == "holder":
            made.code = False
            self.m.install(
                made, 0, made.fds[max(f for f, x in made.fds.items() if x.kind == "reader")]
            )
            for fd in [fd for fd in made.fds if fd]:
                self.m.close(made, fd)
            return made.pid, 0
        self._begin(made)
        return made.pid, 0

    _heir: Callable[[], None] | None = None

    def _begin(self, made: Process) -> None:
        """The line of ParentTrack._clone that runs in the new process, on a thread of its own."""
        assert self.program is not None and self.track is not None
        registers = copied(self.track.registers)
        made.place = copy.copy(self.m.current.place)
        child = ChildTrack(self.program, registers, self.track.recorder)
        self.m.coroutines.append(Coroutine(made, child.main))
        self._child = child

    track: Any = None
    _child: ChildTrack | None = None

    def _helper(self, op: Spawn) -> int:
        """A helper that has done its work by the time it is looked at."""
        me = self.m.current
        made = self.m.process("helper", me)
        made.death_signal = signal.SIGKILL
        for fd in [fd for fd in made.fds if fd > 2]:
            self.m.close(made, fd)
        status = 0
        if self.m.point("helper"):
            status = 2
        else:
            _effect(self.m, op, undoing=me.place.kind == "undo")
        self.m.kill(made, status, 0)
        return made.pid

    def _fork_of_child(self, forker: Any, flags: int, op: object) -> tuple[int, int]:
        """The new process goes on with the track; what the old one does is done here."""
        old = self.m.current
        made = self.m.process(old.name, old)
        self._namespaces(made, flags)
        made.place = copy.copy(old.place)
        if isinstance(op, Clone):
            self._hand_over(old, made, op)
        else:
            # PID 1 has no descriptor above 2, runs no code that is looked at, and has its status.
            old.name, old.code, old.inner = "init", False, made
            for fd in [fd for fd in old.fds if fd > 2]:
                self.m.close(old, fd)
            made.pid_init = False
        self.m.current = made
        thread = self.m.inside()
        assert thread is not None
        thread.process = made
        return 0, 0

    def _hand_over(self, old: Process, made: Process, op: Clone) -> None:
        assert self.program is not None and op.channel is not None
        old.name = "stage"
        pidfd = self.m.open(File("pidfd", process=made))
        message = Message(tag=Tag.FD, name=op.sync.encode(), value=made.pid, fd=pidfd)
        assert self._child is not None
        end = self._child._registers.get(op.channel)
        try:
            self.program.messages.send(end, message)
        except BaseException:
            self.m.kill(made)
            raise
        self.m.kill(old, 0, 0)


def copied(registers: step.Registers) -> step.Registers:
    """The registers as a new process has them."""
    made = step.Registers()
    made._values, made._kinds = dict(registers._values), dict(registers._kinds)
    return made


def _effect(m: Machine, op: Spawn, *, undoing: bool) -> None:
    """What a helper leaves on the host: nft's tables, and helpers of its own that stay."""
    program = op.argv[0].value if isinstance(op.argv[0], Str) else ""
    if program.endswith("/nft"):
        text = getattr(op.stdin, "value", b"").decode()
        for line in text.splitlines():
            words = line.split()
            if words[:1] == ["create"] or (words[:1] == ["add"] and words[1:2] == ["table"]):
                m.things.add(" ".join(words[1:4]))
            elif words[:2] == ["delete", "table"]:
                m.things.discard(" ".join(words[1:4]))
    elif program == "/bin/sh":
        change = m.things.discard if undoing else m.things.add
        change("a helper that stays")


def _text(address: int) -> str:
    return ctypes.string_at(address).decode("utf-8", "surrogateescape") if address else ""


def _signed(fd: int) -> int:
    return fd - _MASK if fd > 1 << 31 else fd


def _header(address: int) -> tuple[int, int, int, int]:
    """struct user_msghdr: the vector's base and length, the control data's address and size."""
    _, _, vector, _, control, size = _POINTERS.unpack(ctypes.string_at(address, 48))
    base, length = struct.unpack("=2Q", ctypes.string_at(vector, 16))
    return base, length, control, size


def _attributes(data: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    offset = 0
    while offset + 4 <= len(data):
        size, kind = _ATTRIBUTE.unpack_from(data, offset)
        if size < 4:
            break
        found[kind & 0x3FFF] = data[offset + 4 : offset + size]
        offset += (size + 3) & ~3
    return found


_SPECIAL = {
    "mknodat": "mkdirat",
    "setresuid": "setresid",
    "setresgid": "setresid",
    "execveat": "execve",
    "fsopen": "descriptor",
    "landlock_create_ruleset": "descriptor",
    "timerfd_create": "descriptor",
    "memfd_create": "descriptor",
}


def _handlers() -> dict[int, tuple[str, Any]]:
    found = {}
    for name in abi.syscall_names():
        with contextlib.suppress(abi.UnknownSyscallError):
            number = abi.syscall_number(name, MACHINE)
            found[number] = (name, getattr(Layer, _SPECIAL.get(name, name), None))
    return found


_HANDLERS = _handlers()
