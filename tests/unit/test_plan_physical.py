"""An interface that is moved in is planned to come back as it was."""

from __future__ import annotations

import struct
from typing import Any

from nsrun.kernel.facts import LinkFact
from nsrun.kernel.values import Bytes
from nsrun.plan.ops import Netlink, Op
from nsrun.plan.wanted import wanted
from tests.support.planning import ROOT, knowing, lines, only, planned, spec_of

KEYS: dict[str, Any] = {
    "namespaces": ["mount", "network"],
    "network": {"interfaces": [{"name": "wan0", "type": "physical", "parent": "eth1"}]},
}
BACK = [
    "rtnl link set 1000001 name eth1 netns %home index %eth1",
    "rtnl link set 1000001 name eth1 netns %home",
]
# struct ifaddrmsg and IFA_LOCAL; struct rtmsg, RTA_GATEWAY and RTA_OIF, of interface 7.
ADDRESS = struct.pack("=BBBBI", 2, 24, 0x80, 0, 7) + struct.pack("=HH4B", 8, 2, 10, 1, 1, 2)
GATEWAY = struct.pack("=HH4B", 8, 5, 10, 1, 1, 1)
ROUTE = (
    struct.pack("=BBBBBBBBI", 2, 0, 0, 0, 254, 4, 0, 1, 0x10)
    + GATEWAY
    + struct.pack("=HHI", 8, 4, 7)
)


def undone(links: dict[str, LinkFact]) -> list[Op]:
    """What is undone even where the move's own answer was lost."""
    return list(only(planned(knowing(ROOT, links=links), **KEYS), "come back").undo)


def messages(ops: list[Op]) -> list[Bytes]:
    return [op.message for op in ops if isinstance(op, Netlink)]


def test_the_query_asks_for_it() -> None:
    assert wanted(spec_of(**KEYS)).physical == ("eth1",)
    joined = {**KEYS, "namespaces": ["mount"], "network": None}
    assert wanted(spec_of(**joined)).physical == ()


def test_what_was_down_and_bare_is_only_moved() -> None:
    for links in ({}, {"eth1": LinkFact(up=False)}):
        assert [m.text for m in messages(undone(links))] == BACK


def test_it_is_given_again_what_it_had() -> None:
    fact = LinkFact(up=True, master="br0", addresses=(ADDRESS,), routes=(ROUTE,))
    ops = undone({"eth1": fact})
    assert [m.text for m in messages(ops)] == [
        *BACK,
        "rtnl link set %eth1_back master %br0",
        "rtnl addr add 10.1.1.2/24 dev eth1 %eth1_back",
        "rtnl link set %eth1_back up",
        "rtnl route add default via 10.1.1.1 dev eth1 %eth1_back",
    ]


def test_only_the_index_is_another() -> None:
    """And flags that are a route's state, which the kernel refuses, are not asked for."""
    fact = LinkFact(up=True, addresses=(ADDRESS,), routes=(ROUTE,))
    address, _, route = messages(undone({"eth1": fact}))[2:]
    assert address.value[16:] == ADDRESS[:4] + bytes(4) + ADDRESS[8:]
    assert [hole.offset for hole in address.holes] == [16 + 4]
    assert route.value[16:] == ROUTE[:8] + bytes(4) + GATEWAY + ROUTE[20:24] + bytes(4)
    assert [hole.offset for hole in route.holes] == [16 + 12 + 8 + 4]


def test_what_has_come_by_itself_is_no_failure() -> None:
    fact = LinkFact(up=True, addresses=(ADDRESS,), routes=(ROUTE,))
    ops = [op for op in undone({"eth1": fact}) if isinstance(op, Netlink)]
    assert all(op.accept == ("EEXIST",) for op in ops[2:])


def test_it_moves_in_one_step_which_is_undone_by_a_number_known_before() -> None:
    """Whatever fails after it, it can be taken back: also where nobody else may be asked."""
    other = {"name": "wan1", "type": "physical", "parent": "eth2"}
    both = {"interfaces": [*KEYS["network"]["interfaces"], other]}
    plan = planned(ROOT, namespaces=["mount", "network"], network=both)
    for name, inner, number in (("eth1", "wan0", 1_000_001), ("eth2", "wan1", 1_000_002)):
        moved = only(plan, f"move {name}")
        (text,) = (m.text for m in messages(list(moved.steps)))
        assert len(moved.steps) == 1
        assert text == f"rtnl link set %{name} name {inner} netns %child index {number}"
        (first,) = (op for op in moved.undo if isinstance(op, Netlink))
        before = plan.actions[plan.actions.index(moved) - 1]
        again, second = (op for op in before.undo if isinstance(op, Netlink))
        assert again == first
        assert f"link set {number} name {name} netns %home" in first.message.text
        assert first.message.text.endswith(f" index %{name}")
        assert first.accept == ("EBUSY", "ENODEV")
        assert second.accept == ("ENODEV",)


def test_its_sysctls_are_written_before_it_is_up() -> None:
    fact = LinkFact(up=True, sysctls=(("net/ipv6/conf/eth1/disable_ipv6", "1"),))
    steps = lines(undone({"eth1": fact}))
    (opened,) = (n for n, s in enumerate(steps) if "/proc/sys/net/ipv6/conf/eth1/disable_ipv6" in s)
    assert '"1"' in steps[opened + 1]
    assert steps[opened + 3].endswith("up")
