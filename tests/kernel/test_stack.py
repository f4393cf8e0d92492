"""Stacks come up in their order, stay up, change, and go without a trace."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.box import wait_for
from tests.support.lab import Lab, say
from tests.support.requires import requires
from tests.support.runner import Runner
from tests.support.stacks import (
    BASE,
    Stacks,
    executor,  # noqa: F401 -- a fixture
    kill_keeper,
    member,
)

pytestmark = requires("root", "ip", "ping", "busybox")


@pytest.mark.parametrize("executor", ["native", "python"], indirect=True)
def test_it_comes_up_in_its_order_and_goes(stacks: Stacks, lab: Lab) -> None:
    result = stacks.up(
        networks={"n": {"subnet": "10.77.0.0/24"}},
        containers={
            "web": member(depends_on=["db"], networks=["n"], replicas=2),
            "db": member(networks={"n": {"address": "10.77.0.9"}}),
        },
    )
    assert result.status == 0, str(result)
    started = [line.split()[0] for line in result.stderr.splitlines() if "starting" in line]
    assert started == ["networks", "shop-db", "shop-web-1", "shop-web-2"]
    assert {n: c["status"] for n, c in stacks.ps().items()} == dict.fromkeys(
        ("shop-db", "shop-web-1", "shop-web-2"), "running"
    )
    assert "nsb-shop-n" in lab.links()
    say("ping", "-qc1", "-W2", "10.77.0.9")
    reaches = stacks.runner.run("exec", "shop-web-2", "--", "ping", "-qc1", "-W2", "db")
    assert reaches.status == 0, str(reaches)
    assert stacks.down().status == 0
    assert stacks.ps() == {}
    assert lab.links() == []
    assert not Path("/run/nsrun").exists()


def test_what_waits_for_health_starts_after_it(stacks: Stacks) -> None:
    result = stacks.up(
        containers={
            "db": member(
                command="sleep 0.5; touch /tmp/up; sleep 60",
                mounts=[*BASE["mounts"], {"type": "tmpfs", "target": "/tmp"}],
                healthcheck={"command": ["test", "-e", "/tmp/up"], "interval": "0.1s",
                             "retries": 50},
            ),
            "web": member(depends_on={"db": {"condition": "healthy"}}),
        }
    )  # fmt: skip
    assert result.status == 0, str(result)
    lines = [line for line in result.stderr.splitlines() if line]
    assert lines.index("shop-db healthy") < lines.index("shop-web starting")
    assert stacks.ps()["shop-db"]["health"] == "healthy"


def test_an_unhealthy_one_is_told_with_its_last_words(stacks: Stacks) -> None:
    result = stacks.up(
        containers={
            "db": member(
                command="echo the disk is gone; sleep 60",
                healthcheck={"command": ["false"], "interval": "0.1s", "retries": 2},
            ),
            "web": member(depends_on={"db": {"condition": "healthy"}}),
        }
    )
    assert result.status == 1
    assert "error[NS609]: shop-web cannot start: shop-db is not healthy" in result.stderr
    assert "the disk is gone" in result.stderr
    assert stacks.ps() == {}


@pytest.fixture
def checked(area: Path) -> tuple[Path, dict[str, Any]]:
    """A file, and containers of which one is healthy while the file says ``well``."""
    word = area / "word"
    word.write_text("well")
    check = {"command": ["grep", "-q", "well", str(word)], "interval": "50ms", "retries": 100}
    containers = {
        "db": member(command="echo the disk is gone; sleep 60", healthcheck=check),
        "web": member(depends_on={"db": {"condition": "healthy"}}),
    }
    return word, containers


def test_up_of_a_running_stack_waits_as_that_of_a_new_one(
    stacks: Stacks, checked: tuple[Path, dict[str, Any]]
) -> None:
    word, containers = checked
    assert stacks.up(containers=containers).status == 0
    before = {name: one["id"] for name, one in stacks.ps().items()}
    word.write_text("not yet")
    again = stacks.runner.start("up", "-d", stacks.write(containers=containers))
    assert wait_for(lambda: stacks.ps()["shop-db"]["health"] == "starting")
    assert again.poll() is None
    word.write_text("well")
    _, said = again.communicate(timeout=20)
    assert again.returncode == 0 and "shop-db healthy" in said, said

    # One that is not healthy any more is told of, and nothing that runs is ended for it; nor
    # for a new one that does not start.
    containers["db"]["healthcheck"]["retries"] = 1
    word.write_text("no")
    result = stacks.up(containers=containers)
    assert result.status == 1
    summary = "error[NS609]: shop-web runs without what it depends on: shop-db is not healthy"
    assert summary in result.stderr and "the disk is gone" in result.stderr
    word.write_text("well")
    assert wait_for(lambda: stacks.ps()["shop-db"]["health"] == "healthy")
    more = {**containers, "new": member(command=["nosuch"])}
    assert stacks.up(containers=more).status == 1
    assert {name: one["id"] for name, one in stacks.ps().items()} == before
    assert wait_for(lambda: stacks.ps()["shop-db"]["health"] == "healthy")
    assert stacks.up(containers=containers).status == 0


def test_up_can_wait_for_every_healthcheck(
    stacks: Stacks, checked: tuple[Path, dict[str, Any]]
) -> None:
    word, containers = checked
    word.write_text("no")
    containers["db"]["healthcheck"]["retries"] = 2
    del containers["web"]["depends_on"]
    file = stacks.write(containers=containers)
    result = stacks.runner.run("up", "--wait", file)
    assert result.status == 1 and "error[NS609]: shop-db is not healthy" in result.stderr
    assert stacks.ps() == {}
    word.write_text("well")
    assert stacks.runner.run("up", "--wait", file).status == 0
    assert stacks.ps()["shop-db"]["health"] == "healthy"


def test_one_that_ends_again_and_again_is_never_healthy(stacks: Stacks) -> None:
    check = {"command": ["false"], "interval": "20ms", "retries": 1000}
    result = stacks.up(
        containers={
            "db": member(command="echo broken; exit 3", restart="always", healthcheck=check),
            "web": member(depends_on={"db": {"condition": "healthy"}}),
        }
    )
    assert result.status == 1
    why = "shop-db ends again and again, the last time with exit status 3"
    assert f"error[NS609]: shop-web cannot start: {why}" in result.stderr, result.stderr
    assert "broken" in result.stderr and stacks.ps() == {}


def test_addresses_of_another_network_are_refused(stacks: Stacks) -> None:
    networks = {"n": {"subnet": "10.77.0.0/24"}}
    keys = {"networks": networks, "containers": {"a": member(networks=["n"])}}
    assert stacks.up(**keys).status == 0
    for subnet, status in (("10.77.0.128/25", 1), ("10.78.0.0/24", 0)):
        networks["n"]["subnet"] = subnet
        result = stacks.up(name="other", **keys)
        assert result.status == status, str(result)
        told = f"error[NS318]: {subnet} has addresses of the network of nsb-shop-n" in result.stderr
        assert told is bool(status)
    # Its own may grow.
    networks["n"]["subnet"] = "10.77.0.0/20"
    assert stacks.up(**keys).status == 0


def test_an_init_container_is_waited_for(stacks: Stacks, area: Path) -> None:
    (area / "d").mkdir()
    init = member(command="echo made > /d/f", mounts=[*BASE["mounts"], f"{area}/d:/d"])
    keys = {
        "containers": {
            "init": {**init, "namespaces": ["mount", "pid"], "rootfs": None},
            "web": member(depends_on={"init": {"condition": "completed"}}),
        }
    }
    del keys["containers"]["init"]["rootfs"]
    (Path("/") / "d").mkdir(exist_ok=True)
    try:
        assert stacks.up(**keys).status == 0
    finally:
        stacks.down()
        (Path("/") / "d").rmdir()
    assert (area / "d/f").read_text() == "made\n"


def test_one_that_dies_at_its_start_takes_all_down(stacks: Stacks) -> None:
    result = stacks.up(
        containers={"a": member(), "b": member(command=["nosuch"], depends_on=["a"])}
    )
    assert result.status == 1
    assert "error[NS601]: cannot run nosuch" in result.stderr
    assert stacks.ps() == {}


def test_with_keep_what_runs_stays(stacks: Stacks) -> None:
    containers = {"a": member(), "b": member(command=["nosuch"], depends_on=["a"])}
    assert stacks.up("--keep", containers=containers).status == 1
    assert {n: c["status"] for n, c in stacks.ps().items()} == {"shop-a": "running"}


def test_what_ends_is_started_again(stacks: Stacks) -> None:
    again = {"policy": "on-failure", "max": 2}
    result = stacks.up(
        containers={
            "fails": member(command="exit 3", restart=again),
            "works": member(command="true", restart=again),
        }
    )
    assert result.status == 0, str(result)
    assert wait_for(lambda: stacks.ps()["shop-fails"]["restarts"] == 2, 15)
    assert wait_for(lambda: stacks.ps()["shop-fails"]["status"] == "exited", 15)
    assert stacks.ps()["shop-works"]["restarts"] == 0


def test_only_what_differs_is_made_anew(stacks: Stacks) -> None:
    containers = {"a": member(), "b": member()}
    networks = {"n": {"subnet": "10.77.0.0/24", "masquerade": True}}
    for one in containers.values():
        one["networks"] = ["n"]
    assert stacks.up(networks=networks, containers=containers).status == 0
    before = {n: c["id"] for n, c in stacks.ps().items()}
    file = stacks.write(networks=networks, containers=containers)
    assert stacks.runner.run("up", "--dry-run", file).ok() == "keep shop-a\nkeep shop-b\n"
    containers["b"]["env"] = {"X": "1"}
    containers["c"] = member(networks=["n"])
    file = stacks.write(networks=networks, containers=containers)
    said = stacks.runner.run("up", "--dry-run", file).ok()
    assert "make shop-c\n" in said
    assert "make shop-b anew" in said
    assert "keep shop-a" in said
    assert json.loads(stacks.runner.run("up", "--dry-run", "--json", file).ok()) == {
        "networks": "keep",
        "containers": [
            {"name": "shop-c", "do": "make"},
            {"name": "shop-b", "do": "make anew"},
            {"name": "shop-a", "do": "keep", "new": ["names in its /etc/hosts"]},
        ],
    }
    assert stacks.up(networks=networks, containers=containers).status == 0
    after = {n: c["id"] for n, c in stacks.ps().items()}
    assert after["shop-a"] == before["shop-a"]
    assert after["shop-b"] != before["shop-b"]
    assert stacks.up(networks=networks, containers={"a": containers["a"]}).status == 0
    assert set(stacks.ps()) == {"shop-a"}
    # Not in its plan: the monitor keeps the log.
    containers["a"]["logging"] = {"max_files": 9}
    file = stacks.write(networks=networks, containers={"a": containers["a"]})
    assert stacks.runner.run("up", "--dry-run", file).ok().startswith("make shop-a anew")


def test_a_killed_keeper_leaves_the_containers_and_up_mends(stacks: Stacks) -> None:
    containers = {"a": member(), "b": member()}
    assert stacks.up(containers=containers).status == 0
    before = {n: c["id"] for n, c in stacks.ps().items()}
    kill_keeper("shop")
    assert {n: c["status"] for n, c in stacks.ps().items()} == dict.fromkeys(before, "running")
    assert stacks.up(containers=containers).status == 0
    assert {n: c["id"] for n, c in stacks.ps().items()} == before
    kill_keeper("shop")
    assert stacks.down().status == 0
    assert stacks.ps() == {}


def test_two_ups_at_once_are_one_stack(stacks: Stacks) -> None:
    file = stacks.write(containers={"a": member()})
    both = [stacks.runner.start("up", "-d", file) for _ in range(2)]
    ends = [p.communicate(timeout=20) for p in both]
    assert [p.returncode for p in both].count(0) >= 1, ends
    assert set(stacks.ps()) == {"shop-a"}
    assert stacks.ps()["shop-a"]["status"] == "running"


def test_the_foreground_shows_what_they_write_and_ends_by_a_signal(stacks: Stacks) -> None:
    file = stacks.write(
        containers={"a": member(command="echo hello from a; sleep 60"), "b": member()}
    )
    process = stacks.runner.start("up", file)
    assert process.stdout is not None
    assert process.stdout.readline() == "a | hello from a\n"
    assert process.stderr is not None
    while "shop-b running" not in (line := process.stderr.readline()):
        assert line
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert said.rindex("shop-b stopping") < said.rindex("shop-a stopping")
    assert stacks.ps() == {}


def test_an_interrupt_while_coming_up_starts_no_more(stacks: Stacks) -> None:
    """Nor waits for what there is still to start, which may be hundreds."""
    file = stacks.write(containers={"c": member(init=True, replicas=40)})
    with stacks.runner.start("up", file) as process:
        assert process.stderr is not None
        while "shop-c-1 running" not in (line := process.stderr.readline()):
            assert line
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=30)[1]
    assert "shop-c-1 removed" in said and "shop-c-40 starting" not in said
    assert stacks.ps() == {}


def test_a_rig_that_runs_to_its_end_is_over(stacks: Stacks) -> None:
    file = stacks.write(containers={"a": member(command="true"), "b": member(command="true")})
    begun = time.monotonic()
    assert stacks.runner.run("up", file).status == 0
    assert time.monotonic() - begun < 20
    assert stacks.ps() == {}


def test_a_volume_is_its_containers_own_in_user_namespaces_of_root(stacks: Stacks) -> None:
    """As a rootfs is: host root's on disk, the container's root's inside, with both of two maps."""
    mounts = [*BASE["mounts"], {"type": "tmpfs", "target": "/srv"}]
    own = {
        "namespaces": ["user", *BASE["namespaces"]],
        "mounts": mounts,
        "volumes": ["data:/srv/d"],
    }
    keys = {
        "volumes": {"data": {}},
        "containers": {
            "fill": member(**own, command="echo here > /srv/d/n"),
            "read": member(
                **own,
                depends_on={"fill": {"condition": "completed"}},
                command="read x < /srv/d/n; echo $x `stat -c %u:%g /srv/d/n` >> /srv/d/n; sleep 60",
            ),
        },
    }
    assert stacks.up(**keys).status == 0
    made = stacks.folder / "volumes/shop/data/n"
    assert wait_for(lambda: made.read_text() == "here\nhere 0:0\n")
    assert (made.stat().st_uid, made.stat().st_gid) == (0, 0)
    # The same plan once there is a folder: nothing starts anew.
    assert "read" not in stacks.up(**keys).stdout


def test_volumes_outlive_the_stack(stacks: Stacks) -> None:
    mounts = [*BASE["mounts"], {"type": "tmpfs", "target": "/srv"}]
    keys = {
        "volumes": {"data": {}},
        "containers": {
            "a": member(mounts=mounts, volumes=["data:/srv/d"],
                        command="echo $((`cat /srv/d/n` + 1)) > /srv/d/n; sleep 60"),
        },
    }  # fmt: skip
    place = stacks.folder / "volumes/shop/data/n"
    for number in (1, 2):
        assert stacks.up(**keys).status == 0
        assert wait_for(lambda: place.exists() and place.read_text() == f"{number}\n")  # noqa: B023
        stacks.down()
    # A program made set-user-ID in a volume is not for other users of the host.
    assert place.parent.parent.stat().st_mode & 0o777 == 0o700
    stacks.up(**keys)
    assert stacks.down("shop", "--volumes").status == 0
    assert not place.parent.exists()


def test_a_network_without_a_way_out(stacks: Stacks, lab: Lab) -> None:
    lab.internet()
    containers = {
        "in": member(networks=["closed"]),
        "out": member(networks=["open"]),
    }
    networks = {
        "closed": {"subnet": "10.78.0.0/24", "internal": True},
        "open": {"subnet": "10.79.0.0/24", "masquerade": True},
    }
    assert stacks.up(networks=networks, containers=containers).status == 0

    def pings(name: str, address: str) -> int:
        return stacks.runner.run("exec", name, "--", "ping", "-qc1", "-W1", address).status

    assert pings("shop-out", "203.0.113.2") == 0
    assert pings("shop-in", "203.0.113.2") != 0
    assert pings("shop-in", "10.78.0.1") == 0
    # Neither is the host a router now, nor are the networks a way into each other.
    lab.ip("-n internet route add 10.79.0.0/24 via 203.0.113.1")
    inner = json.loads(stacks.runner.run("inspect", "shop-out").ok())
    assert "10.79.0.2" in json.dumps(inner)
    lost = "ping -qc1 -W1 10.79.0.2 >/dev/null; echo $?"
    assert lab.inside("internet", "sh", "-c", lost) == "1\n"
    assert pings("shop-out", "10.79.0.1") == 0
    stacks.down()
    for name in ("up0",):
        lab.ip(f"link del {name}")
    lab.ip("netns delete internet")


def test_a_user_has_stacks_too(own_stacks: Stacks) -> None:
    own = {**BASE, "namespaces": ["user", *BASE["namespaces"]]}
    containers = {
        "a": own,
        "b": {**own, "namespaces": ["user", "mount", "pid"], "depends_on": ["a"]},
    }
    result = own_stacks.up(containers=containers)
    assert result.status == 0, str(result)
    assert {n: c["status"] for n, c in own_stacks.ps().items()} == dict.fromkeys(
        ("shop-a", "shop-b"), "running"
    )
    assert own_stacks.down().status == 0
    assert own_stacks.ps() == {}


def test_down_of_what_is_not_there(stacks: Stacks) -> None:
    result = stacks.down("nothing")
    assert result.status == 1
    assert "error[NS605]: there is no stack nothing" in result.stderr


def test_the_example_comes_up(stacks: Stacks, root: Runner) -> None:
    from tests.support.paths import SPECS

    stacks.names.add("shop")
    result = stacks.runner.run("up", "-d", SPECS / "stacks/shop.yaml")
    assert result.status == 0, str(result)
    fetched = subprocess.run(
        ["busybox", "wget", "-q", "-O", "-", "http://127.0.0.1:8080/"],
        capture_output=True,
        text=True,
        timeout=10,
        check=True,
    )
    assert fetched.stdout == "three apples\n"


def test_a_unit_of_systemd_brings_it_up(stacks: Stacks) -> None:
    file = stacks.write(containers={"a": member()})
    assert stacks.up(containers={"a": member()}).status == 0
    unit = stacks.runner.run("generate", "systemd", "shop").ok()
    assert f"up {file}\n" in unit
    assert "Type=exec" in unit
    assert f"WorkingDirectory={stacks.runner.cwd}" in unit
    assert "WantedBy=multi-user.target" in unit


def test_prune_leaves_what_runs(stacks: Stacks) -> None:
    containers = {"a": member(), "b": member(command="true")}
    assert stacks.up(containers=containers).status == 0
    assert wait_for(lambda: stacks.ps()["shop-b"]["status"] == "exited")
    assert stacks.runner.run("prune", "--dry-run").ok() == "container shop-b (exited)\n"
    assert set(stacks.ps()) == {"shop-a", "shop-b"}
    listed = ("ps", "-q", "--no-trunc", "-f", "stack=shop", "-f")
    ended = stacks.runner.run(*listed, "status=exited").ok().split()
    assert ended == [stacks.ps()["shop-b"]["id"]]
    names = ("ps", "-q", "-f", "name=op-a", "-f", "health=none", "-f", "label=x")
    assert stacks.runner.run(*names).ok() == ""
    assert stacks.runner.run(*names[:-2]).ok().strip() == stacks.ps()["shop-a"]["id"][:12]
    gone = json.loads(stacks.runner.run("prune", "-f", "--json").ok())
    assert gone == {"kind": "container", "name": "shop-b", "status": "exited"}
    assert set(stacks.ps()) == {"shop-a"}


def test_stats_of_all_that_runs(stacks: Stacks) -> None:
    containers = {"busy": member(command="while :; do :; done"), "idle": member()}
    assert stacks.up(containers=containers).status == 0
    listed = json.loads(stacks.runner.run("stats", "--format", "json").ok())
    uses = {one["name"]: one for one in listed}
    assert uses["shop-busy"]["share"] > 0.2 > uses["shop-idle"]["share"]
    assert uses["shop-idle"]["memory"] > 0
    assert uses["shop-idle"]["processes"] == 1


def test_what_its_caller_ignores_changes_nothing(stacks: Stacks) -> None:
    """A shell's job in the background ignores SIGINT, one of nohup(1) SIGHUP."""
    file = stacks.write(
        networks={"n": {"subnet": "10.77.5.0/24"}}, containers={"one": member(networks=["n"])}
    )
    runner = stacks.runner.with_(wrapper=("env", "--ignore-signal=INT,HUP"))
    assert runner.run("up", "-d", file).status == 0
    for who in (runner, stacks.runner):
        assert who.run("up", "--dry-run", file).ok() == "keep shop-one\n"
    before = stacks.ps()["shop-one"]["id"]
    assert stacks.runner.run("up", "-d", file).status == 0
    assert stacks.ps()["shop-one"]["id"] == before
    status = Path(f"/proc/{stacks.ps()['shop-one']['pid']}/status").read_text()
    assert "SigIgn:\t0000000000000000\n" in status


def test_who_joins_another_is_made_anew_with_it(stacks: Stacks) -> None:
    joined = ["mount", "pid", {"type": "network", "container": "db"}]
    containers = {"web": member(namespaces=joined), "db": member(command=["sleep", "60"])}
    assert stacks.up(containers=containers).status == 0
    before = stacks.ps()
    assert stacks.runner.run("kill", "shop-db").status == 0
    assert wait_for(lambda: stacks.ps()["shop-db"]["status"] == "exited")
    result = stacks.up(containers=containers)
    assert result.status == 0, str(result)
    after = stacks.ps()
    assert {one["status"] for one in after.values()} == {"running"}
    assert after["shop-web"]["id"] != before["shop-web"]["id"]
    db, web = (after[f"shop-{name}"]["pid"] for name in ("db", "web"))
    assert os.readlink(f"/proc/{web}/ns/net") == os.readlink(f"/proc/{db}/ns/net")


def test_who_joins_another_is_restarted_with_it(stacks: Stacks) -> None:
    """By its restart policy, by name, and along a chain; it kept the namespaces of what was."""
    joined = ["mount", "pid", {"type": "network", "container": "db"}]
    chained = ["mount", "pid", {"type": "network", "container": "web"}]
    containers = {
        "chain": member(namespaces=chained, init=True),
        "web": member(namespaces=joined, init=True),
        "db": member(init=True, restart="always"),
        "alone": member(init=True),
    }
    assert stacks.up(containers=containers).status == 0

    def pids() -> dict[str, int]:
        return {name: one.get("pid") or 0 for name, one in stacks.ps().items()}

    def share(before: dict[str, int]) -> bool:
        now = pids()
        names = ("shop-db", "shop-web", "shop-chain")
        if not all(now[name] and now[name] != before[name] for name in names):
            return False
        try:
            return len({os.readlink(f"/proc/{now[name]}/ns/net") for name in names}) == 1
        except FileNotFoundError:
            return False

    begun = pids()
    for words in (("kill", "shop-db"), ("restart", "shop-db"), ("restart", "shop-db", "shop-web")):
        before = pids()
        assert stacks.runner.run(*words).status == 0
        assert wait_for(lambda: share(before), 15), (words, stacks.ps())  # noqa: B023
    assert pids()["shop-alone"] == begun["shop-alone"]
    assert stacks.ps()["shop-web"]["restarts"] == 0
    # Who was stopped by name stays so.
    assert stacks.runner.run("stop", "shop-chain").status == 0
    assert stacks.runner.run("restart", "shop-web").status == 0
    assert stacks.ps()["shop-chain"]["status"] == "exited"


def test_what_no_plan_knows_is_changed_without_a_new_start(stacks: Stacks) -> None:
    assert stacks.up(containers={"db": member(init=True), "web": member()}).status == 0
    before = {name: one["pid"] for name, one in stacks.ps().items()}
    check = {"command": ["true"], "interval": "0.1s"}
    containers = {
        "db": member(init=True, healthcheck=check, restart="always"),
        "web": member(depends_on={"db": {"condition": "healthy"}}),
    }
    file = stacks.write(containers=containers)
    dry = ("up", "--dry-run", file)
    assert stacks.runner.run(*dry).ok() == (
        "keep shop-db, with the new healthcheck and restart\nkeep shop-web\n"
    )
    assert stacks.up(containers=containers).status == 0
    assert stacks.runner.run(*dry).ok() == "keep shop-db\nkeep shop-web\n"
    assert {name: one["pid"] for name, one in stacks.ps().items()} == before
    assert wait_for(lambda: stacks.ps()["shop-db"].get("health") == "healthy")
    assert stacks.runner.run("kill", "shop-db").status == 0
    assert wait_for(lambda: stacks.ps()["shop-db"]["restarts"] == 1)


def test_the_events_of_a_stack(stacks: Stacks) -> None:
    """Of one that fails, of one whose health changes, of one that follows, and of the stack."""
    tmp = {"type": "tmpfs", "target": "/tmp"}
    containers = {
        "db": member(
            init=True,
            mounts=[*BASE["mounts"], tmp],
            healthcheck={"command": ["test", "!", "-e", "/tmp/ill"], "interval": "0.1s",
                         "retries": 1},
        ),
        "web": member(namespaces=["mount", "pid", {"type": "network", "container": "db"}],
                      init=True, depends_on={"db": {"condition": "healthy"}}),
        "bad": member(command="exit 3", restart={"policy": "on-failure", "max": 1}),
    }  # fmt: skip

    def told(service: str) -> list[str]:
        words = ("events", "--filter", "stack=shop", "--format", "json")
        found = [json.loads(line) for line in stacks.runner.run(*words).ok().splitlines()]
        of = [(e["Action"], e["Actor"]["Attributes"]) for e in found]
        return [
            f"{action} {known['exitCode']}" if action == "die" else action
            for action, known in of
            if known.get("service", known.get("name")) == service
        ]

    assert stacks.up(containers=containers).status == 0
    failed = ["create", "start", "die 3", "start", "die 3"]
    assert wait_for(lambda: told("bad") == failed), told("bad")
    assert stacks.runner.run("exec", "shop-db", "--", "touch", "/tmp/ill").status == 0
    sick = ["create", "start", "health_status: healthy", "health_status: unhealthy"]
    assert wait_for(lambda: [a for a in told("db") if not a.startswith("exec")] == sick), told("db")
    assert stacks.runner.run("restart", "shop-db").status == 0
    follows = ["create", "start", "die 143", "start", "restart"]
    assert wait_for(lambda: told("web") == follows), told("web")
    assert stacks.down().status == 0
    assert told("web") == [*follows, "die 143", "stop", "destroy"]
    assert told("shop") == ["start", "stop"]


def test_one_that_is_stopped_by_name_stays_stopped(stacks: Stacks) -> None:
    def state() -> str:
        text = Path("/run/nsrun/stacks/shop/members.json").read_text()
        return str(json.loads(text)["shop-one"]["state"])

    one = member(restart="always", init=True)
    assert stacks.up(containers={"one": one, "two": member(init=True)}).status == 0
    run = stacks.runner.run
    assert run("stop", "shop-one").ok() == "shop-one\n"
    assert wait_for(lambda: state() == "exited")
    assert stacks.ps()["shop-one"]["status"] == "exited"
    for word in ("start", "restart"):
        assert run(word, "shop-one").ok() == "shop-one\n"
        assert (state(), stacks.ps()["shop-one"]["status"]) == ("running", "running")
    # It is watched again.
    before = stacks.ps()["shop-one"]["pid"]
    assert run("kill", "shop-one").status == 0
    assert wait_for(lambda: stacks.ps()["shop-one"].get("pid") not in (before, 0, None))
    assert run("rm", "-f", "shop-one").status == 0
    assert wait_for(lambda: state() == "exited")
    assert set(stacks.ps()) == {"shop-two"}
    assert "shop is a stack, of shop-two" in run("logs", "shop").stderr
    assert "did you mean shop-two?" in run("stop", "two").stderr


def test_a_change_that_cannot_be_planned_leaves_what_is_up(stacks: Stacks) -> None:
    """It was taken down: with one namespace that is not there, all was lost."""
    db = member()
    assert stacks.up(containers={"db": db}).status == 0
    before = stacks.ps()["shop-db"]["pid"]
    for words in (("-d",), ()):
        joins = {**db, "namespaces": ["mount", "pid", {"type": "ipc", "container": "none"}]}
        file = stacks.write(containers={"db": joins, "web": member()})
        result = stacks.runner.run("up", *words, file)
        assert result.status == 1
        assert "no container none is running" in result.stderr
        assert set(stacks.ps()) == {"shop-db"}
        assert stacks.ps()["shop-db"]["pid"] == before
    # It is still kept: another one is told of, and down asks who keeps it.
    assert stacks.up(containers={"db": db, "web": member()}).status == 0
    assert stacks.ps()["shop-db"]["pid"] == before


def runs(command: list[str]) -> bool:
    """Whether some process has been executed so."""
    wanted = "".join(f"{word}\0" for word in command).encode()
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if file.read_bytes() == wanted:
                return True
        except OSError:
            continue
    return False


def test_a_check_under_way_holds_nothing_up(stacks: Stacks) -> None:
    """Its command was left to whoever collects orphans: this process does not, and the container's
    namespace waited for it."""
    asks = ["sleep", "29.75"]
    check = {"command": asks, "interval": "0.1s", "timeout": "25s", "start_period": "60s"}
    assert stacks.up(containers={"db": member(healthcheck=check)}).status == 0
    assert wait_for(lambda: runs(asks))
    begun = time.monotonic()
    assert stacks.down().status == 0
    # A second for its stop_timeout; it took twenty until down gave up.
    assert time.monotonic() - begun < 10
    assert stacks.ps() == {}
