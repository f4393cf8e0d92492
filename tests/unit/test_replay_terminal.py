"""Terminal modes and the buffers of the relay, on ptys of the test's own."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import termios
from collections.abc import Iterator

import pytest

from nsrun.replay import terminal
from nsrun.replay.terminal import RawMode, Relay, raw

Pair = tuple[int, int]


@pytest.fixture
def pair() -> Iterator[Pair]:
    fds = pty.openpty()
    yield fds
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)


def test_raw_is_what_cfmakeraw_makes(pair: Pair) -> None:
    import tty

    _master, slave = pair
    before = termios.tcgetattr(slave)
    mine = raw(before)
    tty.setraw(slave)
    theirs = termios.tcgetattr(slave)
    termios.tcsetattr(slave, termios.TCSANOW, before)
    termios.tcsetattr(slave, termios.TCSANOW, mine)
    assert termios.tcgetattr(slave)[:4] == [
        theirs[0] & ~(termios.IGNBRK | termios.PARMRK | termios.INLCR | termios.IGNCR),
        theirs[1],
        theirs[2],
        theirs[3] & ~termios.ECHONL,
    ]
    # What was read is not changed: it is what will be put back.
    assert before == raw_argument_untouched(before)


def raw_argument_untouched(attributes: list[object]) -> list[object]:
    raw(attributes)
    return attributes


def test_leaving_raw_mode_that_was_never_entered_does_nothing() -> None:
    mode = RawMode()
    mode.leave()
    mode.leave()


@pytest.fixture
def relayed(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Relay, Pair, Pair]]:
    """A relay whose descriptors 0 and 1 are pipes of the test."""
    stdin_r, stdin_w = os.pipe()
    stdout_r, stdout_w = os.pipe()
    monkeypatch.setattr(terminal, "STDIN", stdin_r)
    monkeypatch.setattr(terminal, "STDOUT", stdout_w)
    yield Relay(pair[0]), pair, (stdin_w, stdout_r)
    for fd in (stdin_r, stdin_w, stdout_r, stdout_w):
        with contextlib.suppress(OSError):
            os.close(fd)


Relayed = tuple[Relay, Pair, Pair]


def test_buffers_are_bounded_and_polled_only_when_useful(relayed: Relayed) -> None:
    relay, (master, slave), _ = relayed
    assert relay.wanted() == {master: select.POLLIN, terminal.STDIN: select.POLLIN}
    attributes = termios.tcgetattr(slave)
    termios.tcsetattr(slave, termios.TCSANOW, raw(attributes))
    written = 0
    while select.POLLIN & relay.wanted().get(master, 0):
        written += os.write(slave, b"x" * 1024)
        relay.read_master()
        assert written < 1 << 20
    # Full: the master is left alone, the output waits for its reader.
    assert master not in relay.wanted()
    assert relay.wanted()[terminal.STDOUT] == select.POLLOUT
    assert not relay.empty


def test_stdout_is_written_in_pieces_a_pipe_takes(relayed: Relayed) -> None:
    relay, (_, slave), (_, out) = relayed
    termios.tcsetattr(slave, termios.TCSANOW, raw(termios.tcgetattr(slave)))
    os.write(slave, b"y" * 3000)
    relay.read_master()
    relay.handle(terminal.STDOUT, select.POLLOUT)
    assert len(os.read(out, 1 << 16)) <= 4096
    assert relay.empty


def test_a_gone_reader_is_told_once_and_reading_goes_on(relayed: Relayed) -> None:
    relay, (master, slave), (_, out) = relayed
    os.close(out)
    os.write(slave, b"one\n")
    relay.handle(master, select.POLLIN)
    relay.handle(terminal.STDOUT, select.POLLERR)
    assert relay.output_lost and relay.empty
    os.write(slave, b"two\n")
    relay.handle(master, select.POLLIN)
    assert terminal.STDOUT not in relay.wanted()


@pytest.mark.parametrize("echo", [True, False])
def test_end_of_input_in_raw_mode_is_typed_where_it_is_not_echoed(
    relayed: Relayed, echo: bool
) -> None:
    """A shell that edits its lines reads raw without echo, and takes ^D for the end."""
    relay, (master, slave), (typed, _) = relayed
    attributes = raw(termios.tcgetattr(slave))
    if echo:
        attributes[3] |= termios.ECHO
    termios.tcsetattr(slave, termios.TCSANOW, attributes)
    os.close(typed)
    relay.handle(terminal.STDIN, select.POLLIN)
    writing = 0 if echo else select.POLLOUT
    assert relay.wanted() == {master: select.POLLIN | writing}


def test_end_of_input_is_told_again(relayed: Relayed) -> None:
    """The first one is gone where a shell changes the mode of the terminal after it."""
    relay, (master, slave), (typed, _) = relayed
    os.close(typed)
    relay.handle(terminal.STDIN, select.POLLIN)
    relay.handle(master, select.POLLOUT)
    assert os.read(slave, 10) == b""
    assert relay.at_end
    relay.repeat_end()
    relay.handle(master, select.POLLOUT)
    assert os.read(slave, 10) == b""


def test_end_of_input_uses_the_terminals_own_character(relayed: Relayed) -> None:
    relay, (master, slave), (typed, _) = relayed
    attributes = termios.tcgetattr(slave)
    attributes[6][termios.VEOF] = b"\x05"
    attributes[3] &= ~termios.ECHO
    termios.tcsetattr(slave, termios.TCSANOW, attributes)
    os.write(typed, b"line\n")
    os.close(typed)
    for _ in range(2):
        relay.handle(terminal.STDIN, select.POLLIN)
    relay.handle(master, select.POLLOUT)
    assert os.read(slave, 100) == b"line\n"
    assert os.read(slave, 100) == b""


def test_a_hung_up_master_is_left_alone_until_looked_at_again(relayed: Relayed) -> None:
    relay, (master, slave), _ = relayed
    os.close(slave)
    relay.handle(master, select.POLLHUP)
    assert relay.hung_up and master not in relay.wanted()
    relay.resume()
    assert master in relay.wanted()


def test_input_is_left_to_the_next_reader(relayed: Relayed) -> None:
    relay, _, (typed, _) = relayed
    os.write(typed, b"for the shell\n")
    relay.stop_input()
    assert terminal.STDIN not in relay.wanted()
    assert os.read(terminal.STDIN, 100) == b"for the shell\n"


def test_no_terminal_at_all_has_no_size(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    for name in ("STDIN", "STDOUT", "STDERR"):
        monkeypatch.setattr(terminal, name, reader)
    before = os.get_terminal_size(pair[1])
    terminal.copy_window_size(pair[0])
    assert os.get_terminal_size(pair[1]) == before
    os.close(reader)
    os.close(writer)
