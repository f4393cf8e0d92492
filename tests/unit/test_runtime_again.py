"""Which failures have passed by themselves: told apart from those that have not."""

from __future__ import annotations

import dataclasses
import errno
from collections.abc import Callable, Iterator
from types import MappingProxyType

import pytest

from nsrun.host import links
from nsrun.kernel.facts import Forwarding, Switch
from nsrun.plan.model import Placed, Plan, Track
from nsrun.plan.ops import Netlink, Op
from nsrun.replay.outcome import Failure, Kind, Outcome, UndoFailure
from nsrun.runtime import again
from tests.support.planning import ROOT, knowing, lines, planned

UP0 = "net/ipv4/conf/up0/forwarding"


@pytest.fixture(scope="module")
def plan() -> Plan:
    """A pair with the host, one with a named namespace, and a switch that others need too."""
    forwarding = Forwarding(
        netns=7,
        ipv4=("up0",),
        switches=MappingProxyType({UP0: Switch(on=False, ours=False)}),
    )
    facts = knowing(
        ROOT, forwarding=forwarding, helpers={"nft": "/usr/sbin/nft"}, state="/run/nsrun"
    )
    pairs = [
        {"name": "eth0", "type": "veth", "addresses": ["10.0.0.2/24"]},
        {"name": "eth1", "type": "veth", "peer": {"name": "far", "netns": "/run/netns/blue"}},
    ]
    network = {"interfaces": pairs, "masquerade": True}
    return planned(facts, name="web", namespaces=["mount", "network"], network=network)


class Host:
    """What is looked at: ``there`` are names of links in the caller's network namespace and in
    others by their files; a link goes after it was looked for ``looks`` times."""

    def __init__(self) -> None:
        self.there: dict[str | None, set[str]] = {}
        self.looks = 3
        self.running = False
        self.asked: list[tuple[str, str | None]] = []

    def is_there(self, name: str, netns: str | None = None) -> bool:
        self.asked.append((name, netns))
        if len(self.asked) > self.looks:
            self.there = {}
        return name in self.there.get(netns, set())


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    made = Host()
    monkeypatch.delenv("NSRUN_REPLAYS", raising=False)
    monkeypatch.setattr(links, "is_there", made.is_there)
    monkeypatch.setattr(again, "_runs", lambda container: made.running)
    monkeypatch.setattr(again, "_PAUSE", 0)
    monkeypatch.setattr(again, "_PATIENCE", 0.05)
    yield made


def step(plan: Plan, words: str, chosen: Callable[[Op], bool] = lambda op: True) -> Placed:
    """The first step of the parent's that its action and the listing describe so."""
    return next(
        p
        for p in plan.track(Track.PARENT)
        if words in f"{p.action.what}: {lines([p.op])[0]}" and chosen(p.op)
    )


def failed(
    placed: Placed, error: int = errno.EEXIST, kind: Kind = Kind.ERRNO, **others: object
) -> Outcome:
    failure = Failure(track=placed.track, index=placed.index, kind=kind, errno=error)
    return dataclasses.replace(Outcome(status=125, failure=failure), **others)  # type: ignore[arg-type]


def pair(plan: Plan) -> Placed:
    return step(plan, "link add ve-web ")


# --- a name that is about to be free ------------------------------------------------------------


def test_a_name_that_becomes_free_is_waited_for(plan: Plan, host: Host) -> None:
    host.there = {None: {"ve-web"}}
    assert again.has_passed(plan, failed(pair(plan)))
    assert set(host.asked) == {("ve-web", None)}
    assert len(host.asked) == host.looks + 1


def test_a_name_of_another_namespace_is_looked_for_there(plan: Plan, host: Host) -> None:
    host.there = {"/run/netns/blue": {"far"}}
    assert again.has_passed(plan, failed(step(plan, "link add far ")))
    assert set(host.asked) == {("far", "/run/netns/blue")}


def test_a_name_that_stays_taken_is_told_of(plan: Plan, host: Host) -> None:
    host.there, host.looks = {None: {"ve-web"}}, 10**9
    assert not again.has_passed(plan, failed(pair(plan)))
    assert len(host.asked) > 1


def test_a_name_of_a_container_that_runs_is_not_waited_for(plan: Plan, host: Host) -> None:
    host.there, host.looks, host.running = {None: {"ve-web"}}, 10**9, True
    assert not again.has_passed(plan, failed(pair(plan)))
    assert len(host.asked) == 1


@pytest.mark.parametrize("error", [errno.EPERM, errno.ENODEV, errno.EOPNOTSUPP, errno.EBUSY])
def test_other_errors_of_a_link_do_not_pass(plan: Plan, host: Host, error: int) -> None:
    assert not again.has_passed(plan, failed(pair(plan), error))
    assert host.asked == []


def test_other_messages_that_meet_what_is_there_do_not_pass(plan: Plan, host: Host) -> None:
    """An address that an interface has already."""
    network = {"interfaces": [{"name": "eth0", "type": "veth", "peer": {
        "addresses": ["10.0.0.1/24"]}}]}  # fmt: skip
    other = planned(ROOT, name="web", namespaces=["network"], network=network)
    address = step(other, "addr add", lambda op: isinstance(op, Netlink))
    assert not again.has_passed(other, failed(address))
    assert host.asked == []


# --- a mark that has just gone ------------------------------------------------------------------


def test_a_mark_that_was_removed_meanwhile(plan: Plan, host: Host) -> None:
    """statx(2) finds no link to it any more."""
    gone = step(plan, "keep net.ipv4.conf.up0.forwarding", lambda op: "statx" in lines([op])[0])
    assert again.has_passed(plan, failed(gone, 0, Kind.EXPECT))


def test_a_folder_that_was_removed_meanwhile(plan: Plan, host: Host) -> None:
    mark = step(plan, "hold net.ipv4.conf.up0.forwarding")
    assert again.has_passed(plan, failed(mark, errno.ENOENT))
    for error in (errno.EACCES, errno.ENOSPC, errno.ELOOP):
        assert not again.has_passed(plan, failed(mark, error))


def test_what_else_is_missing_does_not_pass(plan: Plan, host: Host) -> None:
    blue = step(plan, "go into the network namespace of /run/netns/blue")
    written = step(plan, "set net.ipv4.conf.up0.forwarding to 1")
    for placed in (blue, written):
        assert not again.has_passed(plan, failed(placed, errno.ENOENT))


# --- never --------------------------------------------------------------------------------------


def test_what_did_not_fail_or_went_too_far_is_not_replayed(plan: Plan, host: Host) -> None:
    failure = failed(pair(plan))
    left = UndoFailure(action=0, step=0, what="x", kind=Kind.ERRNO, errno=errno.EPERM)
    for outcome in (
        Outcome(status=0, started=True),
        dataclasses.replace(failure, started=True),
        dataclasses.replace(failure, interrupted=True),
        dataclasses.replace(failure, undo_failures=(left,)),
    ):
        assert not again.has_passed(plan, outcome)
    assert again.has_passed(plan, failure), "the control"


def test_a_failure_of_the_childs_does_not_pass(plan: Plan, host: Host) -> None:
    number = pair(plan).index
    failure = Failure(track=Track.CHILD, index=number, kind=Kind.ERRNO, errno=errno.EEXIST)
    assert not again.has_passed(plan, Outcome(status=125, failure=failure))
    before = Failure(track=Track.PARENT, index=-1, kind=Kind.ERRNO, errno=errno.EEXIST)
    assert not again.has_passed(plan, Outcome(status=125, failure=before))


def test_it_comes_to_an_end(plan: Plan, host: Host) -> None:
    """The kernel refuses a pair for its inner name too, which nobody frees."""
    counts = 0
    while again.has_passed(plan, failed(pair(plan))):
        counts += 1
        assert counts < 100
    assert counts == 10


def test_a_count_that_is_none_begins_anew(
    plan: Plan, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NSRUN_REPLAYS", "-x")
    assert again.has_passed(plan, failed(pair(plan)))
