"""The operations of a plan: a closed union, each replayed without knowing its neighbours.

The child and the parent talk over one ``SOCK_SEQPACKET`` socketpair (unix(7)); its ends are
registers, its messages are these:

    message                      sent by          read by
    sync   name, value           Signal           Wait
    fd     name, value, 1 fd     SendFd, Clone    ReceiveFd
    failed step, errno, text     a failing child  any Wait, ReceiveFd or Await of the parent
    end of file                  execve (CLOEXEC) Wait(sync=EXEC)
"""

from __future__ import annotations

from dataclasses import dataclass

from nsrun.kernel.values import Bytes, Call, Fmt, Int, Reg, Str

# The sync that no step signals: the peer's end of the channel was closed by its execve.
EXEC = "exec"
# Calls that do not return: the child's track ends with one, and the peer's wait for EXEC with it.
LAST_CALLS = frozenset({"execve", "execveat", "exit_group"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Clone:
    """clone3(2). The new process goes on with the child track, the caller with its own.

    ``pid`` and ``pidfd`` are set in the caller. With ``hand_over`` the caller is the child
    track itself: the new process goes on with the rest of the track, the old one sends the
    pid and the pidfd as an ``fd`` message named ``sync`` over ``channel`` and ends with status 0.
    With ``hold`` the new process replays nothing: it waits until it is killed, and keeps its
    namespaces alive meanwhile. The executor runs no code between the two processes' paths but
    its own loop.
    """

    flags: Int
    exit_signal: Int
    pid: Reg
    pidfd: Reg
    hand_over: bool = False
    hold: bool = False
    sync: str = ""
    channel: Reg | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """Release the other track's ``Wait`` of the same name; ``value`` travels with it."""

    sync: str
    channel: Reg
    value: Reg | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Wait for ``Signal`` of the same name, or with ``EXEC`` for the peer's execve.

    In the parent a ``failed`` message makes that step the failure of the run, and SIGINT,
    SIGTERM or SIGHUP in ``signals`` (a signalfd) end the wait. In the child end of file
    means that the parent is gone, and it ends without a word.
    """

    sync: str
    channel: Reg
    save: Reg | None = None
    signals: Reg | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SendFd:
    """Send a descriptor to the other track (SCM_RIGHTS, unix(7))."""

    sync: str
    channel: Reg
    fd: Reg


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiveFd:
    """Receive a descriptor, close-on-exec; ``value`` takes the number sent with it."""

    sync: str
    channel: Reg
    save: Reg
    value: Reg | None = None
    signals: Reg | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Netlink:
    """Send one netlink message on ``socket`` and read its acknowledgement (netlink(7)).

    Fails with the acknowledgement's errno; the kernel's extended text (NLMSGERR_ATTR_MSG)
    is part of the failure.
    """

    socket: Reg
    message: Bytes
    accept: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Spawn:
    """Run a helper to its end, in the parent's track.

    ``env`` is its whole environment (``NAME=value``), ``stdin`` what it reads. Its exit status
    must be one of ``success``; what it wrote to stderr is part of the failure.
    ``timeout`` is in nanoseconds, 0 for none; a helper over it is killed.
    """

    argv: tuple[Str | Fmt, ...]
    env: tuple[str, ...] = ()
    stdin: Bytes | Fmt | None = None
    success: tuple[int, ...] = (0,)
    timeout: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Init:
    """Fork: the new process goes on with the track, this one stays as PID 1.

    It closes every descriptor but 0 to 2, reaps every child, forwards the signals it gets to
    the new process and ends with that process's exit status (128+N for signal N).
    """

    channel: Reg


@dataclass(frozen=True, slots=True, kw_only=True)
class Await:
    """Supervise until ``pidfd``'s process ends; ``status`` takes the exit status.

    Signals from ``signals`` (a signalfd) are forwarded; SIGTERM becomes ``stop_signal``, and
    ``stop_timeout`` nanoseconds after it SIGKILL follows. ``timeout`` nanoseconds after
    the start (0: never) the process is stopped in the same way. ``terminal`` is the
    pty's master: relayed to descriptors 0 and 1, with the window's size.
    """

    child: Reg
    pidfd: Reg
    signals: Reg
    status: Reg
    stop_signal: Int
    stop_timeout: int
    timeout: int = 0
    terminal: Reg | None = None


Op = Call | Clone | Signal | Wait | SendFd | ReceiveFd | Netlink | Spawn | Init | Await
