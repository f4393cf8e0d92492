"""The interfaces of a network: who makes what, in which order, and how it is undone."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from nsrun.kernel.abi import Capability
from nsrun.kernel.facts import Kind, PathFact
from nsrun.kernel.values import RegKind
from nsrun.plan.codec import dumps
from nsrun.plan.model import Action, Plan, Track
from nsrun.plan.ops import Netlink, Op, ReceiveFd, SendFd, Signal, Wait
from nsrun.plan.registers import registers
from tests.support.planning import (
    EVERY_CAPABILITY,
    ORDINARY,
    ROOT,
    WITH_IDS,
    has,
    knowing,
    lines,
    only,
    order,
    planned,
    refusals,
    refused,
)

VETH = {
    "name": "eth0",
    "type": "veth",
    "addresses": ["10.0.0.2/24"],
    "peer": {"addresses": ["10.0.0.1/24"]},
}
NAMESPACES = ["mount", "network"]


def interfaces(*wanted: dict[str, Any], **more: Any) -> Plan:
    """Root's plan of a container ``web`` with these."""
    return planned(
        ROOT, name="web", namespaces=NAMESPACES, network={"interfaces": list(wanted), **more}
    )


def messages(steps: Action | tuple[Op, ...]) -> list[str]:
    ops = steps.steps if isinstance(steps, Action) else steps
    return [op.message.text.removeprefix("rtnl ") for op in ops if isinstance(op, Netlink)]


def sent(plan: Plan, track: Track) -> list[str]:
    """Every netlink message of a track, in order."""
    return [text for a in plan.actions if a.track is track for text in messages(a)]


def syncs(plan: Plan, name: str) -> list[tuple[Track, type]]:
    return [
        (p.track, type(p.op))
        for p in plan.steps()
        if isinstance(p.op, Signal | Wait) and p.op.sync == name
    ]


# --- what is made -------------------------------------------------------------------------------


def test_a_pair() -> None:
    plan = interfaces(VETH, routes=[{"to": "default", "via": "10.0.0.1"}])
    assert sent(plan, Track.PARENT) == [
        "link add ve-web up type veth peer eth0 netns %child",
        "addr add 10.0.0.1/24 brd + dev ve-web %ve_web",
    ]
    assert sent(plan, Track.CHILD) == [
        "link set %eth0 up",
        "addr add 10.0.0.2/24 brd + dev eth0 %eth0",
        "route add default via 10.0.0.1",
    ]


def test_what_an_end_is_given() -> None:
    peer = {"name": "out", "bridge": "br0"}
    end = {**VETH, "mac": "02:00:00:00:00:02", "mtu": 1400, "peer": peer}
    made = only(interfaces(end), "make the veth out")
    assert messages(made) == [
        "link add out master %br0 mtu 1400 up type veth peer eth0 netns %child "
        "address 02:00:00:00:00:02 mtu 1400"
    ]


def test_an_interface_that_stays_down() -> None:
    plan = interfaces({**VETH, "up": False})
    assert not [text for text in sent(plan, Track.CHILD) if " up" in text]
    # The outer end does not wait for the other.
    assert " up type" in sent(plan, Track.PARENT)[0]


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ({"type": "macvlan", "mode": "vepa"}, "type macvlan mode vepa"),
        ({"type": "ipvlan"}, "type ipvlan mode l2"),
        ({"type": "vlan", "id": 7}, "type vlan id 7"),
    ],
)
def test_a_link_on_a_parent_is_made_inside_from_the_first(
    asked: dict[str, Any], text: str
) -> None:
    plan = interfaces({"name": "eth1", "parent": "up0", "addresses": ["10.7.0.2/24"], **asked})
    kind = asked["type"]
    order(plan, Track.PARENT, "start the child", "find the parent interface up0",
          f"make the {kind} eth1 of the container on up0")  # fmt: skip
    assert sent(plan, Track.PARENT) == [f"link add eth1 link %up0 netns %child up {text}"]
    # It goes with the container: there is nothing to undo.
    assert only(plan, f"make the {kind} eth1").undo == ()
    assert sent(plan, Track.CHILD) == ["addr add 10.7.0.2/24 brd + dev eth1 %eth1"]


@pytest.mark.parametrize("kind", ["bridge", "dummy"])
def test_links_of_its_own_are_the_childs(kind: str) -> None:
    link = {"name": "br0", "type": kind, "mtu": 1400, "addresses": ["10.4.0.1/24", "fd40::1/64"]}
    wanted = [
        f"link add br0 mtu 1400 up type {kind}",
        "addr add 10.4.0.1/24 brd + dev br0 %br0",
        "addr add fd40::1/64 nodad dev br0 %br0",
    ]
    plan = interfaces(link)
    assert (sent(plan, Track.PARENT), sent(plan, Track.CHILD)) == ([], wanted)
    assert syncs(plan, "linked") == []
    own = planned(ORDINARY, namespaces=["user", "network"], network={"interfaces": [link]})
    assert sent(own, Track.CHILD) == wanted, "any user may"


def test_what_is_neither_given_an_address_nor_a_route_is_not_looked_for() -> None:
    plan = interfaces({"name": "br0", "type": "bridge"})
    assert not has(plan, "find br0")
    routed = interfaces({"name": "br0", "type": "bridge"}, routes=[{"to": "10.0.0.0/8",
                        "dev": "br0"}])  # fmt: skip
    order(routed, Track.CHILD, "make the bridge br0", "find br0", "add the route 10.0.0.0/8")
    assert sent(routed, Track.CHILD)[-1] == "route add 10.0.0.0/8 dev br0 %br0"


def test_a_route_by_lo_finds_it_once() -> None:
    routes = [{"to": "10.1.0.0/16", "dev": "lo"}, {"to": "10.2.0.0/16", "dev": "lo"}]
    plan = interfaces(routes=routes)
    order(plan, Track.CHILD, "bring up lo", "open rtnetlink", "find lo",
          "add the route 10.1.0.0/16", "add the route 10.2.0.0/16", "close rtnetlink")  # fmt: skip


# --- order --------------------------------------------------------------------------------------


def test_the_childs_order() -> None:
    """After the tree is its own, before sysctls and mounts; the launcher has made its part."""
    plan = planned(
        ROOT,
        name="web",
        namespaces=NAMESPACES,
        mounts=[{"type": "tmpfs", "target": "/x"}],
        sysctl={"net.ipv4.conf.eth0.rp_filter": 1},
        network={"interfaces": [VETH], "routes": [{"to": "default", "via": "10.0.0.1"}]},
    )
    order(
        plan, Track.CHILD,
        "bring up lo", "keep every mount in here", "wait for the network",
        "find eth0", "bring up eth0", "give eth0 the address", "add the route default",
        "close rtnetlink", "set net.ipv4.conf.eth0.rp_filter to 1", "mount tmpfs on /x",
        "become 0:0",
    )  # fmt: skip
    order(
        plan, Track.PARENT,
        "start the child", "make the veth ve-web", "give ve-web the address",
        "tell the child that its network is there", "wait for the command to be executed",
    )  # fmt: skip


def test_interfaces_are_made_in_the_specs_order_and_told_of_once() -> None:
    second = {"name": "eth1", "type": "macvlan", "parent": "up0"}
    third = {**VETH, "name": "eth2"}
    plan = interfaces(VETH, second, third)
    order(plan, Track.PARENT, "make the veth ve-web,", "make the macvlan eth1",
          "make the veth ve-web+1")  # fmt: skip
    assert syncs(plan, "linked") == [(Track.PARENT, Signal), (Track.CHILD, Wait)]


def test_routes_come_after_every_address() -> None:
    second = {**VETH, "name": "eth1", "addresses": ["10.1.0.2/24"]}
    texts = sent(interfaces(VETH, second, routes=[{"to": "default", "via": "10.1.0.1"}]),
                 Track.CHILD)  # fmt: skip
    assert [text.split()[0] for text in texts] == ["link", "addr", "link", "addr", "route"]


def test_trees_of_the_host_and_the_network_arrive_in_the_order_they_are_sent() -> None:
    """An idmapped rootfs comes from the launcher too, before the child waits for the network."""
    there = {t: PathFact(kind=Kind.FOLDER, mode=0o755) for t in ("/", "/proc", "/sys", "/dev")}
    plan = planned(
        knowing(
            ROOT, paths={"/srv/root": PathFact(kind=Kind.FOLDER, mode=0o755)}, targets=there
        ),
        name="web",
        namespaces=["user", "mount", "network"],
        idmap={"uid": ["0:100000:65536"], "gid": ["0:100000:65536"]},
        rootfs="/srv/root",
        network={"interfaces": [VETH]},
    )
    sent_ = [p.op.sync for p in plan.track(Track.PARENT) if isinstance(p.op, Signal | SendFd)]
    taken = [p.op.sync for p in plan.track(Track.CHILD) if isinstance(p.op, Wait | ReceiveFd)]
    assert sent_ == taken == ["mapped", "rootfs", "linked"]


# --- registers ----------------------------------------------------------------------------------


def test_each_interface_has_a_number_of_its_own_in_each_track() -> None:
    """Names that differ in nothing a register may have stay apart: eth-0, eth.0."""
    names = ("eth-0", "eth.0")
    plan = interfaces(*({**VETH, "name": n, "peer": {"name": f"x{n}"}} for n in names))
    finds = [a for a in plan.actions if a.what.startswith("find eth")]
    made = [next(r for r in registers(a.steps) if r.kind is RegKind.IFINDEX) for a in finds]
    assert len({reg.name for reg in made}) == 2
    texts = sent(plan, Track.CHILD)
    assert [text for text in texts if text.endswith(f" dev eth-0 %{made[0].name}")]
    assert [text for text in texts if text.endswith(f" dev eth.0 %{made[1].name}")]


def test_numbers_of_interfaces_are_looked_up_by_name_once() -> None:
    assert lines(only(interfaces(VETH), "find eth0")) == [
        "socket(AF_INET, SOCK_DGRAM|SOCK_CLOEXEC, 0)",
        'setsockopt(%inet3, SOL_SOCKET, SO_BINDTODEVICE, "eth0", 5)',
        "getsockopt(%inet3, SOL_SOCKET, SO_BINDTOIFINDEX, {%eth0}, [4])",
        "close(%inet3)",
    ]


# --- elsewhere ----------------------------------------------------------------------------------


def test_a_pair_with_a_named_namespace_is_made_from_within_that_one() -> None:
    end = {**VETH, "peer": {"name": "veth1", "netns": "/run/netns/blue",
                            "addresses": ["10.0.0.1/24"]}}  # fmt: skip
    plan = interfaces(end)
    order(plan, Track.PARENT, "go into the network namespace of /run/netns/blue",
          "open rtnetlink there", "come back", "make the veth veth1 there",
          "give veth1 the address 10.0.0.1/24", "tell the child")  # fmt: skip
    away = only(plan, "go into the network namespace")
    assert lines(away)[-1] == "setns(%veth1_ns, CLONE_NEWNET)"
    assert lines(away.undo) == ["setns(%home, CLONE_NEWNET)"]
    assert lines(only(plan, "come back"))[0] == "setns(%home, CLONE_NEWNET)"
    there, back = only(plan, "open rtnetlink there"), only(plan, "make the veth veth1 there")
    (rtnl,) = [r for r in registers(there.steps) if r.name.startswith("rtnl")]
    assert all(op.socket == rtnl for op in (*back.steps, *back.undo) if isinstance(op, Netlink))


def test_a_pair_with_a_running_container() -> None:
    end = {**VETH, "peer": {"container": "db"}}
    facts = knowing(ROOT, containers={"db": 77})
    plan = planned(facts, name="web", namespaces=NAMESPACES, network={"interfaces": [end]})
    assert "/proc/77/ns/net" in lines(only(plan, "go into the network namespace"))[1]
    assert refused(ROOT, name="web", namespaces=NAMESPACES, network={"interfaces": [end]}) == [
        ("NS404", "network.interfaces[0].peer.container")
    ]


# --- undo ---------------------------------------------------------------------------------------


def test_a_pair_is_deleted_by_its_number() -> None:
    made = only(interfaces(VETH), "make the veth ve-web")
    (gone,) = made.undo
    assert isinstance(gone, Netlink)
    assert gone.message.text == "rtnl link del ve-web %ve_web"
    assert gone.accept == ("ENODEV",), "the other end has taken it along"


def test_addresses_go_with_their_links() -> None:
    plan = interfaces(VETH)
    undone = [a.what for a in plan.actions if a.undo and a.track is Track.PARENT]
    assert undone == [
        "start the child with new namespaces: mount, network",
        "make the veth ve-web, whose other end is eth0 in the container",
    ]


# --- who may ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["veth", "macvlan", "ipvlan", "vlan", "physical"])
def test_the_hosts_network_takes_a_right_over_it(kind: str) -> None:
    asked = {"name": "eth0", "type": kind, **({} if kind == "veth" else {"parent": "up0"})}
    asked |= {"id": 7} if kind == "vlan" else {}
    keys = {"namespaces": ["user", "network"], "network": {"interfaces": [asked]}}
    for facts in (ORDINARY, WITH_IDS):
        (found,) = refusals(facts, **keys)
        assert (found.code, found.path) == ("NS402", "network.interfaces[0]")
        assert f"a {kind} needs a right over the host's network" in found.summary
        assert "uid 1000" in found.why[0]
    without = dataclasses.replace(ROOT, permitted=EVERY_CAPABILITY - {Capability.CAP_NET_ADMIN})
    assert refused(without, **keys) == [("NS402", "network.interfaces[0]")]
    has_it = dataclasses.replace(WITH_IDS, permitted=frozenset({Capability.CAP_NET_ADMIN}))
    assert sent(planned(has_it, **keys), Track.PARENT)


def test_each_such_interface_is_told_of() -> None:
    own = {"name": "br0", "type": "bridge"}
    network = {"interfaces": [VETH, own, {"name": "p0", "type": "physical"}]}
    assert refused(WITH_IDS, namespaces=["user", "network"], network=network) == [
        ("NS402", "network.interfaces[0]"),
        ("NS402", "network.interfaces[2]"),
    ]


# --- whose network ------------------------------------------------------------------------------

FULL = {"interfaces": [VETH, {"name": "br0", "type": "bridge"}], "masquerade": True,
        "routes": [{"to": "default", "via": "10.0.0.1"}], "ports": ["8080:80"]}  # fmt: skip
BLUE = {"type": "network", "path": "/run/netns/blue"}


@pytest.mark.parametrize("namespaces", [["mount"], ["mount", BLUE]], ids=["callers", "joined"])
def test_a_network_of_others_is_left_alone(namespaces: list[Any]) -> None:
    """The spec's check refuses most of it; the planner does not rely on that."""
    there = {"/run/netns/blue": PathFact(kind=Kind.FILE, namespace="network")}
    facts = knowing(ROOT, paths=there, helpers={"nft": "/usr/sbin/nft"})
    for network in (FULL, {"mode": "user"}):
        plan = planned(facts, namespaces=namespaces, network=network)
        assert sent(plan, Track.PARENT) == sent(plan, Track.CHILD) == []
        told = ("nsrun-", "bring up lo", "rtnetlink", "pasta", "slirp4netns", "network is there")
        assert not [a.what for a in plan.actions if any(word in a.what for word in told)]


def test_names_are_written_in_a_joined_network_too() -> None:
    """They are files, of a mount namespace that is new."""
    facts = knowing(
        ROOT,
        paths={"/run/netns/blue": PathFact(kind=Kind.FILE, namespace="network")},
        targets={"/etc/hosts": PathFact(kind=Kind.FILE), "/etc": PathFact(kind=Kind.FOLDER)},
    )
    plan = planned(facts, namespaces=["mount", BLUE], network={"hosts": {"db": "10.0.0.3"}})
    assert has(plan, "write /etc/hosts")


def test_no_network_block_is_loopback_alone() -> None:
    plan = planned(ROOT, namespaces=["network"])
    assert has(plan, "bring up lo")
    assert sent(plan, Track.PARENT) == sent(plan, Track.CHILD) == []
    without = planned(ROOT, namespaces=["network"], network={"loopback": False})
    assert not has(without, "bring up lo")


# --- purity -------------------------------------------------------------------------------------


def test_the_same_spec_and_facts_are_the_same_bytes() -> None:
    assert dumps(interfaces(VETH)) == dumps(interfaces(VETH))


def test_planning_does_not_change_what_it_is_given() -> None:
    facts = knowing(ROOT, containers={"db": 77})
    before = repr(facts)
    network: dict[str, Any] = {"interfaces": [{**VETH, "peer": {"container": "db"}}]}
    planned(facts, namespaces=NAMESPACES, network=network)
    assert repr(facts) == before
