"""The relay between the caller's terminal and a container's pty (pty(7), termios(3)).

    descriptor 0 ──▶ to the master ──▶ the command reads its terminal
    descriptor 1 ◀── from the master ◀── the command writes

Descriptors 0 and 1 may be shared with other programs, and O_NONBLOCK would be set for them too:
poll(2) says when a write of up to PIPE_BUF bytes does not wait. The master is ours alone.
"""

from __future__ import annotations

import contextlib
import errno as errnos
import fcntl
import os
import select
import signal
import termios
from typing import Any

STDIN, STDOUT, STDERR = 0, 1, 2
# PIPE_BUF of linux/limits.h: a pipe that polls writable takes this much.
_CHUNK = 4096
_BUFFER_MAX = 1 << 16
_WINDOW_SIZE = 8
_GONE = select.POLLERR | select.POLLNVAL

# tcgetattr(3)'s list: iflag, oflag, cflag, lflag, ispeed, ospeed, cc
_IFLAG, _OFLAG, _CFLAG, _LFLAG, _CC = 0, 1, 2, 3, 6


def raw(attributes: list[Any]) -> list[Any]:
    """``attributes`` as cfmakeraw(3) changes them: every byte passes as it is."""
    changed = [*attributes[:_CC], list(attributes[_CC])]
    changed[_IFLAG] &= ~(
        termios.IGNBRK
        | termios.BRKINT
        | termios.PARMRK
        | termios.ISTRIP
        | termios.INLCR
        | termios.IGNCR
        | termios.ICRNL
        | termios.IXON
    )
    changed[_OFLAG] &= ~termios.OPOST
    changed[_CFLAG] = changed[_CFLAG] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
    changed[_LFLAG] &= ~(
        termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN
    )
    changed[_CC][termios.VMIN] = 1
    changed[_CC][termios.VTIME] = 0
    return changed


def copy_window_size(master: int) -> None:
    """Give the pty the size of the caller's terminal, if one of 0 to 2 is a terminal."""
    for fd in (STDIN, STDOUT, STDERR):
        try:
            size = fcntl.ioctl(fd, termios.TIOCGWINSZ, bytes(_WINDOW_SIZE))
            fcntl.ioctl(master, termios.TIOCSWINSZ, size)
        except OSError:
            continue
        return


def in_foreground(fd: int) -> bool:
    """Whether this process may use a terminal; True for what is no terminal of ours."""
    try:
        return os.tcgetpgrp(fd) == os.getpgrp()
    except OSError:
        return True


class RawMode:
    """The caller's terminal, raw while the command owns it, and always put back."""

    def __init__(self) -> None:
        self._saved: list[Any] | None = None

    def enter(self) -> None:
        """Make descriptor 0 raw, if it is a terminal and we are in its foreground."""
        if not os.isatty(STDIN) or not in_foreground(STDIN):
            return
        attributes = termios.tcgetattr(STDIN)
        if self._saved is None:
            self._saved = attributes
        _set_attributes(raw(self._saved))

    def leave(self) -> None:
        """Put back what enter() found; safe to call at any time, any number of times."""
        saved, self._saved = self._saved, None
        if saved is None:
            return
        with contextlib.suppress(OSError, termios.error):  # the terminal is gone
            _set_attributes(saved)


def _set_attributes(attributes: list[Any]) -> None:
    # A background process that changes its terminal is stopped by SIGTTOU unless it blocks it
    # (termios(3)). TCSADRAIN would wait for a reader that may never come.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
    try:
        termios.tcsetattr(STDIN, termios.TCSANOW, attributes)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTTOU} - before)


class Relay:
    """Moves bytes both ways, in bounded buffers; the caller polls what wanted() says."""

    def __init__(self, master: int) -> None:
        self._master = master
        self._input = bytearray()
        self._output = bytearray()
        self._stdin_open = True
        self._stdin_paused = False
        self._stdout_open = True
        self._last_input = b"\n"
        self.hung_up = False
        self.at_end = False
        self.output_lost = False
        os.set_blocking(master, False)

    def wanted(self) -> dict[int, int]:
        """Descriptors and the poll(2) events to wait for."""
        events: dict[int, int] = {}
        if not self.hung_up:
            reading = select.POLLIN if len(self._output) < _BUFFER_MAX else 0
            writing = select.POLLOUT if self._input else 0
            if reading | writing:
                events[self._master] = reading | writing
        if self._stdin_open and not self._stdin_paused and len(self._input) < _BUFFER_MAX:
            events[STDIN] = select.POLLIN
        if self._output:
            events[STDOUT] = select.POLLOUT
        return events

    @property
    def empty(self) -> bool:
        """Whether all that was read from the master is written."""
        return not self._output

    def handle(self, fd: int, events: int) -> None:
        """Do what poll(2) says can be done now."""
        if fd == self._master:
            if events & select.POLLOUT:
                self._write_master()
            if events & ~select.POLLOUT:
                self.read_master()
        elif fd == STDIN:
            self._read_stdin()
        elif fd == STDOUT:
            self._write_stdout(events)

    def stop_input(self) -> None:
        """Leave what is still typed to whoever reads the terminal next."""
        self._stdin_open = False
        self._input.clear()

    def resume(self) -> None:
        """Look again: the master may have a slave again, we may be in the foreground again."""
        self.hung_up = False
        self._stdin_paused = False

    def read_master(self) -> bool:
        """Take what the command wrote; False where there is nothing now."""
        try:
            data = os.read(self._master, _BUFFER_MAX)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno != errnos.EIO:
                raise
            data = b""
        if not data:
            # EIO: no process has the slave open (pty(7)); one may open it again.
            self.hung_up = True
            return False
        if self._stdout_open:
            self._output += data
        return True

    def _write_master(self) -> None:
        try:
            written = os.write(self._master, self._input)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errnos.EIO:
                raise
            written = len(self._input)
        del self._input[:written]

    def _read_stdin(self) -> None:
        try:
            data = os.read(STDIN, _CHUNK)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno == errnos.EIO and not in_foreground(STDIN):
                # SIGTTIN is blocked: a background read fails instead of stopping us.
                self._stdin_paused = True
                return
            data = b""
        if data:
            self._input += data
            self._last_input = data[-1:]
            return
        self._stdin_open = False
        self.at_end = True
        self._input += self._end_of_file()

    def repeat_end(self) -> None:
        """Say once more that the input has ended, to whoever reads the terminal now.

        The character is gone where nobody was reading, or the mode of the terminal has changed
        since: a shell that edits its lines reads raw, and takes it for the end itself.
        """
        self._last_input = b"\n"
        if not self._input:
            self._input += self._end_of_file()

    def _end_of_file(self) -> bytes:
        """What makes the command's terminal read end of file."""
        try:
            attributes = termios.tcgetattr(self._master)
        except (OSError, termios.error):
            return b""
        canonical, echoed = (attributes[_LFLAG] & flag for flag in (termios.ICANON, termios.ECHO))
        if echoed and not canonical:
            # It would be read as a character and stand in the output.
            return b""
        end = bytes(attributes[_CC][termios.VEOF])
        # Within a line the first one only hands the line over (termios(3), VEOF).
        return end if self._last_input == b"\n" else 2 * end

    def _write_stdout(self, events: int) -> None:
        if not events & _GONE:
            try:
                written = os.write(STDOUT, bytes(self._output[:_CHUNK]))
            except BlockingIOError:
                return
            except OSError:
                pass
            else:
                del self._output[:written]
                return
        # Nobody reads any more: go on reading, so that the command can end.
        self._stdout_open = False
        self.output_lost = True
        self._output.clear()
