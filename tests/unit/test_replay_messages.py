"""The channel's messages, netlink's acknowledgements, and signals read from a descriptor."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import struct
from collections.abc import Iterator

import pytest

from nsrun.kernel.values import Reg
from nsrun.replay.channel import (
    NAME_MAX,
    Channel,
    Message,
    Nothing,
    PreparedSendFd,
    PreparedSignal,
    Tag,
)
from nsrun.replay.nlsocket import acknowledgement
from nsrun.replay.outcome import Kind
from nsrun.replay.step import TEXT_MAX, Registers, StepError

Ends = tuple[int, int]


@pytest.fixture
def ends() -> Iterator[Ends]:
    a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    fds = (a.detach(), b.detach())
    yield fds
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)


@pytest.mark.parametrize(
    "message",
    [
        Message(tag=Tag.SYNC, name=b"mapped"),
        Message(tag=Tag.SYNC, name=b"", value=-(2**63)),
        Message(tag=Tag.SYNC, name="gesät".encode(), value=2**63 - 1),
        Message(
            tag=Tag.FAIL,
            step=143,
            kind=Kind.EXPECT,
            errno=0,
            value=-1,
            expect=2,
            text=b"e tmpfs: Unknown parameter\n\xff",
        ),
        Message(tag=Tag.FAIL, name=b"n" * NAME_MAX, text=b"t" * TEXT_MAX),
        *(Message(tag=Tag.FAIL, kind=kind) for kind in Kind),
    ],
)
def test_messages_round_trip(message: Message, ends: Ends) -> None:
    channel = Channel()
    channel.send(ends[0], message)
    assert channel.receive(ends[1], block=True) == message


def test_messages_keep_their_order_and_borders(ends: Ends) -> None:
    channel = Channel()
    sent = [Message(tag=Tag.SYNC, name=b"x" * n, value=n) for n in range(5)]
    for message in sent:
        channel.send(ends[0], message)
    assert [channel.receive(ends[1], block=False) for _ in sent] == sent
    assert channel.receive(ends[1], block=False) is Nothing.AGAIN


def test_a_descriptor_arrives_close_on_exec(ends: Ends) -> None:
    channel = Channel()
    null = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(null, True)
    channel.send(ends[0], Message(tag=Tag.FD, name=b"pty", value=42, fd=null))
    got = channel.receive(ends[1], block=True)
    assert isinstance(got, Message)
    assert (got.tag, got.name, got.value) == (Tag.FD, b"pty", 42)
    assert got.fd not in (-1, null)
    assert os.path.sameopenfile(got.fd, null) and not os.get_inheritable(got.fd)
    os.close(got.fd)
    # The next message has none, though the buffers are the same.
    channel.send(ends[0], Message(tag=Tag.SYNC, name=b"next"))
    after = channel.receive(ends[1], block=True)
    assert isinstance(after, Message) and after.fd == -1
    os.close(null)


def test_end_of_file(ends: Ends) -> None:
    os.close(ends[0])
    assert Channel().receive(ends[1], block=True) is Nothing.EOF
    assert Channel().receive(ends[1], block=False) is Nothing.EOF


def test_sending_to_nobody_is_an_error_and_no_signal(ends: Ends) -> None:
    """SIGPIPE has its default action in a child: MSG_NOSIGNAL."""
    # Before the fork: a copy of it in either process would be somebody.
    os.close(ends[1])
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        try:
            Channel().send(ends[0], Message(tag=Tag.SYNC))
        except StepError as error:
            os._exit(error.errno)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == errno.EPIPE


def test_a_peer_that_left_messages_unread_hides_nothing(ends: Ends) -> None:
    """The kernel says ECONNRESET once, before what the peer had sent itself."""
    channel = Channel()
    channel.send(ends[0], Message(tag=Tag.SYNC, name=b"unread"))
    channel.send(ends[1], Message(tag=Tag.FAIL, step=3, errno=2))
    os.close(ends[1])
    report = channel.receive(ends[0], block=False)
    assert isinstance(report, Message) and (report.tag, report.step) == (Tag.FAIL, 3)
    assert channel.receive(ends[0], block=False) is Nothing.EOF


@pytest.mark.parametrize("data", [b"x", b"\x01" * 5000])
def test_what_is_no_message_is_an_internal_failure(data: bytes, ends: Ends) -> None:
    os.write(ends[0], data)
    with pytest.raises(StepError) as caught:
        Channel().receive(ends[1], block=True)
    assert caught.value.kind is Kind.INTERNAL


def test_a_closed_descriptor_is_ebadf(ends: Ends) -> None:
    os.close(ends[1])
    with pytest.raises(StepError) as caught:
        Channel().receive(ends[1], block=True)
    assert caught.value.errno == errno.EBADF


def test_prepared_signals_and_descriptors(ends: Ends) -> None:
    channel = Channel()
    end, value, fd = Reg("end"), Reg("value"), Reg("fd")
    registers = Registers()
    registers.set(end, ends[0])
    registers.set(value, 17)
    registers.set(fd, ends[0])
    PreparedSignal(b"go", end, value, channel).run(registers)
    PreparedSignal(b"bare", end, None, channel).run(registers)
    PreparedSendFd(b"self", end, fd, channel).run(registers)
    assert channel.receive(ends[1], block=True) == Message(tag=Tag.SYNC, name=b"go", value=17)
    assert channel.receive(ends[1], block=True) == Message(tag=Tag.SYNC, name=b"bare")
    got = channel.receive(ends[1], block=True)
    assert isinstance(got, Message) and got.tag is Tag.FD and got.fd >= 0
    os.close(got.fd)


# --- netlink ---------------------------------------------------------------------------------


def ack(
    error: int, *, sequence: int = 7, text: bytes = b"", capped: bool = True, kind: int = 2
) -> bytes:
    """An NLMSG_ERROR for a request of 20 bytes, as linux/netlink.h lays it out."""
    request = struct.pack("=IHHII", 20, 16, 5, sequence, 0)
    body = struct.pack("=i", -error) + request + (b"" if capped else b"body")
    flags = 0x100 if capped else 0
    if text:
        flags |= 0x200
        offset = struct.pack("=HHI", 8, 2, 16)
        message = struct.pack("=HH", 4 + len(text) + 1, 1) + text + b"\0"
        body += offset + message.ljust((len(message) + 3) & ~3, b"\0")
    return struct.pack("=IHHII", 16 + len(body), kind, flags, sequence, 0) + body


@pytest.mark.parametrize("capped", [True, False])
def test_acknowledgements(capped: bool) -> None:
    assert acknowledgement(ack(0, capped=capped), 7) == (0, b"")
    assert acknowledgement(ack(19, capped=capped), 7) == (19, b"")
    text = b"Attribute failed policy validation"
    assert acknowledgement(ack(34, text=text, capped=capped), 7) == (34, text)


def test_other_messages_are_left_aside() -> None:
    other = ack(1, sequence=6) + ack(2, kind=16) + ack(3)
    assert acknowledgement(other, 7) == (3, b"")
    assert acknowledgement(ack(1, sequence=6), 7) is None


@pytest.mark.parametrize("cut", range(1, 36, 5))
def test_cut_datagrams_are_no_acknowledgement(cut: int) -> None:
    assert acknowledgement(ack(1)[:cut], 7) is None
    assert acknowledgement(struct.pack("=IHHII", 3, 2, 0, 7, 0), 7) is None


# --- signals ---------------------------------------------------------------------------------


def test_signals_are_read_with_their_sender() -> None:
    from nsrun.replay.supervise import read_signals

    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    assert read_signals(reader) == []
    for number, code, pid in ((15, 0, 99), (28, 0x80, 0), (10, -1, 2**32 - 1)):
        os.write(writer, struct.pack("=IiiI", number, 0, code, pid).ljust(128, b"\0"))
    assert read_signals(reader) == [(15, 0, 99), (28, 0x80, 0), (10, -1, 2**32 - 1)]
    os.close(reader)
    os.close(writer)
