"""The process's own state at its start and its end."""

from __future__ import annotations

import errno
import os
import sys
from typing import TYPE_CHECKING, NoReturn

from nsrun.diag import Diagnostic, NsrunError

if TYPE_CHECKING:
    import argparse

    Arguments = argparse.Namespace

# 128 + SIGPIPE: what a shell reports of any program whose reader went away.
BROKEN_PIPE = 141
# What the machine or a limit (setrlimit(2)) does not give is no fault of nsrun's.
_SCARCE = frozenset({errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EAGAIN})
_LIMITS = ("look at the limits of the caller: `ulimit -a`",)


def open_standard_descriptors() -> None:
    """Make sure that descriptors 0 to 2 are open, and that printing never raises for a character.

    A closed one would be given to the next file opened, and what is meant for the terminal
    would be written there.
    """
    for fd, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if not _is_open(fd):
            _null_at(fd)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(fd, mode, encoding="utf-8", closefd=False))
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError as error:
        return error.errno != errno.EBADF
    return True


def _null_at(fd: int) -> None:
    opened = os.open("/dev/null", os.O_RDWR)
    # Python opens everything close-on-exec; the command is to have this one.
    os.set_inheritable(opened, True)
    if opened != fd:
        os.dup2(opened, fd)
        os.close(opened)


def refuse_set_uid() -> None:
    """Raise where nsrun was given another user's or group's rights by a set-id bit.

    The caller controls the environment, the working folder and the spec; with another's
    rights all of them would be that other's (credentials(7)).
    """
    if os.getuid() == os.geteuid() and os.getgid() == os.getegid():
        return
    raise NsrunError(
        Diagnostic(
            code="NS402",
            summary="nsrun does not run with the set-user-ID or set-group-ID bit",
            why=(
                f"the real user and group are {os.getuid()}:{os.getgid()}, "
                f"the effective ones {os.geteuid()}:{os.getegid()}",
            ),
            help=("take the bit away; an ordinary user needs no rights of root for a spec",),
        )
    )


def fault(error: Exception) -> Diagnostic:
    """An exception that nothing expected, in words: what, and where in nsrun's code.

    With NSRUN_TRACEBACK set the traceback is printed too.
    """
    import traceback

    if os.environ.get("NSRUN_TRACEBACK"):
        traceback.print_exception(error)
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{frames[-1].name}, {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    if isinstance(error, OSError) and error.filename is None and error.errno == errno.ENOSPC:
        return Diagnostic(code="NS001", summary=f"cannot write: {error.strerror}")
    if isinstance(error, MemoryError):
        return Diagnostic(code="NS003", summary="there is not enough memory", help=_LIMITS)
    if isinstance(error, OSError) and error.errno in _SCARCE:
        return Diagnostic(code="NS003", summary=f"cannot go on: {error.strerror}", help=_LIMITS)
    return Diagnostic(
        code="NS003",
        summary=f"nsrun itself is at fault: {type(error).__name__}: {error}",
        notes=(f"in {where}",) if where else (),
        help=("set NSRUN_TRACEBACK=1 for the traceback, and report it",),
    )


def end(status: int) -> NoReturn:
    """Write what is still buffered and end."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        status = status or BROKEN_PIPE
        _null_at(1)
    except OSError as error:
        sys.stderr.write(f"error: cannot write to standard output: {error.strerror}\n")
        status = status or 1
        _null_at(1)
    try:
        sys.stderr.flush()
    except OSError:
        # What could not be written stays buffered; at the exit it would be tried once more.
        _null_at(2)
    sys.exit(status)


def end_by_interrupt() -> NoReturn:
    """End as an interrupted program does, so that a shell's loop around it ends too."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)
    os._exit(128 + signal.SIGINT)
