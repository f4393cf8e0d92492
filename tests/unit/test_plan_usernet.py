"""``mode: user``: who shows what to whom, and how pasta and slirp4netns are called."""

from __future__ import annotations

from typing import Any

import pytest

from nsrun.kernel.facts import Facts
from nsrun.kernel.values import Call, Fmt, Str
from nsrun.plan import binary
from nsrun.plan.codec import dumps, loads
from nsrun.plan.model import Plan, Track
from nsrun.plan.ops import ReceiveFd, SendFd, Spawn
from nsrun.plan.wanted import wanted
from tests.support.planning import (
    ORDINARY,
    ROOT,
    has,
    knowing,
    lines,
    only,
    order,
    planned,
    refusals,
    spec_of,
)

NAMESPACES = ["user", "mount", "network"]
STATE = "/run/user/1000/nsrun"
BOTH = {"pasta": "/usr/bin/pasta", "slirp4netns": "/usr/bin/slirp4netns"}
PASTA, SLIRP = {"pasta": BOTH["pasta"]}, {"slirp4netns": BOTH["slirp4netns"]}


def user(helpers: dict[str, str] = PASTA, facts: Facts = ORDINARY, state: str = STATE) -> Facts:
    return knowing(facts, helpers=helpers, state=state or None)


def moved(
    facts: Facts, *ports: str, namespaces: list[str] = NAMESPACES, name: str = "web"
) -> Plan:
    network: dict[str, Any] = {"mode": "user", **({"ports": list(ports)} if ports else {})}
    return planned(facts, name=name, namespaces=namespaces, network=network)


def words(plan: Plan) -> list[str]:
    """The words that the helper is started with; registers by their names."""
    (spawn,) = (
        op for a in plan.actions if a.what.startswith(("start pasta", "start slirp")) for op in
        a.steps if isinstance(op, Spawn)
    )  # fmt: skip
    return [_shown(word) for word in spawn.argv]


def _shown(word: Str | Fmt) -> str:
    if isinstance(word, Str):
        return word.value
    return "".join(part if isinstance(part, str) else f"%{part.name}" for part in word.parts)


# --- which --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "helpers", "chosen"),
    [
        (ORDINARY, BOTH, "pasta"),
        (ORDINARY, SLIRP, "slirp4netns"),
        (ROOT, BOTH, "slirp4netns"),
        (ROOT, PASTA, "pasta"),
    ],
)
def test_who_moves_the_packets(facts: Facts, helpers: dict[str, str], chosen: str) -> None:
    plan = moved(user(helpers, facts))
    assert has(plan, f"start {chosen}, which moves")
    assert helpers[chosen] in words(plan)


def test_both_are_looked_for() -> None:
    spec = spec_of(namespaces=NAMESPACES, network={"mode": "user"})
    assert wanted(spec).helpers == ("pasta", "slirp4netns")
    assert not wanted(spec).forwarding


def test_neither_is_there() -> None:
    network = {"mode": "user"}
    (found,) = refusals(user({}), namespaces=NAMESPACES, network=network)
    assert (found.code, found.path) == ("NS410", "network.mode")
    assert found.help == ("apt install passt",)


def test_ports_take_pasta() -> None:
    network = {"mode": "user", "ports": ["8080:80"]}
    for facts, tip in ((ORDINARY, "apt install passt"), (ROOT, "use a veth with `ports`")):
        (found,) = refusals(user(SLIRP, facts), namespaces=NAMESPACES, network=network)
        assert (found.code, found.path) == ("NS410", "network.ports")
        assert found.help[0].startswith(tip)
    # Root's pasta gives its rights away: root is not told to install what is there.
    (found,) = refusals(user(BOTH, ROOT), namespaces=NAMESPACES, network=network)
    assert "apt install" not in found.help[0]


# --- how the namespaces come to it --------------------------------------------------------------


@pytest.mark.parametrize("helpers", [PASTA, SLIRP], ids=["pasta", "slirp4netns"])
def test_the_child_shows_its_namespaces_itself(helpers: dict[str, str]) -> None:
    """It is not dumpable: nobody else could open them."""
    plan = moved(user(helpers))
    order(plan, Track.CHILD, "show the launcher its network namespace",
          "show the launcher its user namespace", "wait for the network")  # fmt: skip
    order(plan, Track.PARENT, "take the network namespace", "take the user namespace",
          "know itself", "make /run/user/1000/nsrun", f"start {next(iter(helpers))}",
          "tell the child that its network is there")  # fmt: skip
    shown = [p.op.sync for p in plan.track(Track.CHILD) if isinstance(p.op, SendFd)]
    taken = [p.op.sync for p in plan.track(Track.PARENT) if isinstance(p.op, ReceiveFd)]
    assert shown == taken == ["netns", "userns"]
    opened = lines(only(plan, "show the launcher its network namespace"))[0]
    assert '"/proc/self/ns/net"' in opened


def test_a_helper_is_told_of_the_launchers_descriptors() -> None:
    found = words(moved(user(PASTA)))
    assert found[4:6] == ["/proc/%launcher/fd/%netns2", "/proc/%launcher/fd/%userns2"]
    found = words(moved(user(SLIRP)))
    assert "--userns-path=/proc/%launcher/fd/%userns2" in found
    assert found[-2:] == ["/proc/%launcher/fd/%netns2", "tap0"]


def test_without_a_user_namespace_none_is_shown() -> None:
    plan = moved(user(PASTA, ROOT), namespaces=["mount", "network"])
    assert not has(plan, "show the launcher its user namespace")
    found = words(plan)
    assert found[5] == "/dev/null"
    assert "--netns-only" in found and "--userns" not in found
    found = words(moved(user(SLIRP, ROOT), namespaces=["mount", "network"]))
    assert not [word for word in found if word.startswith("--userns-path")]


# --- pasta --------------------------------------------------------------------------------------


def options(plan: Plan) -> list[str]:
    """The options of pasta itself."""
    found = words(plan)
    return found[found.index("/usr/bin/pasta") + 1 :]


def pairs(plan: Plan, option: str) -> list[str]:
    found = options(plan)
    return [found[n + 1] for n, word in enumerate(found) if word == option]


def test_pasta_opens_no_way_to_the_hosts_loopback() -> None:
    found = options(moved(user()))
    assert "--no-map-gw" in found and "--config-net" in found
    plan = moved(user())
    for option in ("--tcp-ns", "--udp-ns", "--tcp-ports", "--udp-ports"):
        assert pairs(plan, option) == ["none"], option
    assert pairs(plan, "--dns-forward") == ["169.254.1.1"]
    assert pairs(plan, "--pid") == [f"{STATE}/web.usernet"]
    assert found[-4:] == ["--netns", "/proc/self/fd/0", "--userns", "/proc/self/fd/1"]


def test_published_ports_of_pasta() -> None:
    plan = moved(user(), "8080:80", "127.0.0.1:90-92:190-192", "5353:53/udp", "[::1]:70:70")
    assert pairs(plan, "--tcp-ports") == ["8080:80", "127.0.0.1/90-92:190-192", "::1/70:70"]
    assert pairs(plan, "--udp-ports") == ["5353:53"]


@pytest.mark.parametrize(
    ("port", "tried"),
    [
        ("80:80", ["80/tcp of IPv4", "80/tcp of IPv6"]),
        ("127.0.0.1:80:80", ["80/tcp of IPv4"]),
        ("[::1]:53:53/udp", ["53/udp of IPv6"]),
        ("80-81:80-81", ["80/tcp of IPv4", "81/tcp of IPv4", "80/tcp of IPv6", "81/tcp of IPv6"]),
        ("1000-1064:1000-1064", []),
    ],
)
def test_ports_are_tried_before(port: str, tried: list[str]) -> None:
    """pasta says nothing of one that somebody else has; many more than a list are not tried."""
    plan = moved(user(), port)
    prefix, suffix = "make sure that port ", " is free"
    found = [a.what.removeprefix(prefix).removesuffix(suffix) for a in plan.actions
             if a.what.startswith(prefix)]  # fmt: skip
    assert found == tried


def test_a_port_is_tried_and_let_go() -> None:
    plan = moved(user(), "80:80")
    steps = lines(only(plan, "make sure that port 80/tcp of IPv6 is free"))
    assert [step.partition("(")[0] for step in steps] == [
        "socket", "setsockopt", "setsockopt", "bind", "close",
    ]  # fmt: skip
    assert "SO_REUSEADDR" in steps[1]
    assert "IPV6_V6ONLY" in steps[2]
    assert 'port=80, "::"' in steps[3]


# --- its end ------------------------------------------------------------------------------------


@pytest.mark.parametrize("helpers", [PASTA, SLIRP], ids=["pasta", "slirp4netns"])
def test_it_is_ended_by_the_file_with_its_pid(helpers: dict[str, str]) -> None:
    plan = moved(user(helpers))
    (ending,) = only(plan, f"start {next(iter(helpers))}").undo
    assert isinstance(ending, Spawn)
    assert _shown(ending.argv[-1]) == f"{STATE}/web.usernet"
    (removing,) = only(plan, f"make {STATE}").undo
    assert "AT_REMOVEDIR" in lines([removing])[0]
    assert isinstance(removing, Call)
    assert "ENOTEMPTY" in removing.accept, "others run too"


def test_who_has_no_folder_gets_no_file() -> None:
    plan = moved(user(PASTA, state=""))
    assert only(plan, "start pasta").undo == ()
    assert "--pid" not in options(plan)
    assert words(moved(user(SLIRP, state="")))[4] == "/dev/null"


# --- codecs -------------------------------------------------------------------------------------


@pytest.mark.parametrize("helpers", [PASTA, SLIRP], ids=["pasta", "slirp4netns"])
def test_such_a_plan_comes_back_from_both_forms(helpers: dict[str, str]) -> None:
    plan = moved(user(helpers), *(["8080:80"] if helpers == PASTA else []))
    assert dumps(loads(dumps(plan))) == dumps(plan)
    data = binary.encode(plan)
    assert dumps(binary.decode(data)) == dumps(plan)
