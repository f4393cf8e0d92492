"""A process that replays nothing: it keeps its namespaces until it is killed.

It also ends with the launcher, however that ends: it reads a pipe whose other end the launcher
has open, and end of file is all that can come. (A death signal, prctl(2), would have to be set
after the clone, and be too late for a launcher killed in between.)
"""

from __future__ import annotations

import os
from typing import NoReturn

from nsrun.replay.outcome import NSRUN_FAILED
from nsrun.replay.step import from_os_error
from nsrun.replay.syscalls import CloseRange, Forker


class PreparedHold:
    """One ``Clone`` with ``hold``."""

    def __init__(self, forker: Forker) -> None:
        self._forker = forker
        self._close_range = CloseRange()
        self._ours = -1

    def fork(self) -> tuple[int, int]:
        """(pid, 0) or (-1, errno) in the caller; the new process does not return."""
        try:
            theirs, self._ours = os.pipe2(os.O_CLOEXEC)
        except OSError as error:
            raise from_os_error(error) from error
        pid, errno = self._forker.fork()
        if pid == 0:
            self._hold(theirs)
        os.close(theirs)
        return pid, errno

    def _hold(self, pipe: int) -> NoReturn:
        try:
            # The channel above all: an end held open here would hide the child's execve.
            os.dup2(pipe, 0)
            self._close_range.close(1)
            os.read(0, 1)
        finally:
            os._exit(NSRUN_FAILED)

    def release(self) -> None:
        """Let the process end, if it has not been killed."""
        if self._ours >= 0:
            os.close(self._ours)
            self._ours = -1
