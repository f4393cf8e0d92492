"""The messages between the two tracks, on a SOCK_SEQPACKET socketpair (unix(7)).

    message                               sent by            read by
    SYNC  name, value                     Signal             Wait
    FD    name, value, 1 descriptor       SendFd, Clone      ReceiveFd
    FAIL  step, kind, errno, value, text  a failing child    any wait of the parent
    end of file                           execve (CLOEXEC)   Wait(sync=EXEC)

Raw sendmsg(2) and recvmsg(2): socket objects would ask the kernel for what is known, and
MSG_NOSIGNAL is needed because the child may have SIGPIPE's default action again.
"""

from __future__ import annotations

import ctypes
import errno as errnos
import os
import struct
from dataclasses import dataclass
from enum import Enum, IntEnum

from nsrun.kernel.abi import MsgFlag
from nsrun.kernel.values import Reg
from nsrun.replay.outcome import Kind
from nsrun.replay.step import DONE, TEXT_MAX, Registers, Result, StepError, internal
from nsrun.replay.syscalls import number, syscall

NAME_MAX = 255
# linux/socket.h
_MSG_CTRUNC = 0x8
_MSG_TRUNC = 0x20
_MSG_NOSIGNAL = 0x4000
_MSG_CMSG_CLOEXEC = 0x40000000
_SOL_SOCKET = 1
_SCM_RIGHTS = 1

_KINDS = tuple(Kind)


class Tag(IntEnum):
    """What a message is."""

    SYNC = 1
    FD = 2
    FAIL = 3


class Nothing(Enum):
    """Why there is no message: the peer's end is closed, or none has come yet."""

    EOF = "eof"
    AGAIN = "again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message. ``fd`` is -1 in all but FD; step, kind, errno, expect and text are FAIL's."""

    tag: Tag
    name: bytes = b""
    value: int = 0
    fd: int = -1
    step: int = 0
    kind: Kind = Kind.ERRNO
    errno: int = 0
    expect: int = -1
    text: bytes = b""


# tag, kind, length of the name, step, errno, expect, value; then the name, then the text
_HEADER = struct.Struct("=BBHiiiq")
_SIZE = _HEADER.size + NAME_MAX + TEXT_MAX
# struct cmsghdr (size_t, int, int), one descriptor, padding to CMSG_SPACE
_CONTROL = struct.Struct("@Niii4x")
_CONTROL_LENGTH = _CONTROL.size - 4


class _IoVec(ctypes.Structure):
    """struct iovec, linux/uio.h"""

    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _MsgHdr(ctypes.Structure):
    """struct user_msghdr, linux/socket.h"""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_int),
        ("vector", ctypes.c_void_p),
        ("vector_length", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_uint),
    )


class Channel:
    """Sends and receives messages on whichever descriptor it is given."""

    def __init__(self) -> None:
        self._sendmsg = number("sendmsg")
        self._recvmsg = number("recvmsg")
        self._data = ctypes.create_string_buffer(_SIZE)
        self._control = ctypes.create_string_buffer(_CONTROL.size)
        self._vector = _IoVec(ctypes.addressof(self._data), _SIZE)
        self._header = _MsgHdr(
            None, 0, ctypes.addressof(self._vector), 1, ctypes.addressof(self._control), 0, 0
        )

    def send(self, fd: int, message: Message) -> None:
        """Raises StepError with sendmsg's errno: EPIPE or ECONNRESET where the peer is gone."""
        name = message.name[:NAME_MAX]
        kind = _KINDS.index(message.kind)
        data = (
            _HEADER.pack(
                message.tag,
                kind,
                len(name),
                message.step,
                message.errno,
                message.expect,
                message.value,
            )
            + name
            + message.text[:TEXT_MAX]
        )
        ctypes.memmove(self._data, data, len(data))
        self._vector.length = len(data)
        # What recvmsg(2) has written there means nothing to sendmsg(2).
        self._header.control_length = self._header.flags = 0
        if message.fd >= 0:
            control = _CONTROL.pack(_CONTROL_LENGTH, _SOL_SOCKET, _SCM_RIGHTS, message.fd)
            ctypes.memmove(self._control, control, len(control))
            self._header.control_length = len(control)
        self._call(self._sendmsg, fd, _MSG_NOSIGNAL)

    def receive(self, fd: int, *, block: bool) -> Message | Nothing:
        """The next message; raises StepError for what is none."""
        self._vector.length = _SIZE
        self._header.control_length = _CONTROL.size
        flags = _MSG_CMSG_CLOEXEC | (0 if block else MsgFlag.MSG_DONTWAIT)
        size = self._call(self._recvmsg, fd, flags)
        if size < 0:
            return Nothing.AGAIN
        if size == 0:
            return Nothing.EOF
        passed = self._passed()
        if size < _HEADER.size or self._header.flags & (_MSG_TRUNC | _MSG_CTRUNC):
            if passed >= 0:
                os.close(passed)
            raise internal(b"a message of the channel is cut: %d bytes" % size)
        return _parse(self._data.raw[:size], passed)

    def _call(self, number_: int, fd: int, flags: int) -> int:
        while True:
            result, errno = syscall(number_, fd, ctypes.addressof(self._header), flags)
            if result >= 0:
                return result
            if errno == errnos.EAGAIN and number_ == self._recvmsg:
                return -1
            # A peer that closed with messages unread leaves ECONNRESET, reported once and
            # before what it had sent itself; the next call reads that (unix_release_sock()).
            if errno == errnos.EINTR or (errno == errnos.ECONNRESET and number_ == self._recvmsg):
                continue
            raise StepError(Kind.ERRNO, errno=errno, value=-1)

    def _passed(self) -> int:
        if self._header.control_length < _CONTROL_LENGTH:
            return -1
        _, level, kind, fd = _CONTROL.unpack(self._control.raw)
        return int(fd) if (level, kind) == (_SOL_SOCKET, _SCM_RIGHTS) else -1


def _parse(data: bytes, fd: int) -> Message:
    tag, kind, length, step, errno, expect, value = _HEADER.unpack_from(data)
    text = _HEADER.size + length
    return Message(
        tag=Tag(tag),
        name=data[_HEADER.size : text],
        value=value,
        fd=fd,
        step=step,
        kind=_KINDS[kind],
        errno=errno,
        expect=expect,
        text=data[text:],
    )


class PreparedSignal:
    """``Signal``, ready to be sent."""

    def __init__(self, sync: bytes, channel: Reg, value: Reg | None, messages: Channel) -> None:
        self._sync = sync
        self._channel = channel
        self._value = value
        self._messages = messages

    def run(self, registers: Registers) -> Result:
        value = 0 if self._value is None else registers.get(self._value)
        message = Message(tag=Tag.SYNC, name=self._sync, value=value)
        self._messages.send(registers.get(self._channel), message)
        return DONE


class PreparedSendFd:
    """``SendFd``, ready to be sent."""

    def __init__(self, sync: bytes, channel: Reg, fd: Reg, messages: Channel) -> None:
        self._sync = sync
        self._channel = channel
        self._fd = fd
        self._messages = messages

    def run(self, registers: Registers) -> Result:
        fd = registers.get(self._fd)
        message = Message(tag=Tag.FD, name=self._sync, value=fd, fd=fd)
        self._messages.send(registers.get(self._channel), message)
        return DONE
