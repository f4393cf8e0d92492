"""Talking to a container's monitor: one packet a message (docs/decisions/0019-state.md)."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import struct
from dataclasses import dataclass
from types import TracebackType

from nsrun.runtime.store import Container

PACKET_MAX = 8193
_INT = struct.Struct("=i")
_END = struct.Struct("=ii")
_WINDOW = struct.Struct("=HH")


@dataclass(frozen=True, slots=True)
class End:
    """``signal``: that ended the container's process, 0 for none."""

    status: int
    signal: int


def end_of(packet: bytes) -> End:
    """What follows the ``x`` of a monitor's last packet; one of an older nsrun has no signal."""
    status, number = _END.unpack(packet[: _END.size].ljust(_END.size, b"\0"))
    return End(status, number)


class Monitor:
    """A connection to the monitor of ``container``. Raises ConnectionError where there is none."""

    def __init__(self, container: Container) -> None:
        self.connect(container)

    def connect(self, container: Container) -> None:
        """Anew, after :meth:`close`."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # An address has room for 107 bytes; a descriptor's path is short.
        try:
            folder = os.open(container.folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            self._socket.close()
            raise ConnectionError(f"{container.record.name} is gone") from error
        try:
            self._socket.connect(f"/proc/self/fd/{folder}/socket")
        # ENOTCONN, EAGAIN: it is ending, or has too many who wait.
        except OSError as error:
            self._socket.close()
            raise ConnectionError(f"{container.record.name} is not running") from error
        finally:
            os.close(folder)

    def __enter__(self) -> Monitor:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    def _send(self, packet: bytes) -> None:
        # Of its end tells what is received.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._socket.send(packet)

    def attach(self) -> None:
        self._send(b"a")

    def type(self, data: bytes) -> None:
        """Bytes for the standard input."""
        for at in range(0, len(data), PACKET_MAX - 1):
            self._send(b"i" + data[at : at + PACKET_MAX - 1])

    def end_input(self) -> None:
        self._send(b"c")

    def resize(self, rows: int, columns: int) -> None:
        self._send(b"w" + _WINDOW.pack(rows, columns))

    def stop(self, number: int = signal.SIGTERM) -> None:
        """A signal for the launcher: SIGTERM ends the container in good order."""
        self._send(b"s" + _INT.pack(number))

    def kill(self, number: int) -> None:
        """A signal for the container's process."""
        self._send(b"k" + _INT.pack(number))

    def receive(self) -> tuple[str, bytes]:
        """The next packet: ``o`` and ``e`` output, ``x`` the end; ("", b"") where it is gone."""
        try:
            data = self._socket.recv(PACKET_MAX)
        except ConnectionResetError:
            return "", b""
        return data[:1].decode("ascii", "replace"), data[1:]

    def wait(self, timeout: float | None = None) -> int | None:
        """The exit status when the container has ended, -1 where nobody tells it; None where it
        has not within ``timeout`` seconds."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        while poll.poll(None if timeout is None else timeout * 1000):
            kind, data = self.receive()
            if kind == "x":
                return end_of(data).status
            if not kind:
                return -1
        return None
