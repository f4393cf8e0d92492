"""Watches a payload for system calls that are refused, and tells which wall has refused each.

A process beside the container becomes the tracer of the process that will execute the command, and
of all that it starts (ptrace(2)). It sees the walls being set: the programs of seccomp(2), the
rules of Landlock; and at the end of a refused call it looks at the rest while the caller is
stopped: ids, capabilities, mounts, modes. Before the first process goes, the report is written.
"""

from __future__ import annotations

import errno as errnos
import json
import os
import signal
import struct
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from nsrun.host import ptrace, refused, refused_files
from nsrun.host.refused import UNKNOWN, Refused, Rules, Wall
from nsrun.kernel import bpf
from nsrun.kernel.abi import SeccompAction, UnknownSyscallError, syscall_number

_TIED = ("seccomp", "prctl", "landlock_create_ruleset", "landlock_add_rule",
         "landlock_restrict_self")  # fmt: skip
_PR_SET_SECCOMP, _MODE_FILTER, _TSYNC = 22, 2, 1
_INSTRUCTION_SIZE = 8
_REFUSALS = (errnos.EPERM, errnos.EACCES, errnos.EROFS)
# An id that the user namespace does not have is an invalid argument.
_OF_IDS = ("chown", "lchown", "fchown", "fchownat", "setuid", "setreuid", "setresuid", "setgid",
           "setregid", "setresgid")  # fmt: skip
_AT_FDCWD = 0xFFFF_FF9C
_AF_UNIX, _AF_INET, _AF_INET6 = 1, 2, 10
_STOPS = (signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)
# More different refusals are no help to anybody.
DISTINCT_MAX = 200
# Of a call without paths its first arguments are shown.
_SHOWN = 3
# (descriptor argument or None for the working directory, argument of the path)
_PATHS: dict[str, tuple[tuple[int | None, int], ...]] = {
    **dict.fromkeys(
        ("open", "creat", "mkdir", "mknod", "unlink", "rmdir", "chdir", "chroot", "execve",
         "truncate", "access", "stat", "lstat", "readlink", "chmod", "chown", "lchown", "utime",
         "utimes", "getxattr", "setxattr", "removexattr", "statfs", "umount2", "swapon", "acct"),
        ((None, 0),),
    ),
    **dict.fromkeys(
        ("openat", "openat2", "mkdirat", "mknodat", "unlinkat", "execveat", "faccessat",
         "faccessat2", "newfstatat", "statx", "readlinkat", "fchmodat", "fchmodat2", "fchownat",
         "utimensat", "futimesat", "open_tree"),
        ((0, 1),),
    ),
    "rename": ((None, 0), (None, 1)),
    "renameat": ((0, 1), (2, 3)),
    "renameat2": ((0, 1), (2, 3)),
    "link": ((None, 0), (None, 1)),
    "linkat": ((2, 3),),
    "symlink": ((None, 1),),
    "symlinkat": ((1, 2),),
    "mount": ((None, 1),),
}  # fmt: skip
_DESCRIPTORS = ("fchmod", "fchown", "ftruncate", "fsetxattr", "fchdir")
_FLAGS = {"open": 1, "openat": 2}


@dataclass(slots=True)
class _Task:
    """One traced thread."""

    ident: int
    entered: ptrace.Entered | None = None
    # The call that has ended last: a filter's signal comes behind its end.
    last: ptrace.Entered | None = None
    executed: bool = False
    filters: tuple[bytes, ...] = ()
    layers: tuple[Rules, ...] = ()
    rulesets: dict[int, Rules] = field(default_factory=dict)
    # What the call that is under way will have done, if it works.
    effect: Callable[[int], None] | None = None


@dataclass(slots=True)
class _Found:
    """One kind of refusal; ``command``: the name of the first process that met it."""

    call: str
    errno: str
    command: str
    wall: Wall
    count: int = 1


class Tracer:
    """Follows ``main`` and all that it starts; ``report`` is an open descriptor."""

    def __init__(self, main: int, report: int) -> None:
        self._main = main
        self._report = report
        self._tasks: dict[int, _Task] = {main: _Task(main)}
        self._early: set[int] = set()
        self._found: dict[tuple[object, ...], _Found] = {}
        self._more = 0
        self._gone = False
        machine = os.uname().machine
        self._numbers: dict[int, str] = {}
        for name in _TIED:
            try:
                self._numbers[syscall_number(name, machine)] = name
            except UnknownSyscallError:
                continue
        self._outer = _filters_before(main)

    def follow(self) -> None:
        """Until all that it traces has ended."""
        self._write()
        ptrace.interrupt(self._main)
        while True:
            try:
                ident, status = os.waitpid(-1, ptrace.WALL)
            except ChildProcessError:
                break
            if os.WIFSTOPPED(status):
                try:
                    self._stopped(ident, status)
                except ProcessLookupError:
                    # SIGKILL wakes what is stopped: there is an end to come.
                    continue
            else:
                self._ended(ident, status)
                if ident == self._main:
                    self._gone = True
        self._write()

    # --- stops ---------------------------------------------------------------------------------

    def _stopped(self, ident: int, status: int) -> None:
        task = self._tasks.get(ident)
        number, event = os.WSTOPSIG(status), status >> 16
        if task is None:
            # A new process may stop before its parent's stop tells whose it is.
            self._early.add(ident)
            return
        if event == ptrace.EVENT_STOP:
            if number in _STOPS:
                ptrace.listen(ident)
            else:
                ptrace.go_on(ident)
            return
        if number == signal.SIGTRAP | ptrace.SYSCALL_STOP:
            self._at_call(task)
            ptrace.go_on(ident)
        elif event:
            self._event(task, event)
        else:
            if number == signal.SIGSYS:
                self._killed_by_filter(task)
            ptrace.go_on(ident, number)

    def _event(self, task: _Task, event: int) -> None:
        if event in (ptrace.EVENT_FORK, ptrace.EVENT_VFORK, ptrace.EVENT_CLONE):
            new = ptrace.message(task.ident)
            self._tasks[new] = _Task(
                new, executed=task.executed, filters=task.filters, layers=task.layers,
                rulesets=dict(task.rulesets),
            )  # fmt: skip
            if new in self._early:
                self._early.remove(new)
                ptrace.go_on(new)
        elif event == ptrace.EVENT_EXEC:
            former = ptrace.message(task.ident)
            if former != task.ident and former in self._tasks:
                # The thread that has executed takes the id of the first one.
                thread = self._tasks.pop(former)
                thread.ident = task.ident
                self._tasks[task.ident] = task = thread
            task.executed = True
            task.rulesets = {}
        elif event == ptrace.EVENT_EXIT:
            status = ptrace.message(task.ident)
            if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGSYS:
                self._killed_by_filter(task)
            if task.ident == self._main:
                self._gone = True
                self._write()
                # Its end is the launcher's to see at once: what is traced has two who wait.
                del self._tasks[task.ident]
                ptrace.detach(task.ident)
                return
        ptrace.go_on(task.ident)

    def _ended(self, ident: int, status: int) -> None:
        self._early.discard(ident)
        task = self._tasks.pop(ident, None)
        if task is not None and os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGSYS:
            self._killed_by_filter(task)

    # --- calls ---------------------------------------------------------------------------------

    def _at_call(self, task: _Task) -> None:
        seen = ptrace.call_of(task.ident)
        if isinstance(seen, ptrace.Entered):
            task.entered, task.effect = seen, None
            name = self._numbers.get(seen.number)
            if name is not None:
                try:
                    task.effect = self._effect(task, name, seen.arguments)
                except (OSError, struct.error):
                    task.effect = None
            return
        entered = task.last = task.entered
        task.entered = None
        if not isinstance(seen, ptrace.Left) or entered is None:
            return
        if not seen.errno:
            if task.effect is not None:
                task.effect(seen.result)
        elif task.executed:
            self._failed(task, entered, seen.errno)
        task.effect = None

    def _effect(
        self, task: _Task, name: str, arguments: tuple[int, ...]
    ) -> Callable[[int], None] | None:
        first, second, third, *_ = arguments
        if name == "seccomp" and first == 1:
            return self._filter(task, third, everyone=bool(second & _TSYNC))
        if name == "prctl" and (first, second) == (_PR_SET_SECCOMP, _MODE_FILTER):
            return self._filter(task, third, everyone=False)
        if name == "landlock_create_ruleset" and not third:
            words = struct.unpack("=3Q", ptrace.memory(task.ident, first, min(second, 24)).ljust(
                24, b"\0"))  # fmt: skip
            return lambda fd: task.rulesets.update({fd: Rules(*words)})
        if name == "landlock_add_rule" and second == 1:
            allowed, fd = struct.unpack("=Qi", ptrace.memory(task.ident, third, 12))
            status = os.stat(f"/proc/{task.ident}/fd/{fd}")
            return lambda _: _allow(task.rulesets.get(first), status, allowed)
        if name == "landlock_restrict_self" and first in task.rulesets:
            # What is added to the ruleset afterwards is no part of the domain.
            rules = task.rulesets[first]
            layer = replace(rules, allowed=dict(rules.allowed))
            return lambda _: setattr(task, "layers", (*task.layers, layer))
        return None

    def _filter(self, task: _Task, address: int, *, everyone: bool) -> Callable[[int], None]:
        # struct sock_fprog of linux/filter.h
        length, start = struct.unpack("=H6xQ", ptrace.memory(task.ident, address, 16))
        program = ptrace.memory(task.ident, start, length * _INSTRUCTION_SIZE)

        def set_(_: int) -> None:
            group = _group(task.ident) if everyone else None
            for other in self._tasks.values():
                if other is task or (group is not None and _group(other.ident) == group):
                    other.filters = (*other.filters, program)

        return set_

    def _failed(self, task: _Task, entered: ptrace.Entered, errno: int) -> None:
        answered = any(errno in bpf.errnos(program) for program in task.filters)
        of_ids = errno == errnos.EINVAL and _name(entered) in _OF_IDS
        if errno not in _REFUSALS and not answered and not of_ids:
            return
        self._note(task, entered, errno, self._by_filter(task, entered, errno))

    def _by_filter(self, task: _Task, entered: ptrace.Entered, errno: int) -> Wall | None:
        answer = self._answer(task, entered)
        if answer != int(SeccompAction.SECCOMP_RET_ERRNO) | errno:
            return None
        return _seccomp(_name(entered), str(errnos.errorcode.get(errno, errno)))

    def _answer(self, task: _Task, entered: ptrace.Entered) -> int:
        try:
            return bpf.strictest(
                task.filters, entered.architecture, entered.number, entered.arguments
            )
        except bpf.NotAFilterError:
            return int(SeccompAction.SECCOMP_RET_ALLOW)

    def _killed_by_filter(self, task: _Task) -> None:
        """SIGSYS: the call that was begun, where a filter answers it so."""
        entered = task.entered or task.last
        if entered is None or not task.executed:
            return
        answer = self._answer(task, entered) & bpf.ACTION_MASK
        words = {
            int(SeccompAction.SECCOMP_RET_KILL_PROCESS): "the end of the process",
            int(SeccompAction.SECCOMP_RET_KILL_THREAD): "the end of the thread",
            int(SeccompAction.SECCOMP_RET_TRAP): "SIGSYS",
        }
        if answer in words:
            task.entered = task.last = None
            self._note(task, entered, 0, _seccomp(_name(entered), words[answer]))

    def _note(self, task: _Task, entered: ptrace.Entered, errno: int, wall: Wall | None) -> None:
        name = _name(entered)
        call = _refused(task, name, entered.arguments, errno)
        if errno == errnos.EINVAL and wall is None:
            wall = self._wall(task, entered, call)
            if wall is UNKNOWN:
                return
        numbers = tuple(_number(value) for value in entered.arguments[:_SHOWN])
        key = (name, call.paths or numbers, call.flags, errno)
        known = self._found.get(key)
        if known is not None:
            known.count += 1
            return
        if errno not in _REFUSALS and errno != errnos.EINVAL and errno and wall is None:
            return
        if len(self._found) >= DISTINCT_MAX:
            self._more += 1
            return
        self._found[key] = _Found(
            call=_words(call),
            errno=errnos.errorcode.get(errno, str(errno)) if errno else "SIGSYS",
            command=_command(task.ident),
            wall=wall or self._wall(task, entered, call),
        )
        if self._gone:
            self._write()

    def _is_asked(self, task: _Task, entered: ptrace.Entered) -> bool:
        """Whether a listener of a filter decides (seccomp_unotify(2))."""
        answer = self._answer(task, entered) & bpf.ACTION_MASK
        return answer == int(SeccompAction.SECCOMP_RET_USER_NOTIF)

    def _wall(self, task: _Task, entered: ptrace.Entered, call: Refused) -> Wall:
        """The wall that is seen; nothing is said where several could be or none is."""
        try:
            who = refused.credentials(call.pid)
            found = refused.of_rights(call, who)
            if found is None and call.paths:
                found = refused_files.of_files(call, who)
            if found is None:
                found = _of_network(call)
        except (OSError, ValueError, KeyError, refused_files.Unseen):
            return Wall(kind="", why="what it is about cannot be looked at from outside")
        if found is not None:
            return found
        if self._is_asked(task, entered):
            return Wall(
                kind="", why="a program outside is asked about the call, or the kernel refuses it"
            )
        if self._outer:
            return Wall(
                kind="",
                why=f"no wall of its own explains it; {self._outer} seccomp filters that nsrun "
                "itself runs under cannot be read",
            )
        confined = _confined(call.pid)
        if confined:
            return Wall(kind="", why=f"{UNKNOWN.why}; it runs under {confined}")
        return UNKNOWN

    # --- the report ----------------------------------------------------------------------------

    def _write(self) -> None:
        rows = [
            {
                "call": found.call, "errno": found.errno, "command": found.command,
                "count": found.count, "wall": found.wall.kind, "why": found.wall.why,
                "path": found.wall.path, "target": found.wall.target, "help": found.wall.help,
            }
            for found in self._found.values()
        ]  # fmt: skip
        document = {"refused": rows, "more": self._more, "complete": self._gone}
        data = json.dumps(document).encode()
        # Threads may outlive the first one, at whose end it is read.
        os.pwrite(self._report, data, 0)
        os.ftruncate(self._report, len(data))


def _allow(rules: Rules | None, status: os.stat_result, allowed: int) -> None:
    if rules is not None:
        key = (status.st_dev, status.st_ino)
        rules.allowed[key] = rules.allowed.get(key, 0) | allowed


def _seccomp(name: str, answer: str) -> Wall:
    return Wall(
        kind="seccomp",
        why=f"the filter answers {name} with {answer}",
        path="seccomp",
        help=f"a profile under `seccomp` that allows {name}",
    )


def _of_network(call: Refused) -> Wall | None:
    """Landlock's rights on ports and its scope of abstract sockets (landlock(7), ABI 4 and 6)."""
    right = {"bind": 1, "connect": 2}.get(call.name)
    if right is None:
        return None
    inet = call.family in (_AF_INET, _AF_INET6) and call.errno == errnos.EACCES
    if inet and any(layer.network & right for layer in call.layers):
        return Wall(kind="Landlock", why=f"a ruleset handles {call.name} of TCP", path="landlock")
    unix = call.family == _AF_UNIX and call.errno == errnos.EPERM and not call.paths
    if unix and any(layer.scoped & 1 for layer in call.layers):
        return Wall(
            kind="Landlock",
            why="abstract sockets of processes outside are out of its scope",
            path="landlock",
        )
    return None


# --- what a process shows ------------------------------------------------------------------------


def _filters_before(pid: int) -> int:
    from nsrun.host import procfs

    words = procfs.status(str(pid)).get("Seccomp_filters", "0")
    return int(words) if words.isdecimal() else 0


def _confined(pid: int) -> str:
    """What AppArmor or SELinux calls the process, "" where neither is in force."""
    from nsrun.host import procfs

    active = (procfs.read("/sys/kernel/security/lsm") or "").strip().split(",")
    modules = [name for name in ("apparmor", "selinux", "smack") if name in active]
    label = (procfs.read(f"/proc/{pid}/attr/current") or "").strip("\0\n ")
    return f"{modules[0]}: {label}" if modules and label not in ("", "unconfined") else ""


def _group(ident: int) -> str:
    from nsrun.host import procfs

    return procfs.status(str(ident)).get("Tgid", "")


def _command(ident: int) -> str:
    from nsrun.host import procfs

    return (procfs.read(f"/proc/{ident}/comm") or "?").rstrip("\n")


def _name(entered: ptrace.Entered) -> str:
    try:
        from nsrun.kernel.seccomp import call_name
    except ImportError:
        return f"call {entered.number}"
    return call_name(entered.architecture, entered.number) or f"call {entered.number}"


def _refused(task: _Task, name: str, arguments: tuple[int, ...], errno: int) -> Refused:
    paths: list[str] = []
    flags = 0
    family = port = None
    pid = task.ident
    try:
        for start, at in _PATHS.get(name, ()):
            text = ptrace.string(pid, arguments[at])
            base = None if start is None else arguments[start] & 0xFFFF_FFFF
            paths.append(_whole(pid, base, text))
        if name in _DESCRIPTORS:
            paths.append(os.readlink(f"/proc/{pid}/fd/{arguments[0] & 0xFFFF_FFFF}"))
        if name == "openat2":
            flags = struct.unpack("=Q", ptrace.memory(pid, arguments[2], 8))[0]
        elif name == "creat":
            flags = os.O_CREAT | os.O_WRONLY | os.O_TRUNC
        elif name in _FLAGS:
            flags = arguments[_FLAGS[name]] & 0xFFFF_FFFF
        if name in ("bind", "connect"):
            address = ptrace.memory(pid, arguments[1], min(arguments[2], 110))
            family, port, path = _address(address)
            if path:
                paths.append(_whole(pid, None, path))
    except (OSError, struct.error):
        paths = []
    return Refused(
        pid=pid, name=name, arguments=arguments, errno=errno, paths=tuple(paths), flags=flags,
        layers=task.layers, family=family, port=port,
    )  # fmt: skip


def _address(data: bytes) -> tuple[int | None, int | None, str]:
    """(family, port, path) of a struct sockaddr."""
    if len(data) < 2:
        return None, None, ""
    family = int.from_bytes(data[:2], "little")
    if family in (_AF_INET, _AF_INET6) and len(data) >= 4:
        return family, int.from_bytes(data[2:4], "big"), ""
    if family == _AF_UNIX and data[2:3] not in (b"", b"\0"):
        return family, None, os.fsdecode(data[2:].split(b"\0")[0])
    return family, None, ""


def _whole(pid: int, base: int | None, text: str) -> str:
    """A path from the process's root."""
    if not text.startswith("/"):
        link = "cwd" if base is None or base == _AT_FDCWD else f"fd/{base}"
        text = f"{os.readlink(f'/proc/{pid}/{link}')}/{text}"
    return "/" + os.path.normpath(text).lstrip("/")


def _words(call: Refused) -> str:
    """The call as people read it: its paths, how a file is opened, a socket's address."""
    words = [json.dumps(path, ensure_ascii=False) for path in call.paths]
    if call.name in ("open", "openat", "openat2", "creat"):
        words.append(_open_words(call.flags))
    elif call.port is not None:
        words.append(f"port {call.port}")
    elif not words:
        words = [_number(value) for value in call.arguments[:_SHOWN]]
    return f"{call.name}({', '.join(words)})"


def _number(value: int) -> str:
    """An argument; a pointer says nothing, and is another each time."""
    if value >= 1 << 32:
        return "…"
    return f"{value:#x}" if value > 9 else str(value)


def _open_words(flags: int) -> str:
    names = [("O_RDONLY", "O_WRONLY", "O_RDWR", "3")[flags & 3]]
    names += [
        name for name in ("O_CREAT", "O_EXCL", "O_TRUNC", "O_APPEND", "O_DIRECTORY", "O_PATH")
        if flags & getattr(os, name)
    ]  # fmt: skip
    return "|".join(names)


def watch(pid: int, report: str) -> None:
    """Trace ``pid`` from a process of its own, which stays behind; returns when it is traced.

    Raises OSError where it cannot be traced or the file ``report`` not be written.
    """
    ready, tell = os.pipe2(os.O_CLOEXEC)
    if os.fork() == 0:
        status = 0
        try:
            os.close(ready)
            os.setsid()
            fd = os.open(report, os.O_WRONLY | os.O_CLOEXEC)
            tracer = Tracer(pid, fd)
            ptrace.seize(pid)
            # Looked up while the machine's own files are sure to be there.
            _name(ptrace.Entered(0, 0, ()))
            null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
            for stream in (0, 1, 2):
                os.dup2(null, stream)
            os.write(tell, struct.pack("=i", 0))
            os.close(tell)
            tracer.follow()
        except OSError as error:
            status = 1
            try:
                os.write(tell, struct.pack("=i", error.errno or errnos.EIO))
            except OSError:
                status = 2
        finally:
            os._exit(status)
    os.close(tell)
    said = os.read(ready, 4)
    os.close(ready)
    failed = struct.unpack("=i", said)[0] if len(said) == 4 else errnos.EIO
    if failed:
        raise OSError(failed, os.strerror(failed))
