"""What the command may do, and that it inherits nothing but what the spec names."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.support.box import Box
from tests.support.requires import requires

DEFAULT = 0x800405FB
SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")


def last_cap() -> int:
    return int(Path("/proc/sys/kernel/cap_last_cap").read_text())


ALL = (1 << (last_cap() + 1)) - 1


def caps(box: Box, **keys: object) -> dict[str, int]:
    keys = {"namespaces": ["user"], **keys}
    text = box.out(["grep", "^Cap", "/proc/self/status"], **keys)
    return {line.split(":\t")[0]: int(line.split(":\t")[1], 16) for line in text.splitlines()}


def all_five(inh: int, prm: int, eff: int, bnd: int, amb: int) -> dict[str, int]:
    return dict(zip(SETS, (inh, prm, eff, bnd, amb), strict=True))


@pytest.mark.parametrize(
    ("wanted", "held"),
    [
        (None, DEFAULT),
        ("default", DEFAULT),
        ("none", 0),
        ("all", ALL),
        (["CAP_NET_RAW", "chown"], 1 << 13 | 1),
        ({"add": ["CAP_SYS_ADMIN"]}, DEFAULT | 1 << 21),
        ({"drop": ["CAP_CHOWN", "CAP_KILL"]}, DEFAULT & ~0b100001),
        ({"drop": ["ALL"], "add": ["CAP_KILL"]}, 1 << 5),
        ({"add": ["ALL"], "drop": ["CAP_CHOWN"]}, ALL & ~1),
    ],
)
def test_all_five_sets(box: Box, wanted: object, held: int) -> None:
    assert caps(box, capabilities=wanted) == all_five(0, held, held, held, 0)


@requires("root")
@pytest.mark.parametrize("wanted", [None, "none", ["CAP_KILL"]])
def test_without_a_user_namespace(root_box: Box, wanted: object) -> None:
    held = {None: DEFAULT, "none": 0}.get(wanted if wanted != ["CAP_KILL"] else "", 1 << 5)  # type: ignore[call-overload]
    assert caps(root_box, namespaces=["uts"], capabilities=wanted) == all_five(
        0, held, held, held, 0
    )


def test_an_ordinary_user_has_none_to_give(user_box: Box) -> None:
    found = caps(user_box, namespaces=[])
    assert (found["CapPrm"], found["CapEff"], found["CapInh"], found["CapAmb"]) == (0, 0, 0, 0)
    said = user_box.refused(namespaces=[], capabilities=["CAP_NET_RAW"])
    assert "CAP_NET_RAW cannot be given" in said


@requires("newuidmap")
def test_another_user_holds_none_unless_they_are_named(boxed: Box) -> None:
    """Kernel: of an unprivileged user only ambient capabilities survive execve(2)."""
    spaces = boxed.base["namespaces"]
    keys = {"namespaces": spaces, "user": "1000:1000"}
    assert caps(boxed, **keys) == all_five(0, 0, 0, DEFAULT, 0)
    named = 1 << 10 | 1
    found = caps(boxed, capabilities=["CAP_CHOWN", "CAP_NET_BIND_SERVICE"], **keys)
    assert found == all_five(named, named, named, named, named)


def test_ocis_five_sets(box: Box) -> None:
    wanted = {
        "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_SETUID"],
        "permitted": ["CAP_CHOWN", "CAP_KILL"],
        "inheritable": ["CAP_KILL"],
        "ambient": ["CAP_KILL"],
        "effective": ["CAP_KILL"],
    }
    found = caps(box, capabilities=wanted)
    assert found["CapBnd"] == 1 | 1 << 5 | 1 << 7
    assert (found["CapInh"], found["CapAmb"]) == (1 << 5, 1 << 5)
    assert found["CapPrm"] & ~found["CapBnd"] == 0


def test_a_capability_set_matters(boxed: Box) -> None:
    """As a person would see it: root without CAP_CHOWN cannot give a file away."""
    script = "touch /dev/shm/x && chown 1:1 /dev/shm/x"
    idmap = {"uid": ["0:0:10"], "gid": ["0:0:10"]} if boxed.runner.user.is_caller else None
    assert boxed.run(script, capabilities="none", idmap=idmap).status != 0
    if boxed.runner.user.is_caller or boxed.runner.user.sub_size:
        assert boxed.run(script, idmap=idmap).status == 0


# --- no_new_privileges -----------------------------------------------------------------------


@pytest.mark.parametrize(("wanted", "shown"), [(None, "1"), (True, "1"), (False, "0")])
def test_no_new_privileges(box: Box, wanted: object, shown: str) -> None:
    text = box.out(
        ["grep", "^NoNewPrivs", "/proc/self/status"], namespaces=["user"], no_new_privileges=wanted
    )
    assert text.split() == ["NoNewPrivs:", shown]


@requires("root")
@pytest.mark.parametrize(
    ("more", "effective"),
    [({}, 1000), ({"no_new_privileges": False}, 0),
     ({"no_new_privileges": False, "mounts": ["nosuid"]}, 1000)],
)  # fmt: skip
def test_a_set_uid_program(
    root_box: Box, area: Path, more: dict[str, object], effective: int
) -> None:
    folder = area / "programs"
    folder.mkdir()
    program = folder / "cat"
    program.write_bytes(Path("/bin/cat").read_bytes())
    program.chmod(0o4755)
    options = ["suid"] if more.get("mounts") is None else ["nosuid"]
    bind = {"type": "bind", "source": str(folder), "target": "/mnt", "options": options}
    keys = {"namespaces": ["mount"], "user": "1000:1000", "cwd": "/", **more, "mounts": [bind]}
    status = root_box.out(["/mnt/cat", "/proc/self/status"], **keys)
    uids = status.partition("Uid:\t")[2].split("\n")[0].split()
    assert uids == ["1000", *[str(effective)] * 3]


# --- nothing is inherited --------------------------------------------------------------------


def through_python(box: Box, prepare: str, command: str | list[str], **keys: object) -> str:
    """Run a spec from a Python that has done ``prepare`` before it becomes nsrun."""
    import sys

    file = box.spec(command=command, **{"namespaces": ["user"], **keys})
    code = f"import os,sys,signal\n{prepare}\nos.execv(sys.argv[1], sys.argv[1:])"
    runner = box.runner.with_(wrapper=(sys.executable, "-I", "-S", "-c", code))
    return runner.run(file).ok().rstrip("\n")


def test_no_descriptor_but_the_streams(box: Box) -> None:
    prepare = (
        "r, w = os.pipe(); os.dup2(r, 50); os.dup2(w, 900); "
        "[os.set_inheritable(f, True) for f in (r, w, 50, 900)]"
    )
    # ls itself has its folder open as the next one.
    assert through_python(box, prepare, ["ls", "/proc/self/fd"]).split() == ["0", "1", "2", "3"]


def test_closed_streams_are_open_for_the_command(box: Box) -> None:
    printed = through_python(box, "os.close(0)", "readlink /proc/self/fd/0; ls /proc/self/fd")
    assert printed.split()[0] == "/dev/null"


def test_no_ignored_and_no_blocked_signals(box: Box) -> None:
    prepare = (
        "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65));"
        "[signal.signal(s, signal.SIG_IGN) for s in (1, 2, 3, 10, 12, 13, 15, 17, 40)]"
    )
    command = ["grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"]
    printed = through_python(box, prepare, command).split()
    assert printed == ["SigBlk:", "0" * 16, "SigIgn:", "0" * 16]


@pytest.mark.parametrize("init", [False, True])
def test_signals_of_the_command_under_init_too(box: Box, init: bool) -> None:
    keys = {"namespaces": ["user", "mount", "pid"], "init": init,
            "mounts": [{"type": "proc", "target": "/proc"}]}  # fmt: skip
    lines = box.out(["cat", "/proc/self/status"], **keys).splitlines()
    found = dict(line.split(":\t") for line in lines if line.startswith(("SigB", "SigI", "SigC")))
    assert found == {"SigBlk": "0" * 16, "SigIgn": "0" * 16, "SigCgt": "0" * 16}


def test_sigpipe_ends_a_writer(box: Box) -> None:
    """Python ignores SIGPIPE; what it starts would go on for ever."""
    command = "(while echo y; do :; done; echo survived >&2) | head -n 1"
    result = box.run(command, namespaces=["user"])
    assert (result.stdout, result.stderr) == ("y\n", "")


def test_no_umask(box: Box) -> None:
    assert through_python(box, "os.umask(0o77)", "umask") == "0022"


def test_no_session_keyring(box: Box) -> None:
    """keyctl(KEYCTL_SEARCH) of the caller's session keyring finds nothing from inside."""
    add = (
        "import ctypes,platform\n"
        "n={'x86_64':(248,250),'aarch64':(217,219)}[platform.machine()]\n"
        "c=ctypes.CDLL(None,use_errno=True)\n"
        "assert c.syscall(n[1],1,None)>0\n"  # KEYCTL_JOIN_SESSION_KEYRING
        "assert c.syscall(n[0],b'user',b'nsrun-test',b'x',1,-3)>0, ctypes.get_errno()\n"
    )
    look = (
        "import ctypes,platform\n"
        "n={'x86_64':250,'aarch64':219}[platform.machine()]\n"
        "c=ctypes.CDLL(None,use_errno=True)\n"
        "print(c.syscall(n,10,-3,b'user',b'nsrun-test',0)>0)\n"  # KEYCTL_SEARCH
    )
    command = ["/usr/bin/env", "python3", "-I", "-S", "-c", look]
    assert through_python(box, add, command, namespaces=[]) == "False"
    import subprocess
    import sys

    control = subprocess.run(
        [sys.executable, "-I", "-S", "-c", add + look], check=True, capture_output=True
    )
    assert control.stdout == b"True\n"


def test_a_session_of_its_own(box: Box) -> None:
    """The command leads its own session and group: no terminal of the caller's (TIOCSTI)."""
    keys = {"namespaces": ["user", "mount", "pid"],
            "mounts": [{"type": "proc", "target": "/proc"}]}  # fmt: skip
    # proc_pid_stat(5): pid, comm, state, ppid, pgrp, session, tty_nr
    fields = box.out("cut -d' ' -f 1,4-7 /proc/self/stat; true", **keys).split()
    assert fields[1:] == ["1", "1", "1", "0"]


def test_the_command_can_dump_core_again(box: Box) -> None:
    """Not dumpable while joining (CVE-2016-9962); execve(2) makes it its own again."""
    assert box.out("ls -l /proc/self/fd > /dev/null && echo own", namespaces=["user"]) == "own"


def test_the_death_of_nsrun_is_the_commands(box: Box) -> None:
    text = box.out(["grep", "-c", "", "/proc/self/status"], namespaces=["user"])
    assert int(text) > 10
    keys = {"namespaces": ["user", "pid"]}
    with box.running("echo up; exec sleep 60", **keys) as running:
        assert running.line() == "up"
        os.kill(running.process.pid, signal.SIGKILL)
        running.process.wait()
