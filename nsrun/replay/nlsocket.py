"""Netlink requests: send one message, read its acknowledgement (netlink(7))."""

from __future__ import annotations

import ctypes
import errno as errnos
import select
import struct
import sys
import time

from nsrun.kernel.values import Bytes, Reg
from nsrun.replay.outcome import Kind, State
from nsrun.replay.prepare import Buffer, PrepareError
from nsrun.replay.step import TEXT_MAX, Registers, Result, StepError
from nsrun.replay.syscalls import number, syscall

# struct nlmsghdr of linux/netlink.h: length, type, flags, sequence number, port
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_NLMSG_ERROR = 2
_NLM_F_ACK = 0x4
_NLM_F_CAPPED = 0x100
_NLM_F_ACK_TLVS = 0x200
_NLMSGERR_ATTR_MSG = 1
_NLA_TYPE_MASK = 0x3FFF
_RECEIVE_MAX = 1 << 16
# The kernel acknowledges before sendto(2) returns; a socket that is no netlink never does.
_PATIENCE_NS = 5 * 10**9


class PreparedNetlink:
    """One ``Netlink``, ready to be sent once."""

    def __init__(
        self, socket: Reg, message: Bytes, accept: frozenset[int], skip: frozenset[int]
    ) -> None:
        if len(message.value) < _HEADER.size:
            raise PrepareError("a netlink message is shorter than its header")
        _, _, flags, self._sequence, _ = _HEADER.unpack_from(message.value)
        if not flags & _NLM_F_ACK:
            raise PrepareError("a netlink message does not ask for its acknowledgement")
        self._socket = socket
        self._message = Buffer(message)
        self._accept = accept
        self._skip = skip
        self._sendto = number("sendto")
        self._answer = ctypes.create_string_buffer(_RECEIVE_MAX)
        self._recvfrom = number("recvfrom")

    def run(self, registers: Registers) -> Result:
        """Raises StepError with the acknowledgement's errno and the kernel's text."""
        fd = registers.argument(self._socket)
        self._message.fill(registers)
        # Without an address a netlink socket sends to port 0: the kernel.
        sent, errno = syscall(self._sendto, fd, self._message.address, self._message.size)
        if sent < 0:
            raise StepError(Kind.ERRNO, errno=errno, value=-1)
        errno, text = self._acknowledgement(fd)
        if not errno:
            return Result(State.DONE)
        if errno in self._skip:
            return Result(State.SKIPPED, -1, errno)
        if errno in self._accept:
            return Result(State.ACCEPTED, -1, errno)
        raise StepError(Kind.ERRNO, errno=errno, value=-1, text=text[:TEXT_MAX])

    def _acknowledgement(self, fd: int) -> tuple[int, bytes]:
        """(errno, text) of the message's NLMSG_ERROR; whatever else comes is left aside."""
        deadline = time.monotonic_ns() + _PATIENCE_NS
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        while True:
            left = deadline - time.monotonic_ns()
            if left <= 0 or not poll.poll(left // 10**6 + 1):
                return errnos.ETIMEDOUT, b"the kernel did not acknowledge the message"
            size, errno = syscall(self._recvfrom, fd, ctypes.addressof(self._answer), _RECEIVE_MAX)
            if size < 0:
                if errno in (errnos.EINTR, errnos.EAGAIN):
                    continue
                return errno, b""
            found = acknowledgement(self._answer.raw[:size], self._sequence)
            if found is not None:
                return found


def acknowledgement(data: bytes, sequence: int) -> tuple[int, bytes] | None:
    """(errno, text) of the NLMSG_ERROR for ``sequence`` in a datagram, None where none is."""
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, kind, flags, seq, _ = _HEADER.unpack_from(data, offset)
        if length < _HEADER.size or offset + length > len(data):
            return None
        body = data[offset + _HEADER.size : offset + length]
        if kind == _NLMSG_ERROR and seq == sequence and len(body) >= 4 + _HEADER.size:
            errno = -int.from_bytes(body[:4], sys.byteorder, signed=True)
            return errno, _text(body, flags)
        offset += _aligned(length)
    return None


def _text(body: bytes, flags: int) -> bytes:
    """NLMSGERR_ATTR_MSG; the request's own bytes stand before it unless the ack is capped."""
    if not flags & _NLM_F_ACK_TLVS:
        return b""
    request = int.from_bytes(body[4:8], sys.byteorder)
    offset = 4 + (_HEADER.size if flags & _NLM_F_CAPPED else _aligned(request))
    while offset + _ATTRIBUTE.size <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, offset)
        if length < _ATTRIBUTE.size:
            break
        if kind & _NLA_TYPE_MASK == _NLMSGERR_ATTR_MSG:
            return body[offset + _ATTRIBUTE.size : offset + length].rstrip(b"\0")
        offset += _aligned(length)
    return b""


def _aligned(length: int) -> int:
    return (length + 3) & ~3
