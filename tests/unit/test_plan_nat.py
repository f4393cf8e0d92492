"""The rules of nftables that a network asks for, as text."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
from types import MappingProxyType
from typing import Any

import pytest

from nsrun.diag import NsrunError
from nsrun.kernel.facts import Facts, Forwarding, Switch
from nsrun.plan import binary
from nsrun.plan.build import plan
from nsrun.plan.ops import Spawn
from tests.support.planning import ROOT, spec_of
from tests.support.requires import requires

OFF, OURS, ON = (
    Switch(on=False, ours=False),
    Switch(on=True, ours=True),
    Switch(on=True, ours=False),
)


def host(switch: Switch = OFF, *ways: str, **others: Any) -> Facts:
    """A host whose ways out are switched like this; its IPv6 interfaces each for themselves."""
    names = (*(ways or ("eth0",)), "br0")
    switches = {f"net/ipv4/conf/{name}/forwarding": switch for name in names}
    switches |= {f"net/ipv6/conf/{name}/force_forwarding": switch for name in (*names, "lo")}
    forwarding = Forwarding(netns=1, ipv4=names, ipv6=names, switches=MappingProxyType(switches))
    helpers = MappingProxyType({"nft": "/usr/sbin/nft", "slirp4netns": "/usr/bin/slirp4netns"})
    return dataclasses.replace(
        ROOT, forwarding=forwarding, helpers=helpers, state="/run/nsrun", **others
    )


def network(*addresses: str, bridge: str | None = None, **more: Any) -> dict[str, Any]:
    peer: dict[str, Any] = {"addresses": ["10.1.0.1/24"]} if bridge is None else {"bridge": bridge}
    link = {"name": "eth0", "type": "veth", "addresses": list(addresses), "peer": peer}
    return {"interfaces": [link], **more}


def rules(facts: Facts, wanted: dict[str, Any]) -> str:
    spec = spec_of(name="web", namespaces=["mount", "network"], network=wanted)
    made = plan(spec, facts)
    texts = [
        step.stdin.text
        for action in made.actions
        for step in action.steps
        if isinstance(step, Spawn) and step.stdin is not None
    ]
    assert len(texts) == 1
    return str(texts[0])


def chain(text: str, name: str) -> list[str]:
    """The rules of a chain; none where there is no such chain."""
    body = text.partition(f"\tchain {name} {{\n")[2].partition("\n\t}")[0]
    return [line.strip() for line in body.split("\n")[1:]]


def test_the_ways_out_are_guarded_where_nsrun_alone_opens_them() -> None:
    wanted = network("10.1.0.2/24", masquerade=True)
    guard = 'iifname "eth0" oifname != "eth0" drop'
    for switch, guarded in ((OFF, True), (OURS, True), (ON, False)):
        found = [rule for rule in chain(rules(host(switch), wanted), "forwarded") if guard in rule]
        assert bool(found) is guarded, switch
        assert all(rule.startswith("meta nfproto ipv4 meta mark & ") for rule in found)


def test_a_container_on_a_bridge_marks_its_packets_and_no_others() -> None:
    text = rules(host(), network("10.1.0.2/24", "10.1.0.3/24", bridge="br0", masquerade=True))
    assert chain(text, "marked") == [
        'ip saddr { 10.1.0.2, 10.1.0.3 } iifname "br0" meta mark set meta mark | 0x8000000'
    ]
    assert chain(text, "unmarked") == ["meta mark set meta mark & 0xf7ffffff"]
    assert any('iifname "br0" oifname != "br0" drop' in r for r in chain(text, "forwarded"))
    alone = rules(host(), network("10.1.0.2/24", masquerade=True))
    assert chain(alone, "marked") == []
    assert chain(alone, "unmarked") == []


def test_the_loopback_is_guarded_where_it_is_opened() -> None:
    guarded = ['iifname "ve-web" ip daddr 127.0.0.0/8 drop',
               'iifname "ve-web" ip saddr 127.0.0.0/8 drop']  # fmt: skip
    for port, wanted in (("80:80", guarded), ("127.0.0.1:80:80", guarded), ("10.9.9.9:80:80", [])):
        assert chain(rules(host(), network("10.1.0.2/24", ports=[port])), "spoofed") == wanted
    only = rules(host(), network("10.1.0.2/24", ports=["127.0.0.1:80:80"]))
    assert chain(only, "incoming") == []
    assert len(chain(only, "outgoing")) == 1


@pytest.mark.parametrize("name", ['e"', "e\\", "eth*"])
def test_a_way_out_that_nft_would_misread_is_refused(name: str) -> None:
    with pytest.raises(NsrunError, match="nft cannot be told of an interface"):
        rules(host(OFF, name), network("10.1.0.2/24", masquerade=True))


@requires("nft", "root")
def test_nft_takes_every_form() -> None:
    """Overlapping networks, ranges, both families, all protocols."""
    ports = ["80:80", "[::]:81:81/udp", "127.0.0.1:90-92:190-192", "10.0.0.1:99-100:99-100/udp"]
    for bridge in (None, "br0"):
        wanted = network(
            "10.1.0.2/24", "10.1.1.2/16", "fd00::2/64", "fd00::3/48",
            bridge=bridge, masquerade=True, ports=ports,
        )  # fmt: skip
        text = rules(host(), wanted)
        nft = shutil.which("nft")
        done = subprocess.run(
            ("unshare", "-n", str(nft), "-c", "-f", "-"),
            input=text, text=True, capture_output=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr + text


def test_a_plan_with_slirp4netns_is_the_same_when_it_is_read_again() -> None:
    spec = spec_of(name="web", namespaces=["user", "mount", "network"], network={"mode": "user"})
    data = binary.encode(plan(spec, host()))
    assert binary.encode(binary.decode(data)) == data
