"""`nsrun netns` and `ip netns` find what the other has made."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.support.box import Box
from tests.support.host import unchanged
from tests.support.lab import Lab, say
from tests.support.requires import requires
from tests.support.runner import Runner

pytestmark = requires("root", "ip")
FOLDER = Path("/run/netns")


@pytest.fixture
def nsrun(root: Runner, lab: Lab) -> Runner:
    """In a lab, whose /run is the test's own."""
    del lab
    return root


def names(text: str) -> list[str]:
    return sorted(line.split()[0] for line in text.splitlines())


def mount_points() -> set[str]:
    return {line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()}


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


def test_the_folder_is_one_shared_mount(nsrun: Runner, lab: Lab) -> None:
    # Another test's may lie below the lab's own /run.
    hidden = Path("/proc/self/mountinfo").read_text().splitlines()
    nsrun.run("netns", "add", "a").ok()
    nsrun.run("netns", "add", "b").ok()
    lab.ip("netns add c")
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    new = [line for line in lines if f" {FOLDER} " in line and line not in hidden]
    mine = [line.split(" - ")[0].split() for line in new]
    assert len(mine) == 1
    assert mine[0][6].startswith("shared:")


def test_a_command_runs_in_it_as_by_ip(nsrun: Runner, lab: Lab, area: Path) -> None:
    lab.namespace("blue")
    shows = (
        "readlink /proc/self/ns/net; ls /sys/class/net; pwd; echo $HOME $$; "
        "grep CapEff /proc/self/status; exit 3"
    )
    by_nsrun = nsrun.run("netns", "exec", "blue", "--", "sh", "-c", shows)
    assert by_nsrun.status == 3, str(by_nsrun)
    by_ip = subprocess.run(
        ["ip", "netns", "exec", "blue", "sh", "-c", shows],
        capture_output=True,
        text=True,
        cwd=nsrun.cwd,
        env=nsrun.environment(),
        check=False,
    )

    def without_pid(text: str) -> list[str]:
        return [" ".join(w for w in line.split() if not w.isdigit()) for line in text.splitlines()]

    assert without_pid(by_nsrun.stdout) == without_pid(by_ip.stdout)
    assert "lo" in by_nsrun.stdout.splitlines()


def test_its_own_configuration_is_in_the_place_of_etcs(
    nsrun: Runner, lab: Lab, tmp_path: Path
) -> None:
    """/etc/netns/NAME/resolv.conf over /etc/resolv.conf, as ip-netns(8) says."""
    lab.namespace("blue")
    upper, work = tmp_path / "upper", tmp_path / "work"
    (upper / "netns/blue").mkdir(parents=True)
    work.mkdir()
    (upper / "netns/blue/resolv.conf").write_text("nameserver 192.0.2.7\n")
    layers = f"lowerdir=/etc,upperdir={upper},workdir={work}"
    say("mount", "-t", "overlay", "o", "-o", layers, "/etc")
    try:
        before = Path("/etc/resolv.conf").read_text()
        shown = nsrun.run("netns", "exec", "blue", "--", "cat", "/etc/resolv.conf").ok()
        assert shown == "nameserver 192.0.2.7\n"
        assert Path("/etc/resolv.conf").read_text() == before
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
        assert result.status != 0
        assert "error[NS002]" in result.stderr


def test_a_name_that_is_taken_stays_as_it_is(nsrun: Runner, lab: Lab) -> None:
    file = lab.namespace("blue")
    number = file.stat().st_ino
    with unchanged(FOLDER):
        result = nsrun.run("netns", "add", "blue")
    assert result.status == 1
    assert "error[NS318]: there is a network namespace blue already" in result.stderr
    assert "nsrun netns delete blue" in result.stderr
    assert file.stat().st_ino == number


def test_one_that_is_not_there(nsrun: Runner) -> None:
    for words in (("delete", "blue"), ("exec", "blue", "--", "true")):
        result = nsrun.run("netns", *words)
        assert "error[NS305]: there is no network namespace blue" in result.stderr
        assert "/run/netns/blue does not exist" in result.stderr


def test_the_plan_is_printed_and_nothing_made(nsrun: Runner) -> None:
    listing = nsrun.run("netns", "add", "--plan", "blue").ok()
    assert "unshare(NEWNET)" in listing
    assert 'mount("/proc/self/ns/net", "/run/netns/blue", -, BIND, -)' in listing
    assert not FOLDER.exists()


def test_a_failure_leaves_nothing(nsrun: Runner, lab: Lab) -> None:
    """The bind of the namespace fails, with everything before it made."""
    wrapper = ("strace", "-f", "-o", "/dev/null", "-e", "inject=mount:error=ENOMEM:when=3", "--")
    result = nsrun.with_(wrapper=wrapper, env={"NSRUN_EXECUTOR": "python"}).run("netns", "add", "x")
    assert result.status == 125, str(result)
    assert "ENOMEM" in result.stderr
    assert not FOLDER.exists()


def test_an_ordinary_user_is_told_what_it_takes(user_box: Box) -> None:
    result = user_box.runner.run("netns", "add", "blue")
    assert "error[NS402]" in result.stderr
    assert "CAP_SYS_ADMIN" in result.stderr
