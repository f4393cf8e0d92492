"""What is switched on so that a container's packets pass, by what is on already."""

from __future__ import annotations

import dataclasses
from types import MappingProxyType
from typing import Any

import pytest

from nsrun.kernel.facts import Facts, Forwarding, Switch
from nsrun.kernel.values import Call
from nsrun.plan.model import Plan, Track
from nsrun.plan.ops import Op, Spawn
from nsrun.plan.wanted import wanted
from tests.support.planning import (
    ROOT,
    has,
    knowing,
    lines,
    only,
    order,
    planned,
    refused,
    spec_of,
)

OFF, OURS, ON = (
    Switch(on=False, ours=False),
    Switch(on=True, ours=True),
    Switch(on=True, ours=False),
)
ALL_IPV6 = "net/ipv6/conf/all/forwarding"
STATE = "/run/nsrun"
UP0_V4, UP0_V6 = "net/ipv4/conf/up0/forwarding", "net/ipv6/conf/up0/force_forwarding"


def host(**switches: Switch) -> Facts:
    """One way out, up0, all off but what is said; ``forced``: an interface forwards IPv6 for
    itself, as since Linux 6.17."""
    forced = switches.pop("forced", None) is not None
    known = {UP0_V4: OFF, ALL_IPV6: OFF, "net/ipv4/conf/br0/forwarding": OFF,
             "net/ipv4/conf/br0/route_localnet": OFF}  # fmt: skip
    if forced:
        known |= {f"net/ipv6/conf/{n}/force_forwarding": OFF for n in ("lo", "up0", "br0")}
    names = {"v4": UP0_V4, "v6": UP0_V6, "all": ALL_IPV6, "br0": "net/ipv4/conf/br0/forwarding"}
    known |= {names[name]: switch for name, switch in switches.items()}
    forwarding = Forwarding(
        netns=7, ipv4=("up0",), ipv6=("up0",), switches=MappingProxyType(known)
    )
    return knowing(ROOT, forwarding=forwarding, helpers={"nft": "/usr/sbin/nft"}, state=STATE)


def translated(
    facts: Facts, *addresses: str, bridge: str | None = None, ports: tuple[str, ...] = ()
) -> Plan:
    peer = {"bridge": bridge} if bridge else {}
    link = {"name": "eth0", "type": "veth", "addresses": list(addresses), "peer": peer}
    network: dict[str, Any] = {"interfaces": [link], "masquerade": True, "ports": list(ports)}
    return planned(facts, name="web", namespaces=["mount", "network"], network=network)


def turned_on(plan: Plan) -> dict[str, bool]:
    """The switches, in order, and whether each is shared with other containers."""
    found = {}
    for action in plan.actions:
        if action.what.startswith("set net.") and action.track is Track.PARENT:
            name = action.what.removeprefix("set ").removesuffix(" to 1")
            found[name] = has(plan, f"keep {name} while containers need it")
    return found


V4, V6 = "10.0.0.2/24", "fd00::2/64"
forced = ON


# --- which --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "addresses", "switches"),
    [
        (
            host(),
            [V4],
            {"net.ipv4.conf.ve-web.forwarding": False, "net.ipv4.conf.up0.forwarding": True},
        ),
        (host(v4=OURS), [V4], {"net.ipv4.conf.ve-web.forwarding": False,
                               "net.ipv4.conf.up0.forwarding": True}),
        (host(v4=ON), [V4], {"net.ipv4.conf.ve-web.forwarding": False}),
        # Before Linux 6.17 all of IPv6 or nothing.
        (host(), [V6], {"net.ipv6.conf.all.forwarding": True}),
        (host(all=OURS), [V6], {"net.ipv6.conf.all.forwarding": True}),
        (host(all=ON), [V6], {}),
        # Since then each interface for itself.
        (
            host(forced=forced),
            [V6],
            {
                "net.ipv6.conf.ve-web.force_forwarding": False,
                "net.ipv6.conf.up0.force_forwarding": True,
            },
        ),
        (host(forced=forced, v6=ON), [V6], {"net.ipv6.conf.ve-web.force_forwarding": False}),
        # What forwards for the whole of IPv6 does so for each, unless the last container stops it.
        (host(forced=forced, all=ON), [V6], {}),
        (
            host(forced=forced, all=OURS),
            [V6],
            {
                "net.ipv6.conf.ve-web.force_forwarding": False,
                "net.ipv6.conf.up0.force_forwarding": True,
            },
        ),
        (
            host(),
            [V4, V6],
            {
                "net.ipv4.conf.ve-web.forwarding": False,
                "net.ipv4.conf.up0.forwarding": True,
                "net.ipv6.conf.all.forwarding": True,
            },
        ),
    ],
)  # fmt: skip
def test_what_is_turned_on(
    facts: Facts, addresses: list[str], switches: dict[str, bool]
) -> None:
    found = turned_on(translated(facts, *addresses))
    assert list(found.items()) == list(switches.items())


def test_a_bridge_is_the_hosts_and_shared() -> None:
    assert turned_on(translated(host(), V4, bridge="br0")) == {
        "net.ipv4.conf.br0.forwarding": True,
        "net.ipv4.conf.up0.forwarding": True,
    }
    assert turned_on(translated(host(br0=ON), V4, bridge="br0")) == {
        "net.ipv4.conf.up0.forwarding": True
    }


def test_several_addresses_turn_each_switch_on_once() -> None:
    assert len(turned_on(translated(host(), V4, "10.0.1.2/24", V6, "fd01::2/64"))) == 3


@pytest.mark.parametrize(
    ("port", "needed"),
    [
        ("80:80", True),
        ("127.0.0.1:80:80", True),
        ("127.9.9.9:80:80", True),
        ("192.0.2.1:80:80", False),
    ],
)
def test_a_port_of_the_hosts_loopback_is_let_in(port: str, needed: bool) -> None:
    for bridge, link in ((None, "ve-web"), ("br0", "br0")):
        found = turned_on(translated(host(), V4, bridge=bridge, ports=(port,)))
        key = f"net.ipv4.conf.{link}.route_localnet"
        assert (key in found) is needed
        if needed:
            assert found[key] is (bridge is not None)


# --- how ----------------------------------------------------------------------------------------


def mark(key: str) -> str:
    return f"{STATE}/switch-7-{key.replace('/', '.')}"


def test_a_shared_switch_is_marked_before_it_is_turned_on() -> None:
    plan = translated(host(), V4)
    order(plan, Track.PARENT, "translate addresses by the table nsrun-web",
          "set net.ipv4.conf.ve-web.forwarding to 1", f"make {STATE}",
          "hold net.ipv4.conf.up0.forwarding together", "keep net.ipv4.conf.up0.forwarding while",
          "set net.ipv4.conf.up0.forwarding to 1", "tell the child")  # fmt: skip
    (made,) = lines(only(plan, "hold net.ipv4.conf.up0.forwarding"))
    assert f'"{mark(UP0_V4)}"' in made
    assert "O_CREAT" in made and "O_NOFOLLOW" in made
    locked, looked = lines(only(plan, "keep net.ipv4.conf.up0.forwarding"))
    assert "LOCK_SH" in locked
    assert looked.startswith("statx(")
    opened, written, closed = lines(only(plan, "set net.ipv4.conf.up0.forwarding to 1"))
    assert f'"/proc/sys/{UP0_V4}"' in opened
    assert '"1"' in written and closed.startswith("close(")


def test_only_the_last_turns_it_off_and_removes_the_mark() -> None:
    """Undone last first: the switch is off before the mark is gone, and the mark before the
    folder; each is left out while others have the lock."""
    plan = translated(host(), V4)
    off, gone = only(plan, "keep net.ipv4").undo, only(plan, "hold net.ipv4").undo
    removing = f'unlinkat(AT_FDCWD, "{mark(UP0_V4)}"'
    for undo, what in ((off, f'"/proc/sys/{UP0_V4}"'), (gone, removing)):
        let_go, opened, alone, *rest = undo
        assert "LOCK_UN" in text(let_go)
        assert mark(UP0_V4) in text(opened) and skip(opened) == ("ENOENT",)
        assert "LOCK_EX|LOCK_NB" in text(alone) and skip(alone) == ("EAGAIN",)
        assert what in text(rest[0])
    assert '"0"' in text(off[4])
    assert only(plan, "set net.ipv4.conf.up0.forwarding").undo == ()
    (folder,) = only(plan, f"make {STATE}").undo
    assert isinstance(folder, Call)
    assert set(folder.accept) == {"ENOTEMPTY", "ENOENT"}


def text(op: Op) -> str:
    return lines([op])[0]


def skip(op: Op) -> tuple[str, ...]:
    assert isinstance(op, Call)
    return op.skip


def test_the_containers_own_link_takes_its_switches_along() -> None:
    assert only(translated(host(), V4), "set net.ipv4.conf.ve-web.forwarding").undo == ()


def test_the_folder_is_made_once() -> None:
    plan = translated(host(), V4, V6)
    only(plan, f"make {STATE}")


def test_who_has_no_folder_cannot_share() -> None:
    facts = dataclasses.replace(host(), state=None)
    link = {"name": "eth0", "type": "veth", "addresses": [V4]}
    network = {"interfaces": [link], "masquerade": True}
    keys: dict[str, Any] = {"namespaces": ["mount", "network"], "network": network}
    assert refused(facts, **keys) == [("NS402", "network.masquerade")]
    # Where nothing is to be shared no folder is needed.
    on = dataclasses.replace(host(v4=ON), state=None)
    assert not has(planned(on, **keys), f"make {STATE}")


# --- the whole ----------------------------------------------------------------------------------


def table(plan: Plan) -> str:
    (spawn,) = only(plan, "translate addresses").steps
    assert isinstance(spawn, Spawn) and spawn.stdin is not None
    return str(spawn.stdin.text).replace("\t", "  ")


def test_the_rules_of_a_small_spec() -> None:
    assert table(translated(host(v4=ON), V4)) == """\
create table inet nsrun-web { comment "nsrun: container web"; }
table inet nsrun-web {
  chain forwarded {
    type filter hook forward priority filter; policy accept;
    ct state established,related accept
    ct status dnat accept
    meta nfproto ipv4 oifname "ve-web" iifname != "ve-web" drop
    meta nfproto ipv4 iifname "ve-web" ct state invalid drop
  }
  chain leaving {
    type nat hook postrouting priority srcnat; policy accept;
    meta nfproto ipv4 iifname "ve-web" oifname != "ve-web" masquerade
  }
}
"""


def test_the_table_goes_as_a_whole() -> None:
    (gone,) = only(translated(host(), V4), "translate addresses").undo
    assert isinstance(gone, Spawn) and gone.stdin is not None
    # Named once more first: a table that is not there is no error then.
    assert gone.stdin.text == "table inet nsrun-web\ndelete table inet nsrun-web\n"


def test_what_is_to_be_known_is_asked_for() -> None:
    def query(**network: Any) -> Any:
        link = {"name": "eth0", "type": "veth", "addresses": [V4], "peer": {"bridge": "br0"}}
        spec = spec_of(namespaces=["network"], network={"interfaces": [link], **network})
        return wanted(spec)

    for network in ({"masquerade": True}, {"ports": ["80:80"]}):
        found = query(**network)
        assert found.forwarding
        assert (found.helpers, found.bridges) == (("nft",), ("br0",))
    assert not query().forwarding
    assert (query().helpers, query().bridges) == ((), ())


def test_nft_is_missing() -> None:
    facts = dataclasses.replace(host(), helpers=MappingProxyType({}))
    link = {"name": "eth0", "type": "veth", "addresses": [V4]}
    for network, at in (({"masquerade": True}, "masquerade"), ({"ports": ["80:80"]}, "ports")):
        keys = {"namespaces": ["network"], "network": {"interfaces": [link], **network}}
        assert refused(facts, **keys) == [("NS410", f"network.{at}")]
