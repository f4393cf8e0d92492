"""``nsrun drift``: nothing of what has just been started, and every change from outside by the line
of the spec that asked for it otherwise."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.box import Box, wait_for
from tests.support.detached import Containers, containers
from tests.support.lab import Lab, say
from tests.support.paths import SPECS
from tests.support.requires import requires

SLEEP = "echo up; sleep 60"


def within(c: Containers, kinds: str, *words: str, name: str = "c") -> None:
    """Run a program in some of the container's namespaces."""
    say("nsenter", "-t", str(c.pid(name)), *(f"-{kind}" for kind in kinds), *words)


def told(c: Containers, name: str = "c") -> dict[str, tuple[str | None, str | None, str | None]]:
    """What differs: by subject what is expected, what is found, and the place in the spec."""
    result = c("drift", "--json", name)
    found = [one for each in json.loads(result.stdout) for one in each["differences"]]
    assert (result.stderr, result.status) == ("", 1 if found else 0)
    return {one["what"]: (one["expected"], one["found"], one["path"]) for one in found}


def test_mounts_names_and_limits(c: Containers, rootfs: Path) -> None:
    c.up(
        SLEEP,
        rootfs={"path": str(rootfs), "overlay": "ephemeral", "readonly": True},
        hostname="box",
        domainname="example.org",
        mounts=[
            {"type": "tmpfs", "target": "/tmp", "options": ["noexec"]},
            {"type": "tmpfs", "target": "/mnt"},
            {"type": "bind", "source": "/usr/share", "target": "/srv", "options": ["ro"]},
        ],
        rlimits={"nofile": 256},
        oom_score_adj=300,
    )
    c.until_said("up")
    assert c.ok("drift", "c") == "no difference\n"
    within(c, "mp", "umount", "/mnt")
    within(c, "mp", "mount", "-t", "tmpfs", "none", "/tmp")
    within(c, "mp", "mount", "-o", "remount,bind,rw", "/")
    within(c, "mp", "umount", "/srv")
    within(c, "mp", "mount", "--bind", "/tmp", "/srv")
    within(c, "mp", "umount", "-l", "/proc/interrupts")
    within(c, "mp", "mount", "-t", "tmpfs", "none", "/proc/tty")
    within(c, "u", "hostname", "other")
    root = c.runner.user.uid == 0
    if root:
        # Of another user's process it takes CAP_SYS_RESOURCE (prlimit(2)).
        say("prlimit", "--pid", str(c.pid()), "--nofile=100:100")
    Path(f"/proc/{c.pid()}/oom_score_adj").write_text("200")
    found = told(c)
    assert found.pop("mount /srv") == ("bind of /usr/share", "tmpfs /", "mounts[2]")
    assert found.pop("mount /")[2] == "rootfs.readonly"
    assert found.pop("mount /tmp")[2] == "mounts[0]"
    assert found.pop("rlimit nofile", None) == (("256", "100", "rlimits.nofile") if root else None)
    assert found == {
        "mount /mnt": ("tmpfs", None, "mounts[1]"),
        "mount /proc/interrupts": ("bind of /dev/null", None, None),
        "mount /proc/tty": (None, "tmpfs", None),
        "hostname": ("box", "other", "hostname"),
        "oom_score_adj": ("300", "200", "oom_score_adj"),
    }
    text = c("drift", "c").stdout
    assert text.endswith(f"{9 if root else 8} differences\n")
    assert re.search(r"^c +hostname +box +other +/.*\.yaml:\d+ hostname$", text, re.MULTILINE)
    # Started again it is as planned.
    c.ok("restart", "c")
    assert told(c) == {}
    c.ok("kill", "c")


def test_without_a_root_of_its_own(c: Containers) -> None:
    """What lies behind a bind is found where it is a mount of the container's too."""
    folder = c.box.folder / "shared"
    folder.mkdir()
    os.chown(folder, c.runner.user.uid, c.runner.user.gid)
    c.up(
        SLEEP,
        mounts=[
            {"type": "proc", "target": "/proc"},
            {"type": "tmpfs", "target": "/opt"},
            {"type": "bind", "source": "/opt", "target": "/mnt", "options": ["ro"]},
            {"type": "bind", "source": str(folder), "target": "/media"},
        ],
        init=True,
    )
    c.until_said("up")
    assert told(c) == {}
    within(c, "mp", "mount", "-o", "remount,bind,rw", "/mnt")
    within(c, "mp", "mount", "--make-shared", "/mnt")
    assert {what: place for what, (_, _, place) in told(c).items()} == {"mount /mnt": "mounts[2]"}
    c.ok("kill", "c")


# What a plan has made is the same with both.
native = pytest.mark.parametrize("executor", ["native"], indirect=True)


def test_file_systems_ids_and_rules(c: Containers) -> None:
    """Options of file systems, which only a remount changes; what cannot be seen is told."""
    c.up(
        SLEEP,
        namespaces=["user", "mount", "pid", "ipc", "uts", "time"],
        mounts=[
            {"type": "proc", "target": "/proc"},
            {"type": "tmpfs", "target": "/mnt", "options": ["size=1m", "mode=0700"]},
        ],
        landlock={"read": ["/"], "write": ["/mnt"]},
        init=True,
    )
    c.until_said("up")
    note = "landlock: cannot be seen: the kernel shows no process's rules"
    assert c.ok("drift", "c") == f"c: {note}\nno difference\n"
    # With both named, mount(8) adds no options of its own.
    for fstype, options, target in (
        ("tmpfs", "nosuid,nodev,size=3m", "/mnt"),
        ("proc", "nosuid,nodev,noexec,hidepid=2", "/proc"),
    ):
        words = ("-t", fstype, "-o", f"remount,{options}", "none", target)
        within(c, "mpU", "mount", *words)
    assert told(c) == {
        "mount /mnt": ("tmpfs size=1024k", "tmpfs size=3072k", "mounts[1]"),
        "mount /proc": ("proc hidepid=off", "proc hidepid=invisible", "mounts[0]"),
    }
    c.ok("kill", "c")


@native
@requires("root")
def test_control_groups_and_devices(root_c: Containers) -> None:
    base = Path("/sys/fs/cgroup")
    if not (base / "devices/devices.list").exists():
        pytest.skip("no devices in a hierarchy of version 1")
    name = f"d{os.getpid()}"
    root_c.up(
        SLEEP,
        name=name,
        resources={"pids": 9},
        devices=[{"path": "/dev/zero", "permissions": "r"}],
    )
    root_c.until_said("up", name)
    assert told(root_c, name) == {}
    (rules,) = (base / "devices").rglob(f"nsrun-{name}")
    (pids,) = (base / "pids").rglob(f"nsrun-{name}")
    (rules / "devices.allow").write_text("c 1:5 w")
    (pids.parent / "cgroup.procs").write_text(str(root_c.pid(name)))
    found = told(root_c, name)
    assert found.pop("control group") == (str(pids), None, "resources.pids")
    # One subject with two differences keeps the last.
    assert found == {"device": (None, "c 1:5 rw", None)}
    root_c.ok("kill", name)


@pytest.fixture
def networked(lab: Lab, root_box: Box) -> Iterator[tuple[Lab, Containers]]:
    with containers(root_box) as made:
        yield lab, made


@native
@requires("root", "ip", "nft")
def test_a_network(networked: tuple[Lab, Containers]) -> None:
    lab, c = networked
    # Control groups are the machine's: another run of this test has one of its own.
    name = f"d{os.getpid()}"
    c.up(
        SLEEP,
        name=name,
        namespaces=["mount", "pid", "ipc", "uts", "network"],
        mounts=[{"type": "proc", "target": "/proc"}],
        network={
            "interfaces": [
                {
                    "name": "eth0",
                    "type": "veth",
                    "mtu": 1400,
                    "addresses": ["10.77.0.2/24", "fd77::2/64"],
                    "peer": {"addresses": ["10.77.0.1/24"]},
                },
                {"name": "br0", "type": "bridge", "mac": "02:00:00:00:00:77"},
            ],
            "routes": [
                {"to": "default", "via": "10.77.0.1"},
                {"to": "198.51.100.0/24", "type": "blackhole"},
            ],
            "masquerade": True,
        },
        sysctl={"net.ipv4.ip_default_ttl": 33},
        resources={"pids": 50},
    )
    c.until_said("up", name)
    assert told(c, name) == {}
    group = next(Path("/sys/fs/cgroup").rglob(f"nsrun-{name}/pids.max"))
    # What nsrun itself has changed is known, and is what is compared with from then on.
    c.ok("update", "--pids", "60", name)
    assert told(c, name) == {}
    (said,) = json.loads(c.ok("drift", "--json", name))
    assert said["notes"] == [{"what": str(group), "why": "60 by nsrun update, planned 50"}]
    for words in (
        "addr del fd77::2/64 dev eth0",
        "addr add 10.99.0.1/24 dev eth0",
        "route del blackhole 198.51.100.0/24",
        "route add 203.0.113.0/24 via 10.99.0.7",
        "link set eth0 mtu 1300",
        "link set br0 address 02:00:00:00:00:78",
        "link set lo down",
        "link add br1 type bridge",
    ):
        within(c, "n", "ip", *words.split(), name=name)
    say("nsenter", "-t", str(c.pid(name)), "-n", "sysctl", "-qw", "net.ipv4.ip_default_ttl=44")
    lab.ip(f"addr del 10.77.0.1/24 dev ve-{name}")
    say("nft", "flush", "table", "inet", f"nsrun-{name}")
    group.write_text("40")
    found = told(c, name)
    assert found.pop(f"host: table inet nsrun-{name}")[1:] == ("0 rules", "network.masquerade")
    assert found.pop(f"host: address of ve-{name}")[0] == "10.77.0.1/24"
    assert found.pop(str(group)) == ("60", "40", None)
    assert found.pop("sysctl net.ipv4.ip_default_ttl")[:2] == ("33", "44")
    assert found.pop("link eth0")[:2] == ("mtu 1400", "mtu 1300")
    assert found.pop("link br0")[1] == "02:00:00:00:00:78"
    assert found.pop("link lo")[:2] == ("up", "down")
    assert found.pop("link br1") == (None, "bridge", None)
    # One subject with two differences keeps the last: what nobody asked for.
    assert found.pop("address of eth0") == (None, "10.99.0.1/24", None)
    assert found.pop("route")[1:] == ("203.0.113.0/24 via 10.99.0.7 dev eth0", None)
    assert found == {}
    say("nft", "delete", "table", "inet", f"nsrun-{name}")
    assert told(c, name)[f"host: table inet nsrun-{name}"][1] is None
    c.ok("restart", name)
    assert told(c, name) == {}
    assert json.loads(c.ok("drift", "--json", name))[0]["notes"] == []
    group.write_text("60")
    assert told(c, name) == {str(group): ("50", "60", "resources.pids")}
    c.ok("kill", name)


@native
@requires("root", "ip")
def test_a_stack(networked: tuple[Lab, Containers]) -> None:
    lab, c = networked
    own: dict[str, Any] = {
        "namespaces": ["mount", "pid", "ipc", "uts", "network"],
        "mounts": [{"type": "proc", "target": "/proc"}],
        "stop_timeout": "1s",
        "command": ["sleep", "60"],
        "restart": "always",
    }
    file = c.box.folder / "shop.yaml"
    file.write_text(
        json.dumps({
            "name": "shop",
            "networks": {"front": {"subnet": "10.78.0.0/24"}},
            "containers": {
                "web": {**own, "networks": ["front"]},
                "db": {**own, "networks": ["front"]},
                "job": {**own, "restart": "no", "command": ["true"]},
            },
        })
    )  # fmt: skip
    try:
        c.runner.run("up", "-d", file).ok()
        c.until_over("shop-job")
        done = "container: it has ended with exit status 0, nothing is compared"
        assert c.ok("drift", "shop") == f"shop-job: {done}\nno difference\n"
        # One that was started again by its policy is as planned too.
        before = c.pid("shop-web")
        c.kill(before)
        assert wait_for(lambda: c.ps().get("shop-web", {}).get("pid", 0) not in (0, before))
        assert c.ok("drift", "shop-web") == "no difference\n"
        bridge = next(
            name for name in lab.links() if lab.ip(f"-d link show {name}").count("bridge_id")
        )
        lab.ip(f"addr del 10.78.0.1/24 dev {bridge}")
        text = c("drift", "shop").stdout
        assert f"host: address of {bridge}" in text and "shop.yaml" in text
        assert text.endswith("1 difference\n")
        c("stop", "shop-db").ok()
        c.ok("rm", "shop-job")
        result = c("drift", "--json", "shop")
        assert result.status == 1
        members = {one["container"]: one for one in json.loads(result.stdout)}
        for member, status, is_found in (
            ("shop-db", "exited", "exited, exit status 137"), ("shop-job", "missing", None)
        ):  # fmt: skip
            assert members[member]["status"] == status
            (one,) = members[member]["differences"]
            assert (one["what"], one["expected"], one["found"]) == (
                "container",
                "running",
                is_found,
            )
            assert one["rule"] == "nsrun up"
        assert members["shop-web"]["status"] == "running"
    finally:
        c.runner.run("down", file)


def test_what_does_not_run(c: Containers) -> None:
    result = c("drift", "nosuch")
    assert result.status == 2 and "there is no container nosuch" in result.stderr
    c.up("true")
    c.until_over()
    result = c("drift", "c")
    assert result.status == 2 and "is not running" in result.stderr


# Of the examples those that are most unlike; with NSRUN_MATRIX=1 (``make matrix``) all.
_SOME = ("service", "quickstart", "shared-and-slave", "unbindable")
_ALL = sorted((*SPECS.glob("*.yaml"), *SPECS.glob("seeds/*.yaml")))


@pytest.mark.parametrize(
    "name",
    [
        str(file.relative_to(SPECS))
        for file in _ALL
        if os.environ.get("NSRUN_MATRIX") == "1" or file.stem in _SOME
    ],
)
def test_examples_as_they_were_started(c: Containers, examples: Path, name: str) -> None:
    if name in ("seeds/join.yaml", "seeds/signals.yaml"):
        pytest.skip("it joins what is not there, or ends by itself")
    file = examples / name
    started = c("run", "-d", "--name", "c", file, "--", "sleep", "60")
    if started.status == 125 and ("NS402" in started.stderr or "NS403" in started.stderr):
        pytest.skip("this user may not run it")
    started.ok()
    assert c.ok("drift", "c").endswith("no difference\n")
    c.ok("kill", "c")
    if name == "seeds/pin.yaml":
        # Its namespace is to outlive it.
        c.ok("unpin", file.parent / "uts.ns")
