"""Reading the ways out of a network from the kernel's tables, and what forwards through them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from nsrun.host import forwarding, paths
from nsrun.kernel.facts import Switch, switch_mark

ROUTE = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT"
OFF, ON = Switch(on=False, ours=False), Switch(on=True, ours=False)
OURS = Switch(on=True, ours=True)
ALL = "net/ipv6/conf/all/forwarding"


def route(name: str, flags: int = 3, to: str = "00000000") -> str:
    """A line as the kernel writes it (net/ipv4/fib_trie.c, fib_route_seq_show)."""
    line = f"{name}\t{to}\t010200C0\t{flags:04X}\t0\t0\t0\t00000000\t0\t0\t0"
    return line.ljust(127)


def address(name: str, scope: int = 0, value: str = "fd00") -> str:
    """A line as the kernel writes it (net/ipv6/addrconf.c, if6_seq_show)."""
    return f"{value.ljust(32, '0')} 02 40 {scope:02x} 80 {name:>8}"


Known = Callable[..., None]


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> Known:
    """Have the kernel tell these tables and sysctls; nothing else is there."""

    def tell(
        routes: Iterable[str] = (), addresses: Iterable[str] = (), **switches: str
    ) -> None:
        texts = {"/proc/net/route": "\n".join([ROUTE, *routes, ""])}
        texts["/proc/net/if_inet6"] = "\n".join([*addresses, ""])
        texts |= {f"/proc/sys/{key}": value for key, value in switches.items()}
        monkeypatch.setattr(paths, "read_file", lambda path, limit=0: texts.get(path))

    return tell


def ways() -> tuple[tuple[str, ...], tuple[str, ...]]:
    found = forwarding.look((), None)
    return found.ipv4, found.ipv6


# --- ways out -----------------------------------------------------------------------------------


def test_interfaces_with_routes(known: Known) -> None:
    known([route("eth0"), route("wlan0", 1, "0002A8C0"), route("eth0", 1, "000200C0")])
    assert ways() == (("eth0", "wlan0"), ())


def test_routes_that_lead_nowhere(known: Known) -> None:
    """RTF_REJECT: an unreachable one names no interface, or one that is not used."""
    known([route("*", 0x201), route("eth1", 0x201), route("eth0")])
    assert ways() == (("eth0",), ())


def test_interfaces_with_addresses_that_reach_further(known: Known) -> None:
    known(
        addresses=[
            address("lo", 0x10, "0" * 31 + "1"),
            address("eth0", 0x20, "fe80"),
            address("eth1", 0x20, "fe80"),
            address("eth1"),
            address("eth2", 0x40, "fec0"),
        ]
    )
    assert ways() == ((), ("eth1", "eth2"))


def test_what_belongs_to_containers_is_no_way_out(known: Known) -> None:
    names = ("lo", "ve-web", "ve-web+1", "nsb-shop-front", "veth0", "nsb")
    known([route(n) for n in names], [address(n) for n in names])
    assert ways() == (("nsb", "veth0"), ("nsb", "veth0"))


def test_a_kernel_without_ipv6_or_without_routes(
    known: Known, monkeypatch: pytest.MonkeyPatch
) -> None:
    known()
    assert ways() == ((), ())
    monkeypatch.setattr(paths, "read_file", lambda path, limit=0: None)
    assert ways() == ((), ())


def test_the_order_is_the_same_whatever_the_tables_is(known: Known) -> None:
    lines = [route(name) for name in ("c", "a", "b", "a")]
    for routes in (lines, lines[::-1]):
        known(routes)
        assert ways()[0] == ("a", "b", "c")


# --- switches -----------------------------------------------------------------------------------


def test_switches_of_the_ways_out_and_of_bridges(known: Known) -> None:
    own = {
        "net/ipv4/conf/eth0/forwarding": "0\n",
        "net/ipv4/conf/br0/forwarding": "1\n",
        "net/ipv4/conf/br0/route_localnet": "0\n",
        "net/ipv6/conf/lo/force_forwarding": "0\n",
        "net/ipv6/conf/eth0/force_forwarding": "1\n",
        ALL: "2\n",
    }
    others = {"net/ipv4/conf/eth1/forwarding": "1\n", "net/ipv4/ip_forward": "1\n"}
    known([route("eth0")], [address("eth0")], **own, **others)
    found = forwarding.look(("br0",), None)
    assert dict(found.switches) == {
        key: OFF if value == "0\n" else ON for key, value in own.items()
    }
    assert found.netns == os.stat("/proc/self/ns/net").st_ino


def test_a_switch_that_is_not_there_is_not_known(known: Known) -> None:
    """Before Linux 6.17 no interface forwards IPv6 for itself."""
    known([route("eth0")], [address("eth0")], **{ALL: "0\n"})
    assert list(forwarding.look((), None).switches) == [ALL]


def test_marks_tell_what_is_nsruns(known: Known, tmp_path: Path) -> None:
    keys = ["net/ipv4/conf/eth0/forwarding", ALL]
    known([route("eth0")], **dict.fromkeys(keys, "1\n"))
    state = str(tmp_path)
    assert set(forwarding.look((), state).switches.values()) == {ON}
    Path(switch_mark(state, forwarding.netns(), ALL)).touch()
    # That of another network namespace, with the same name.
    Path(switch_mark(state, 1, keys[0])).touch()
    assert dict(forwarding.look((), state).switches) == {keys[0]: ON, ALL: OURS}


def test_a_mark_is_one_file(tmp_path: Path) -> None:
    mark = switch_mark(str(tmp_path), 7, "net/ipv4/conf/eth0/forwarding")
    assert mark == f"{tmp_path}/switch-7-net.ipv4.conf.eth0.forwarding"


# --- what the answer depends on -----------------------------------------------------------------


def test_the_files_that_were_looked_at(known: Known, tmp_path: Path) -> None:
    known([route("eth0")], [address("eth1")])
    files, marks = forwarding.files(("br0",), str(tmp_path))
    assert files[:2] == ["/proc/net/route", "/proc/net/if_inet6"]
    assert set(files[2:]) == {
        "/proc/sys/net/ipv4/conf/eth0/forwarding",
        "/proc/sys/net/ipv4/conf/br0/forwarding",
        "/proc/sys/net/ipv4/conf/br0/route_localnet",
        "/proc/sys/net/ipv6/conf/lo/force_forwarding",
        "/proc/sys/net/ipv6/conf/eth1/force_forwarding",
        "/proc/sys/net/ipv6/conf/br0/force_forwarding",
        f"/proc/sys/{ALL}",
    }
    assert len(marks) == len(files) - 2
    assert all(mark.startswith(f"{tmp_path}/switch-{forwarding.netns()}-net.") for mark in marks)


def test_the_files_of_a_plan_are_in_one_order(known: Known) -> None:
    """What is kept with a plan is compared as it is written."""
    names = [f"eth{n}" for n in range(20)]
    known([route(n) for n in names])
    first = forwarding.files((), None)
    known([route(n) for n in names[::-1]])
    assert forwarding.files((), None) == first
