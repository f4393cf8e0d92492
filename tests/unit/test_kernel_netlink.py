"""rtnetlink messages: decoded by pyroute2's own marshal they say what was asked, holes included."""

from __future__ import annotations

import struct
import sys
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.marshal import MarshalRtnl

from nsrun.kernel import netlink
from nsrun.kernel.values import Bytes, Reg, RegKind

CHILD = Reg("child", RegKind.PID)
THERE = Reg("there")
INDEX, MASTER, BELOW = (Reg(n, RegKind.IFINDEX) for n in ("index", "master", "below"))
# What the registers hold at replay; none of them is in any message otherwise.
VALUES = {"child": 70_001, "there": 70_002, "index": 70_003, "master": 70_004, "below": 70_005}

# netlink(7): NLM_F_REQUEST, NLM_F_ACK, NLM_F_EXCL, NLM_F_CREATE
ASKED, MADE = 0x1 | 0x4, 0x1 | 0x4 | 0x200 | 0x400


def filled(message: Bytes) -> bytes:
    """The bytes that are sent when the registers are known."""
    data = bytearray(message.value)
    for hole in message.holes:
        assert data[hole.offset : hole.offset + hole.size] == bytes(hole.size)
        value = VALUES[hole.reg.name].to_bytes(hole.size, sys.byteorder)
        data[hole.offset : hole.offset + hole.size] = value
    return bytes(data)


def decoded(message: Bytes) -> dict[str, Any]:
    """What pyroute2 reads in it: one message, as long as it says."""
    data = filled(message)
    (found,) = MarshalRtnl().parse(data)
    assert found["header"]["length"] == len(data) == len(message.value)
    assert found["header"]["sequence_number"] == 1
    return plain(found)


def plain(value: Any) -> Any:
    """Attributes as a mapping; each stands there once."""
    if isinstance(value, dict):
        attributes = [(a[0], plain(a[1])) for a in value.get("attrs", ())]
        assert len(dict(attributes)) == len(attributes)
        known = {k: v for k, v in value.items() if k not in ("attrs", "header", "__align")}
        header = {"header": dict(value["header"])} if "header" in value else {}
        return {**known, **header, **dict(attributes)}
    return value


def flags(message: dict[str, Any]) -> int:
    return int(message["header"]["flags"])


names = st.from_regex(r"[A-Za-z0-9_.+-]{1,15}", fullmatch=True)
macs = st.binary(min_size=6, max_size=6).map(lambda b: b.hex(":"))
mtus = st.integers(68, 65_535)
maybe = st.booleans()
v4, v6 = st.integers(0, 2**32 - 1).map(IPv4Address), st.integers(0, 2**128 - 1).map(IPv6Address)
interfaces = st.one_of(
    st.tuples(v4, st.integers(0, 32)).map(lambda p: IPv4Interface(p)),
    st.tuples(v6, st.integers(0, 128)).map(lambda p: IPv6Interface(p)),
)
ends = st.builds(
    netlink.End,
    name=names,
    mac=st.none() | macs,
    mtu=st.none() | mtus,
    up=maybe,
    pid=st.none() | st.just(CHILD),
)


def check_end(found: dict[str, Any], end: netlink.End) -> None:
    """A struct ifinfomsg and its attributes are exactly this end."""
    assert (found["flags"], found["change"]) == ((1, 1) if end.up else (0, 0))
    wanted = {
        "IFLA_IFNAME": end.name,
        "IFLA_ADDRESS": end.mac,
        "IFLA_MTU": end.mtu,
        "IFLA_MASTER": VALUES["master"] if end.master else None,
        "IFLA_NET_NS_PID": VALUES["child"] if end.pid else None,
        "IFLA_NET_NS_FD": VALUES["there"] if end.netns else None,
    }
    for name, value in wanted.items():
        assert found.get(name) == value, name


# --- links -------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(end=ends, peer=ends, bridged=maybe)
def test_a_pair(end: netlink.End, peer: netlink.End, bridged: bool) -> None:
    if bridged:
        end = netlink.End(name=end.name, mtu=end.mtu, up=end.up, master=MASTER)
    elif end.pid and peer.pid:
        end = netlink.End(name=end.name, mac=end.mac, mtu=end.mtu, up=end.up, netns=THERE)
    message = netlink.veth_add(end, peer)
    found = decoded(message)
    assert (found["event"], flags(found), found["index"]) == ("RTM_NEWLINK", MADE, 0)
    check_end(found, end)
    info = plain(found["IFLA_LINKINFO"])
    assert info["IFLA_INFO_KIND"] == "veth"
    other = plain(info["IFLA_INFO_DATA"])["VETH_INFO_PEER"]
    assert other["index"] == 0
    check_end(other, peer)


@pytest.mark.parametrize(
    ("kind", "given", "data", "shown"),
    [
        ("macvlan", {}, {"IFLA_MACVLAN_MODE": "bridge"}, " mode bridge"),
        ("macvlan", {"mode": "private"}, {"IFLA_MACVLAN_MODE": "private"}, " mode private"),
        ("macvlan", {"mode": "vepa"}, {"IFLA_MACVLAN_MODE": "vepa"}, " mode vepa"),
        ("macvlan", {"mode": "passthru"}, {"IFLA_MACVLAN_MODE": "passthru"}, " mode passthru"),
        ("ipvlan", {}, {"IFLA_IPVLAN_MODE": 0}, " mode l2"),
        ("ipvlan", {"mode": "l3"}, {"IFLA_IPVLAN_MODE": 1}, " mode l3"),
        ("ipvlan", {"mode": "l3s"}, {"IFLA_IPVLAN_MODE": 2}, " mode l3s"),
        ("vlan", {"tag": 4094}, {"IFLA_VLAN_ID": 4094}, " id 4094"),
    ],
)
def test_a_link_on_another(
    kind: str, given: dict[str, Any], data: dict[str, Any], shown: str
) -> None:
    end = netlink.End(name="eth0", mac="02:00:00:00:00:02", mtu=1400, up=True, pid=CHILD)
    message = netlink.link_add(end, kind, parent=BELOW, **given)
    found = decoded(message)
    assert (found["event"], flags(found)) == ("RTM_NEWLINK", MADE)
    check_end(found, end)
    assert found["IFLA_LINK"] == VALUES["below"]
    info = plain(found["IFLA_LINKINFO"])
    assert (info["IFLA_INFO_KIND"], plain(info["IFLA_INFO_DATA"])) == (kind, data)
    assert message.text == (
        "rtnl link add eth0 link %below netns %child address 02:00:00:00:00:02 mtu 1400 up "
        f"type {kind}{shown}"
    )


@settings(max_examples=20)
@given(end=ends)
@pytest.mark.parametrize("kind", ["bridge", "dummy"])
def test_a_link_of_its_own(kind: str, end: netlink.End) -> None:
    found = decoded(netlink.link_add(end, kind))
    check_end(found, end)
    assert plain(found["IFLA_LINKINFO"]) == {"IFLA_INFO_KIND": kind}
    assert "IFLA_LINK" not in found


@settings(max_examples=20)
@given(name=names)
def test_a_link_that_moves(name: str) -> None:
    for end in (netlink.End(name=name, pid=CHILD), netlink.End(name=name, netns=THERE)):
        found = decoded(netlink.link_move(INDEX, end))
        assert (found["event"], flags(found)) == ("RTM_NEWLINK", ASKED)
        assert found["index"] == VALUES["index"]
        assert "IFLA_NEW_IFINDEX" not in found
        check_end(found, end)
    numbered = netlink.link_move(INDEX, netlink.End(name=name, pid=CHILD), new_index=1_000_001)
    assert decoded(numbered)["IFLA_NEW_IFINDEX"] == 1_000_001
    back = netlink.link_move(1_000_001, netlink.End(name=name, netns=THERE), new_index=MASTER)
    found = decoded(back)
    assert (found["index"], found["IFLA_NEW_IFINDEX"]) == (1_000_001, VALUES["master"])
    assert back.text == f"rtnl link set 1000001 name {name} netns %there index %master"


def test_changes_of_one_link() -> None:
    joined = decoded(netlink.link_join(INDEX, MASTER))
    assert (joined["index"], joined["IFLA_MASTER"]) == (VALUES["index"], VALUES["master"])
    assert (joined["event"], flags(joined), joined["change"]) == ("RTM_NEWLINK", ASKED, 0)
    up = decoded(netlink.link_up(INDEX))
    assert (up["index"], up["flags"], up["change"]) == (VALUES["index"], 1, 1)
    assert (up["event"], flags(up)) == ("RTM_NEWLINK", ASKED)
    gone = decoded(netlink.link_delete(INDEX, "ve-web"))
    assert (gone["event"], flags(gone), gone["index"]) == ("RTM_DELLINK", ASKED, VALUES["index"])
    assert not [name for name in gone if name.startswith("IFLA_")], "by its index alone"


def test_hairpin() -> None:
    found = decoded(netlink.port_hairpin(INDEX, "ve-web"))
    assert (found["event"], flags(found), found["family"]) == ("RTM_SETLINK", ASKED, 7)
    assert (found["index"], plain(found["IFLA_PROTINFO"])) == (
        VALUES["index"],
        {"IFLA_BRPORT_MODE": 1},
    )


# --- addresses ---------------------------------------------------------------------------------


@settings(max_examples=60)
@given(address=interfaces)
def test_an_address(address: IPv4Interface | IPv6Interface) -> None:
    message = netlink.address_add(INDEX, address, "eth0")
    found = decoded(message)
    assert (found["event"], flags(found)) == ("RTM_NEWADDR", MADE)
    assert (found["index"], found["prefixlen"]) == (VALUES["index"], address.network.prefixlen)
    assert ip_address(found["IFA_ADDRESS"]) == address.ip
    if isinstance(address, IPv4Interface):
        assert (found["family"], found["flags"], found["IFA_LOCAL"]) == (2, 0, str(address.ip))
        has_one = address.network.prefixlen < 31
        broadcast = str(address.network.broadcast_address) if has_one else None
        assert found.get("IFA_BROADCAST") == broadcast
        assert (" brd +" in message.text) == has_one
    else:
        # IFA_F_NODAD of linux/if_addr.h
        assert (found["family"], found["flags"]) == (10, 2)
        assert not {"IFA_LOCAL", "IFA_BROADCAST"} & found.keys()
        assert " nodad " in message.text
    assert message.text.startswith(f"rtnl addr add {address} ")
    assert message.text.endswith(" dev eth0 %index")


# --- routes ------------------------------------------------------------------------------------

networks = interfaces.map(lambda address: address.network)


@settings(max_examples=60)
@given(
    to=networks,
    via=maybe,
    dev=maybe,
    metric=st.none() | st.integers(1, 2**32 - 1).filter(lambda n: n >> 16 != 0x5EED),
    on_link=maybe,
)
def test_a_route(
    to: IPv4Network | IPv6Network, via: bool, dev: bool, metric: int | None, on_link: bool
) -> None:
    gateway = ("192.0.2.1" if to.version == 4 else "fe80::1") if via else None
    index = INDEX if dev else None
    message = netlink.route_add(
        to, via=gateway, index=index, dev="eth0", metric=metric, on_link=on_link
    )
    found = decoded(message)
    assert (found["event"], flags(found)) == ("RTM_NEWROUTE", MADE)
    assert found["family"] == (2 if to.version == 4 else 10)
    # linux/rtnetlink.h: RT_TABLE_MAIN, RTPROT_STATIC, RTN_UNICAST
    assert (found["table"], found["proto"], found["type"]) == (254, 4, 1)
    assert (found["dst_len"], found["src_len"]) == (to.prefixlen, 0)
    assert ("RTA_DST" in found) == bool(to.prefixlen)
    if to.prefixlen:
        assert ip_address(found["RTA_DST"]) == to.network_address
    assert found.get("RTA_GATEWAY") == gateway
    assert found.get("RTA_OIF") == (VALUES["index"] if dev else None)
    assert found.get("RTA_PRIORITY") == metric
    assert found["flags"] == (4 if on_link else 0)
    # RT_SCOPE_LINK where IPv4 has no next hop: ip-route(8) does the same.
    assert found["scope"] == (253 if to.version == 4 and not via else 0)


@pytest.mark.parametrize(("kind", "number"), netlink.ROUTE_TYPES.items())
def test_the_kinds_of_routes(kind: str, number: int) -> None:
    """RTN_* of linux/rtnetlink.h; those that lead nowhere have no scope of a link."""
    wanted = {"unicast": 1, "blackhole": 6, "unreachable": 7, "prohibit": 8}
    assert number == wanted[kind]
    found = decoded(netlink.route_add(ip_network("10.9.0.0/16"), kind=kind))
    assert (found["type"], found["scope"]) == (number, 253 if kind == "unicast" else 0)


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ({"to": "0.0.0.0/0", "via": "10.0.0.1"}, "route add default via 10.0.0.1"),
        ({"to": "::/0", "via": "fd00::1"}, "-6 route add default via fd00::1"),
        ({"to": "fd00::/48", "kind": "prohibit"}, "route add prohibit fd00::/48"),
        ({"to": "::/0", "kind": "blackhole"}, "-6 route add blackhole default"),
        (
            {"to": "10.9.0.0/16", "index": INDEX, "dev": "eth0", "metric": 7, "on_link": True},
            "route add 10.9.0.0/16 dev eth0 %index metric 7 onlink",
        ),
    ],
)
def test_a_route_in_words(asked: dict[str, Any], text: str) -> None:
    message = netlink.route_add(ip_network(asked.pop("to")), **asked)
    assert message.text == f"rtnl {text}"


# --- holes -------------------------------------------------------------------------------------


def test_a_hole_is_in_the_place_of_each_register() -> None:
    """Four bytes each, aligned, in order, one a register, and no register is forgotten."""
    inside = netlink.End(name="eth0", mac="02:00:00:00:00:02", mtu=1400, up=True, pid=CHILD)
    outside = netlink.End(name="ve-web", mtu=1400, up=True, master=MASTER)
    made = {
        netlink.veth_add(outside, inside): ["master", "child"],
        netlink.link_add(inside, "macvlan", parent=BELOW): ["child", "below"],
        netlink.link_move(INDEX, netlink.End(name="eth1", netns=THERE)): ["index", "there"],
        netlink.link_join(INDEX, MASTER): ["index", "master"],
        netlink.link_add(netlink.End(name="br0"), "bridge"): [],
        netlink.address_add(INDEX, IPv4Interface("10.0.0.1/8"), "e"): ["index"],
        netlink.route_add(IPv4Network("10.0.0.0/8"), index=INDEX, dev="e"): ["index"],
    }
    for message, wanted in made.items():
        assert [hole.reg.name for hole in message.holes] == wanted, message.text
        assert all(hole.size == 4 and hole.offset % 4 == 0 for hole in message.holes)
        shown = [word[1:] for word in message.text.split() if word.startswith("%")]
        assert sorted(shown) == sorted(wanted)


def test_a_place_that_is_not_clear_is_an_error() -> None:
    """An address with the very bytes that stand for a register: told, not guessed."""
    address = IPv6Interface((int.from_bytes(struct.pack("=I", 0x5EED0001), "big"), 64))
    with pytest.raises(ValueError, match="%index"):
        netlink.address_add(INDEX, address, "eth0")
