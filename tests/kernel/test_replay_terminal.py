"""The relay of a container's pty against real terminals, pipes and impatient readers."""

from __future__ import annotations

import fcntl
import hashlib
import os
import pty
import select
import signal
import struct
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nsrun.kernel import abi, calls
from nsrun.kernel.values import Reg
from nsrun.plan.model import Plan
from nsrun.plan.ops import Op, ReceiveFd, SendFd, Signal, Wait
from tests.support.replays import (
    INNER,
    OUTER,
    PATIENCE,
    SIGNALS,
    await_,
    call,
    command,
    parent,
    python_only,
    run,
    sh,
    start,
)

pytestmark = pytest.mark.usefixtures("both_executors")

MASTER, PEER, HERE = Reg("master"), Reg("peer"), Reg("here")


def with_pty(script: str, *, timeout: int = 0, extra: tuple[Op, ...] = ()) -> Plan:
    """A child that makes a pty its controlling terminal and hands the master over."""
    steps: tuple[Op, ...] = (
        call("setsid"),
        call("openat", -100, "/dev/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC, save=MASTER),
        calls.ioctl_pty_unlock(MASTER),
        calls.ioctl_pty_peer(MASTER, save=PEER),
        calls.ioctl_controlling_terminal(PEER),
        calls.dup3(PEER, 0),
        calls.dup3(PEER, 1),
        calls.dup3(PEER, 2),
        SendFd(sync="pty", channel=INNER, fd=MASTER),
        Wait(sync="sized", channel=INNER),
        calls.close(MASTER),
        *extra,
    )
    receive = parent(
        ReceiveFd(sync="pty", channel=OUTER, save=HERE, signals=SIGNALS),
        Signal(sync="sized", channel=OUTER),
    )
    return command(
        *steps,
        *sh(script),
        middle=(receive,),
        supervise=await_(terminal=HERE, timeout=timeout),
    )


class Terminal:
    """A terminal with nsrun in it: the test sits at the keyboard and the screen."""

    def __init__(self, the_plan: Plan, *, rows: int = 24, columns: int = 80) -> None:
        self.master, self.slave = pty.openpty()
        self.size(rows, columns)
        self.before = termios.tcgetattr(self.slave)
        self.screen = b""

        def sit_down() -> None:
            os.setsid()
            os.close(self.master)
            for fd in (0, 1, 2):
                os.dup2(self.slave, fd)
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.running = start(the_plan, setup=sit_down)

    def size(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("=HHHH", rows, columns, 0, 0))

    def type(self, data: bytes) -> None:
        os.write(self.master, data)

    def see(self, text: bytes) -> None:
        deadline = time.monotonic() + PATIENCE
        while text not in self.screen:
            ready, _, _ = select.select([self.master], (), (), deadline - time.monotonic())
            assert ready, f"no {text!r} on {self.screen!r}"
            self.screen += os.read(self.master, 1 << 16)

    def is_raw(self) -> bool:
        flags = termios.tcgetattr(self.slave)
        return not flags[3] & (termios.ICANON | termios.ECHO)

    def restored(self) -> bool:
        return termios.tcgetattr(self.slave) == self.before

    def close(self) -> None:
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def terminal() -> Iterator[Callable[..., Terminal]]:
    made: list[Terminal] = []

    def make(the_plan: Plan, **size: int) -> Terminal:
        made.append(Terminal(the_plan, **size))
        return made[-1]

    yield make
    for one in made:
        one.close()


Make = Callable[..., Terminal]


def test_keyboard_and_screen(terminal: Make) -> None:
    it = terminal(with_pty("echo ready; read line; echo got:$line; exit 3"))
    it.see(b"ready\r\n")
    assert it.is_raw()
    it.type(b"hello\r")
    it.see(b"got:hello\r\n")
    outcome = it.running.outcome()
    assert (outcome.status, outcome.failure) == (3, None)
    assert it.restored()


def test_ctrl_c_is_the_commands(terminal: Make) -> None:
    it = terminal(with_pty("trap 'echo caught; exit 4' INT; echo ready; while :; do sleep 1; done"))
    it.see(b"ready\r\n")
    it.type(b"\x03")
    it.see(b"caught\r\n")
    assert it.running.outcome().status == 4
    assert it.restored()


def test_size_at_the_start_and_after_a_resize(terminal: Make) -> None:
    script = (
        "trap 'stty size; exit 0' WINCH; stty size; echo ready; "
        "while :; do /bin/busybox sleep 0.05; done"
    )
    it = terminal(with_pty(script), rows=33, columns=101)
    it.see(b"ready\r\n")
    assert b"33 101\r\n" in it.screen
    # The kernel sends SIGWINCH to the terminal's foreground group: nsrun.
    it.size(41, 132)
    it.see(b"41 132\r\n")
    assert it.running.outcome().status == 0


def test_restored_when_the_command_is_killed(terminal: Make) -> None:
    it = terminal(with_pty("echo ready; kill -9 $$"))
    it.see(b"ready\r\n")
    assert it.running.outcome().status == 137
    assert it.restored()


def test_restored_after_sigterm_and_timeout(terminal: Make) -> None:
    it = terminal(with_pty("echo ready; exec sleep 30"))
    it.see(b"ready\r\n")
    assert it.is_raw()
    os.kill(it.running.pid, signal.SIGTERM)
    assert it.running.outcome().status == 143
    assert it.restored()
    late = terminal(with_pty("exec sleep 30", timeout=300_000_000))
    assert late.running.outcome().timed_out
    assert late.restored()


def test_untouched_when_a_step_fails(terminal: Make) -> None:
    it = terminal(with_pty("true", extra=(call("chdir", "/nonexistent"),)))
    outcome = it.running.outcome()
    assert outcome.failure is not None and outcome.failure.errno_name == "ENOENT"
    assert it.restored()


@python_only("an exception")
def test_restored_when_the_relay_breaks(terminal: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    from nsrun.replay.terminal import Relay

    def broken(self: Relay) -> bool:
        raise RuntimeError("a fault of the relay")

    monkeypatch.setattr(Relay, "read_master", broken)
    it = terminal(with_pty("echo ready; sleep 30"))
    outcome = it.running.outcome()
    assert outcome.status == 125 and outcome.failure is not None
    assert outcome.failure.text.startswith("RuntimeError: a fault of the relay")
    assert it.restored()


def test_stopped_and_continued_it_gives_the_terminal_back(terminal: Make) -> None:
    it = terminal(with_pty("echo ready; read line; echo got:$line"))
    it.see(b"ready\r\n")
    os.kill(it.running.pid, signal.SIGTSTP)
    deadline = time.monotonic() + 5
    while not it.restored() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert it.restored()
    os.kill(it.running.pid, signal.SIGCONT)
    while not it.is_raw() and time.monotonic() < deadline:
        time.sleep(0.01)
    it.type(b"again\r")
    it.see(b"got:again\r\n")
    assert it.running.outcome().status == 0


def test_in_the_background_the_terminal_is_left_alone() -> None:
    """`nsrun tty.yaml &`: the terminal is the shell's, its input too, and nothing spins."""
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)

    def sit_down_behind() -> None:
        os.setsid()
        os.close(master)
        for fd in (0, 2):
            os.dup2(slave, fd)
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        pid = os.fork()
        if pid == 0:
            os.setpgid(0, 0)
            os.closerange(3, 1000)
            os.close(1)
            time.sleep(20)
            os._exit(0)
        os.setpgid(pid, pid)
        os.tcsetpgrp(0, pid)
        os.write(1, b"%d\n" % pid)

    running = start(with_pty("echo ready; sleep 1; exit 7"), setup=sit_down_behind)
    running.wait_output(b"ready")
    foreground = int(running.output.split()[0])
    try:
        os.write(master, b"for the shell\n")
        ticks = cpu_ticks(running.pid)
        time.sleep(0.5)
        assert cpu_ticks(running.pid) - ticks <= 2
        assert termios.tcgetattr(slave) == before
        assert running.outcome().status == 7
        # What was typed is still there for whoever owns the terminal.
        assert select.select([slave], (), (), 0)[0]
    finally:
        os.kill(foreground, signal.SIGKILL)
        os.close(master)
        os.close(slave)


def test_a_closed_window_ends_the_command(terminal: Make) -> None:
    it = terminal(with_pty("echo ready; exec sleep 30"))
    it.see(b"ready\r\n")
    os.close(it.master)
    it.master = os.open("/dev/null", os.O_RDONLY)
    assert it.running.outcome().status == 128 + signal.SIGHUP


# --- pipes -----------------------------------------------------------------------------------

TEN_MEGABYTES = 10 * 1024 * 1024


def pattern(path: Path) -> str:
    """Ten megabytes that show where a byte is lost; the digest of what a pty makes of them."""
    block = b"".join(b"%07d the quick brown fox jumps\n" % n for n in range(1 << 15))
    data = (block * (TEN_MEGABYTES // len(block) + 1))[:TEN_MEGABYTES]
    path.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def unechoed(script: str) -> Plan:
    """Descriptor 0 has no input, so VEOF is written to the pty at any moment of ``stty raw``."""
    return with_pty(script, extra=(calls.ioctl_new_terminal(PEER, abi.TerminalFlag.ICANON),))


def test_ten_megabytes_of_output(tmp_path: Path) -> None:
    digest = pattern(tmp_path / "data")
    running = start(unechoed(f"stty raw; cat {tmp_path}/data"))
    began = time.monotonic()
    outcome = running.outcome()
    assert (outcome.status, len(running.output)) == (0, TEN_MEGABYTES)
    assert hashlib.sha256(running.output).hexdigest() == digest
    assert time.monotonic() - began < PATIENCE


def stdin_from(fd: int) -> Callable[[], None]:
    def setup() -> None:
        os.dup2(fd, 0)

    return setup


def test_ten_megabytes_of_input(tmp_path: Path) -> None:
    digest = pattern(tmp_path / "data")
    ready = tmp_path / "ready"
    script = f"stty raw -echo; touch {ready}; head -c {TEN_MEGABYTES} | sha256sum"
    feed, hold = os.pipe()
    running = start(with_pty(script), setup=stdin_from(feed))
    os.close(feed)
    while not ready.exists():
        time.sleep(0.01)
    pid = os.fork()
    if pid == 0:
        data = memoryview((tmp_path / "data").read_bytes())
        while data:
            data = data[os.write(hold, data) :]
        os._exit(0)
    os.close(hold)
    outcome = running.outcome()
    os.waitpid(pid, 0)
    assert outcome.status == 0
    assert running.output.decode().split()[0] == digest


def cpu_ticks(pid: int) -> int:
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def wait_full(read_end: int) -> None:
    """Wait until poll(2) tells a writer of this pipe to wait."""
    # pipe(7): opened through /proc it is one end more of the same pipe.
    write_end = os.open(f"/proc/self/fd/{read_end}", os.O_WRONLY)
    deadline = time.monotonic() + PATIENCE
    try:
        while select.select((), [write_end], (), 0)[1]:
            assert time.monotonic() < deadline, "the pipe does not fill"
            time.sleep(0.01)
    finally:
        os.close(write_end)


def test_a_slow_reader_loses_nothing_and_costs_nothing(tmp_path: Path) -> None:
    digest = pattern(tmp_path / "data")
    running = start(unechoed(f"stty raw; cat {tmp_path}/data"))
    # Nobody reads: the pipe fills, then the buffers, then all wait.
    wait_full(running.stdout)
    time.sleep(0.5)
    before = cpu_ticks(running.pid)
    time.sleep(0.5)
    assert cpu_ticks(running.pid) - before <= 2
    outcome = running.outcome()
    assert outcome.status == 0
    assert hashlib.sha256(running.output).hexdigest() == digest


def test_output_after_the_end_of_the_command_is_complete() -> None:
    """Small and quick: the last bytes come after the process has ended."""
    for _ in range(20):
        running = start(with_pty("echo last words"))
        assert running.outcome().status == 0
        assert bytes(running.output) == b"last words\r\n"


@pytest.mark.parametrize(("typed", "read"), [(b"one\ntwo\n", "2 8"), (b"one\ntwo", "1 7")])
def test_end_of_input_is_end_of_file(typed: bytes, read: str) -> None:
    """In the middle of a line too, where one ^D only hands the line over."""
    feed, hold = os.pipe()
    os.write(hold, typed)
    os.close(hold)
    running = start(with_pty("stty -echo; echo $(wc -lc)"), setup=stdin_from(feed))
    os.close(feed)
    assert running.outcome().status == 0
    lines = running.output.decode().replace("\r", "").splitlines()
    # What was typed before `stty -echo` took effect is on the screen too.
    assert lines[-1].endswith(read)


def test_a_closed_stdin_is_end_of_file() -> None:
    running = start(with_pty("stty -echo; echo $(wc -c)"), setup=lambda: os.close(0))
    assert running.outcome().status == 0
    assert running.output.decode().split()[-1] == "0"


def test_a_reader_that_goes_away_hangs_up() -> None:
    """As `nsrun tty.yaml | head -1`: the command gets SIGHUP instead of running for ever."""
    running = start(with_pty("while :; do echo y; done"))
    running.wait_output(b"y\r\n")
    os.close(running.stdout)
    running.stdout = -1
    assert running.outcome().status == 128 + signal.SIGHUP


def test_a_command_without_its_terminal_is_waited_for_without_a_spin() -> None:
    """It closes the slave and lives on: the master is hung up all the while."""
    script = "exec </dev/null >/dev/null 2>&1; sleep 1; exit 8"
    feed, hold = os.pipe()
    running = start(with_pty(script), setup=stdin_from(feed))
    os.close(feed)
    time.sleep(0.3)
    before = cpu_ticks(running.pid)
    time.sleep(0.5)
    assert cpu_ticks(running.pid) - before <= 2
    assert running.outcome().status == 8
    os.close(hold)


def test_a_background_process_that_keeps_the_slave_does_not_hold_us() -> None:
    began = time.monotonic()
    outcome = run(with_pty("(trap '' HUP; /bin/busybox sleep 30 &); echo done; exit 2"))
    assert (outcome.status, outcome.survivors) == (2, ())
    assert time.monotonic() - began < 2
