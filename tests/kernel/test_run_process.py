"""The command's surroundings: variables, folder, streams, limits, sysctls, timeouts, init."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from tests.support.box import Box, wait_for
from tests.support.requires import requires

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def environment(box: Box, **keys: object) -> dict[str, str]:
    lines = box.out(["env"], namespaces=[], **keys).splitlines()
    return dict(line.split("=", 1) for line in lines)


# --- variables -------------------------------------------------------------------------------


def test_nothing_of_the_callers_variables_but_term_and_lang(box: Box) -> None:
    box = box.as_(env={"TERM": "vt100", "LANG": "C", "SECRET": "s", "LD_PRELOAD": "", "HOME": "/h"})
    assert environment(box) == {"PATH": PATH, "TERM": "vt100", "LANG": "C"}


def test_env(box: Box) -> None:
    box = box.as_(env={"PASSED": "on", "LANG": "de_DE"})
    wanted = {"A": "1", "EMPTY": "", "PASSED": None, "NOT_THERE": None, "LANG": "C", "B": "x=y z"}
    found = environment(box, env=wanted)
    assert found == {"PATH": PATH, "A": "1", "EMPTY": "", "PASSED": "on", "LANG": "C", "B": "x=y z"}


def test_env_as_a_list(box: Box) -> None:
    box = box.as_(env={"PASSED": "on"})
    found = environment(box, env=["A=1", "PASSED"])
    assert (found["A"], found["PASSED"]) == ("1", "on")


def test_env_file(box: Box) -> None:
    (box.folder / "vars").write_text("# a comment\nA=file\nB=from file\n")
    found = environment(box, env_file="./vars", env={"A": "spec"})
    assert (found["A"], found["B"]) == ("spec", "from file")


def test_the_path_finds_the_program(box: Box) -> None:
    folder = box.folder_of_user("bin")
    program = folder / "my-program"
    program.write_text("#!/bin/sh\necho mine\n")
    program.chmod(0o755)
    env = {"PATH": f"/nonexistent:{folder}:/usr/bin:/bin"}
    assert box.out(["my-program"], namespaces=[], env=env) == "mine"


# --- arguments -------------------------------------------------------------------------------


def test_args_are_appended(box: Box) -> None:
    assert box.out(["echo", "a b"], namespaces=[], args=["c  d", "$HOME"]) == "a b c  d $HOME"


def test_the_command_line_replaces_the_command(box: Box) -> None:
    file = box.spec(command=["false"], args=["x"], namespaces=[])
    assert box.runner.run(file, "--", "echo", "-n", "--", "it").ok() == "-- it"


def test_a_string_is_for_the_shell(box: Box) -> None:
    assert box.out("echo $((1+2)); exit 0", namespaces=[]) == "3"


# --- folder ----------------------------------------------------------------------------------


def test_cwd(boxed: Box) -> None:
    assert boxed.out("pwd") == "/"
    assert boxed.out("pwd", cwd="/srv") == "/srv"


def test_cwd_is_the_callers_without_a_rootfs(box: Box) -> None:
    assert box.out("pwd", namespaces=["user"]) == str(box.runner.cwd)


def test_a_cwd_that_is_not_there(boxed: Box) -> None:
    said = boxed.refused(cwd="/not/there")
    assert "ENOENT" in said and "/not/there" in said


@requires("newuidmap")
def test_a_cwd_that_the_user_may_not_enter(box: Box, own_root: Path) -> None:
    """chdir(2) as the command's own user, not as root."""
    (own_root / "root").chmod(0o700)
    keys = {"namespaces": ["user", "mount", "pid"], "rootfs": str(own_root), "cwd": "/root"}
    assert box.out("pwd", **keys) == "/root"
    assert "EACCES" in box.refused(user="1000:1000", **keys)


# --- standard input --------------------------------------------------------------------------


def test_stdin_is_inherited(box: Box) -> None:
    assert box.out("cat", "through\n", namespaces=[]) == "through"


def test_a_closed_stdin(box: Box) -> None:
    command = "cat; readlink /proc/self/fd/0"
    assert box.out(command, "not read\n", namespaces=[], stdin="closed") == "/dev/null"


def test_an_open_stdin_has_no_end(box: Box) -> None:
    keys = {"namespaces": [], "stdin": "open", "timeout": "300ms"}
    result = box.run("read x; echo ended", "not read\n", **keys)
    assert result.stdout == ""
    assert result.status == 128 + signal.SIGTERM


def test_output_and_errors_are_apart(box: Box) -> None:
    result = box.run("echo out; echo err >&2", namespaces=["user"])
    assert (result.stdout, result.stderr, result.status) == ("out\n", "err\n", 0)


# --- limits ----------------------------------------------------------------------------------


def test_rlimits(box: Box) -> None:
    wanted = {"nofile": "100:200", "core": 0, "fsize": 4096, "nproc": 4096, "cpu": "60:unlimited"}
    if not box.runner.user.is_caller:
        wanted["cpu"] = "60:120"
    text = box.out(["cat", "/proc/self/limits"], namespaces=["user"], rlimits=wanted)
    rows = {line[:26].strip(): line[26:].split()[:2] for line in text.splitlines()}
    assert rows["Max open files"] == ["100", "200"]
    assert rows["Max core file size"] == ["0", "0"]
    assert rows["Max file size"] == ["4096", "4096"]
    assert rows["Max cpu time"] == wanted["cpu"].split(":")  # type: ignore[attr-defined]


def test_a_limit_holds(boxed: Box) -> None:
    # Without a pid namespace: process 1 of one does not get a SIGXFSZ it does not handle.
    keys = {"namespaces": ["user", "mount"], "rlimits": {"fsize": 100}}
    result = boxed.run("exec dd if=/dev/zero of=/dev/shm/big count=9", **keys)
    assert result.status == 128 + signal.SIGXFSZ


def test_a_limit_that_may_not_be_raised(user_box: Box) -> None:
    import resource

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    runner_hard = 1000
    assert hard > runner_hard
    box = user_box.as_(wrapper=("prlimit", f"--nofile={runner_hard}:{runner_hard}", "--"))
    said = box.refused(namespaces=["user"], rlimits={"nofile": 2000})
    assert "NS402" in said and "nofile cannot be raised" in said


def test_oom_score_adj(box: Box) -> None:
    text = box.out(["cat", "/proc/self/oom_score_adj"], namespaces=["user"], oom_score_adj=321)
    assert text == "321"


@requires("root", "sys_resource")
def test_oom_score_adj_of_root_goes_below_zero(root_box: Box) -> None:
    for spaces in ([], ["pid"]):
        text = root_box.out(
            ["cat", "/proc/self/oom_score_adj"], namespaces=spaces, oom_score_adj=-7
        )
        assert text == "-7"


def test_oom_score_adj_that_may_not_be_lowered(user_box: Box) -> None:
    result = user_box.run("true", namespaces=["user"], oom_score_adj=-7)
    assert result.status == 125
    assert "EACCES" in result.stderr or "NS402" in result.stderr


# --- sysctl ----------------------------------------------------------------------------------


def test_sysctls_of_the_new_namespaces(box: Box) -> None:
    wanted = {"net.ipv4.ip_forward": "1", "net.ipv4.ping_group_range": "0 0", "kernel.msgmax": 4321}
    before = {name: sysctl(name) for name in wanted}
    keys = {"namespaces": ["user", "network", "ipc"], "sysctl": wanted}
    files = " ".join("/proc/sys/" + name.replace(".", "/") for name in wanted)
    assert box.out(f"cat {files}", **keys).replace("\t", " ").split("\n") == ["1", "0 0", "4321"]
    assert {name: sysctl(name) for name in wanted} == before


def sysctl(name: str) -> str:
    return Path("/proc/sys", name.replace(".", "/")).read_text()


def test_sysctls_with_a_rootfs(boxed: Box) -> None:
    text = boxed.out(
        "cat /proc/sys/net/ipv4/ip_forward", sysctl={"net.ipv4.ip_forward": "1"}
    )
    assert text == "1"


@pytest.mark.parametrize("key", ["kernel.core_pattern", "vm.swappiness", "net.ipv4/../../kernel.x"])
def test_sysctls_of_the_machine_are_refused(box: Box, key: str) -> None:
    assert "NS314" in box.refused(namespaces=["user", "network"], sysctl={key: "1"})


# --- names -----------------------------------------------------------------------------------


def test_domain_name(box: Box) -> None:
    command = ["cat", "/proc/sys/kernel/hostname", "/proc/sys/kernel/domainname"]
    keys = {"namespaces": ["user", "uts"], "hostname": "host", "domainname": "example.org"}
    assert box.out(command, **keys).split() == ["host", "example.org"]


# --- time ------------------------------------------------------------------------------------


def test_timeout(box: Box) -> None:
    started = time.monotonic()
    result = box.run(["sleep", "60"], namespaces=["user"], timeout="300ms")
    assert time.monotonic() - started < 5
    assert result.status == 128 + signal.SIGTERM
    assert "NS603" in result.stderr and "ran out of time" in result.stderr


def test_a_command_that_ends_in_time(box: Box) -> None:
    assert box.run("exit 4", namespaces=["user"], timeout="20s").status == 4


def test_stop_signal_and_stop_timeout(box: Box) -> None:
    """The one asks, SIGKILL follows: the command takes the first and goes on."""
    command = "trap 'echo asked' USR1; echo up; while :; do sleep 0.05; done"
    keys = {"namespaces": ["user"], "stop_signal": "SIGUSR1", "stop_timeout": "400ms"}
    with box.running(command, **keys) as running:
        assert running.line() == "up"
        running.process.terminate()
        started = time.monotonic()
        result = running.end()
    assert 0.3 < time.monotonic() - started < 5
    assert result.stdout == "asked\n"
    assert result.status == 128 + signal.SIGKILL


def test_a_command_that_stops_when_asked(box: Box) -> None:
    command = "trap 'echo bye; exit 5' TERM; echo up; while :; do sleep 0.05; done"
    with box.running(command, namespaces=["user", "pid"]) as running:
        assert running.line() == "up"
        running.process.terminate()
        result = running.end()
    assert (result.stdout, result.status) == ("bye\n", 5)


def test_process_1_without_a_handler_is_killed_and_said_so(box: Box) -> None:
    """PID 1 gets no signal that it does not handle (pid_namespaces(7))."""
    with box.running("echo up; exec sleep 60", namespaces=["user", "pid"]) as running:
        assert running.line() == "up"
        assert wait_for(lambda: True)
        running.process.terminate()
        result = running.end()
    assert result.status == 128 + signal.SIGKILL
    assert "NS604" in result.stderr and "init: true" in result.stderr


def test_process_1_is_reached_by_sigkill(box: Box) -> None:
    """SIGKILL comes through from an ancestor namespace (pid_namespaces(7)): nothing to warn of."""
    spec = {"namespaces": ["user", "pid"], "stop_signal": "SIGKILL"}
    with box.running("echo up; exec sleep 60", **spec) as running:
        assert running.line() == "up"
        running.process.terminate()
        result = running.end()
    assert result.status == 128 + signal.SIGKILL
    assert "NS604" not in result.stderr


# --- init ------------------------------------------------------------------------------------

OWN_PROC = {
    "namespaces": ["user", "mount", "pid"],
    "mounts": [{"type": "proc", "target": "/proc"}],
    "init": True,
}


def test_init_is_process_1_and_the_command_another(box: Box) -> None:
    assert box.out("echo $$ $PPID", **OWN_PROC) == "2 1"


@pytest.mark.parametrize(("command", "status"), [("exit 7", 7), ("kill -9 $$", 137), ("true", 0)])
def test_init_ends_as_the_command_does(box: Box, command: str, status: int) -> None:
    assert box.run(command, **OWN_PROC).status == status


@requires("root")
def test_init_holds_no_descriptor_but_the_streams(root_box: Box) -> None:
    with root_box.running("echo up; read x", **OWN_PROC) as running:
        assert running.line() == "up"
        init = children(running.process.pid)[0]
        command = children(init)[0]
        assert sorted(os.listdir(f"/proc/{init}/fd")) == ["0", "1", "2"]
        assert sorted(os.listdir(f"/proc/{command}/fd")) == ["0", "1", "2"]


def test_the_command_cannot_look_into_init(box: Box) -> None:
    """It is not dumpable: its memory is a copy of nsrun's."""
    result = box.run("ls /proc/1/fd", capabilities="all", **OWN_PROC)
    assert result.status != 0 and "Permission denied" in result.stderr


def children(pid: int) -> list[int]:
    return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_init_passes_signals_on(box: Box) -> None:
    command = "trap 'echo got; exit 3' HUP; echo up; while :; do sleep 0.05; done"
    with box.running(command, **OWN_PROC) as running:
        assert running.line() == "up"
        running.process.send_signal(signal.SIGHUP)
        result = running.end()
    assert (result.stdout, result.status) == ("got\n", 3)


def test_a_signal_without_a_handler_ends_the_command_under_init(box: Box) -> None:
    with box.running("echo up; exec sleep 60", **OWN_PROC) as running:
        assert running.line() == "up"
        running.process.terminate()
        result = running.end()
    assert result.status == 128 + signal.SIGTERM
    assert result.stderr == ""


def test_what_the_command_leaves_ends_with_init(box: Box) -> None:
    assert box.run("sleep 300 & (setsid sleep 300 &) ; exit 6", **OWN_PROC).status == 6


# --- hooks -----------------------------------------------------------------------------------

HOOK = """#!/bin/sh
{ echo "$HOOK"; cat; echo; readlink /proc/self/ns/uts; env; } > "$OUT/$HOOK"
exit "${STATUS:-0}"
"""


@pytest.fixture
def hook(box: Box) -> dict[str, object]:
    program = box.folder / "hook"
    program.write_text(HOOK)
    program.chmod(0o755)
    return {"path": str(program), "env": [f"OUT={box.folder}"]}


def hooks(hook: dict[str, object], *stages: str, **more: str) -> dict[str, object]:
    extra = [f"{k}={v}" for k, v in more.items()]
    return {
        stage: [{**hook, "env": [*hook["env"], f"HOOK={stage}", *extra]}]  # type: ignore[misc]
        for stage in stages
    }


def taken(folder: Path, stage: str) -> tuple[dict[str, object], str, list[str]]:
    """What a hook was given: its stdin, its uts namespace, its variables."""
    _, state, uts, *env = (folder / stage).read_text().splitlines()
    (folder / stage).unlink()
    return json.loads(state), uts, env


def test_hooks(box: Box, hook: dict[str, object]) -> None:
    stages = ("prestart", "poststart", "poststop")
    file = box.spec(
        "hooked",
        command="sleep 0.2",
        namespaces=["user", "uts"],
        hooks=hooks(hook, *stages),
        labels={"team": "infra"},
    )
    box.runner.run(file).ok()
    for stage, status in zip(stages, ("created", "running", "stopped"), strict=True):
        state, uts, env = taken(box.folder, stage)
        assert (state["id"], state["status"]) == ("hooked", status)
        assert state["annotations"] == {"team": "infra"}
        assert ("pid" in state) == (stage != "poststop")
        assert uts == os.readlink("/proc/self/ns/uts"), "a hook runs in the caller's namespaces"
        names = {line.partition("=")[0] for line in env}
        assert names - {"PWD", "SHLVL", "_", "OLDPWD"} == {"OUT", "HOOK"}


def test_a_failing_prestart_hook_stops_the_start(box: Box, hook: dict[str, object]) -> None:
    marks = {**hooks(hook, "prestart", STATUS="3"), **hooks(hook, "poststop")}
    result = box.runner.run(
        box.spec(command="echo ran", namespaces=["user"], hooks=marks)
    )
    assert result.status == 125
    assert result.stdout == ""
    assert "hook ended with exit status 3" in result.stderr
    assert "NS503" in result.stderr


def test_a_hook_over_its_time_is_killed(box: Box, hook: dict[str, object]) -> None:
    sleeper = box.folder / "sleeper"
    sleeper.write_text("#!/bin/sh\nsleep 60 &\nsleep 60\n")
    sleeper.chmod(0o755)
    started = time.monotonic()
    slow = {"prestart": [{"path": str(sleeper), "timeout": "300ms", "env": ["PATH=/bin:/usr/bin"]}]}
    result = box.run("true", namespaces=["user"], hooks=slow)
    assert result.status == 125
    assert time.monotonic() - started < 5


def test_the_poststop_hook_runs_however_the_command_ends(
    box: Box, hook: dict[str, object]
) -> None:
    for command, status in (("exit 9", 9), ("kill -9 $$", 137)):
        file = box.spec(command=command, namespaces=["user"], hooks=hooks(hook, "poststop"))
        assert box.runner.run(file).status == status
        assert taken(box.folder, "poststop")[0]["status"] == "stopped"
