"""``nsrun run -d``: a container that goes on by itself, and what is done to it."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from nsrun.host import procfs
from nsrun.kernel.abi import Capability
from tests.support.box import namespaces, wait_for
from tests.support.detached import Containers, is_dead
from tests.support.lab import Lab

SLEEP = ["sleep", "60"]


# --- starting --------------------------------------------------------------------------------


def test_it_returns_when_the_command_has_been_executed(c: Containers) -> None:
    short = c.up("echo up; exec sleep 60")
    # No waiting: the process is the command, not what becomes it.
    assert Path(f"/proc/{c.pid()}/cmdline").read_bytes().split(b"\0")[0] in (b"/bin/sh", b"sleep")
    mine = namespaces()
    theirs = namespaces(c.pid())
    assert {kind for kind in ("mnt", "pid", "uts", "ipc") if mine[kind] == theirs[kind]} == set()
    one = c.ps()["c"]
    assert one["status"] == "running"
    assert one["pid"] == c.pid()
    assert one["id"].startswith(short)
    assert len(short) == 12
    assert one["exit_status"] is None
    assert stat.S_IMODE(c.folder().stat().st_mode) == 0o700
    assert c.locker() != 0
    assert c("stop", "-t", "0", "c").stdout == "c\n"
    assert c.ok("rm", "c") == "c\n"
    assert not c.state.exists()


@pytest.mark.parametrize(
    ("keys", "status", "said"),
    [
        ({"command": ["/nosuch"]}, 127, "error[NS601]: cannot run /nosuch"),
        ({"command": ["/etc"]}, 126, "error[NS602]: cannot run /etc"),
        ({"cwd": "/nosuch"}, 125, "/nosuch"),
    ],
    ids=["not found", "not executable", "nsrun's"],
)
def test_an_error_is_told_at_once_and_leaves_nothing(
    c: Containers, keys: dict[str, Any], status: int, said: str
) -> None:
    wanted: dict[str, Any] = {"command": ["true"], **keys}
    command = wanted.pop("command")
    for words in ((), ("--rm",)):
        result = c.run(command, *words, **wanted)
        assert (result.status, result.stdout) == (status, ""), str(result)
        assert said in result.stderr
        assert "Traceback" not in result.stderr
        assert not c.state.exists()


def test_a_faulty_spec_leaves_nothing(c: Containers) -> None:
    result = c.run("true", hostnam="x")
    assert result.status == 125
    assert not c.state.exists()


def test_a_command_that_ends_at_once_has_run(c: Containers) -> None:
    c.up("exit 7")
    c.until_over()
    one = c.ps()["c"]
    assert (one["status"], one["exit_status"], one["pid"]) == ("exited", 7, 0)
    assert one["created"] <= one["started"] <= one["finished"]
    assert "Exited (7)" in c.ok("ps", "-a")
    assert "Exited" not in c.ok("ps")
    assert {p.name for p in c.folder().iterdir()} == {
        "container.json",
        "plan",
        "lock",
        "log",
        "exit",
    }


def test_what_a_command_writes_first_is_for_its_log_alone(c: Containers) -> None:
    """Also where it writes before the launcher can tell that it runs."""
    said = [c.run("echo first >&2; sleep 60", "--replace").ok() and ""]
    said += [c("restart", "-t", "0", "c").stderr for _ in range(3)]
    assert [line for line in said if "first" in line] == []
    c.until_said("stderr F first")


def test_the_command_sees_nothing_of_ours(c: Containers) -> None:
    with (c.box.folder / "held").open("w") as held:
        os.set_inheritable(held.fileno(), True)
        spec = c.spec("pwd; ls -l /proc/self/fd | cat; echo over; exec sleep 60")
        process = c.runner.start("run", "-d", spec, close_fds=False)
        out, err = process.communicate(timeout=20)
        assert process.returncode == 0, (out, err)
        c.until_said("over")
        log = c.log()
        assert str(c.state) not in log
        assert str(held.name) not in log
        assert f" F {c.runner.cwd}\n" in log
        open_ones = set(re.findall(r" (\d+) -> ", log))
        # 3 is the folder that ls lists.
        assert open_ones == {"0", "1", "2", "3"}
        # Nor do monitor and launcher keep open what the caller had.
        for pid in (c.locker(), c.launcher()):
            links = [os.readlink(p) for p in Path(f"/proc/{pid}/fd").iterdir()]
            assert held.name not in links
    standard = {os.readlink(f"/proc/{c.locker()}/fd/{n}") for n in range(3)}
    assert standard == {"/dev/null"}


def test_the_stored_plan_runs_where_it_ran(c: Containers) -> None:
    c.up("pwd")
    c.until_over()
    process = subprocess.run(
        c.runner.argv("start", "c"), cwd="/", env=c.runner.environment(), check=False,
        capture_output=True, text=True,
    )  # fmt: skip
    assert process.stdout == "c\n", process.stderr
    c.until_said(f"F {c.runner.cwd}\n")
    assert wait_for(lambda: c.said().count(f"stdout F {c.runner.cwd}") == 2)


# --- names -----------------------------------------------------------------------------------


def test_a_name_is_taken_until_rm(c: Containers) -> None:
    first = c.up(SLEEP)
    result = c.run(SLEEP)
    assert result.status == 125
    assert "error[NS606]: a container c is running" in result.stderr
    assert "nsrun stop c" in result.stderr
    assert c.ps()["c"]["id"].startswith(first)
    c.ok("kill", "c")
    c.until_over()
    result = c.run(SLEEP)
    assert "error[NS606]: the name c belongs to a container that has ended" in result.stderr
    assert "nsrun rm c" in result.stderr
    second = c.up(SLEEP, "--replace")
    third = c.up(SLEEP, "--replace")
    assert len({first, second, third}) == 3
    assert c.ps()["c"]["id"].startswith(third)


def test_of_two_at_once_exactly_one_wins(c: Containers) -> None:
    spec = c.spec(SLEEP)
    both = [c.runner.start("run", "-d", spec) for _ in range(3)]
    ends = [process.communicate(timeout=20) for process in both]
    assert sorted(process.returncode for process in both) == [0, 125, 125], ends
    (won,) = [out for (out, _), process in zip(ends, both, strict=True) if out]
    assert c.ps()["c"]["id"].startswith(won.split()[1])
    assert c.ps()["c"]["status"] == "running"


def test_another_name_and_ids(c: Containers) -> None:
    short = c.up(SLEEP, "--name", "other")
    c.up(SLEEP, "--name", "second")
    found = c.ps()
    assert set(found) == {"other", "second"}
    assert json.loads(c.ok("inspect", short[:6]))[0]["Name"] == "other"
    assert json.loads(c.ok("inspect", found["second"]["id"]))[0]["Name"] == "second"
    assert c.ok("ps", "-q").split() == [short, found["second"]["id"][:12]]
    result = c("stop", "othe")
    assert result.status == 1
    assert "error[NS605]: there is no container othe" in result.stderr
    assert "did you mean other?" in result.stderr
    assert "NS002" in c("run", "-d", "--name", "a/b", c.spec("true")).stderr


def test_a_prefix_of_two_ids_is_none(c: Containers) -> None:
    for name in ("a", "b"):
        c.up("true", name=name)
        c.until_over(name)
        file = c.folder(name) / "container.json"
        data = json.loads(file.read_text())
        file.write_text(json.dumps({**data, "id": "ab" + data["id"][2:]}))
    result = c("rm", "ab")
    assert result.status == 1
    assert "error[NS605]: 2 containers have an id that begins with ab" in result.stderr
    assert re.search(r"ab[0-9a-f]{10} \(a\), ab[0-9a-f]{10} \(b\)\n", result.stderr)
    assert set(c.ps()) == {"a", "b"}


def test_rm_takes_it_away_with_its_end(c: Containers) -> None:
    c.up("read x < /dev/null; exec sleep 0.1", "--rm")
    assert wait_for(lambda: not c.state.exists())


def test_words_of_ps(c: Containers) -> None:
    c.up(SLEEP, labels={"tier": "web"})
    head, line = c.ok("ps").splitlines()
    assert head.split() == ["NAME", "ID", "SPEC", "COMMAND", "CREATED", "STATUS", "PORTS",
                            "ADDRESSES"]  # fmt: skip
    assert re.fullmatch(r"c +[0-9a-f]{12} +box\d+\.yaml +sleep 60 +.* ago +Up .*", line)
    c.ok("pause", "c")
    assert "(Paused)" in c.ok("ps")
    assert c.ps()["c"]["labels"] == {"tier": "web"}
    assert c.ps()["c"]["status"] == "paused"
    assert c.ok("ps", "--json") == c.ok("ps", "--format", "json")


# --- ending ----------------------------------------------------------------------------------


def test_stop_sends_the_stop_signal(c: Containers) -> None:
    trap = "trap 'echo got it; exit 3' USR1; echo up; while :; do sleep 0.02; done"
    c.up(trap, stop_signal="SIGUSR1", stop_timeout="20s")
    c.until_said("up")
    assert c.ok("stop", "c") == "c\n"
    assert c.ps()["c"]["exit_status"] == 3
    assert "stdout F got it" in c.said()
    # Of one that has ended already there is nothing to do.
    assert c.ok("stop", "c") == "c\n"


def test_stop_kills_one_that_does_not_end(c: Containers) -> None:
    c.up("trap 'echo no' TERM; echo up; while :; do sleep 0.02; done", stop_timeout="0.2s")
    c.until_said("up")
    assert c("stop", "c").status == 0
    assert c.ps()["c"]["exit_status"] == 137
    assert "stdout F no" in c.said()


def test_stop_with_a_time_of_its_own(c: Containers) -> None:
    c.up("trap '' TERM; echo up; while :; do sleep 0.02; done", stop_timeout="1h")
    c.until_said("up")
    assert c("stop", "-t", "0.1", "c").status == 0
    assert c.ps()["c"]["exit_status"] == 137


def test_stop_says_that_process_1_ignores_its_signal(c: Containers) -> None:
    c.up(SLEEP, stop_timeout="0.1s")
    result = c("stop", "c")
    assert result.status == 0, str(result)
    assert "warning[NS604]: c does not handle SIGTERM and will be killed" in result.stderr
    assert "init: true" in result.stderr
    # Its launcher has that to say, too, before it ends.
    assert (c.ps()["c"]["exit_status"], c.ps()["c"]["signal"]) == (137, "SIGKILL")


def test_with_init_it_ends_by_its_signal(c: Containers) -> None:
    c.up(SLEEP, init=True, stop_timeout="30s")
    assert c.ok("stop", "c") == "c\n"
    assert c.ps()["c"]["exit_status"] == 143


def test_without_a_pid_namespace_it_ends_by_its_signal(c: Containers) -> None:
    c.up(SLEEP, namespaces=["user", "mount"], mounts=[], stop_timeout="30s")
    assert c.ok("stop", "c") == "c\n"
    assert c.ps()["c"]["exit_status"] == 143


def test_kill(c: Containers) -> None:
    c.up("trap 'echo hup' HUP; echo up; while :; do sleep 0.02; done")
    c.until_said("up")
    c.ok("kill", "--signal", "HUP", "c")
    c.until_said("hup")
    c.ok("kill", "c")
    c.until_over()
    assert (c.ps()["c"]["exit_status"], c.ps()["c"]["signal"]) == (137, "SIGKILL")
    result = c("kill", "c")
    assert result.status == 1
    assert "error[NS607]: the container c is not running" in result.stderr
    assert "NS002" in c("kill", "-s", "NOSUCH", "c").stderr


@pytest.mark.parametrize(
    ("words", "status", "signal"),
    [
        ("exit 137", 137, None),
        ("kill -ABRT $$", 134, "SIGABRT"),
        ("kill -40 $$", 168, "SIGRTMIN+6"),
    ],
)
def test_a_signal_is_told_from_an_exit_status(
    c: Containers, words: str, status: int, signal: str | None
) -> None:
    c.up(words, namespaces=["user", "mount"], mounts=[])
    c.until_over()
    one = c.ps()["c"]
    assert (one["exit_status"], one["signal"]) == (status, signal)
    (found,) = json.loads(c.ok("inspect", "c"))
    assert found["State"]["Signal"] == (signal or "")
    assert f"Exited ({status}) " in c.ok("ps", "-a")


def test_wait_prints_the_exit_status(c: Containers) -> None:
    c.up("read x; exit 5", stdin="open")
    waiting = c.runner.start("wait", "c")
    c.runner.run("attach", "c", stdin="go\n")
    assert waiting.communicate(timeout=20) == ("5\n", "")
    assert c.ok("wait", "c") == "5\n"
    assert json.loads(c.ok("wait", "--json", "c")) == {"name": "c", "exit_status": 5}


def test_rm_of_one_that_runs(c: Containers) -> None:
    c.up(SLEEP)
    result = c("rm", "c")
    assert result.status == 1
    assert "error[NS606]: the container c is running" in result.stderr
    assert c.ps()["c"]["status"] == "running"
    assert c.ok("rm", "-f", "c") == "c\n"
    assert not c.state.exists()
    result = c("rm", "c")
    assert (result.status, result.stdout) == (1, "")


def test_several_at_once_none_stops_another(c: Containers) -> None:
    c.up(SLEEP, name="a")
    c.up(SLEEP, name="b")
    result = c("rm", "-f", "a", "nosuch", "b")
    assert result.status == 1
    assert result.stdout == "a\nb\n"


# --- again -----------------------------------------------------------------------------------


def test_start_replays_the_stored_plan(c: Containers) -> None:
    file = c.spec("echo hello; exec sleep 60")
    c.runner.run("run", "-d", file).ok()
    result = c("start", "c")
    assert result.status == 1
    assert "NS606" in result.stderr
    c.ok("kill", "c")
    c.until_over()
    before = c.ps()["c"]
    file.write_text(file.read_text().replace("hello", "other"))
    result = c("start", "c")
    assert result.status == 0
    assert "warning[NS608]" in result.stderr
    assert "has changed" in result.stderr
    assert wait_for(lambda: c.said().count("stdout F hello") == 2)
    after = c.ps()["c"]
    assert after["id"] == before["id"]
    assert after["pid"] != before["pid"]
    assert after["started"] > before["finished"]
    assert c.ok("inspect", "c") != ""


def test_restart(c: Containers) -> None:
    c.up(SLEEP, stop_timeout="0.1s")
    before = c.pid()
    result = c("restart", "c")
    assert (result.status, result.stdout) == (0, "c\n"), str(result)
    assert c.pid() != before
    c.ok("kill", "c")
    c.until_over()
    assert c.ok("restart", "c") == "c\n"
    assert c.ps()["c"]["status"] == "running"


def test_a_start_that_fails_keeps_the_folder(c: Containers) -> None:
    place = c.box.folder.parent / "work"
    place.mkdir()
    c.up("true", cwd=str(place))
    c.until_over()
    place.rmdir()
    result = c("start", "c")
    assert result.status == 125, str(result)
    assert str(place) in result.stderr
    assert c.ps()["c"]["status"] == "exited"
    assert c.ps()["c"]["exit_status"] == 125


def test_pause_and_unpause_with_children_that_fork(c: Containers) -> None:
    script = "n=0; while :; do n=$((n+1)); echo $n; sleep 0.005; done"
    c.up(f"({script}) & echo up; {script}")
    c.until_said("up")
    assert c.ok("pause", "c") == "c\n"
    size = len(c.log())
    rows = json.loads(c.ok("top", "c", "--format", "json"))
    assert {row["state"] for row in rows} <= {"T", "Z"}
    assert len(rows) >= 2
    assert len(c.log()) == size
    assert c.ps()["c"]["status"] == "paused"
    assert c.ok("unpause", "c") == "c\n"
    assert wait_for(lambda: len(c.log()) > size)
    assert c.ps()["c"]["status"] == "running"
    # A paused one can be stopped.
    c.ok("pause", "c")
    assert c("stop", "c").status == 0
    assert c.ps()["c"]["status"] == "exited"
    assert "NS607" in c("pause", "c").stderr


# --- looking ---------------------------------------------------------------------------------


def test_inspect(c: Containers) -> None:
    c.up(SLEEP, hostname="inner")
    (found,) = json.loads(c.ok("inspect", "c"))
    assert found["State"]["Running"] is True
    assert found["State"]["Pid"] == c.pid()
    inode = os.stat(f"/proc/{c.pid()}/ns/uts").st_ino
    assert found["Namespaces"]["uts"] == {"Inode": inode, "Shared": False}
    assert found["Namespaces"]["network"]["Shared"] is True
    assert "/proc" in [m["Destination"] for m in found["Mounts"]]
    (whole,) = json.loads(c.ok("inspect", "--plan", "c"))
    assert "inner" in json.dumps(whole["Plan"])
    c.ok("kill", "c")
    c.until_over()
    (found,) = json.loads(c.ok("inspect", "c"))
    assert found["State"]["Status"] == "exited"
    assert (found["State"]["ExitCode"], found["State"]["Signal"]) == (137, "SIGKILL")
    assert found["Namespaces"] == {}


def test_the_score_of_another_command(c: Containers) -> None:
    """That of the container, where the caller's is lower or it has the right to lower its own."""
    c.up(SLEEP, oom_score_adj=500)
    score = ("exec", "c", "--", "cat", "/proc/self/oom_score_adj")
    assert c.ok(*score) == "500\n"
    higher = c.runner.with_(wrapper=("choom", "-n", "700", "--"))
    result = higher.run(*score)
    assert result.stderr == ""
    may_lower = c.runner.user.uid == 0 and Capability.CAP_SYS_RESOURCE in procfs.capabilities()
    assert result.ok() == ("500\n" if may_lower else "700\n")


def test_top(c: Containers) -> None:
    c.up("sleep 61 & exec sleep 62")
    assert wait_for(lambda: c.ok("top", "c").count("sleep 6") == 2)
    rows = json.loads(c.ok("top", "c", "--format", "json"))
    assert (rows[0]["pid"], rows[0]["inside"]) == (c.pid(), 1)
    c.ok("rm", "-f", "c")
    assert "NS605" in c("top", "c").stderr


# --- what is killed --------------------------------------------------------------------------


def test_a_killed_monitor_takes_the_container_with_it(c: Containers) -> None:
    c.up(SLEEP)
    pid = c.pid()
    c.kill(c.locker())
    assert wait_for(lambda: is_dead(pid))
    one = c.ps()["c"]
    assert (one["status"], one["pid"], one["exit_status"]) == ("dead", 0, None)
    assert "Dead" in c.ok("ps", "-a")
    assert c.ok("wait", "c") == "137\n"
    assert "NS607" in c("attach", "c").stderr
    assert c.ok("start", "c") == "c\n"
    assert c.ps()["c"]["status"] == "running"
    assert c.pid() != pid


def test_a_killed_launcher_ends_the_container(c: Containers) -> None:
    c.up(SLEEP)
    pid = c.pid()
    c.kill(c.launcher())
    c.until_over()
    assert wait_for(lambda: is_dead(pid))
    one = c.ps()["c"]
    assert (one["status"], one["exit_status"], one["signal"]) == ("exited", 137, "SIGKILL")


def test_a_name_is_free_when_all_of_a_killed_launcher_is_undone(c: Containers) -> None:
    """Else what undoes would end the next one of that name."""
    log, goes = c.box.folder / "log", c.box.folder / "goes"
    text = f"echo stopped >> {log}; until [ -e {goes} ]; do sleep 0.02; done"
    hook = {"path": "/bin/sh", "args": ["sh", "-c", text], "env": ["PATH=/usr/bin:/bin"]}
    c.up(SLEEP, hooks={"poststop": [hook]})
    c.kill(c.launcher())
    assert wait_for(log.exists)
    assert c.ps()["c"]["status"] == "running"
    goes.touch()
    c.until_over()
    assert c.ok("start", "c") == "c\n"
    assert log.read_text() == "stopped\n"
    assert c.ps()["c"]["status"] == "running"


def test_a_pid_of_the_time_before_is_not_believed(c: Containers) -> None:
    source = c.box.folder / "source"
    source.mkdir()
    c.up("true", mounts=[f"{source}:/srv", {"type": "proc", "target": "/proc"}])
    c.until_over()
    # As a killed monitor leaves it.
    file = c.folder() / "pid"
    file.write_text(f"{os.getpid()}\n")
    assert c.ps()["c"]["pid"] == 0
    assert "NS607" in c("exec", "c", "--", "true").stderr
    # A start that does not come to the command: nothing wrote a new one.
    source.rmdir()
    assert c("start", "c").status == 125
    assert not file.exists()
    (c.folder() / "plan").write_bytes(b"nothing")
    assert "NS406" in c("start", "c").stderr


def test_a_damaged_folder_stands_in_no_way(c: Containers) -> None:
    for name in ("bad", "worse", "sound"):
        c.up("true", name=name)
        c.until_over(name)
    (c.folder("bad") / "container.json").write_text("{")
    (c.folder("worse") / "container.json").unlink()
    assert set(c.ps()) == {"sound"}
    result = c.run(SLEEP, name="bad")
    assert result.status == 125
    assert "NS606" in result.stderr
    assert "is being made, or is damaged" in result.stderr
    c.up(SLEEP, "--replace", name="bad")
    assert c.ps()["bad"]["status"] == "running"
    assert c.ok("rm", "worse") == "worse\n"
    assert "NS605" in c("rm", "..").stderr
    assert not c.folder("worse").exists()


# --- many, and others ------------------------------------------------------------------------


def test_twenty_at_once(c: Containers) -> None:
    spec = c.spec("echo hello; exec sleep 60", init=True)
    names = [f"c{number}" for number in range(20)]
    script = 'for n in "$@"; do "$0" -P -m nsrun run -d --name $n $SPEC || exit 1 & done; wait'
    python = c.runner.argv("x")[-5]
    runner = c.runner.with_(env={"SPEC": str(spec)})
    result = runner.run_program("/bin/sh", "-c", script, python, *names)
    assert result.stderr == ""
    assert sorted(line.split()[0] for line in result.ok().splitlines()) == sorted(names)
    found = c.ps()
    assert {one["status"] for one in found.values()} == {"running"}
    assert len({one["pid"] for one in found.values()}) == 20
    assert sorted(c.ok("stop", *names).split()) == sorted(names)
    assert {one["exit_status"] for one in c.ps().values()} == {143}


def test_one_joins_another(lab: Lab, root_c: Containers) -> None:
    c = root_c
    c.up(SLEEP, name="db", namespaces=["mount", "pid", "network"],
         network={"interfaces": [{"type": "veth", "name": "eth0",
                                  "addresses": ["10.66.0.2/24"]}]})  # fmt: skip
    c.up("ls /sys/class/net; echo over; exec sleep 60", name="web",
         namespaces=["mount", "pid", {"type": "network", "container": "db"}])  # fmt: skip
    assert namespaces(c.pid("web"))["net"] == namespaces(c.pid("db"))["net"]
    assert c.ok("exec", "web", "--", "ip", "-brief", "link").count("eth0") == 1
    # The network goes with the one that made it.
    assert lab.links() == ["ve-db"]
    c.ok("kill", "db")
    c.until_over("db")
    assert lab.links() == []
    result = c.run("true", name="late",
                   namespaces=["mount", {"type": "network", "container": "db"}])  # fmt: skip
    assert result.status == 125
    assert "db" in result.stderr


def test_a_killed_monitor_leaves_no_network(lab: Lab, root_c: Containers) -> None:
    c = root_c
    c.up(SLEEP, namespaces=["mount", "pid", "network"],
         network={"interfaces": [{"type": "veth", "name": "eth0"}]})  # fmt: skip
    assert lab.links() == ["ve-c"]
    c.kill(c.locker())
    assert wait_for(lambda: lab.links() == [])
    assert c.ps()["c"]["status"] == "dead"
    assert c.ok("start", "c") == "c\n"
    assert lab.links() == ["ve-c"]
    c.ok("rm", "-f", "c")
    assert lab.links() == []


def test_a_start_joins_the_one_of_now(root_c: Containers) -> None:
    c = root_c
    c.up(SLEEP, name="db", namespaces=["mount", "pid", "network"], init=True)
    joins = ["mount", "pid", {"type": "network", "container": "db"}]
    c.up(SLEEP, name="web", namespaces=joins, init=True)
    for name in ("web", "db"):
        c.ok("stop", name)
    result = c("start", "web")
    assert (result.status, result.stdout) == (1, "")
    assert "error[NS404]: web joins the container db, which is not running" in result.stderr
    assert "nsrun start db" in result.stderr
    c.ok("start", "db")
    for word in ("start", "restart"):
        c.ok(word, "web")
        # The number of a namespace that has ended is given again: only who shares it is told.
        assert namespaces(c.pid("web"))["net"] == namespaces(c.pid("db"))["net"]
        assert namespaces(c.pid("web"))["net"] != namespaces()["net"]
        # The next to join is another one again.
        c.ok("restart", "db")
