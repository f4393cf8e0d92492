"""`nsrun netns` and `ip netns` find what the other has made."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.box import Box
from tests.support.lab import Lab, say
from tests.support.requires import requires
from tests.support.runner import Runner

pytestmark = requires("root", "ip")
FOLDER = Path("/run/netns")


@pytest.fixture
def executor() -> str:
    """Its plans are replayed by the process itself: it becomes the command."""
    return ""


@pytest.fixture
def nsrun(root: Runner, lab: Lab) -> Runner:
    """In a lab, whose /run is the test's own."""
    del lab
    return root


def names(text: str) -> list[str]:
    return sorted(line.split()[0] for line in text.splitlines())


def mounts() -> list[str]:
    """The lines of the mount table, without those that another test's /run hides."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    top = max(n for n, line in enumerate(lines) if line.split()[4] == "/run")
    return [line for n, line in enumerate(lines) if n >= top or "/run/" not in line]


def mount_points() -> list[str]:
    return [line.split()[4] for line in mounts()]


@contextmanager
def nothing_changes() -> Iterator[None]:
    """No mount, and no file of the folder."""

    def state() -> list[str]:
        return mounts() + sorted(os.listdir(FOLDER) if FOLDER.exists() else ["no folder"])

    before = state()
    yield
    assert state() == before


def test_what_is_added_is_ips_too(nsrun: Runner, lab: Lab) -> None:
    assert nsrun.run("netns", "add", "blue", "green").ok() == ""
    assert names(lab.ip("netns list")) == ["blue", "green"]
    assert nsrun.run("netns", "list").ok() == "blue\ngreen\n"
    inside = lab.inside("blue", "readlink", "/proc/self/ns/net").strip()
    assert inside == f"net:[{(FOLDER / 'blue').stat().st_ino}]"
    assert inside != os.readlink("/proc/self/ns/net")
    # As `ip netns add` leaves it: nothing but lo, down.
    assert lab.ip("-n blue -brief link").split()[:2] == ["lo", "DOWN"]
    lab.ip("netns delete blue")
    assert nsrun.run("netns", "list").ok() == "green\n"
    nsrun.run("netns", "delete", "green").ok()
    assert os.listdir(FOLDER) == []


def test_what_ip_has_added_is_found(nsrun: Runner, lab: Lab) -> None:
    lab.ip("netns add red")
    lab.ip("netns set red 7")
    assert nsrun.run("netns", "list").ok() == "red (id: 7)\n"
    listed = json.loads(nsrun.run("netns", "list", "--format", "json").ok())
    assert listed == [{"name": "red", "id": 7}]
    nsrun.run("netns", "delete", "red").ok()
    assert lab.ip("netns list") == ""
    assert str(FOLDER / "red") not in mount_points()


def shared_at_the_folder() -> list[bool]:
    """For each mount on the folder, whether it is shared."""
    there = [line.split(" - ")[0].split() for line in mounts() if line.split()[4] == str(FOLDER)]
    return [any(word.startswith("shared:") for word in words[6:]) for words in there]


def test_the_folder_is_one_shared_mount(nsrun: Runner, lab: Lab) -> None:
    nsrun.run("netns", "add", "a").ok()
    assert oct(FOLDER.stat().st_mode & 0o7777) == "0o755"
    nsrun.run("netns", "add", "b").ok()
    lab.ip("netns add c")
    assert shared_at_the_folder() == [True]
    assert mount_points().count(str(FOLDER / "a")) == 1


def test_a_folder_that_is_a_private_mount_is_shared_too(nsrun: Runner, lab: Lab) -> None:
    FOLDER.mkdir()
    say("mount", "--bind", FOLDER, FOLDER)
    assert shared_at_the_folder() == [False]
    nsrun.run("netns", "add", "a").ok()
    assert shared_at_the_folder() == [True]
    assert names(lab.ip("netns list")) == ["a"]


def test_those_who_add_at_the_same_time(nsrun: Runner, lab: Lab) -> None:
    started = [nsrun.start("netns", "add", f"n{number}") for number in range(6)]
    others = [subprocess.Popen(["ip", "netns", "add", f"i{number}"]) for number in range(2)]
    for process in started:
        _, errors = process.communicate(timeout=30)
        assert (process.returncode, errors) == (0, "")
    assert [other.wait(30) for other in others] == [0, 0]
    assert shared_at_the_folder() == [True]
    assert names(lab.ip("netns list")) == ["i0", "i1", *(f"n{number}" for number in range(6))]


@pytest.mark.parametrize("first", ["nsrun", "ip"])
def test_other_mount_namespaces_see_it_come_and_go(nsrun: Runner, lab: Lab, first: str) -> None:
    """Where everything is shared, as systemd has it: what is deleted in one mount namespace is
    deleted in all of them."""
    del lab

    def words(action: str, name: str) -> str:
        return shlex.join(nsrun.argv("netns", action, name))

    add = [words("add", "blue"), "ip netns add green"]
    script = f"""
        set -e
        {"; ".join(add if first == "nsrun" else reversed(add))}
        unshare --mount --propagation=unchanged sh -c '
            ip netns exec blue true; ip netns exec green true
            ip netns delete blue; {words("delete", "green")}'
        ls -A /run/netns
        grep -c /run/netns/ /proc/self/mountinfo || true
        {words("add", "blue")}
        {words("delete", "blue")}
    """
    done = nsrun.with_(mounts="shared").run_program("sh", "-c", script)
    assert done.ok() == "0\n"


SHOWS = """
readlink /proc/self/ns/net; ls /sys/class/net /sys/fs; pwd; umask; env | grep -v ^_= | sort
grep -E '^(Cap|Sig[^Q]|NoNew|Seccomp|Uid|Gid|Groups)' /proc/self/status
ls -l /proc/self/fd | sed 's/.* \\([0-9]* ->\\)/\\1/; s/[0-9]*.fd$//; s/pipe:.*/pipe/'
grep -E ' /sys| /etc' /proc/self/mountinfo | cut -d ' ' -f 4-
cut -d ' ' -f 6 /proc/self/stat
exit 3
"""


def test_a_command_runs_in_it_as_by_ip(nsrun: Runner, lab: Lab) -> None:
    """Its descriptors, ignored signals, umask, session, variables and mounts."""
    lab.namespace("blue")
    before = "umask 027; trap '' HUP; exec 7</dev/null; "
    results = [
        nsrun.run_program("sh", "-c", f"{before} exec {program} netns exec blue sh -c '{shows}'")
        for program in (shlex.join(nsrun.argv()), "ip")
        for shows in [SHOWS.replace("'", "'\\''")]
    ]
    assert results[0] == results[1]
    assert results[0].status == 3, str(results[0])
    inside = f"net:[{(FOLDER / 'blue').stat().st_ino}]"
    lines = results[0].stdout.splitlines()
    assert lines[0] == inside
    assert {"0027", "lo", "7 -> /dev/null"} <= set(lines)


@pytest.mark.parametrize("dashes", [(), ("--",)])
def test_the_command_is_the_very_process(
    nsrun: Runner, lab: Lab, dashes: tuple[str, ...]
) -> None:
    lab.namespace("blue")
    with nsrun.start("netns", "exec", "blue", *dashes, "sh", "-c", "echo $$", "--") as process:
        out, _ = process.communicate(timeout=30)
    assert out == f"{process.pid}\n"


@requires("script")
def test_a_shell_has_its_terminal(nsrun: Runner, lab: Lab) -> None:
    """`m`: it has taken the terminal, for jobs to be controlled."""
    lab.namespace("blue")
    words = shlex.join(nsrun.argv("netns", "exec", "blue", "bash", "--norc", "-ic", "echo $-"))
    done = nsrun.run_program("script", "--quiet", "--return", "--command", words, "/dev/null")
    assert done.status == 0
    assert "job control" not in done.stdout
    assert "m" in done.stdout


@pytest.mark.parametrize(
    ("command", "status", "says"),
    [
        ("no-such-program", 127, "error[NS601]: cannot run no-such-program"),
        ("/etc/passwd", 126, "try: chmod +x /etc/passwd"),
    ],
)
def test_what_cannot_be_executed(
    nsrun: Runner, lab: Lab, command: str, status: int, says: str
) -> None:
    lab.namespace("blue")
    result = nsrun.run("netns", "exec", "blue", command)
    assert (result.status, result.stdout) == (status, "")
    assert says in result.stderr


def test_its_own_configuration_is_in_the_place_of_etcs(
    nsrun: Runner, lab: Lab, tmp_path: Path
) -> None:
    """/etc/netns/NAME/resolv.conf over /etc/resolv.conf, as ip-netns(8) says."""
    lab.namespace("blue")
    upper, work = tmp_path / "upper", tmp_path / "work"
    (upper / "netns/blue").mkdir(parents=True)
    work.mkdir()
    (upper / "netns/blue/resolv.conf").write_text("nameserver 192.0.2.7\n")
    (upper / "netns/blue/nowhere").write_text("")
    (upper / "netns/blue/passwd").mkdir()
    layers = f"lowerdir=/etc,upperdir={upper},workdir={work}"
    say("mount", "-t", "overlay", "o", "-o", layers, "/etc")
    try:
        before = Path("/etc/resolv.conf").read_text()
        shown = nsrun.run("netns", "exec", "blue", "cat", "/etc/resolv.conf")
        assert shown.ok() == "nameserver 192.0.2.7\n"
        assert Path("/etc/resolv.conf").read_text() == before
        # ip(8) warns too, and goes on.
        assert shown.stderr.count("warning[NS305]") == 2
        assert "/etc/nowhere does not exist" in shown.stderr
        assert "one of /etc/netns/blue/passwd and /etc/passwd is a folder" in shown.stderr
    finally:
        say("umount", "/etc")


def test_a_namespace_lives_until_its_last_process(nsrun: Runner, lab: Lab) -> None:
    lab.namespace("blue")
    with subprocess.Popen(["ip", "netns", "exec", "blue", "sleep", "30"]) as process:
        inside = f"/proc/{process.pid}/ns/net"
        while os.readlink(inside) == os.readlink("/proc/self/ns/net"):
            pass
        number = os.stat(inside).st_ino
        nsrun.run("netns", "delete", "blue").ok()
        assert os.stat(inside).st_ino == number
        assert lab.ip("netns list") == ""
        process.kill()


@pytest.mark.parametrize("name", ["a/b", ".", "..", ""])
def test_what_is_no_name_is_refused(nsrun: Runner, name: str) -> None:
    for words in (("add", name), ("delete", name), ("exec", name, "--", "true")):
        result = nsrun.run("netns", *words)
        assert result.status == (125 if words[0] == "exec" else 2)
        assert "error[NS002]" in result.stderr


def test_a_name_may_be_as_long_as_a_files(nsrun: Runner) -> None:
    assert "at most 255 bytes" in nsrun.run("netns", "add", "x" * 256).stderr
    assert nsrun.run("netns", "add", "x" * 255, "a\nb").ok() == ""
    assert nsrun.run("netns", "list").ok() == "a\\nb\n" + "x" * 255 + "\n"


def test_a_name_that_is_taken_stays_as_it_is(nsrun: Runner, lab: Lab) -> None:
    file = lab.namespace("blue")
    number = file.stat().st_ino
    with nothing_changes():
        # Nothing is made where not all can be.
        result = nsrun.run("netns", "add", "green", "blue")
    assert result.status == 1
    assert "error[NS318]: there is a network namespace blue already" in result.stderr
    assert "nsrun netns delete blue" in result.stderr
    assert file.stat().st_ino == number


def test_one_that_is_not_there(nsrun: Runner) -> None:
    for words, status in ((("delete", "blue"), 1), (("exec", "blue", "true"), 125)):
        result = nsrun.run("netns", *words)
        assert result.status == status
        assert "error[NS305]: there is no network namespace blue" in result.stderr
        assert "/run/netns/blue does not exist" in result.stderr


def test_a_file_without_a_namespace(nsrun: Runner, lab: Lab) -> None:
    """As one that was killed half-way leaves it, and what is no file at all."""
    lab.namespace("blue")
    (FOLDER / "stale").touch()
    (FOLDER / "folder").mkdir()
    assert nsrun.run("netns", "list").ok() == "blue\nfolder\nstale\n"
    result = nsrun.run("netns", "exec", "stale", "true")
    assert result.status == 125
    assert "error[NS309]: /run/netns/stale holds no namespace" in result.stderr
    for action in ("exec", "delete"):
        words = ("true",) if action == "exec" else ()
        result = nsrun.run("netns", action, "folder", *words)
        assert "error[NS309]: /run/netns/folder is a folder" in result.stderr
    assert "and no network namespace" in nsrun.run("netns", "add", "stale").stderr
    nsrun.run("netns", "delete", "stale").ok()
    assert sorted(os.listdir(FOLDER)) == ["blue", "folder"]


def test_the_plans_are_printed_and_nothing_done(nsrun: Runner, lab: Lab) -> None:
    listing = nsrun.run("netns", "add", "--plan", "blue").ok()
    assert "unshare(NEWNET)" in listing
    assert 'mount("/proc/self/ns/net", "/run/netns/blue", -, BIND, -)' in listing
    assert not FOLDER.exists()
    lab.namespace("blue")
    with nothing_changes():
        assert 'execve("/x"' in nsrun.run("netns", "exec", "--plan", "blue", "/x").ok()
        assert 'umount2("/run/netns/blue"' in nsrun.run("netns", "delete", "blue", "--plan").ok()


# The steps of `add`: those that the first one alone does, and those of every one.
FIRST = ("mkdirat", "open_tree", "mount_setattr", "move_mount")
EVERY = ("flock", "openat", "unshare", "mount", "setns")


@requires("strace")
@pytest.mark.parametrize(
    ("step", "others"),
    [*((step, False) for step in (*FIRST, *EVERY)), *((step, True) for step in EVERY)],
)
def test_a_step_that_fails_leaves_nothing(
    nsrun: Runner, lab: Lab, step: str, others: bool
) -> None:
    """``others``: there are some already, and the folder stays the shared mount that it is."""
    if others:
        lab.namespace("blue")
    # Of the file's openings the first is a look at it, the second makes it.
    only, when = (("-P", FOLDER / "x"), 2) if step == "openat" else ((), 1)
    inject = f"inject={step}:error=ENOMEM:when={when}"
    wrapper = ("strace", "-f", "-qq", "-o", "/dev/null", *map(str, only), "-e", inject, "--")
    with nothing_changes():
        result = nsrun.with_(wrapper=wrapper).run("netns", "add", "x")
    assert result.status == 125, str(result)
    assert "(ENOMEM)" in result.stderr
    assert "NS504" not in result.stderr


@pytest.mark.parametrize("words", [("add", "blue"), ("delete", "blue"), ("exec", "blue", "true")])
def test_an_ordinary_user_is_told_what_it_takes(
    lab: Lab, user_box: Box, words: tuple[str, ...]
) -> None:
    del lab
    result = user_box.runner.run("netns", *words)
    assert result.status == (125 if words[0] == "exec" else 1)
    assert result.stderr.count("error[NS") == 1
    assert "error[NS402]" in result.stderr
    assert "it needs CAP_SYS_ADMIN, which uid" in result.stderr
    assert f"sudo nsrun netns {words[0]}" in result.stderr


def test_an_ordinary_user_may_list_them(lab: Lab, user_box: Box) -> None:
    lab.namespace("blue")
    assert user_box.runner.run("netns", "list").ok() == "blue\n"
    FOLDER.chmod(0o700)
    result = user_box.runner.run("netns", "list")
    assert (result.status, result.stdout) == (1, "")
    assert "error[NS001]: cannot read /run/netns: Permission denied" in result.stderr
