"""The copy of a stack that is verified: where its networks are, and what cannot be had twice."""

from __future__ import annotations

import json
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from nsrun.diag import NsrunError
from nsrun.runtime.stack_copy import looking, new_name, placed, refusals, running
from nsrun.spec.model import Overlay
from nsrun.spec.stack import Stack
from nsrun.spec.stack_load import load_stack

NETS: dict[str, Any] = {"front": {"subnet": ["10.91.0.0/24", "fd91::/64"]}, "auto": {}}
MEMBER: dict[str, Any] = {
    "namespaces": ["mount", "uts", "network"],
    "networks": ["front", "auto"],
    "command": ["sleep", "1"],
}


@pytest.fixture
def both(tmp_path: Path) -> Any:
    """Reads a stack under its own name and another."""

    def read(**keys: Any) -> tuple[Stack, Stack]:
        found = []
        for name in ("shop", "copy"):
            file = tmp_path / f"{name}.yaml"
            file.write_text(json.dumps({"networks": NETS, **keys, "name": name}))
            volumes, stacks = str(tmp_path / name), str(tmp_path / "stacks")
            found.append(load_stack(str(file), volumes=volumes, stacks=stacks)[0])
        return found[0], found[1]

    return read


def addresses(stack: Stack, service: str) -> list[str]:
    (member,) = stack.of(service)
    assert member.spec.network is not None
    assert [a for given in member.addresses.values() for a in given] == [
        a for link in member.spec.network.interfaces for a in link.addresses
    ]
    return [str(a) for link in member.spec.network.interfaces for a in link.addresses]


def test_it_has_the_stacks_addresses_where_they_are_free(both: Any) -> None:
    expect = {"reachable": ["10.91.0.2:80", "unix:@x"], "unreachable": ["192.0.2.1:80"]}
    original, read = both(containers={"a": {**MEMBER, "expect": expect}, "b": MEMBER})
    copy, wrong = placed(original, read, [ip_network("10.0.0.0/16")])
    assert wrong == []
    # Also those that are chosen by the stack's name.
    for service in ("a", "b"):
        assert addresses(copy, service) == addresses(original, service)
    assert [n.gateways for n in copy.networks] == [n.gateways for n in original.networks]
    assert [n.bridge for n in copy.networks] != [n.bridge for n in original.networks]
    assert copy.of("a")[0].spec.expect == original.of("a")[0].spec.expect


def test_it_is_moved_as_a_whole_where_they_are_in_use(both: Any) -> None:
    expect = {
        "reachable": ["10.91.0.3:80", "[fd91::3]:80"],
        "unreachable": ["192.0.2.1:80", "10.91.0.77:1"],
    }
    network = {
        "routes": [
            {"to": "10.91.0.64/26", "via": "10.91.0.3"},
            {"to": "192.0.2.0/24", "via": "10.91.0.3"},
        ],
        "dns": {"nameservers": ["10.91.0.3", "9.9.9.9"]},
    }
    original, read = both(
        containers={"a": {**MEMBER, "expect": expect, "network": network}, "b": MEMBER}
    )
    used = [g.network for n in original.networks for g in n.gateways]
    copy, wrong = placed(original, read, used)
    assert wrong == []
    subnets = [g.network for n in copy.networks for g in n.gateways]
    assert not any(a.version == b.version and a.overlaps(b) for a in subnets for b in used)
    assert [s.prefixlen for s in subnets] == [24, 64, 24]
    (a,), (b,) = copy.of("a"), copy.of("b")
    assert a.spec.network is not None
    front4, front6 = (x.ip for x in b.addresses["front"])
    assert [e.address for e in a.spec.expect.reachable] == [front4, front6]
    assert a.spec.network.hosts["b"] in (front4, front6)
    assert a.spec.expect.unreachable[0].address == ip_address("192.0.2.1")
    beyond = a.spec.expect.unreachable[1].address
    assert beyond is not None and beyond in subnets[0] and int(beyond) & 0xFF == 77
    gateways = {g.ip for n in copy.networks for g in n.gateways}
    inner, outer, *rest = a.spec.network.routes
    assert inner.to.subnet_of(subnets[0]) and inner.to.prefixlen == 26
    assert (str(outer.to), outer.via) == ("192.0.2.0/24", front4)
    assert {r.via for r in rest} <= gateways and not {r.to.prefixlen for r in rest} - {0}
    assert a.spec.network.dns is not None
    assert a.spec.network.dns.nameservers == (front4, ip_address("9.9.9.9"))
    assert addresses(copy, "a") != addresses(original, "a")


def test_a_route_to_several_networks_leads_to_each_where_it_is(both: Any) -> None:
    networks = {name: {"subnet": f"10.93.{n}.0/24", "internal": True}
                for n, name in enumerate(("left", "middle", "right"))}  # fmt: skip
    routes = [{"to": "10.93.0.0/16", "via": "10.93.0.2"}]
    alice = {**MEMBER, "networks": ["left"], "network": {"routes": routes}}
    router = {**MEMBER, "networks": {"left": {"address": "10.93.0.2"}, "right": {}}}
    original, read = both(networks=networks, containers={"alice": alice, "r": router})
    used = [ip_network("10.93.0.0/24"), ip_network("10.93.2.0/24")]
    copy, _ = placed(original, read, used)
    left, middle, right = (n.gateways[0].network for n in copy.networks)
    assert middle == ip_network("10.93.1.0/24") and {left, right}.isdisjoint(used)
    network = copy.of("alice")[0].spec.network
    assert network is not None
    via = copy.of("r")[0].addresses["left"][0].ip
    assert [(r.to, r.via) for r in network.routes] == [
        (right, via), (ip_network("10.93.0.0/16"), via)
    ]  # fmt: skip


def test_who_is_told_an_address_by_its_number_is_told_of(both: Any) -> None:
    containers = {
        "a": {**MEMBER, "command": "nc 10.91.0.3 80"},
        "b": MEMBER,
        "d": {**MEMBER, "files": {"/etc/app": {"content": "db = 10.91.0.1"}}},
        "c": {**MEMBER, "env": {"DB": "x=fd91::3"}, "command": "echo 110.91.0.3 10.91.0.30"},
    }
    original, read = both(containers=containers)
    assert placed(original, read, [])[1] == []
    used = [ip_network("10.91.0.0/25"), ip_network("fd91::/32")]
    wrong = placed(original, read, used)[1]
    assert [(d.code, d.path) for d in wrong] == [
        ("NS622", path) for path in ("command", 'files["/etc/app"]', "env")
    ]
    assert all(d.span is not None for d in wrong)
    (one,) = placed(original, read, [ip_network("::/0"), *used])[1]
    assert (one.code, one.path) == ("NS622", "networks.front") and one.span is not None


def test_what_cannot_be_had_twice(both: Any, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    source = str(tmp_path / "data")
    pair = {"name": "x0", "type": "veth", "peer": {"addresses": ["10.5.0.1/24"]}}
    containers = {
        "web": {
            **MEMBER,
            "network": {"ports": ["8080:80"], "interfaces": [pair]},
            "mounts": [
                {"type": "bind", "source": source, "target": "/mnt"},
                {"type": "bind", "source": source, "target": "/opt", "options": ["ro"]},
                {"type": "bind", "source": "/dev/null", "target": "/srv"},
            ],
            "volumes": ["data:/media"],
            "expect": {
                "reachable": ["192.0.2.1:8080", "127.0.0.1:8080", "192.0.2.1:80"],
                "unreachable": ["10.91.0.3:8080", "10.91.0.1:8080"],
            },
        },
        "db": MEMBER,
    }
    networks = {**NETS, "out": {"external": "br0", "subnet": "10.93.0.0/24"}}
    original, read = both(containers=containers, networks=networks, volumes={"data": {}})
    found = [(d.code, d.path) for d in refusals(original, read, str(tmp_path / "copy"))]
    assert found == [
        ("NS622", path)
        for path in (
            "networks.out",
            "mounts[0]",
            "network.interfaces[0]",
            "expect.unreachable[1]",
            "expect.reachable[0]",
        )
    ]
    assert all(d.span is not None for d in refusals(original, read, str(tmp_path / "copy")))


def test_the_containers_of_a_copy(both: Any, tmp_path: Path) -> None:
    namespaces = ["mount", "uts", {"type": "network", "pin": str(tmp_path / "pin")}]
    containers = {
        "web": {
            **MEMBER,
            "namespaces": namespaces,
            "rootfs": "/",
            "network": {"ports": ["8080:80"]},
            "stop_timeout": "9s",
        },
        "db": {**MEMBER, "rootfs": {"path": "/", "readonly": True}},
    }
    _, read = both(containers=containers)
    (web,), (db,) = read.of("web"), read.of("db")
    spec = running(web.spec)
    assert spec.rootfs is not None and spec.rootfs.overlay == Overlay()
    assert spec.network is not None and spec.network.ports == ()
    assert all(n.pin is None for n in spec.namespaces) and spec.stop_timeout == 0
    assert running(db.spec).rootfs == db.spec.rootfs
    # Beside it on its networks; nobody there has its addresses.
    look = looking(read, web)
    assert look.rootfs == web.spec.rootfs and look.network is not None
    given = [str(a) for link in look.network.interfaces for a in link.addresses]
    assert given[:2] == ["10.91.0.254/24", "fd91::ffff:ffff:ffff:fffe/64"]
    assert look.name != web.spec.name


def test_there_may_be_no_address_for_who_looks(both: Any) -> None:
    member = {**MEMBER, "networks": ["n"]}
    _, read = both(networks={"n": {"subnet": "10.91.0.0/30"}}, containers={"a": member})
    with pytest.raises(NsrunError) as caught:
        looking(read, read.members[0])
    (one,) = caught.value.diagnostics
    assert (one.code, one.path) == ("NS622", "networks.n") and one.span is not None


def test_its_name_is_nobodys() -> None:
    assert new_name("shop") != new_name("shop")
    assert new_name("s" * 60).startswith("s" * 16 + "-v") and len(new_name("s" * 60)) < 30
