"""What is done to containers that are there: stopped, killed, waited for, removed."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Sequence

from nsrun.diag import Diagnostic, NsrunError, Severity
from nsrun.host import cgroups, groups, subgroups
from nsrun.kernel import abi
from nsrun.plan.cgroup_limits import group_name
from nsrun.runtime import events, store
from nsrun.runtime.control import Monitor
from nsrun.runtime.store import Container, Status

# After SIGKILL everything ends but what sits in the kernel.
_PATIENCE = 10.0


def not_running(container: Container) -> NsrunError:
    """NS607"""
    name = container.record.name
    return NsrunError(
        Diagnostic(
            code="NS607",
            summary=f"the container {name} is not running",
            help=(f"nsrun start {name}",),
        )
    )


def monitor_of(container: Container) -> Monitor:
    """Raises NsrunError (NS607) where it does not run."""
    try:
        return Monitor(container)
    except ConnectionError:
        raise not_running(container) from None


def stop(container: Container, timeout: float | None = None) -> int | None:
    """End it in good order; its exit status, None where it had ended before.

    The launcher sends its stop_signal and, ``stop_timeout`` later, SIGKILL; ``timeout`` in
    seconds shortens that. Raises NsrunError where it outlives SIGKILL.
    """
    return stop_all([container], timeout)[0]


def stop_all(containers: Sequence[Container], timeout: float | None = None) -> list[int | None]:
    """As :func:`stop`, of several at once: all are told before one is waited for."""
    told = [_told(container) for container in containers]
    try:
        return [
            None if monitor is None else _awaited(container, monitor, timeout)
            for container, monitor in zip(containers, told, strict=True)
        ]
    finally:
        for monitor in told:
            if monitor is not None:
                monitor.close()


def _told(container: Container) -> Monitor | None:
    if not container.alive:
        return None
    try:
        monitor = Monitor(container)
        resume(container)
        monitor.stop(signal.SIGTERM)
    except ConnectionError:
        return None
    return monitor


def _awaited(container: Container, monitor: Monitor, timeout: float | None) -> int | None:
    allowed = container.record.stop_timeout / 10**9 + _PATIENCE
    status = monitor.wait(allowed if timeout is None else timeout)
    if status is None:
        _kill_all(container, monitor)
        status = monitor.wait(_PATIENCE)
    if status is None:
        raise NsrunError(
            Diagnostic(code="NS504", summary=f"{container.record.name} does not end when killed")
        )
    events.note(events.of(container.record, "stop"))
    return status


def resume(container: Container) -> None:
    """A stopped process handles no signal but SIGKILL and SIGCONT."""
    if container.status is Status.PAUSED:
        unpause(container)


def ignores_stop(container: Container) -> Diagnostic | None:
    """NS604, a warning, where the container's process will not get its stop signal, so that it
    is only ended by SIGKILL."""
    from nsrun.replay.supervise import drops

    record = container.record
    number = abi.signal_number(record.stop_signal)
    if not container.running or not drops(container.pid, number):
        return None
    return Diagnostic(
        code="NS604",
        severity=Severity.WARNING,
        summary=f"{record.name} does not handle {record.stop_signal} and will be killed",
        why=(
            f"as PID 1 of its pid namespace it gets no {record.stop_signal} without a handler "
            "for it",
        ),
        help=("`init: true` runs the command under a small PID 1", "or name another stop_signal"),
    )


def kill(container: Container, number: int) -> None:
    """A signal for the container's process, by its pidfd; SIGKILL for all that is in its control
    group, where it has one. Raises NsrunError (NS607)."""
    with monitor_of(container) as monitor:
        if number == signal.SIGKILL:
            _kill_all(container, monitor)
        else:
            monitor.kill(number)
    events.note(events.of(container.record, "kill", signal=str(number)))


def _kill_all(container: Container, monitor: Monitor) -> None:
    """What has left the tree of processes too: a daemon started by `nsrun exec`, in a container
    without a pid namespace."""
    folders = _groups(container)
    ending = [folder for folder in folders if groups.stops(folder)] or folders[:1]
    # While any of it is stopped by version 1 the signal waits; the end of kill_in() lets it go on.
    monitor.kill(signal.SIGKILL)
    for folder in ending:
        # The end of the first process may have taken the group away meanwhile.
        with contextlib.suppress(OSError):
            subgroups.kill_in(folder)


def _groups(container: Container) -> list[str]:
    """Its own control groups, also when its first process has left them by ending.

    Kernel: PID 1 of a pid namespace waits in its end for those who are stopped in a group.
    """
    found = container.groups()
    if found or not container.pid:
        return found
    name = group_name(container.record.name)
    folders = (cgroups.named(pid, name) for pid in processes(container.pid)[1:])
    return next(filter(None, folders), [])


def wait(container: Container) -> int:
    """The exit status, once it has ended; 137 where its monitor was killed."""
    if container.alive:
        while store.is_locked(container.folder):
            with contextlib.suppress(ConnectionError), Monitor(container) as monitor:
                status = monitor.wait()
                if status is not None and status >= 0:
                    return status
            # It is ending: who came too late for its word reads it, once it is written for sure.
            time.sleep(0.005)
    again = store.load(container.folder)
    known = again.exit_status if again is not None else container.exit_status
    return 128 + signal.SIGKILL if known is None else known


def remove(container: Container, *, force: bool = False) -> None:
    """Take it away. Raises NsrunError (NS606) where it runs and ``force`` is not given."""
    if container.alive:
        if not force:
            raise NsrunError(
                Diagnostic(
                    code="NS606",
                    summary=f"the container {container.record.name} is running",
                    help=(f"nsrun stop {container.record.name}", "or nsrun rm --force"),
                )
            )
        stop(container, timeout=0.0)
    until_unlocked(container)
    discard(container)


def discard(container: Container) -> None:
    """Take the folder of one away that has ended; the log of events keeps what it tells."""
    last = events.ends(store.load(container.folder) or container)
    store.remove(container.folder)
    events.note(*last, events.of(container.record, "destroy"))


def until_unlocked(container: Container) -> None:
    """The monitor tells its end before it lets go of the lock."""
    deadline = time.monotonic() + _PATIENCE
    while store.is_locked(container.folder) and time.monotonic() < deadline:
        time.sleep(0.001)


def make_room(name: str) -> None:
    """Stop and remove the container that has ``name``, if there is one."""
    found = store.load(os.path.join(store.folder(), name))
    if found is not None:
        stop(found)
        remove(found, force=True)
    elif (place := store.damaged(name)) is not None:
        store.remove(place)


# --- pausing ---------------------------------------------------------------------------------


def pause(container: Container) -> None:
    """Stop every process of it: by its control group where that can, else by SIGSTOP.

    Raises NsrunError (NS607), and NS504 where one of them does not stop.
    """
    if not container.running:
        raise not_running(container)
    folder = _stopping(container)
    if folder is None:
        _stop_each(container)
    elif not groups.stop(folder):
        raise NsrunError(
            Diagnostic(
                code="NS504",
                summary=f"{container.record.name} cannot be paused",
                why=(f"not all in {folder} stops; one of its processes waits in the kernel",),
            )
        )
    events.note(events.of(container.record, "pause"))


def unpause(container: Container) -> None:
    """Let every process go on. Raises NsrunError (NS607)."""
    if not container.running:
        raise not_running(container)
    folder = _stopping(container)
    if folder is not None:
        groups.resume(folder)
    else:
        for pid in processes(container.pid):
            _signal(pid, signal.SIGCONT)
    events.note(events.of(container.record, "unpause"))


def _stopping(container: Container) -> str | None:
    """The control group by which it is stopped."""
    writable = (one for one in container.groups() if os.access(one, os.W_OK))
    return next((one for one in writable if groups.stops(one)), None)


def _stop_each(container: Container) -> None:
    stopped: set[int] = set()
    # What was forked before its parent was stopped is found the next time around.
    while fresh := [pid for pid in processes(container.pid) if pid not in stopped]:
        for pid in fresh:
            _signal(pid, signal.SIGSTOP)
        stopped.update(fresh)


def everyone(container: Container) -> list[int]:
    """All processes of it, its own first: what descends from that, what is in its pid namespace
    if it has one of its own, and what is in its control groups: `nsrun exec` has put it there."""
    found = dict.fromkeys(processes(container.pid))
    found |= dict.fromkeys(groups.in_pid_namespace(container.pid))
    for folder in container.groups():
        found |= dict.fromkeys(sorted(subgroups.members(folder)))
    return list(found)


def processes(pid: int) -> list[int]:
    """The container's process and what descends from it, itself first."""
    children: dict[int, list[int]] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                parent = int(file.read().rpartition(")")[2].split()[1])
        except (OSError, IndexError, ValueError):
            continue
        children.setdefault(parent, []).append(int(name))
    found, queue = [], [pid]
    while queue:
        one = queue.pop(0)
        found.append(one)
        queue += sorted(children.get(one, ()))
    return found


def _signal(pid: int, number: int) -> None:
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        return
    try:
        signal.pidfd_send_signal(fd, number)
    except OSError:
        pass
    finally:
        os.close(fd)
