"""What a detached container writes: kept with times and streams, read again, followed."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.support.box import wait_for
from tests.support.detached import Containers, lines_of
from tests.support.requires import requires

LONG = (b"x" * 4000, b"y" * 8192, b"z" * 8191)
STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z"


@contextmanager
def started(c: Containers, *words: str) -> Iterator[subprocess.Popen[str]]:
    """``nsrun WORDS...``, with pipes that are closed, and killed, when the block ends."""
    process = c.runner.start(*words)
    with process:
        try:
            yield process
        finally:
            process.kill()


def read_until(process: subprocess.Popen[str], text: str) -> str:
    """The next lines of a process's standard output, up to the one that is ``text``."""
    assert process.stdout is not None
    seen = ""
    while not seen.endswith(f"{text}\n"):
        line = process.stdout.readline()
        assert line, (seen, process.communicate())
        seen += line
    return seen


def test_both_streams_times_and_choices(c: Containers) -> None:
    # What it says before it is known to run comes to the caller's standard error, too.
    c.run("echo one; echo two >&2; sleep 0.05; echo three; printf four").ok()
    c.until_over()
    result = c("logs", "c")
    assert (result.stdout, result.stderr) == ("one\nthree\nfour", "two\n")
    result = c("logs", "-t", "c")
    assert re.fullmatch(rf"{STAMP} one\n{STAMP} three\n{STAMP} four", result.stdout)
    assert re.fullmatch(rf"{STAMP} two\n", result.stderr)
    third = result.stdout.splitlines()[1].split()[0]
    assert c("logs", "--since", third, "--tail", "1", "c").stdout == "four"
    assert c("logs", "-n", "all", "c").stdout == "one\nthree\nfour"
    told = [json.loads(line) for line in c("logs", "--json", "c").ok().splitlines()]
    assert [(one.pop("stream"), one.pop("text")) for one in told] == [
        ("stdout", "one"),
        ("stderr", "two"),
        ("stdout", "three"),
        ("stdout", "four"),
    ]
    assert [one.pop("name") for one in told] == ["c"] * 4
    assert all(re.fullmatch(STAMP, one.pop("time")) for one in told)
    assert told == [{}, {}, {}, {"part": True}]
    # With -f of one that is over, too.
    assert c("logs", "-f", "--until", third, "--since", third, "c").stdout == "three\n"
    assert "NS002" in c("logs", "--since", "yesterday", "c").stderr
    assert "NS605" in c("logs", "nosuch").stderr


def test_following_until_the_end(c: Containers) -> None:
    c.up("echo first; while read x; do echo got $x; done; echo last; exit 3", stdin="open")
    following = c.runner.start("logs", "-f", "c")
    assert read_until(following, "first") == "first\n"
    c.runner.run("attach", "--detach-keys", "~", "c", stdin="a\nb\n~")
    assert read_until(following, "got b") == "got a\ngot b\n"
    assert c.runner.run("attach", "c", stdin="").status == 3
    out, err = following.communicate(timeout=10)
    assert (following.returncode, out, err) == (0, "last\n", "")


def test_any_bytes_are_split_into_lines(c: Containers) -> None:
    chance = random.Random(5)
    data = b"".join(
        chance.choice([b"\n", b"\r", b"\0", b"\xff", b"a" * 37, *LONG]) for _ in range(400)
    )
    file = c.box.folder.parent / "data"
    file.write_bytes(data)
    file.chmod(0o644)
    c.up(["cat", str(file)])
    c.until_over()
    found = []
    for line in (c.folder() / "log").read_bytes().split(b"\n")[:-1]:
        stamp, stream, kind, text = line.split(b" ", 3)
        assert re.fullmatch(STAMP.encode(), stamp)
        assert stream == b"stdout"
        found.append((kind.decode(), text))
    assert found == lines_of(data)


def test_rotation_and_what_follows_it(c: Containers) -> None:
    c.up("read x; i=0; while [ $i -lt 1000 ]; do i=$((i+1)); echo $i; done; echo end; sleep 60",
         "--log-opt", "max-file=3", stdin="open", init=True,
         logging={"max_size": "16k", "max_files": 7})  # fmt: skip
    following = c.runner.start("logs", "-f", "c")
    writing = c.runner.start("attach", "c", stdout=subprocess.DEVNULL)
    assert writing.stdin is not None
    writing.stdin.write("go\n")
    writing.stdin.flush()
    seen = read_until(following, "end").split()
    c.ok("kill", "c")
    following.communicate(timeout=10)
    writing.communicate(timeout=10)
    files = {path.name: path.stat().st_size for path in c.folder().glob("log*")}
    assert set(files) == {"log", "log.1", "log.2"}
    assert max(files.values()) <= 16384
    # One that follows may be too slow for what is thrown away, but takes nothing twice and keeps
    # the order.
    numbers = [int(word) for word in seen[:-1]]
    assert numbers == sorted(set(numbers))
    kept = c("logs", "c").stdout.split()
    assert kept[-1] == "end"
    first = int(kept[0])
    assert kept[:-1] == [str(n) for n in range(first, 1001)]
    assert numbers[-1] == 1000


def test_no_log_is_kept_where_none_is_wanted(c: Containers) -> None:
    c.up("while read x; do echo got $x; done", stdin="open", logging={"driver": "none"})
    attached = c.runner.run("attach", "c", stdin="word\n")
    assert (attached.status, attached.stdout) == (0, "got word\n")
    result = c("logs", "-f", "c")
    assert (result.status, result.stdout) == (0, "")
    assert result.stderr == "warning: c keeps no log (logging.driver: none)\n"
    assert {p.name for p in c.folder().iterdir()} == {"container.json", "plan", "lock", "exit"}
    for words in (["--log-opt", "max_size=1k"], ["--log-opt", "driver=syslog"],
                  ["--log-opt", "max-file=0"], ["--log-opt", "max_size"]):  # fmt: skip
        refused = c.run("true", *words, name="d")
        assert (refused.status, "error[NS002]: a log has no" in refused.stderr) == (125, True)


def test_what_is_typed_before_leaving_arrives(c: Containers) -> None:
    """The monitor may come to a client only when that has gone."""
    c.up("while read x; do echo got $x; done", stdin="open")
    monitor = c.locker()
    os.kill(monitor, signal.SIGSTOP)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
        client.connect(str(c.folder() / "socket"))
        for packet in (b"a", b"iword\n"):
            client.send(packet)
    os.kill(monitor, signal.SIGCONT)
    c.until_said("got word")


def test_a_slow_client_holds_nothing_up(c: Containers) -> None:
    c.up("read x; head -c 999000 /dev/zero | tr '\\0' 'x' | fold -w 999; echo; echo over; read x",
         stdin="open", init=True)  # fmt: skip
    with started(c, "attach", "c") as slow, started(c, "logs", "-f", "c") as also:
        assert slow.stdin is not None
        slow.stdin.write("go\n")
        slow.stdin.flush()
        # Neither of the two is read from.
        c.until_said("stdout F over")
        assert c.ps()["c"]["status"] == "running"
        assert "x" * 999 in c("logs", "--tail", "5", "c").stdout
        c.ok("kill", "c")
        _, err = slow.communicate(timeout=10)
        assert slow.returncode == 137
        assert "too slow: what is missing here is in `nsrun logs c`" in err
        out, _ = also.communicate(timeout=10)
    # The log has it all.
    assert out.count("x") == 999000
    assert out.endswith("over\n")


def test_who_does_not_read_its_input_can_be_stopped(c: Containers) -> None:
    c.up("echo up; exec sleep 60", stdin="open", init=True)
    with started(c, "attach", "c") as process:
        assert process.stdin is not None
        typed = process.stdin.fileno()
        os.set_blocking(typed, False)
        total = 0

        def is_full() -> bool:
            nonlocal total
            try:
                total += os.write(typed, b"x" * 65536)
            except BlockingIOError:
                return total > 150_000
            return False

        assert wait_for(is_full)
        assert c.ok("stop", "c") == "c\n"
        assert process.wait(timeout=10) == 143


def test_the_same_with_a_pipe_that_nobody_reads(c: Containers) -> None:
    """`nsrun logs -f | head -1` ends without a word."""
    c.up("while :; do echo line; sleep 0.01; done")
    c.until_said("line")
    words = c.runner.argv("logs", "-f", "c")
    following = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=c.runner.environment(),
        cwd=c.runner.cwd,
    )  # fmt: skip
    assert following.stdout is not None
    following.stdout.readline()
    following.stdout.close()
    following.stdout = None
    _, said = following.communicate(timeout=10)
    assert said == b""
    assert following.returncode in (0, 1, 128 + signal.SIGPIPE, -signal.SIGPIPE)


@pytest.fixture
def small(root_c: Containers) -> Iterator[Containers]:
    """With a state folder on a disk of 256 KiB."""
    place = root_c.state
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k,mode=700", "small", str(place)], check=False
    )
    assert done.returncode == 0
    try:
        yield root_c
        root_c.runner.run("rm", "-f", *(p.name for p in root_c.folder("").glob("*")))
    finally:
        subprocess.run(["umount", str(place)], check=True)
        place.rmdir()


# A line for each that is read.
ONE_EACH = "seq 1 9000; echo through >&2; while read x; do echo $x; done; exit 6"


def disk_is_full(c: Containers) -> bool:
    return os.statvfs(c.state).f_bavail == 0


@requires("root")
def test_on_a_full_disk_it_goes_on(small: Containers) -> None:
    c = small
    c.run(ONE_EACH, stdin="open").ok()
    assert wait_for(lambda: disk_is_full(c) and (c.folder() / "lost").exists())
    assert c.ps()["c"]["status"] == "running"
    result = c("logs", "c")
    lines = result.stdout.splitlines()
    assert lines[:3] == ["1", "2", "3"]
    # Lines are lost, none is broken.
    numbers = [int(line) for line in lines]
    assert numbers == list(range(1, len(numbers) + 1))
    assert re.search(
        r"warning: \d+ lines were lost at the end of the log: No space left", result.stderr
    )
    # No other can be made there, and that is said.
    refused = c.run("true", name="late")
    assert refused.status == 125
    assert "No space left on device" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert set(c.ps()) == {"c"}
    # When there is room again, the log says what it lacks and goes on.
    subprocess.run(["mount", "-o", "remount,size=512k", str(c.state)], check=True)
    assert c.runner.run("attach", "c", stdin="again\nmore\n").status == 6
    c.until_over()
    one = c.ps()["c"]
    assert (one["status"], one["exit_status"]) == ("exited", 6)
    assert one["finished"] >= one["started"] > 0
    result = c("logs", "c")
    *_, again, more = result.stdout.splitlines()
    assert (again, more) == ("again", "more")
    told = [line for line in c.log().splitlines() if " stderr F:lost " in line]
    found = [int(re.findall(r"F:lost (\d+) lines? w\w+ lost here: ENOSPC$", t)[0]) for t in told]
    kept = len(result.stdout.splitlines()) - 2 + ("through" in result.stderr)
    assert sum(found) == 9001 - kept > 0
    assert not list(c.folder().glob("*lost"))
    assert c.ok("rm", "c") == "c\n"


@requires("root")
def test_what_was_lost_is_told_after_the_next_start(small: Containers) -> None:
    """Also where there was no room to say so until the end."""
    c = small
    c.up("seq 1 9000")
    c.until_over()
    one = c.ps()["c"]
    assert (one["status"], one["exit_status"]) == ("exited", 0)
    assert "lines were lost at the end of the log" in c("logs", "c").stderr
    lost, _ = (c.folder() / "lost").read_text().split()
    written = len(c("logs", "c").stdout.splitlines())
    assert written + int(lost) == 9000
    subprocess.run(["mount", "-o", "remount,size=1m", str(c.state)], check=True)
    c.ok("start", "c")
    c.until_over()
    result = c("logs", "c")
    assert result.stderr == f"{lost} lines were lost here: ENOSPC\n"
    assert len(result.stdout.splitlines()) == written + 9000


@requires("root")
def test_a_stack_goes_on_when_there_is_room_again(small: Containers) -> None:
    """What cannot be started again for want of room is tried again; its end is not forgotten."""
    c = small
    go = c.box.folder.parent / "go"
    base = {"stop_timeout": "1s", **c.box.base}
    waits = f"until [ -e {go} ]; do sleep 0.02; done"
    ticks = "while :; do echo tick; sleep 0.1; done"
    members = {
        "chatty": {**base, "command": f"{waits}; seq 1 20000; {ticks}"},
        "fails": {**base, "command": "sleep 0.1; exit 3", "restart": "always"},
    }
    stack = c.box.folder / "shop.yaml"
    stack.write_text(json.dumps({"name": "shop", "containers": members}))
    seen: list[dict[str, Any]] = []

    def ended_after(time: int) -> bool:
        seen.append(c.ps()["shop-fails"])
        return (seen[-1]["finished"] or 0) > time

    try:
        c("up", "-d", stack).ok()
        go.touch()
        folder = c.folder("shop-chatty")
        assert wait_for((folder / "lost").exists)
        # Tried again and again, without room for a start: how it ended stays known.
        assert wait_for(lambda: ended_after(0))
        assert (seen[-1]["exit_status"], c.ps()["shop-chatty"]["status"]) == (3, "running")
        before = seen[-1]["finished"]
        result = c("logs", "shop-chatty")
        assert result.stdout.startswith("1\n2\n3\n")
        assert "lines were lost at the end of the log" in result.stderr
        subprocess.run(["mount", "-o", "remount,size=1m", str(c.state)], check=True)
        c.until_said("tick", "shop-chatty")
        assert re.search(r" stderr F:lost \d+ lines were lost here: ENOSPC\n", c.log("shop-chatty"))
        assert wait_for(lambda: ended_after(before))
    finally:
        down = c("down", stack)
    assert down.status == 0, str(down)
    assert c.ps() == {}
