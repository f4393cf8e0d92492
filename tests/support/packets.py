"""Real packets between network namespaces, sent by the test's own process.

A socket belongs to the namespace that it was made in (network_namespaces(7)): the test goes there,
makes it, and is back at once. TCP connections and UDP packets to a listening socket need no
process on the other side.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.box import wait_for

_LIBC = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000
# What does not come within this many seconds is lost: there is no wire between namespaces.
LOST = 0.25
_PATIENCE = 5.0


@contextmanager
def inside(netns: Path | None) -> Iterator[None]:
    """In the network namespace of a file; None: where the test is."""
    if netns is None:
        yield
        return
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    there = os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _enter(there)
        try:
            yield
        finally:
            _enter(home)
    finally:
        os.close(there)
        os.close(home)


def _enter(fd: int) -> None:
    if _LIBC.setns(fd, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def container_of(process: subprocess.Popen[str]) -> Path:
    """The network namespace of the container that ``process``, nsrun, has started."""
    own = os.readlink(f"/proc/{process.pid}/ns/net")
    found: list[Path] = []

    def look() -> bool:
        for pid in _below(process.pid):
            try:
                link = os.readlink(f"/proc/{pid}/ns/net")
            except OSError:
                continue
            if link != own:
                found.append(Path(f"/proc/{pid}/ns/net"))
                return True
        return False

    assert wait_for(look), "nsrun has no child in another network namespace"
    return found[0]


def _below(pid: int) -> Iterator[int]:
    try:
        words = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return
    for word in words:
        yield int(word)
        yield from _below(int(word))


def _new(protocol: str, address: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
    made = socket.socket(family, kind)
    made.settimeout(_PATIENCE)
    return made


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A socket that waits for others; ``port`` of the namespace it was made in."""

    socket: socket.socket
    protocol: str
    port: int

    def hears_from(self, client: Path | None, address: str, port: int = 0, source: str = "") -> str:
        """Send to it from ``client`` (by ``address``, ``port``), and back; who it says it was.

        Raises OSError (TimeoutError where the packet or the answer is lost).
        """
        with inside(client), _new(self.protocol, address) as made:
            if source:
                made.bind((source, 0))
            where = (address, port or self.port)
            if self.protocol == "udp":
                made.connect(where)
                made.send(b"there")
                said, peer = self.socket.recvfrom(16)
                self.socket.sendto(b"back", peer)
            else:
                made.connect(where)
                # pasta of 2023 leads a connection on when there is something to lead.
                made.send(b"there")
                accepted, peer = self.socket.accept()
                with accepted:
                    accepted.settimeout(_PATIENCE)
                    said = accepted.recv(16)
                    accepted.send(b"back")
            assert said == b"there"
            assert made.recv(16) == b"back"
        return str(peer[0])

    def is_silent(self) -> bool:
        """Whether no packet is waiting for it, or comes."""
        self.socket.settimeout(LOST)
        try:
            self.socket.recv(16)
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(_PATIENCE)
        return False

    def misses(self, client: Path | None, address: str, port: int = 0, source: str = "") -> bool:
        """Whether what ``client`` sends there does not arrive; nothing is left in the queue."""
        self.socket.settimeout(LOST)
        try:
            with inside(client), _new(self.protocol, address) as made:
                made.settimeout(LOST)
                if source:
                    made.bind((source, 0))
                try:
                    made.connect((address, port or self.port))
                    made.send(b"there")
                except OSError:
                    pass
                try:
                    if self.protocol == "udp":
                        self.socket.recv(16)
                    else:
                        self.socket.accept()[0].close()
                except TimeoutError:
                    return True
                return False
        finally:
            self.socket.settimeout(_PATIENCE)


@dataclass(slots=True)
class Net:
    """Sockets of the test, closed together."""

    _open: list[socket.socket] = field(default_factory=list)

    def server(self, place: Path | None, protocol: str, address: str, port: int = 0) -> Server:
        with inside(place):
            made = _new(protocol, address)
        self._open.append(made)
        if ":" in address:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if protocol == "tcp":
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Where an address is not one of the namespace's, this is where the test is mistaken.
        made.bind((address, port))
        if protocol == "tcp":
            made.listen()
        return Server(socket=made, protocol=protocol, port=made.getsockname()[1])

    def close(self) -> None:
        for made in self._open:
            made.close()


def _ipv4_udp(source: str, address: str, port: int) -> bytes:
    """A packet whose datagram has no checksum (RFC 768)."""
    datagram = struct.pack("!HHHH", 40000, port, 8 + 6, 0) + b"forged"
    addresses = socket.inet_aton(source) + socket.inet_aton(address)
    start = struct.pack("!BBHHHBB", 0x45, 0, 20 + len(datagram), 0, 0, 64, socket.IPPROTO_UDP)
    total = sum(struct.unpack("!9H", start + addresses))
    total = (total & 0xFFFF) + (total >> 16)
    checksum = struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF)
    return start + checksum + addresses + datagram


def send_raw(place: Path | None, source: str, address: str, port: int) -> None:
    """One UDP packet by IPv4 from any source address, by the routes of ``place``."""
    with inside(place), socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as made:
        made.sendto(_ipv4_udp(source, address, port), (address, 0))


def send_frame(place: Path, name: str, to: str, source: str, address: str, port: int) -> None:
    """The same as bytes on ``place``'s interface ``name``, to the interface ``to`` of the test's
    namespace at its other end: no route, no filter of the sender is asked."""
    mac, own = _mac(None, to), _mac(place, name)
    with inside(place), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as made:
        made.bind((name, 0))
        made.send(mac + own + b"\x08\x00" + _ipv4_udp(source, address, port))


def _mac(place: Path | None, name: str) -> bytes:
    """packet(7): what getsockname(2) tells."""
    with inside(place), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as made:
        made.bind((name, 0))
        mac: bytes = made.getsockname()[4]
        return mac
