"""Networks that cannot be had: what is said, and that everything is as it was before."""

from __future__ import annotations

import os
import re
import signal
import time
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

NAMESPACES = ["mount", "network"]
WAIT = "echo there; read x"
# Seconds; less than nsrun waits for a name, longer than it takes from its first child to it.
HELD = 0.2


def spec(*interfaces: dict[str, Any], **network: Any) -> dict[str, Any]:
    return {
        "name": "web",
        "namespaces": NAMESPACES,
        "network": {"interfaces": list(interfaces), **network},
    }


def veth(*addresses: str, **peer: Any) -> dict[str, Any]:
    return {"name": "eth0", "type": "veth", "addresses": list(addresses), "peer": peer}


def refused(box: Box, lab: Lab, keys: dict[str, Any], marked: str, *wanted: str) -> str:
    """What nsrun says of a step that the kernel refuses, with ``marked`` in the line that it
    shows; nothing is left of the start, in any namespace."""
    before = lab.everywhere()
    with lab.unchanged():
        said = box.refused(**keys)
    assert lab.everywhere() == before
    place = re.search(r"--> \S+\.yaml:(\d+):\d+\n\s*\|\n\1 \|(.*)\n", said)
    assert place is not None, said
    assert marked in place[2], said
    assert re.search(r"= step \d+ of \d+ \([pc]\d+\), (parent|child): ", said), said
    for part in wanted:
        assert part in said, said
    return said


# --- what is not there -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("interface", "what"),
    [
        ({"name": "eth0", "type": "macvlan", "parent": "nope0"}, "the parent interface"),
        ({"name": "eth0", "type": "physical", "parent": "nope0"}, "the interface"),
        (veth(bridge="nope0"), "the bridge"),
    ],
)
def test_an_interface_of_the_host_is_missing(
    interface: dict[str, Any], what: str, root_box: Box, lab: Lab
) -> None:
    lab.ip("link add there0 type bridge")
    refused(
        root_box, lab, spec(interface), '"nope0"',
        f"cannot find {what} nope0: No such device (ENODEV)",
        'setsockopt(%inet, SOL_SOCKET, SO_BINDTODEVICE, "nope0", 6)',
        "= why: the host has no interface nope0; there are: there0\n",
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["ipvlan", "vlan", "dummy"])
def test_a_kind_that_this_kernel_has_not(kind: str, root_box: Box, lab: Lab) -> None:
    lab.ip("link add there0 type bridge")
    missing = say("sh", "-c", f"ip link add try0 link there0 type {kind} 2>&1; true").strip()
    if "Unknown device type" not in missing:
        pytest.skip(f"this kernel has {kind} interfaces")
    own = {"name": "eth0", "type": kind}
    if kind != "dummy":
        own["parent"] = "there0"
    if kind == "vlan":
        own["id"] = 5
    refused(
        root_box, lab, spec(own), "{",
        f"cannot make the {kind} eth0",
        "= note: the kernel says: Unknown device type",
        f"= why: this kernel has no {kind} interfaces, and no module",
    )  # fmt: skip


def test_no_bridge_takes_the_port(root_box: Box, lab: Lab) -> None:
    lab.ip("link add end0 type veth peer end1")
    refused(
        root_box, lab, spec(veth(bridge="end0")), "{",
        "cannot make the veth ve-web", "(ENOTSUP)", "master %end0",
        "= why: end0 is no bridge, but a veth",
    )  # fmt: skip


def test_the_container_of_a_peer_does_not_run(root_box: Box, lab: Lab) -> None:
    with lab.unchanged():
        said = root_box.refused(**spec(veth(container="db", name="web0")))
    assert "error[NS404]: no container db is running" in said
    assert '"container": "db"' in said
    assert "start it first" in said


def test_the_namespace_of_a_peer_is_missing(root_box: Box, lab: Lab) -> None:
    lab.namespace("green")
    refused(
        root_box, lab, spec(veth(netns="/run/netns/blue", name="web0")), '"/run/netns/blue"',
        'openat(AT_FDCWD, "/run/netns/blue", O_CLOEXEC)', "(ENOENT)",
        "= why: /run/netns/blue does not exist",
    )  # fmt: skip


# --- what is taken ---------------------------------------------------------------------------


def test_the_name_is_another_interfaces(root_box: Box, lab: Lab) -> None:
    lab.ip("link add other0 type bridge")
    refused(
        root_box, lab, spec(veth(name="other0")), "{",
        "cannot make the veth other0", "File exists (EEXIST)",
        "rtnl link add other0 up type veth peer eth0 netns %child",
        "= why: the host has an interface other0 already",
    )  # fmt: skip


def test_the_name_is_taken_in_another_namespace(root_box: Box, lab: Lab) -> None:
    blue = lab.namespace("blue")
    lab.ip("-n blue link add other0 type bridge")
    refused(
        root_box, lab, spec(veth(netns=str(blue), name="other0")), "{",
        "cannot make the veth other0 there", "File exists (EEXIST)",
        "= why: /run/netns/blue has an interface other0 already",
    )  # fmt: skip


def test_an_address_is_given_twice(root_box: Box, lab: Lab) -> None:
    with lab.unchanged():
        said = root_box.refused(**spec(veth("10.1.0.2/24", "10.1.0.2/16")))
    assert "10.1.0.2 is given twice" in said
    assert '"10.1.0.2/16"' in said


def test_names_that_are_none(root_box: Box, lab: Lab) -> None:
    """All of them are told at once, each with its line."""
    names = ("ä" * 8, "a/b", "a b", "..", "a-name-of-16-byt")
    inside = [veth() | {"name": name} for name in names]
    outside = [veth(name="a:b") | {"name": "eth1"}]
    with lab.unchanged():
        said = root_box.refused(**spec(*inside[:-1], *outside))
        long = root_box.refused(**spec(inside[-1]))
    for name in (*names[:4], "a:b"):
        assert f"`{name}` cannot be an interface's name" in said
        assert f'"name": "{name}"' in said
    assert "at most 15 characters are allowed" in long
    assert f'"name": "{names[-1]}"' in long


# --- what the kernel refuses -----------------------------------------------------------------


def test_a_gateway_that_cannot_be_reached(root_box: Box, lab: Lab) -> None:
    """Foreseen from the spec, with the line; what only the kernel knows is in its words."""
    own = veth("10.2.0.2/24")
    with lab.unchanged():
        said = root_box.refused(**spec(own, routes=[{"to": "default", "via": "10.3.0.1"}]))
    assert "no interface has a network that 10.3.0.1 is in" in said
    assert '"via": "10.3.0.1"' in said
    refused(
        root_box, lab, spec(own, routes=[{"to": "default", "via": "10.2.0.255"}]), "{",
        "cannot add the route default via 10.2.0.255: Invalid argument (EINVAL)",
        "child: rtnl route add default via 10.2.0.255",
        "= note: the kernel says: Nexthop has invalid gateway",
    )  # fmt: skip


def test_ipv6_is_off(root_box: Box, lab: Lab) -> None:
    Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1")
    refused(
        root_box, lab, spec(veth("fd00::2/64", addresses=["10.1.0.1/24", "fd00::1/64"])),
        '"fd00::1/64"',
        "cannot give ve-web the address fd00::1/64", "(EACCES)",
        "= note: the kernel says: ipv6: IPv6 is disabled on this device",
        "= why: net.ipv6.conf.default.disable_ipv6 is 1",
    )  # fmt: skip


def test_an_interface_that_stays_where_it_is(root_box: Box, lab: Lab) -> None:
    refused(
        root_box, lab, spec({"name": "wan0", "type": "physical", "parent": "lo"}), "{",
        "cannot move lo into the container as wan0: Invalid argument (EINVAL)",
        "= note: the kernel says: The interface netns is immutable",
    )  # fmt: skip


def test_the_last_of_several_steps_fails(root_box: Box, lab: Lab) -> None:
    """What was made before it is gone: in the host, in another namespace, in another container."""
    lab.bridge("br0")
    blue = lab.namespace("blue")
    keys = spec(
        veth("10.1.0.2/24", addresses=["10.1.0.1/24"]),
        {"name": "eth1", "type": "veth", "peer": {"bridge": "br0"}},
        {"name": "eth2", "type": "veth", "peer": {"netns": str(blue), "name": "web0"}},
        {"name": "eth3", "type": "macvlan", "parent": "nope0"},
    )
    refused(root_box, lab, keys, '"nope0"', "cannot find the parent interface nope0")


def test_an_ordinary_user_may_not(user_box: Box, lab: Lab) -> None:
    lab.ip("link add br0 type bridge")
    kinds = ("veth", "macvlan", "physical")
    links = [{"name": f"eth{n}", "type": kind, "parent": "br0"} for n, kind in enumerate(kinds)]
    del links[0]["parent"]
    keys = spec(*links) | {"namespaces": ["user", "mount", "network"]}
    with lab.unchanged():
        said = user_box.refused(**keys)
    for kind in kinds:
        assert f"error[NS402]: a {kind} needs a right over the host's network" in said
    assert said.count("= why: it needs CAP_NET_ADMIN, which uid ") == 3
    assert "write `network: {mode: user}`" in said


# --- at the same time ------------------------------------------------------------------------

PAIR = spec(veth("10.1.0.2/24", addresses=["10.1.0.1/24"]))


def stop(run: Running) -> None:
    run.process.stdin.write("\n")
    assert run.end().status == 0


def test_a_second_start_leaves_the_first_alone(root_box: Box, lab: Lab) -> None:
    with lab.unchanged(), root_box.running(WAIT, **PAIR) as run:
        run.line()
        before = lab.state()
        second = root_box.runner.run(root_box.spec(command="true", **PAIR))
        assert second.status == 125
        assert "cannot make the veth ve-web" in second.stderr
        assert re.search(
            r"= why: a container web is running \(pid \d+\), and ve-web is its", second.stderr
        ), second.stderr
        assert lab.state() == before
        say("ping", "-qc1", "-W2", "10.1.0.2")
        stop(run)


def test_of_two_starts_at_once_one_comes_up(root_box: Box, lab: Lab) -> None:
    file = root_box.spec(command=WAIT, **PAIR)
    with lab.unchanged():
        starts = [root_box.runner.start(file) for _ in range(2)]
        assert wait_for(lambda: any(run.poll() is not None for run in starts), 20)
        (lost,) = (run for run in starts if run.poll() is not None)
        (kept,) = (run for run in starts if run is not lost)
        _, said = lost.communicate()
        assert lost.returncode == 125, said
        assert "cannot make the veth ve-web" in said
        assert kept.stdout.readline() == "there\n"
        say("ping", "-qc1", "-W2", "10.1.0.2")
        stop(Running(process=kept))


@pytest.fixture
def groups() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def started(box: Box, groups: ExitStack, file: Path, held: Net | None = None) -> Any:
    """A run in a process group of its own, which has come to its command; ``held`` is closed
    shortly after it has begun to make its network."""
    process = box.runner.start(file, process_group=0)

    def end() -> None:
        if process.poll() is None:
            process.kill()
        process.communicate()

    groups.callback(end)
    if held is not None:
        # Its child is there for some milliseconds only: no pause between two looks.
        deadline = time.monotonic() + 20
        while not is_under_way(process):
            assert time.monotonic() < deadline
        time.sleep(HELD)
        held.close()
    line = process.stdout.readline()
    assert line == "there\n", process.communicate()[1]
    return process


def is_under_way(process: Any) -> bool:
    """Whether it has a child, or tells of a failure already."""
    own = Path(f"/proc/{process.pid}")
    children = (own / f"task/{process.pid}/children").read_text()
    return bool(children) or b"@outcome" in (own / "cmdline").read_bytes()


def heirs(process: Any) -> list[int]:
    """Its children that are in no container."""
    own = os.readlink(f"/proc/{process.pid}/ns/net")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(pid) for pid in children if os.readlink(f"/proc/{pid}/ns/net") == own]


@pytest.mark.parametrize("elsewhere", [False, True], ids=["here", "elsewhere"])
def test_a_name_in_passing_is_waited_for(
    elsewhere: bool, root_box: Box, lab: Lab, groups: ExitStack
) -> None:
    """The kernel takes down the namespace of a killed run some time after it."""
    peer = {"netns": str(lab.namespace("blue")), "name": "web0"} if elsewhere else {}
    file = root_box.spec(command=WAIT, **spec(veth("10.1.0.2/24", **peer)))
    before = lab.everywhere()
    run = started(root_box, groups, file)
    for held in (False, True):
        # A socket keeps the namespace, and it goes down only when the next start has met it.
        sockets = Net()
        if held:
            sockets.server(container_of(run), "udp", "10.1.0.2")
        # Nobody is there to take it down before the kernel does.
        for heir in heirs(run):
            os.kill(heir, signal.SIGKILL)
        os.killpg(run.pid, signal.SIGKILL)
        run.communicate(timeout=10)
        assert not held or lab.everywhere() != before
        run = started(root_box, groups, file, sockets)
    stop(Running(process=run))
    assert wait_for(lambda: lab.everywhere() == before), lab.everywhere()


def test_nothing_is_left_of_a_killed_run(root_box: Box, lab: Lab) -> None:
    """Of nsrun alone: its death ends the container, and the kernel or the heir the rest."""
    lab.bridge("br0")
    blue = lab.namespace("blue")
    keys = spec(
        veth("10.1.0.2/24", addresses=["10.1.0.1/24"]),
        {"name": "eth1", "type": "veth", "peer": {"bridge": "br0"}},
        {"name": "eth2", "type": "veth", "peer": {"netns": str(blue), "name": "web0"}},
        {"name": "eth3", "type": "macvlan", "parent": "br0"},
    )
    before = lab.everywhere()
    with root_box.running(WAIT, **keys) as run:
        run.line()
        assert lab.everywhere() != before
        run.process.send_signal(signal.SIGKILL)
        run.process.wait(10)
        assert wait_for(lambda: set(lab.everywhere()) == set(before)), lab.everywhere()
        assert not Path("/run/nsrun").exists()
