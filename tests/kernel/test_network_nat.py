"""Addresses translated and packets forwarded for a container: seen from it, from the host and
from outside, with real packets."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.box import Box, Running, wait_for
from tests.support.lab import Lab, say
from tests.support.packets import Net, container_of, send_raw
from tests.support.requires import requires

pytestmark = requires("root", "ip", "ping", "nft")

# What the planner refuses is refused before either executor is asked.
planner = pytest.mark.parametrize("executor", ["native"], indirect=True)
INTERNET = Path("/run/netns/internet")
WAIT = "echo there; read x"
OUTSIDE = {4: "203.0.113.2", 6: "fd00:cafe::2"}
HOST = {4: "203.0.113.1", 6: "fd00:cafe::1"}


def nat(number: int = 1, /, *, bridge: str = "", **more: Any) -> dict[str, Any]:
    """A pair with both families and a default route by it."""
    host = {"addresses": [f"10.77.{number}.1/24", f"fd77:{number}::1/64"]}
    interface = {
        "name": "eth0",
        "type": "veth",
        "addresses": [f"10.77.{number}.2/24", f"fd77:{number}::2/64"],
        "peer": {"bridge": bridge} if bridge else host,
    }
    routes = [{"to": "default", "via": f"10.77.{number}.1"},
              {"to": "default", "via": f"fd77:{number}::1"}]  # fmt: skip
    return {"interfaces": [interface], "routes": routes, "masquerade": True, **more}


def spec(name: str, network: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "namespaces": ["mount", "network"], "network": network}


@pytest.fixture
def net() -> Iterator[Net]:
    made = Net()
    yield made
    made.close()


def stop(run: Running) -> None:
    run.process.stdin.write("\n")
    assert run.end().status == 0


def switches() -> dict[str, str]:
    """What forwards, by interface and family."""
    found = {}
    for pattern in ("ipv4/conf/*/forwarding", "ipv6/conf/*/force_forwarding",
                    "ipv6/conf/*/forwarding"):  # fmt: skip
        for file in Path("/proc/sys/net").glob(pattern):
            if file.read_text().strip() == "1":
                found[str(file.relative_to("/proc/sys/net"))] = "1"
    return found


def test_what_leaves_has_the_address_of_the_host(root_box: Box, lab: Lab, net: Net) -> None:
    lab.internet()
    servers = {(p, v): net.server(INTERNET, p, OUTSIDE[v]) for p in ("tcp", "udp") for v in (4, 6)}
    ping = " && ".join(f"ping -qc1 -W2 {OUTSIDE[v]} >/dev/null" for v in (4, 6))
    command = f"{ping}; echo $?; read x"
    with lab.unchanged(), root_box.running(command, **spec("web", nat())) as run:
        assert run.line() == "0"
        container = container_of(run.process)
        for (_, version), server in servers.items():
            assert server.hears_from(container, OUTSIDE[version]) == HOST[version]
        stop(run)


def test_each_address_of_the_container_is_translated(root_box: Box, lab: Lab, net: Net) -> None:
    """Also a second one, and one that the container, which may send what it likes, makes up."""
    lab.internet()
    server = net.server(INTERNET, "udp", OUTSIDE[4])
    network = nat()
    network["interfaces"][0]["addresses"].append("10.77.1.9/24")
    with lab.unchanged(), root_box.running(WAIT, **spec("web", network)) as run:
        run.line()
        container = container_of(run.process)
        assert server.hears_from(container, OUTSIDE[4], source="10.77.1.9") == HOST[4]
        send_raw(container, "198.51.100.7", OUTSIDE[4], server.port)
        said, peer = server.socket.recvfrom(16)
        assert (said, peer[0]) == (b"forged", HOST[4])
        stop(run)


def test_in_a_user_namespace_too(root_box: Box, lab: Lab, net: Net) -> None:
    lab.internet()
    server = net.server(INTERNET, "tcp", OUTSIDE[4])
    wanted = spec("web", nat())
    wanted["namespaces"] = ["user", "mount", "pid", "network"]
    with lab.unchanged():
        command = f"ping -qc1 -W2 {OUTSIDE[4]} >/dev/null; echo $?; read x"
        with root_box.running(command, **wanted) as run:
            assert run.line() == "0"
            assert server.hears_from(container_of(run.process), OUTSIDE[4]) == HOST[4]
            stop(run)


def test_on_a_bridge(root_box: Box, lab: Lab, net: Net) -> None:
    """The bridge stays, with what it was; two containers on it reach each other as they are."""
    lab.internet()
    lab.bridge("br0", "10.77.1.1/24")
    server = net.server(INTERNET, "udp", OUTSIDE[4])
    first, second = nat(bridge="br0"), nat(bridge="br0")
    second["interfaces"][0]["addresses"] = ["10.77.1.3/24"]
    second["routes"] = second["routes"][:1]
    first["routes"] = first["routes"][:1]
    with lab.unchanged(), ExitStack() as both:
        one = both.enter_context(root_box.running(WAIT, **spec("one", first)))
        one.line()
        two = both.enter_context(root_box.running(WAIT, **spec("two", second)))
        two.line()
        places = [container_of(run.process) for run in (one, two)]
        for place in places:
            assert server.hears_from(place, OUTSIDE[4]) == HOST[4]
        near = net.server(places[1], "tcp", "10.77.1.3")
        assert near.hears_from(places[0], "10.77.1.3") == "10.77.1.2"
        stop(one)
        assert server.hears_from(places[1], OUTSIDE[4]) == HOST[4]
        stop(two)


def test_others_on_the_bridge_stay_on_it(root_box: Box, lab: Lab, net: Net) -> None:
    """They reach each other and the container as before, and do not get out with it."""
    lab.internet()
    lab.ip("-n internet route add 10.77.1.0/24 via 203.0.113.1")
    lab.bridge("br0", "10.77.1.1/24")
    others = []
    for number in (50, 51):
        others.append(lab.namespace(f"vm{number}"))
        lab.ip(f"link add tap{number} type veth peer eth0 netns vm{number}")
        lab.ip(f"link set tap{number} master br0 up")
        lab.ip(f"-n vm{number} link set eth0 up")
        lab.ip(f"-n vm{number} addr add 10.77.1.{number}/24 dev eth0")
        lab.ip(f"-n vm{number} route add default via 10.77.1.1")
        lab.settle(f"tap{number}")
    network = nat(bridge="br0", ports=["8080:80"])
    network["routes"].pop()
    with lab.unchanged(), root_box.running(WAIT, **spec("web", network)) as run:
        run.line()
        container = container_of(run.process)
        for protocol in ("tcp", "udp"):
            here = net.server(container, protocol, "10.77.1.2", 80)
            beside = net.server(others[1], protocol, "10.77.1.51")
            assert here.hears_from(others[0], "10.77.1.2") == "10.77.1.50"
            assert beside.hears_from(others[0], "10.77.1.51") == "10.77.1.50"
            assert beside.hears_from(container, "10.77.1.51") == "10.77.1.2"
        far = net.server(INTERNET, "udp", OUTSIDE[4])
        assert far.hears_from(container, OUTSIDE[4]) == HOST[4]
        assert far.misses(others[0], OUTSIDE[4])
        assert beside.misses(INTERNET, "10.77.1.51")
        assert here.misses(INTERNET, "10.77.1.2")
        stop(run)


def test_only_the_containers_packets_are_forwarded(root_box: Box, lab: Lab, net: Net) -> None:
    """Neither a third network nor the outside can use the host as a router, and who knows the
    container's address does not reach it."""
    lab.internet()
    third = lab.namespace("third")
    lab.ip("link add up1 type veth peer in1 netns third")
    for where, name, last in (("", "up1", 1), ("-n third ", "in1", 2)):
        lab.ip(f"{where}link set {name} up")
        lab.ip(f"{where}addr add 198.51.100.{last}/24 dev {name}")
        lab.ip(f"{where}addr add fd00:beef::{last}/64 dev {name} nodad")
    lab.ip("-n third route add default via 198.51.100.1")
    lab.ip("-n third -6 route add default via fd00:beef::1")
    lab.ip("-n internet route add default via 203.0.113.1")
    lab.ip("-n internet -6 route add default via fd00:cafe::1")
    with lab.unchanged(), root_box.running(WAIT, **spec("web", nat())) as run:
        run.line()
        container = container_of(run.process)
        assert {"ipv4/conf/up1/forwarding", "ipv4/conf/up0/forwarding"} <= switches().keys()
        for version in (4, 6):
            far = net.server(INTERNET, "udp", OUTSIDE[version])
            assert far.misses(third, OUTSIDE[version])
            here = net.server(container, "udp", ("10.77.1.2", "fd77:1::2")[version == 6])
            for place in (third, INTERNET):
                assert here.misses(place, here.socket.getsockname()[0])
            # The wire is whole: what the container sends arrives.
            assert far.hears_from(container, OUTSIDE[version]) == HOST[version]
            away = net.server(third, "udp", ("198.51.100.2", "fd00:beef::2")[version == 6])
            address = away.socket.getsockname()[0]
            assert away.hears_from(container, address) in ("198.51.100.1", "fd00:beef::1")
        stop(run)


def test_a_router_stays_one_and_hides_the_container(root_box: Box, lab: Lab, net: Net) -> None:
    """Where forwarding was on, others' packets pass as before; the container's address is still
    no way to it."""
    lab.internet()
    third = lab.namespace("third")
    lab.ip("link add up1 type veth peer in1 netns third")
    for where, name, last in (("", "up1", 1), ("-n third ", "in1", 2)):
        lab.ip(f"{where}link set {name} up")
        lab.ip(f"{where}addr add 198.51.100.{last}/24 dev {name}")
    lab.ip("-n third route add default via 198.51.100.1")
    lab.ip("-n internet route add default via 203.0.113.1")
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    far = net.server(INTERNET, "udp", OUTSIDE[4])
    with lab.unchanged(), root_box.running(WAIT, **spec("web", nat())) as run:
        run.line()
        container = container_of(run.process)
        assert far.hears_from(third, OUTSIDE[4]) == "198.51.100.2"
        assert far.hears_from(container, OUTSIDE[4]) == HOST[4]
        here = net.server(container, "udp", "10.77.1.2")
        assert here.misses(third, "10.77.1.2")
        assert here.hears_from(None, "10.77.1.2") == "10.77.1.1"
        assert not list(Path("/run/nsrun").glob("switch-*ipv4*")), "nothing was switched on"
        stop(run)
    assert far.hears_from(third, OUTSIDE[4]) == "198.51.100.2"


@pytest.mark.parametrize("first_ends", [0, 1])
def test_the_last_container_switches_off(
    first_ends: int, root_box: Box, lab: Lab, net: Net
) -> None:
    lab.internet()
    server = net.server(INTERNET, "udp", OUTSIDE[4])
    with lab.unchanged(), ExitStack() as both:
        runs = []
        for number, name in enumerate(("one", "two"), 1):
            run = both.enter_context(root_box.running(WAIT, **spec(name, nat(number))))
            run.line()
            runs.append(run)
        places = [container_of(run.process) for run in runs]
        here = net.server(places[1], "udp", "10.77.2.2")
        assert here.misses(places[0], "10.77.2.2"), "by pairs of their own they are apart"
        stop(runs[first_ends])
        left = places[1 - first_ends]
        assert server.hears_from(left, OUTSIDE[4]) == HOST[4]
        stop(runs[1 - first_ends])


def test_many_come_and_go_at_once(root_box: Box, lab: Lab) -> None:
    lab.internet()
    files = [root_box.spec(command=["/bin/true"], **spec(f"c{n}", nat(n))) for n in range(2)]
    with lab.unchanged():
        for _ in range(2):
            runs = [root_box.runner.start("run", file) for file in files]
            for run in runs:
                _, said = run.communicate(timeout=20)
                assert run.returncode == 0, said


def test_nothing_is_left_of_a_killed_run(root_box: Box, lab: Lab) -> None:
    lab.internet()
    before = lab.state()
    with root_box.running(WAIT, **spec("web", nat(ports=["127.0.0.1:8080:80"]))) as run:
        run.line()
        assert lab.state() != before
        run.process.send_signal(signal.SIGKILL)
        run.process.wait(10)
        gone = wait_for(lambda: set(lab.state().split("\n")) == set(before.split("\n")))
        assert gone, set(lab.state().split("\n")) ^ set(before.split("\n"))
        assert wait_for(lambda: not Path("/run/nsrun").exists()), os.listdir("/run/nsrun")


def test_a_killed_run_leaves_others_what_they_need(root_box: Box, lab: Lab, net: Net) -> None:
    lab.internet()
    server = net.server(INTERNET, "udp", OUTSIDE[4])
    with lab.unchanged(), ExitStack() as both:
        one = both.enter_context(root_box.running(WAIT, **spec("one", nat(1))))
        one.line()
        two = both.enter_context(root_box.running(WAIT, **spec("two", nat(2))))
        two.line()
        one.process.send_signal(signal.SIGKILL)
        one.process.wait(10)
        assert wait_for(lambda: "nsrun-one" not in say("nft", "list", "tables"))
        assert wait_for(lambda: lab.links() == ["up0", "ve-two"]), lab.links()
        assert server.hears_from(container_of(two.process), OUTSIDE[4]) == HOST[4]
        stop(two)


@pytest.mark.parametrize("name", ["br$x", "b#r;{}", "-f", "br.7"])
def test_any_name_of_a_bridge_is_only_a_name(name: str, root_box: Box, lab: Lab) -> None:
    lab.internet()
    lab.bridge(name, "10.77.1.1/24")
    network = nat(bridge=name, ports=["8080:80"])
    network["interfaces"][0]["addresses"].pop()
    network["routes"].pop()
    with lab.unchanged():
        ping = f"ping -qc1 -W2 {OUTSIDE[4]} >/dev/null; echo $?"
        assert root_box.out(ping, **spec("web", network)) == "0"


@planner
@pytest.mark.parametrize("name", ['b"r', "b\\r", "br*"])
def test_a_name_that_nft_would_misread_is_refused(name: str, root_box: Box, lab: Lab) -> None:
    say("ip", "link", "add", "name", name, "type", "bridge")
    with lab.unchanged():
        said = root_box.refused(**spec("web", nat(bridge=name)))
        assert "NS316" in said or "bridge" in said


@planner
def test_without_nft_it_is_named(root_box: Box, lab: Lab) -> None:
    lab.internet()
    hide = 'for f in /usr/sbin/nft /sbin/nft; do mount --bind /dev/null $f; done; exec "$@"'
    box = root_box.as_(wrapper=("unshare", "-m", "sh", "-c", hide, "sh"))
    with lab.unchanged():
        said = box.refused(**spec("web", nat()))
    assert "NS410" in said
    assert "nft is not installed" in said
    assert "apt install nftables" in said
