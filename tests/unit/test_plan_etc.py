"""The files of names: what is in them, when they are written, and whose the last word is."""

from __future__ import annotations

from typing import Any

import pytest

from nsrun.kernel.facts import Facts, Kind, PathFact
from nsrun.plan.etc import name_files
from nsrun.plan.wanted import wanted
from tests.support.planning import ROOT, has, knowing, planned, spec_of

NAMESPACES = ["mount", "uts", "network"]
RESOLV, HOSTS, HOSTNAME = "/etc/resolv.conf", "/etc/hosts", "/etc/hostname"
DNS = {"nameservers": ["10.0.0.1", "fd00::1"], "search": ["a.example", "b.example"],
       "options": ["ndots:1", "timeout:2"]}  # fmt: skip
VETH = {"name": "eth0", "type": "veth", "addresses": ["10.0.0.2/24", "fd00::2/64"]}
LOCALHOST = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"


def written(network: dict[str, Any] | None, resolver: str = "", **keys: Any) -> dict[str, str]:
    """The texts by their paths."""
    spec = spec_of(**{"namespaces": NAMESPACES, "network": network, **keys})
    files = name_files(spec, resolver)
    assert all(entry.mode == 0o644 for entry in files)
    return {entry.target: (entry.content or b"").decode() for entry in files}


# --- resolv.conf --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dns", "text"),
    [
        ({"nameservers": ["10.0.0.1"]}, "nameserver 10.0.0.1\n"),
        ({"nameservers": ["10.0.0.2", "10.0.0.1"]}, "nameserver 10.0.0.2\nnameserver 10.0.0.1\n"),
        ({"search": ["example.org"]}, "search example.org\n"),
        ({"options": ["rotate"]}, "options rotate\n"),
        (
            DNS,
            "nameserver 10.0.0.1\nnameserver fd00::1\nsearch a.example b.example\n"
            "options ndots:1 timeout:2\n",
        ),
    ],
)
def test_resolv_conf(dns: dict[str, Any], text: str) -> None:
    assert written({"dns": dns}) == {RESOLV: text}


def test_user_mode_has_a_name_server_of_its_own_where_the_root_is_not_the_callers() -> None:
    own = {"rootfs": "/srv/root"}
    assert written({"mode": "user"}, "169.254.1.1", **own) == {RESOLV: "nameserver 169.254.1.1\n"}
    # The caller's own file is as good there: the network is the caller's.
    assert written({"mode": "user"}, "169.254.1.1") == {}
    given = {"nameservers": ["10.0.0.1"]}
    assert written({"mode": "user", "dns": given}, "169.254.1.1", **own) == {
        RESOLV: "nameserver 10.0.0.1\n"
    }


@pytest.mark.parametrize(
    ("uid", "helpers", "address"),
    [
        (1000, ("pasta", "slirp4netns"), "169.254.1.1"),
        (1000, ("slirp4netns",), "10.0.2.3"),
        (0, ("pasta", "slirp4netns"), "10.0.2.3"),
        (0, ("pasta",), "169.254.1.1"),
    ],
)
def test_the_name_server_is_the_one_of_who_moves_the_packets(
    uid: int, helpers: tuple[str, ...], address: str
) -> None:
    facts = knowing(
        ROOT,
        uid=uid,
        helpers={name: f"/usr/bin/{name}" for name in helpers},
        state="/run/nsrun",
        paths={"/srv/root": PathFact(kind=Kind.FOLDER, mode=0o755)},
        targets={t: PathFact(kind=Kind.FOLDER, mode=0o755) for t in ("/", "/etc", "/proc", "/sys",
                 "/dev")} | {RESOLV: PathFact(kind=Kind.FILE, mode=0o644)},
    )  # fmt: skip
    assert f"nameserver {address}\n".encode() in contents(
        facts, rootfs="/srv/root", network={"mode": "user"}
    )


def contents(facts: Facts, **keys: Any) -> list[bytes]:
    """What the plan's write(2)s write."""
    from nsrun.kernel.values import Bytes, Call

    plan = planned(facts, namespaces=["user", "mount", "network"], **keys)
    return [
        arg.value
        for placed in plan.steps()
        if isinstance(placed.op, Call) and placed.op.name == "write"
        for arg in placed.op.args
        if isinstance(arg, Bytes)
    ]


# --- hosts and hostname -------------------------------------------------------------------------


def test_hosts_of_a_container_with_addresses() -> None:
    found = written({"interfaces": [VETH], "hosts": {"db": "10.0.0.3", "six": "fd00::3"}},
                    hostname="web")  # fmt: skip
    assert found == {
        HOSTS: LOCALHOST + "10.0.0.2\tweb\nfd00::2\tweb\n10.0.0.3\tdb\nfd00::3\tsix\n",
        HOSTNAME: "web\n",
    }


def test_hosts_of_one_without() -> None:
    """hosts(5), 127.0.1.1."""
    found = written({"hosts": {"db": "10.0.0.3"}}, hostname="web", domainname="example.org")
    assert found[HOSTS] == LOCALHOST + "127.0.1.1\tweb.example.org web\n10.0.0.3\tdb\n"


def test_a_line_for_its_own_name_is_the_specs_to_write() -> None:
    found = written({"interfaces": [VETH], "hosts": {"web": "10.0.0.9"}}, hostname="web")
    assert found[HOSTS] == LOCALHOST + "10.0.0.9\tweb\n"


def test_without_a_host_name_there_is_no_line_for_it() -> None:
    assert written({"hosts": {"db": "10.0.0.3"}}) == {HOSTS: LOCALHOST + "10.0.0.3\tdb\n"}


def test_who_has_names_written_has_its_own_among_them() -> None:
    dns = {"nameservers": ["10.0.0.1"]}
    assert written({"dns": dns}, hostname="web")[HOSTNAME] == "web\n"
    assert written({"interfaces": [VETH]}, hostname="web") == {}


# --- when and where -----------------------------------------------------------------------------


def test_what_the_spec_writes_itself_is_left_to_it() -> None:
    own = {HOSTS: {"content": "mine"}, RESOLV: {"symlink": "../run/resolv.conf"}}
    found = written({"dns": DNS, "hosts": {"db": "10.0.0.3"}}, hostname="web", files=own)
    assert found == {HOSTNAME: "web\n"}


def test_nothing_is_written_where_mounts_are_the_callers() -> None:
    network = {"dns": DNS, "hosts": {"db": "10.0.0.3"}}
    assert written(network, namespaces=["network"]) == {}
    assert written(network, namespaces=["mount", "network"]) != {}
    assert written(None) == {}


def test_the_places_are_asked_for_and_written() -> None:
    network = {"dns": DNS, "hosts": {"db": "10.0.0.3"}}
    query = wanted(spec_of(namespaces=NAMESPACES, network=network, hostname="web"))
    assert {RESOLV, HOSTS, HOSTNAME, "/etc"} <= set(query.targets)
    there = {target: PathFact(kind=Kind.FILE, mode=0o644) for target in query.targets}
    there["/etc"] = PathFact(kind=Kind.FOLDER, mode=0o755)
    plan = planned(
        knowing(ROOT, targets=there), namespaces=NAMESPACES, network=network, hostname="web"
    )
    for target in (RESOLV, HOSTS, HOSTNAME):
        assert has(plan, f"write {target}")
        assert has(plan, f"put {target} in its place")
