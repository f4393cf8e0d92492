"""Follows a payload to its end for the system calls of it that are refused.

A process beside the container becomes the tracer of the process that will execute the command, and
of all that it starts (ptrace(2)). At the end of a refused call it has the wall looked for while the
caller is stopped. Before the first process goes, the report is written.
"""

from __future__ import annotations

import errno as errnos
import os
import signal
import struct
from dataclasses import dataclass, field

from nsrun.host import procfs, ptrace, refused_why
from nsrun.host.own_walls import Effect, Known, OwnWalls, effect, read_known, setting_calls
from nsrun.host.refused import Wall
from nsrun.host.refused_call import name_of, read_call
from nsrun.host.refused_found import Findings
from nsrun.host.refused_tasks import is_start

_REFUSALS = (errnos.EPERM, errnos.EACCES, errnos.EROFS)
# An id that the user namespace does not have is an invalid argument.
_OF_IDS = ("chown", "lchown", "fchown", "fchownat", "setuid", "setreuid", "setresuid", "setgid",
           "setregid", "setresgid")  # fmt: skip
_FAULTS = (signal.SIGILL, signal.SIGSEGV, signal.SIGTRAP)
_STOPS = (signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)


@dataclass(slots=True)
class _Task:
    """One traced thread."""

    ident: int
    own: OwnWalls = field(default_factory=OwnWalls)
    entered: ptrace.Entered | None = None
    # The call that has ended last: a filter's signal comes behind its end.
    last: ptrace.Entered | None = None
    executed: bool = False
    # What the call that is under way will have done, if it works.
    effect: Effect | None = None


class Tracer:
    """Follows ``main`` and all that it starts; ``report`` is an open descriptor.

    ``known``: the walls that will be around the command when it is executed, where it cannot be
    read before, or was started by another process than it.
    """

    def __init__(self, main: int, report: int, known: Known | None = None) -> None:
        self._main = main
        self._known = known
        self._tasks: dict[int, _Task] = {main: _Task(main)}
        self._early: set[int] = set()
        self._found = Findings(report)
        self._gone = False
        self._setting = setting_calls(os.uname().machine)
        before = procfs.status(str(main)).get("Seccomp_filters", "0")
        self._outer = int(before) if before.isdecimal() else 0

    def follow(self) -> None:
        """Until all that it traces has ended."""
        self._found.write(complete=False)
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
        self._found.write(complete=self._gone)

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
            if number in _FAULTS and not task.executed:
                # Who may not even end, by a filter that refuses exit_group(2), ends by a fault. A
                # traced PID 1 does not (force_sig_info_to_task() of kernel/signal.c), and would
                # fault for ever.
                os.kill(ident, signal.SIGKILL)
            ptrace.go_on(ident, number)

    def _event(self, task: _Task, event: int) -> None:
        if event in (ptrace.EVENT_FORK, ptrace.EVENT_VFORK, ptrace.EVENT_CLONE):
            new = ptrace.message(task.ident)
            self._tasks[new] = _Task(new, own=task.own.inherited(), executed=task.executed)
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
            if not task.executed and self._known is not None:
                task.own = self._known.around(task.ident)
            task.executed = True
            task.own.rulesets = {}
        elif event == ptrace.EVENT_EXIT:
            status = ptrace.message(task.ident)
            if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGSYS:
                self._killed_by_filter(task)
            after = self._taken_over(task)
            if after is not None:
                self._main = after
                del self._tasks[task.ident]
                ptrace.detach(task.ident)
                return
            if task.ident == self._main:
                self._gone = True
                self._found.write(complete=True)
                # Its end is the launcher's to see at once: what is traced has two who wait.
                del self._tasks[task.ident]
                ptrace.detach(task.ident)
                return
        ptrace.go_on(task.ident)

    def _taken_over(self, task: _Task) -> int | None:
        """The process that goes on to be the command where ``task`` was a stage before it."""
        if self._known is None or task.ident != self._main or task.executed:
            return None
        return next((ident for ident in self._tasks if ident != task.ident), None)

    def _ended(self, ident: int, status: int) -> None:
        self._early.discard(ident)
        task = self._tasks.pop(ident, None)
        if task is not None and os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGSYS:
            self._killed_by_filter(task)

    # --- calls ---------------------------------------------------------------------------------

    def _at_call(self, task: _Task) -> None:
        seen = ptrace.call_of(task.ident)
        if isinstance(seen, ptrace.Entered):
            task.entered, task.effect = seen, self._effect(task, seen)
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

    def _effect(self, task: _Task, entered: ptrace.Entered) -> Effect | None:
        name = self._setting.get(entered.number)
        if name is None or (self._known is not None and not task.executed):
            return None
        try:
            return effect(name, entered.arguments, task.ident, task.own, self._threads)
        except (OSError, struct.error):
            return None

    def _threads(self) -> list[tuple[int, OwnWalls]]:
        return [(task.ident, task.own) for task in self._tasks.values()]

    def _failed(self, task: _Task, entered: ptrace.Entered, errno: int) -> None:
        wall = None
        if task.own.answers_with(errno):
            wall = refused_why.by_filter(task.own, entered, errno)
        of_ids = errno == errnos.EINVAL and name_of(entered) in _OF_IDS
        # The kernel's answer as well where the listener of a filter is gone (seccomp(2)).
        unasked = errno == errnos.ENOSYS and task.own.is_asked(entered)
        started = is_start(name_of(entered), errno)
        if wall is not None or errno in _REFUSALS or of_ids or unasked or started:
            self._note(task, entered, errno, wall)

    def _killed_by_filter(self, task: _Task) -> None:
        """SIGSYS: the call that was begun, where a filter answers it so."""
        entered = task.entered or task.last
        if entered is None or not task.executed:
            return
        wall = refused_why.by_end(task.own, entered)
        if wall is not None:
            task.entered = task.last = None
            self._note(task, entered, 0, wall)

    def _note(self, task: _Task, entered: ptrace.Entered, errno: int, wall: Wall | None) -> None:
        """``wall``: the filter, where it is the one that has answered."""
        call = read_call(task.ident, name_of(entered), entered.arguments, errno, task.own.layers)

        def look() -> Wall | None:
            if wall is not None:
                return wall
            found = refused_why.wall_of(call, task.own, entered, self._outer)
            # Other errnos than these are refusals only where a wall is seen to give them.
            sure = errno in _REFUSALS or is_start(call.name, errno)
            return found if found.kind or sure else None

        self._found.add(call, look)
        if self._gone:
            self._found.write(complete=True)


def watch(pid: int, report: str, known: str | None = None) -> None:
    """Trace ``pid`` from a process of its own, which stays behind; returns when it is traced.

    ``known``: a file with the walls of the command, None where they are read as they are set.
    Raises OSError where it cannot be traced or the file ``report`` not be written.
    """
    ready, tell = os.pipe2(os.O_CLOEXEC)
    if os.fork() == 0:
        status = 0
        try:
            os.close(ready)
            os.setsid()
            fd = os.open(report, os.O_WRONLY | os.O_CLOEXEC)
            tracer = Tracer(pid, fd, None if known is None else read_known(known))
            ptrace.seize(pid)
            # Looked up while the machine's own files are sure to be there.
            name_of(ptrace.Entered(0, 0, ()))
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
