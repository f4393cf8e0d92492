"""Published ports, reached from everywhere that may reach them, and from nowhere else."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.box import Box, Running
from tests.support.lab import Lab
from tests.support.packets import Net, container_of, send_frame
from tests.support.requires import requires

pytestmark = requires("root", "ip", "nft")

# What the planner refuses is refused before either executor is asked.
planner = pytest.mark.parametrize("executor", ["native"], indirect=True)
INTERNET = Path("/run/netns/internet")
WAIT = "echo there; read x"
HOST = {4: "203.0.113.1", 6: "fd00:cafe::1"}
OUTSIDE = {4: "203.0.113.2", 6: "fd00:cafe::2"}
INNER = {4: "10.77.1.2", 6: "fd77::2"}


def published(*ports: str, bridge: str = "", last: int = 2, **more: Any) -> dict[str, Any]:
    host = {"addresses": ["10.77.1.1/24", "fd77::1/64"]}
    interface = {
        "name": "eth0",
        "type": "veth",
        "addresses": [f"10.77.1.{last}/24", f"fd77::{last}/64"],
        "peer": {"bridge": bridge} if bridge else host,
    }
    routes = [{"to": "default", "via": "10.77.1.1"}, {"to": "default", "via": "fd77::1"}]
    return {"interfaces": [interface], "routes": routes, "ports": list(ports), **more}


def spec(network: dict[str, Any], name: str = "web") -> dict[str, Any]:
    return {"name": name, "namespaces": ["mount", "network"], "network": network}


@pytest.fixture
def net() -> Iterator[Net]:
    made = Net()
    yield made
    made.close()


def stop(run: Running) -> None:
    run.process.stdin.write("\n")
    assert run.end().status == 0


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_on_all_addresses(protocol: str, root_box: Box, lab: Lab, net: Net) -> None:
    lab.internet()
    network = published(f"8080:80/{protocol}")
    with lab.unchanged(), root_box.running(WAIT, **spec(network)) as run:
        run.line()
        container = container_of(run.process)
        for version in (4, 6):
            server = net.server(container, protocol, INNER[version], 80)
            inner_host = ("10.77.1.1", "fd77::1")[version == 6]
            # Who asks from outside is seen as who it is.
            assert server.hears_from(INTERNET, HOST[version], 8080) == OUTSIDE[version]
            for address in (HOST[version], inner_host):
                server.hears_from(None, address, 8080)
                # The container itself, by the host's address: the answer has to come back there.
                assert server.hears_from(container, address, 8080) == inner_host
            # The other protocol is not published, nor the number inside.
            assert server.misses(INTERNET, HOST[version], 80)
            assert server.misses(None, HOST[version], 80)
        stop(run)


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_from_the_loopback_of_the_host(protocol: str, root_box: Box, lab: Lab, net: Net) -> None:
    """By IPv4; to ::1 no answer could come back, so a client is refused and goes on to it."""
    network = published(f"8080:80/{protocol}")
    with lab.unchanged(), root_box.running(WAIT, **spec(network)) as run:
        run.line()
        container = container_of(run.process)
        server = net.server(container, protocol, INNER[4], 80)
        for address in ("127.0.0.1", "127.0.0.77"):
            assert server.hears_from(None, address, 8080) == "10.77.1.1"
        kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
        with socket.socket(socket.AF_INET6, kind) as made:
            made.settimeout(5)
            if protocol == "tcp":
                with pytest.raises(ConnectionRefusedError):
                    made.connect(("::1", 8080))
        stop(run)


def test_on_one_address(root_box: Box, lab: Lab, net: Net) -> None:
    lab.internet()
    lab.ip("addr add 203.0.113.9/24 dev up0")
    network = published("203.0.113.9:8080:80", f"[{HOST[6]}]:8081:81")
    with lab.unchanged(), root_box.running(WAIT, **spec(network)) as run:
        run.line()
        container = container_of(run.process)
        four = net.server(container, "tcp", INNER[4], 80)
        assert four.hears_from(INTERNET, "203.0.113.9", 8080) == OUTSIDE[4]
        four.hears_from(None, "203.0.113.9", 8080)
        for address in ("203.0.113.1", "127.0.0.1"):
            assert four.misses(None, address, 8080)
        assert four.misses(INTERNET, "203.0.113.1", 8080)
        six = net.server(container, "tcp", INNER[6], 81)
        assert six.hears_from(INTERNET, HOST[6], 8081) == OUTSIDE[6]
        assert six.misses(None, "fd77::1", 8081)
        stop(run)


def test_ranges(root_box: Box, lab: Lab, net: Net) -> None:
    lab.internet()
    network = published("9000-9002:9000-9002/udp", "7000-7002:80-82")
    with lab.unchanged(), root_box.running(WAIT, **spec(network)) as run:
        run.line()
        container = container_of(run.process)
        for version in (4, 6):
            for number in range(3):
                same = net.server(container, "udp", INNER[version], 9000 + number)
                moved = net.server(container, "tcp", INNER[version], 80 + number)
                assert same.hears_from(INTERNET, HOST[version]) == OUTSIDE[version]
                assert moved.hears_from(INTERNET, HOST[version], 7000 + number) == OUTSIDE[version]
        beyond = net.server(container, "tcp", INNER[4], 83)
        assert beyond.misses(INTERNET, HOST[4], 7003)
        stop(run)


def test_a_neighbour_on_the_bridge(root_box: Box, lab: Lab, net: Net) -> None:
    """It asks the host, which leads it to the container beside it, and the answer comes back."""
    lab.internet()
    lab.bridge("br0", "10.77.1.1/24")
    lab.ip("addr add fd77::1/64 dev br0 nodad")
    lab.settle("br0")
    other = published(bridge="br0", last=3)
    del other["ports"]
    with lab.unchanged(), ExitStack() as both:
        web = both.enter_context(root_box.running(WAIT, **spec(published("8080:80", bridge="br0"))))
        web.line()
        near = both.enter_context(root_box.running(WAIT, **spec(other, "near")))
        near.line()
        places = [container_of(run.process) for run in (web, near)]
        for version in (4, 6):
            server = net.server(places[0], "tcp", INNER[version], 80)
            gate = ("10.77.1.1", "fd77::1")[version == 6]
            for address in (gate, HOST[version]):
                assert server.hears_from(places[1], address, 8080) == gate
                assert server.hears_from(places[0], address, 8080) == gate
            assert server.hears_from(INTERNET, HOST[version], 8080) == OUTSIDE[version]
            server.hears_from(None, HOST[version], 8080)
        stop(web)
        stop(near)


# --- 127.0.0.1 alone ------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_on_127_0_0_1_alone(protocol: str, root_box: Box, lab: Lab, net: Net) -> None:
    """Nobody outside reaches it, however they address their packets."""
    lab.internet()
    lab.ip("-n internet route add 10.77.1.0/24 via 203.0.113.1")
    network = published(f"127.0.0.1:8080:80/{protocol}", "8081:81/udp")
    with lab.unchanged(), root_box.running(WAIT, **spec(network)) as run:
        run.line()
        container = container_of(run.process)
        server = net.server(container, protocol, INNER[4], 80)
        assert server.misses(INTERNET, HOST[4], 8080)
        assert server.misses(INTERNET, INNER[4], 80)
        if protocol == "udp":
            for source in ("127.0.0.1", "127.0.0.2", HOST[4], "10.77.1.1", OUTSIDE[4]):
                for address, port in (("127.0.0.1", 8080), (HOST[4], 8080), (INNER[4], 80)):
                    send_frame(INTERNET, "in0", "up0", source, address, port)
            # Such a packet is one that would arrive, were it for a port that all may have.
            open_to_all = net.server(container, "udp", INNER[4], 81)
            send_frame(INTERNET, "in0", "up0", OUTSIDE[4], HOST[4], 8081)
            assert open_to_all.socket.recv(16) == b"forged"
            assert server.is_silent()
        assert server.misses(container, "10.77.1.1", 8080), "nor the container itself"
        # The host does.
        assert server.hears_from(None, "127.0.0.1", 8080) == "10.77.1.1"
        assert server.misses(None, HOST[4], 8080)
        stop(run)


def test_the_container_does_not_reach_the_loopback(root_box: Box, lab: Lab, net: Net) -> None:
    """route_localnet is on for its link, and it may send what it likes."""
    lab.internet()
    private = net.server(None, "udp", "127.0.0.1", 5000)
    trusting = net.server(None, "udp", "0.0.0.0", 5001)
    with lab.unchanged(), root_box.running(WAIT, **spec(published("8080:80"))) as run:
        run.line()
        switch = Path("/proc/sys/net/ipv4/conf/ve-web/route_localnet")
        assert switch.read_text() == "1\n", "this is what the rules are for"
        container = container_of(run.process)
        for source in ("10.77.1.2", "127.0.0.1", "127.0.0.2"):
            send_frame(container, "eth0", "ve-web", source, "127.0.0.1", 5000)
            send_frame(container, "eth0", "ve-web", source, "127.0.0.2", 5000)
        for source in ("127.0.0.1", "127.0.0.2"):
            send_frame(container, "eth0", "ve-web", source, "10.77.1.1", 5001)
            send_frame(container, "eth0", "ve-web", source, HOST[4], 5001)
        # The same kind of packet, honestly addressed, arrives: the others have been dropped.
        send_frame(container, "eth0", "ve-web", "10.77.1.2", "10.77.1.1", 5001)
        said, peer = trusting.socket.recvfrom(16)
        assert (said, peer[0]) == (b"forged", "10.77.1.2")
        assert private.is_silent()
        assert trusting.is_silent()
        stop(run)


@planner
def test_on_the_loopback_of_ipv6_it_is_refused(root_box: Box, lab: Lab) -> None:
    with lab.unchanged():
        said = root_box.refused(**spec(published("[::1]:8080:80")))
    assert "NS401" in said
    assert "127.0.0.1" in said


# --- what cannot be had ----------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_port_in_use_and_who_has_it(protocol: str, root_box: Box, lab: Lab, net: Net) -> None:
    server = net.server(None, protocol, "0.0.0.0")
    with lab.unchanged():
        said = root_box.refused(**spec(published(f"{server.port}:80/{protocol}")))
    assert f'"{server.port}:80/{protocol}"' in said
    assert "asked for here" in said
    assert f"port {server.port}/{protocol} is held by pid {os.getpid()} (" in said


def test_a_port_of_another_container(root_box: Box, lab: Lab) -> None:
    with lab.unchanged(), root_box.running(WAIT, **spec(published("8080-8089:80-89"))) as run:
        run.line()
        other = published("8085:80")
        other["interfaces"][0] |= {"addresses": ["10.77.2.2/24"],
                                   "peer": {"addresses": ["10.77.2.1/24"]}}  # fmt: skip
        other["routes"] = []
        before = lab.state()
        done = root_box.runner.run(root_box.spec(command="true", **spec(other, "late")))
        assert done.status == 125, str(done)
        assert "port 8085/tcp is held by the container web" in done.stderr
        assert '"8085:80"' in done.stderr
        assert set(lab.state().splitlines()) == set(before.splitlines())
        stop(run)


def test_an_address_that_no_interface_has(root_box: Box, lab: Lab) -> None:
    with lab.unchanged():
        said = root_box.refused(**spec(published("198.51.100.4:8080:80")))
    assert "no interface of the host has the address 198.51.100.4" in said
    assert '"198.51.100.4:8080:80"' in said


@planner
def test_more_ports_than_can_be_held(root_box: Box, lab: Lab) -> None:
    with lab.unchanged():
        said = root_box.refused(**spec(published("10000-19999:10000-19999")))
    assert "NS316" in said
