"""Interfaces of a spec, seen from both ends, with real packets."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.box import Box, Running, wait_for
from tests.support.lab import Lab, say
from tests.support.packets import Net, container_of
from tests.support.requires import requires

pytestmark = requires("root", "ip", "ping")

VETH = {"name": "eth0", "type": "veth", "addresses": ["169.254.1.2/30", "fd00:1::2/64"],
        "peer": {"addresses": ["169.254.1.1/30", "fd00:1::1/64"]}}  # fmt: skip
NAMESPACES = ["mount", "network"]
WAIT = "echo there; read x"
# How long the kernel may take to notice the carrier of what has come back, in seconds.
CARRIER = 5.0


@pytest.fixture
def net() -> Iterator[Net]:
    made = Net()
    yield made
    made.close()


@pytest.fixture
def runs() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def spec(name: str, *interfaces: dict[str, Any], **network: Any) -> dict[str, Any]:
    return {
        "name": name,
        "namespaces": NAMESPACES,
        "network": {"interfaces": list(interfaces), **network},
    }


def start(runs: ExitStack, box: Box, keys: dict[str, Any]) -> Running:
    """A container that has come to its command."""
    run = runs.enter_context(box.running(WAIT, **keys))
    run.line()
    return run


def stop(*ended: Running) -> None:
    for run in ended:
        run.process.stdin.write("\n")
        result = run.end()
        assert (result.status, result.stderr) == (0, ""), str(result)


def pinged(*addresses: str) -> str:
    """A command that writes 0 where each address answers."""
    return " && ".join(f"ping -qc1 -W2 {a} >/dev/null" for a in addresses) + "; echo $?"


def fields(line: str, *keys: str) -> list[str]:
    """The words behind ``keys`` in a line of ip(8)."""
    words = line.split()
    return [words[words.index(key) + 1] for key in keys]


# --- pairs -----------------------------------------------------------------------------------


def test_a_pair_reaches_the_host_and_is_reached(root_box: Box, lab: Lab, net: Net) -> None:
    with lab.unchanged():
        command = pinged("169.254.1.1", "fd00:1::1") + "; read x"
        with root_box.running(command, **spec("web", VETH)) as run:
            assert run.line() == "0"
            assert lab.links() == ["ve-web"]
            shown = lab.ip("-o addr show dev ve-web")
            assert "169.254.1.1/30 brd 169.254.1.3" in shown
            assert "fd00:1::1/64" in shown
            say("ping", "-qc1", "-W2", "169.254.1.2")
            say("ping", "-qc1", "-W2", "fd00:1::2")
            container = container_of(run.process)
            for host, inner in (("169.254.1.1", "169.254.1.2"), ("fd00:1::1", "fd00:1::2")):
                assert net.server(None, "tcp", host).hears_from(container, host) == inner
                assert net.server(container, "udp", inner).hears_from(None, inner) == host
            stop(run)


def test_a_peer_in_a_named_namespace(root_box: Box, lab: Lab, net: Net) -> None:
    blue = lab.namespace("blue")
    before = lab.ip("-n blue -o addr")
    peer = {"netns": str(blue), "name": "web0", "addresses": ["169.254.1.1/30"]}
    keys = spec("web", {**VETH, "addresses": ["169.254.1.2/30"], "peer": peer})
    with lab.unchanged(), root_box.running(WAIT, **keys) as run:
        run.line()
        assert lab.links() == []
        assert "169.254.1.1/30" in lab.ip("-n blue -o addr show dev web0")
        container = container_of(run.process)
        here = net.server(blue, "tcp", "169.254.1.1")
        assert here.hears_from(container, "169.254.1.1") == "169.254.1.2"
        lab.inside("blue", "ping", "-qc1", "-W2", "169.254.1.2")
        assert net.server(None, "udp", "127.0.0.1").misses(container, "127.0.0.1")
        stop(run)
    assert lab.ip("-n blue -o addr") == before


@pytest.mark.parametrize("first_ends", ["the one that made it", "the one that has it"])
def test_a_peer_in_another_container(
    first_ends: str, root_box: Box, lab: Lab, net: Net, runs: ExitStack
) -> None:
    db = {"name": "db", "namespaces": NAMESPACES}
    peer = {"container": "db", "name": "web0", "addresses": ["10.4.0.1/24"]}
    with lab.unchanged():
        other = start(runs, root_box, db)
        place = container_of(other.process)
        own = spec("web", {**VETH, "addresses": ["10.4.0.2/24"], "peer": peer})
        run = start(runs, root_box, own)
        assert lab.links() == []
        assert "10.4.0.1/24" in say("nsenter", f"--net={place}", "ip", "-o", "addr")
        here = net.server(place, "tcp", "10.4.0.1")
        assert here.hears_from(container_of(run.process), "10.4.0.1") == "10.4.0.2"
        if first_ends == "the one that made it":
            stop(run)
            assert "web0" not in say("nsenter", f"--net={place}", "ip", "-o", "link")
            stop(other)
        else:
            net.close()  # a socket keeps the namespace
            stop(other, run)


def test_containers_on_a_bridge_reach_each_other(
    root_box: Box, lab: Lab, net: Net, runs: ExitStack
) -> None:
    lab.bridge("br0", "10.5.0.1/24")
    with lab.unchanged():
        made = []
        for number, name in ((2, "one"), (3, "two")):
            own = {**VETH, "addresses": [f"10.5.0.{number}/24"], "peer": {"bridge": "br0"}}
            made.append(start(runs, root_box, spec(name, own)))
        assert lab.links() == ["br0", "plug0", "port0", "ve-one", "ve-two"]
        for name in ("ve-one", "ve-two"):
            assert fields(lab.ip(f"-o link show {name}"), "master") == ["br0"]
        one, two = (container_of(run.process) for run in made)
        here = net.server(two, "tcp", "10.5.0.3")
        assert here.hears_from(one, "10.5.0.3") == "10.5.0.2"
        assert here.hears_from(None, "10.5.0.3") == "10.5.0.1"
        stop(*made)


def test_several_pairs_of_one_container(
    root_box: Box, lab: Lab, net: Net, runs: ExitStack
) -> None:
    """Beside a container whose name ends in a digit."""
    def pair(number: int, name: str) -> dict[str, Any]:
        return {"name": name, "type": "veth", "addresses": [f"10.6.{number}.2/24"],
                "peer": {"addresses": [f"10.6.{number}.1/24"]}}  # fmt: skip

    with lab.unchanged():
        web = start(runs, root_box, spec("web", pair(1, "eth0"), pair(2, "eth1")))
        web1 = start(runs, root_box, spec("web1", pair(3, "eth0")))
        assert lab.links() == ["ve-web", "ve-web+1", "ve-web1"]
        container = container_of(web.process)
        for number in (1, 2):
            here = net.server(None, "udp", f"10.6.{number}.1")
            assert here.hears_from(container, f"10.6.{number}.1") == f"10.6.{number}.2"
        stop(web, web1)


def test_long_names_stay_apart(root_box: Box, lab: Lab, runs: ExitStack) -> None:
    names = ["a-long-name-of-a-container.one", "a-long-name-of-a-container.two"]
    with lab.unchanged():
        made = [start(runs, root_box, spec(name, {**VETH, "peer": {}})) for name in names]
        links = lab.links()
        assert len(links) == 2
        assert all(len(link) == 15 and link.startswith("ve-a-long-") for link in links)
        stop(*made)


# --- links on others -------------------------------------------------------------------------


def wire(lab: Lab) -> None:
    """A "physical" network: phys0 of the host leads to eth0 of the namespace ``wire``."""
    lab.namespace("wire")
    lab.ip("link add phys0 type veth peer eth0 netns wire")
    lab.ip("link set phys0 up")
    lab.ip("-n wire link set eth0 up")
    lab.ip("-n wire addr add 10.7.0.1/24 dev eth0")
    lab.ip("-n wire addr add fd07::1/64 dev eth0 nodad")
    lab.settle("phys0")


def test_a_macvlan_is_on_its_parents_network(
    root_box: Box, lab: Lab, net: Net, runs: ExitStack
) -> None:
    wire(lab)
    with lab.unchanged():
        made = []
        for number, mode in ((2, "bridge"), (3, "bridge"), (4, "private")):
            mac = f"02:00:00:00:07:0{number}"
            own = {"name": "eth0", "type": "macvlan", "parent": "phys0", "mode": mode, "mac": mac,
                   "addresses": [f"10.7.0.{number}/24", f"fd07::{number}/64"]}  # fmt: skip
            made.append(start(runs, root_box, spec(f"mac{number}", own)))
        assert lab.links() == ["phys0"]
        places = [container_of(run.process) for run in made]
        for address, own in (("10.7.0.1", "10.7.0.{}"), ("fd07::1", "fd07::{}")):
            far = net.server(Path("/run/netns/wire"), "tcp", address)
            for number, place in enumerate(places, 2):
                assert far.hears_from(place, address) == own.format(number)
        lab.inside("wire", "ping", "-qc1", "-W2", "10.7.0.2")
        near = net.server(places[1], "udp", "10.7.0.3")
        assert near.hears_from(places[0], "10.7.0.3") == "10.7.0.2"
        assert near.misses(places[2], "10.7.0.3"), "`private` ones see no others"
        stop(*made)


def test_a_physical_interface_moves_in_and_comes_back_as_it_was(
    root_box: Box, lab: Lab, net: Net
) -> None:
    wire(lab)
    for words in ("10.7.0.7/24 brd + dev phys0", "10.7.0.8/24 dev phys0 label phys0:x",
                  "fd07::7/64 dev phys0 nodad"):  # fmt: skip
        lab.ip(f"addr add {words}")
    for words in ("default via 10.7.0.1 metric 7", "10.70.0.0/16 via 10.7.0.1 src 10.7.0.8",
                  "10.71.0.0/16 dev phys0 table 77", "10.72.0.0/16 via 10.99.0.1 dev phys0 onlink",
                  "fd70::/64 via fd07::1", "default via fe80::1 dev phys0"):  # fmt: skip
        lab.ip(f"{'-6 ' if '::' in words else ''}route add {words}")
    far = net.server(Path("/run/netns/wire"), "tcp", "10.7.0.1")
    own = {"name": "wan0", "type": "physical", "parent": "phys0", "addresses": ["10.7.0.2/24"]}
    with lab.unchanged(CARRIER):
        assert far.hears_from(None, "10.7.0.1") == "10.7.0.7"
        with root_box.running(WAIT, **spec("web", own)) as run:
            run.line()
            assert lab.links() == []
            assert far.hears_from(container_of(run.process), "10.7.0.1") == "10.7.0.2"
            stop(run)
    assert far.hears_from(None, "10.7.0.1") == "10.7.0.7"


def test_a_physical_interface_of_a_killed_run_comes_back_as_it_was(
    root_box: Box, lab: Lab, net: Net
) -> None:
    wire(lab)
    lab.ip("addr add 10.7.0.7/24 dev phys0")
    far = net.server(Path("/run/netns/wire"), "tcp", "10.7.0.1")
    own = {"name": "wan0", "type": "physical", "parent": "phys0", "addresses": ["10.7.0.2/24"]}
    with lab.unchanged(CARRIER):
        with root_box.running(WAIT, **spec("web", own)) as run:
            run.line()
            assert lab.links() == []
            run.process.kill()
            run.end()
        assert wait_for(lambda: lab.links() == ["phys0"])
    assert far.hears_from(None, "10.7.0.1") == "10.7.0.7"


def test_what_undoes_for_a_killed_run_is_at_home(root_box: Box, lab: Lab) -> None:
    wire(lab)
    said = root_box.folder / "said"
    hook = {"path": "/bin/sh", "args": ["sh", "-c", f"readlink /proc/self/ns/net > {said}"]}
    keys = spec("web", {"name": "wan0", "type": "physical", "parent": "phys0"})
    with root_box.running(WAIT, **keys, hooks={"poststop": [hook]}) as run:
        run.line()
        run.process.kill()
        run.end()
    assert wait_for(lambda: said.exists() and said.read_text() != "")
    assert said.read_text().strip() == os.readlink("/proc/self/ns/net")
    assert wait_for(lambda: lab.links() == ["phys0"])


def test_a_pair_of_a_killed_run_goes_where_others_hold_its_namespace(
    root_box: Box, lab: Lab
) -> None:
    """The kernel alone would take it away with the namespace, no sooner."""
    pair = {"name": "eth0", "type": "veth", "peer": {"name": "out0"}}
    with root_box.running(WAIT, **spec("web", pair)) as run:
        run.line()
        inside = container_of(run.process)
        with subprocess.Popen(["nsenter", f"--net={inside}", "sleep", "60"]) as other:
            here = os.readlink("/proc/self/ns/net")
            assert wait_for(lambda: os.readlink(f"/proc/{other.pid}/ns/net") != here)
            assert lab.links() == ["out0"]
            run.process.kill()
            run.end()
            assert wait_for(lambda: lab.links() == []), lab.links()
            other.kill()


def test_a_physical_interface_that_is_down_stays_so(root_box: Box, lab: Lab) -> None:
    lab.namespace("wire")
    lab.ip("link add phys0 type veth peer eth0 netns wire")
    lab.ip("addr add 10.7.0.7/24 dev phys0")
    with lab.unchanged(CARRIER):
        shown = root_box.out("ip -o link show phys0", **spec("web", {"name": "phys0",
                             "type": "physical"}))  # fmt: skip
        assert ",UP" in shown


def test_a_port_of_a_bridge_comes_back_to_it(root_box: Box, lab: Lab) -> None:
    lab.bridge("br0", "10.5.0.1/24")
    wire(lab)
    lab.ip("link set phys0 master br0")
    with lab.unchanged(CARRIER):
        root_box.out("true", **spec("web", {"name": "phys0", "type": "physical"}))


def test_its_switches_come_back_too(root_box: Box, lab: Lab) -> None:
    wire(lab)
    switches = {"ipv4/conf/phys0/rp_filter": "2", "ipv6/conf/phys0/accept_ra": "0",
                "ipv6/conf/phys0/disable_ipv6": "1"}  # fmt: skip
    for key, value in switches.items():
        Path("/proc/sys/net", key).write_text(value)
    with lab.unchanged(CARRIER):
        root_box.out("true", **spec("web", {"name": "phys0", "type": "physical"}))
    assert {k: Path("/proc/sys/net", k).read_text().strip() for k in switches} == switches


def test_a_later_run_hands_back_what_there_is_then(root_box: Box, lab: Lab) -> None:
    """Its plan is none to keep, for the next run or for another machine."""
    wire(lab)
    file = root_box.spec(command="true", **spec("web", {"name": "phys0", "type": "physical"}))
    for address in ("10.7.0.7/24", "10.7.0.8/24"):
        lab.ip(f"addr add {address} dev phys0")
        with lab.unchanged(CARRIER):
            root_box.runner.run(file).ok()
    said = root_box.runner.run("compile", file, "-o", root_box.folder / "compiled")
    assert "NS407" in said.stderr
    assert "it hands back phys0 as it is now" in said.stderr


def test_a_start_that_fails_hands_back_too(root_box: Box, lab: Lab) -> None:
    wire(lab)
    lab.ip("addr add 10.7.0.7/24 dev phys0")
    lab.ip("route add default via 10.7.0.1")
    own = {"name": "wan0", "type": "physical", "parent": "phys0"}
    with lab.unchanged(CARRIER):
        result = root_box.run(["/no/such/program"], **spec("web", own))
        assert result.status == 127


# --- links of its own ------------------------------------------------------------------------


def test_anyone_may_make_links_of_their_own(box: Box, lab: Lab) -> None:
    network = {
        "loopback": False,
        "interfaces": [
            {"name": "br0", "type": "bridge", "mac": "02:00:00:00:00:10", "mtu": 1400,
             "addresses": ["10.40.0.1/24", "fd40::1/64"]},
            {"name": "br1", "type": "bridge", "up": False},
        ],
        "routes": [{"to": "10.41.0.0/16", "dev": "br0"}],
    }  # fmt: skip
    command = "ip -o link; ip -o addr; ip route; ping -qc1 -W2 10.40.0.1 >/dev/null; echo $?"
    with lab.unchanged():
        said = box.out(command, namespaces=["user", "mount", "pid", "network"],
                       mounts=[{"type": "proc", "target": "/proc"}], network=network)  # fmt: skip
    lines = said.split("\n")
    lo, br0, br1 = lines[:3]
    assert "state DOWN" in lo
    assert fields(br0, "link/ether", "mtu") == ["02:00:00:00:00:10", "1400"]
    flags = [line.partition("<")[2].partition(">")[0].split(",") for line in (lo, br0, br1)]
    assert ["UP" in found for found in flags] == [False, True, False]
    assert "10.40.0.1/24 brd 10.40.0.255" in said
    assert "fd40::1/64" in said
    assert "10.41.0.0/16 dev br0" in said
    # An address of one's own is reached through lo, which is down.
    assert lines[-1] != "0"


def test_loopback_is_up_unless_told_otherwise(box: Box, lab: Lab) -> None:
    command = "ip -o link show lo; ping -qc1 -W1 127.0.0.1 >/dev/null 2>&1; echo $?"
    base = box.with_(namespaces=["user", "mount", "network"])
    with lab.unchanged():
        up = base.out(command)
        down = base.out(command, network={"loopback": False})
    assert ",UP" in up
    assert up.endswith("\n0")
    assert ",UP" not in down
    assert not down.endswith("\n0")


def test_what_an_interface_is_given(root_box: Box, lab: Lab) -> None:
    """mac, mtu, `up: false`; and sysctls about it are written when it is there."""
    first = {**VETH, "mac": "02:00:00:00:00:42", "mtu": 1300}
    second = {"name": "eth1", "type": "veth", "up": False, "addresses": ["10.8.0.2/24"],
              "peer": {"name": "other"}}  # fmt: skip
    sysctl = {"net.ipv4.conf.eth0.rp_filter": 2, "net.ipv6.conf.eth0.accept_ra": 0}
    command = ("ip -o link show eth0; ip -o link show eth1; ip -o addr show eth1; "
               "cat /proc/sys/net/ipv4/conf/eth0/rp_filter; "
               "cat /proc/sys/net/ipv6/conf/eth0/accept_ra; echo; read x")  # fmt: skip
    with lab.unchanged(), root_box.running(
        command, **spec("web", first, second), sysctl=sysctl
    ) as run:
        eth0, eth1, address, rp_filter, accept_ra = (run.line() for _ in range(5))
        assert fields(eth0, "link/ether", "mtu") == ["02:00:00:00:00:42", "1300"]
        assert fields(lab.ip("-o link show ve-web"), "mtu") == ["1300"]
        assert ",UP" in eth0
        assert ",UP" not in eth1
        assert "10.8.0.2/24" in address
        assert (rp_filter, accept_ra) == ("2", "0")
        stop(run)


def test_routes(root_box: Box, lab: Lab, net: Net) -> None:
    routes = [
        {"to": "default", "via": "169.254.1.1"},
        {"to": "default", "via": "fd00:1::1", "metric": 50},
        {"to": "10.9.0.0/16", "dev": "eth0", "metric": 100},
        {"to": "10.10.0.0/16", "via": "192.0.2.1", "dev": "eth0", "on_link": True},
        {"to": "10.11.0.0/16", "type": "blackhole"},
        {"to": "10.12.0.0/16", "type": "unreachable"},
        {"to": "10.13.0.0/16", "type": "prohibit", "metric": 3},
        {"to": "fd11::/64", "type": "blackhole"},
        {"to": "fd12::/64", "type": "unreachable"},
        {"to": "fd13::/64", "type": "prohibit"},
        {"to": "fd14::/64", "via": "fe80::1", "dev": "eth0"},
        {"to": "10.14.0.0/16", "dev": "lo"},
        {"to": "fd15::/64", "dev": "lo"},
    ]
    command = "ip route; ip -6 route; echo end; read x"
    lab.ip("addr add 203.0.113.5/32 dev lo")
    far = net.server(None, "udp", "203.0.113.5")
    with lab.unchanged(), root_box.running(command, **spec("web", VETH, routes=routes)) as run:
        found = list(iter(run.line, "end"))
        shown = [" ".join(line.replace("proto static", "").split()) for line in found]
        for wanted in (
            "default via 169.254.1.1 dev eth0",
            "default via fd00:1::1 dev eth0 metric 50",
            "10.9.0.0/16 dev eth0 scope link metric 100",
            "10.10.0.0/16 via 192.0.2.1 dev eth0 onlink",
            "blackhole 10.11.0.0/16",
            "unreachable 10.12.0.0/16",
            "prohibit 10.13.0.0/16 metric 3",
            "blackhole fd11::/64",
            "unreachable fd12::/64",
            "prohibit fd13::/64",
            "fd14::/64 via fe80::1 dev eth0",
            "10.14.0.0/16 dev lo scope link",
            "fd15::/64 dev lo",
        ):
            assert any(line.startswith(wanted) for line in shown), (wanted, found)
        container = container_of(run.process)
        assert far.hears_from(container, "203.0.113.5") == "169.254.1.2"
        # What a packet to each comes to, as ip-route(8) has it.
        for address, errno in (("10.11.0.1", 22), ("10.12.0.1", 113), ("10.13.0.1", 13),
                               ("fd11::1", 22), ("fd12::1", 113), ("fd13::1", 13)):  # fmt: skip
            with pytest.raises(OSError) as refused:
                far.hears_from(container, address)
            assert refused.value.errno == errno, address
        stop(run)


def test_with_a_user_namespace_of_roots(root_box: Box, lab: Lab, net: Net) -> None:
    """The launcher has the host's rights, the command those of ids that are none there."""
    maps = {"uid": ["0:100000:65536"], "gid": ["0:100000:65536"]}
    keys = spec("web", VETH, routes=[{"to": "default", "via": "169.254.1.1"}])
    keys |= {"namespaces": ["user", "mount", "network"], "idmap": maps}
    command = "cat /proc/self/uid_map; " + pinged("169.254.1.1", "fd00:1::1") + "; read x"
    with lab.unchanged(), root_box.running(command, **keys) as run:
        assert run.line().split() == ["0", "100000", "65536"]
        assert run.line() == "0"
        container = container_of(run.process)
        here = net.server(None, "tcp", "169.254.1.1")
        assert here.hears_from(container, "169.254.1.1") == "169.254.1.2"
        stop(run)
