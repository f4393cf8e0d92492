"""The picture of a spec's networks, exactly, and that no name breaks out of it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsrun.plan.links import outer_names
from nsrun.plan.netnames import NAME_MAX, host_name
from nsrun.render.graph import Graph, graph
from nsrun.render.graph_dot import dot
from nsrun.render.graph_mermaid import escaped, mermaid
from tests.golden.reference import spec_files, spec_of
from tests.support.box import SPECS
from tests.support.requires import requires
from tests.unit.test_spec_build import made

FILES = list(spec_files())
NAMES = [str(file.relative_to(SPECS)) for file in FILES]
HOSTILE = st.text(min_size=1, max_size=30)
_SVG = "{http://www.w3.org/2000/svg}"
# A line of a flowchart as it is written here; a text holds no quote, bracket, bar or newline.
_TEXT = r'"[^"\[\]{}|<>\n]*(?:<br/>[^"\[\]{}|<>\n]*)*"'
_LINE = re.compile(
    rf"""flowchart\ LR
    |\ {{4}}subgraph\ p\d+\[{_TEXT}\]
    |\ {{8}}[ne]\d+(?:\[{_TEXT}\]|\{{\{{{_TEXT}\}}\}}|\(\[{_TEXT}\]\)|>{_TEXT}\])
    |\ {{8}}n\d+(?:\[\[{_TEXT}\]\]|\({_TEXT}\))
    |\ {{4}}end
    |\ {{4}}n\d+\ (?:---|-->)(?:\|{_TEXT}\|)?\ n\d+""",
    re.VERBOSE,
)

WEB = """
name: web
namespaces: [network, mount]
network:
  interfaces:
    - {name: eth0, type: veth, addresses: [10.0.0.2/24], peer: {bridge: br0}}
    - {name: eth1, type: macvlan, parent: enp1s0, mode: bridge}
  routes:
    - {to: default, via: 10.0.0.1}
  masquerade: true
  ports: ["127.0.0.1:8080:80"]
"""


def drawn(text: str) -> Graph:
    return graph([made(text)])


WEB_IN_MERMAID = """\
flowchart LR
    subgraph p0["container web: network, mount"]
        n0["lo<br/>127.0.0.1/8<br/>::1/128"]
        n1["eth0<br/>veth<br/>10.0.0.2/24"]
        n4["eth1<br/>macvlan bridge"]
        n6>"routes<br/>default (IPv4) via 10.0.0.1"]
    end
    subgraph p1["the host"]
        n2["ve-web<br/>veth"]
        n3{{"br0"}}
        n5["enp1s0"]
        n7(["the world outside"])
        n8[["port 127.0.0.1:8080/tcp"]]
    end
    n1 --- n2
    n2 --- n3
    n4 ---|"macvlan"| n5
    n1 -->|"masquerade"| n7
    n8 -->|"to 80"| n1
"""

USER_MODE = "namespaces: [network]\nnetwork: {mode: user, ports: ['53:53/udp']}\nname: d"
USER_MODE_IN_DOT = """\
digraph network {
    rankdir=LR; fontname=Helvetica;
    node [fontname=Helvetica, fontsize=10]; edge [fontname=Helvetica, fontsize=9];
    subgraph cluster_0 {
        label="container d: network";
        n0 [shape=box, label="lo\\n127.0.0.1/8\\n::1/128"];
        n1 [shape=box, label="tap0\\nuser mode\\nby pasta or slirp4netns"];
    }
    subgraph cluster_1 {
        label="the host";
        n2 [shape=ellipse, label="the world outside"];
        n3 [shape=cds, label="port 53/udp"];
    }
    n1 -> n2 [label="sockets of the caller"];
    n3 -> n1 [label="to 53"];
}
"""


def test_mermaid() -> None:
    assert mermaid(drawn(WEB)) == WEB_IN_MERMAID


def test_dot() -> None:
    assert dot(drawn(USER_MODE)) == USER_MODE_IN_DOT


def edges(found: Graph, label: str) -> list[tuple[str, str]]:
    return [(edge.one, edge.other) for edge in found.edges if edge.label == label]


def test_ports_lead_to_the_first_address_of_their_family() -> None:
    found = drawn(
        """
name: web
namespaces: [network]
network:
  interfaces:
    - {name: in0, type: veth}
    - {name: in4, type: veth, addresses: [10.0.0.2/24]}
    - {name: in6, type: veth, addresses: ["fd00::2/64", 10.1.0.2/24]}
    - {name: away, type: veth, addresses: [10.9.0.2/24], peer: {name: x, netns: /run/netns/x}}
  masquerade: true
  ports: ["80:1", "[fd00::1]:81-82:2-3", "127.0.0.1:83:4/udp"]
"""
    )
    assert edges(found, "to 1") == [
        ("host/port port 80/tcp", "c/web/in4"),
        ("host/port port 80/tcp", "c/web/in6"),
    ]
    assert edges(found, "to 2-3") == [("host/port port [fd00::1]:81-82/tcp", "c/web/in6")]
    assert edges(found, "to 4") == [("host/port port 127.0.0.1:83/udp", "c/web/in4")]
    assert [one for one, _ in edges(found, "masquerade")] == ["c/web/in4", "c/web/in6"]


def test_outer_ends_are_named_as_the_planner_names_them() -> None:
    spec = made(
        "name: web\nnamespaces: [network]\nnetwork:\n  interfaces:\n"
        "    - {name: a, type: veth, peer: {name: mine}}\n"
        "    - {name: b, type: dummy}\n"
        "    - {name: c, type: veth}\n"
    )
    assert spec.network is not None
    names = outer_names(spec.name, spec.network)
    found = graph([spec])
    assert [e.other for e in found.edges] == [f"host/{name}" for name in names.values()]


def test_a_note_is_no_interface_of_its_name() -> None:
    found = drawn(
        "name: a\nnamespaces: [network]\nnetwork:\n"
        "  interfaces: [{name: routes, type: dummy, addresses: [10.0.0.1/24]}]\n"
        "  routes: [{to: 10.2.0.0/16, dev: routes}, {to: 10.3.0.0/16, type: blackhole}]\n"
    )
    assert found.nodes["c/a/routes"].lines == ("routes", "dummy", "10.0.0.1/24")
    assert found.nodes["c/a/note routes"].lines == (
        "routes",
        "10.2.0.0/16 dev routes",
        "blackhole 10.3.0.0/16",
    )


def test_specs_of_one_name_are_drawn_apart_and_one_spec_once() -> None:
    one, other = (made(f"name: a\nnamespaces: [{n}, network]") for n in ("mount", "uts"))
    found = graph([one, other, one])
    assert list(found.places.values()) == [
        "container a: mount, network",
        f"container a of {other.file}: uts, network",
    ]


def test_a_pinned_namespace_is_the_container_that_makes_it() -> None:
    joins = made("name: b\nnamespaces: [{type: network, path: /var/run/netns/blue}]")
    makes = made("name: a\nnamespaces: [{type: network, pin: /run/netns/blue}]")
    found = graph([joins, makes])
    assert found.places == {"c/a": "container a: network"}
    assert found.nodes["c/a/container b"].lines[1] == "is in this network"


def test_a_peer_in_another_container_is_drawn_there() -> None:
    text = (
        "name: a\nnamespaces: [network]\nnetwork:\n"
        "  interfaces: [{name: e, type: veth, peer: {name: to-a, container: db}}]"
    )
    db = "name: db\nnamespaces: [network, uts]"
    assert drawn(text).places["c/db"] == "container db"
    both = graph([made(text), made(db)])
    assert both.places["c/db"] == "container db: network, uts"
    assert both.nodes["c/db/to-a"].lines == ("to-a", "veth")


def test_two_containers_share_a_bridge() -> None:
    both = graph([spec_of(SPECS / f"network/bridge-{n}.yaml") for n in ("db", "web")])
    assert [key for key in both.nodes if key.endswith("/br0")] == ["host/br0"]
    assert len([e for e in both.edges if e.other == "host/br0"]) == 2


def test_a_peer_elsewhere_is_drawn_there() -> None:
    named = graph([spec_of(SPECS / "network/named.yaml")])
    assert named.places["n//run/netns/blue"] == "network namespace blue"
    assert named.nodes["n//run/netns/blue/veth1"].lines == ("veth1", "veth", "10.1.1.1/24")


def test_without_a_network_there_is_a_picture_too() -> None:
    shared = drawn("namespaces: [mount]\nname: a")
    assert shared.nodes["host/container a"].lines == (
        "a",
        "shares the host's network",
        "namespaces: mount",
    )
    joined = drawn("namespaces: [{type: network, container: db}]\nname: a")
    assert joined.places == {"c/db": "container db"}


@pytest.mark.parametrize("file", FILES, ids=NAMES)
def test_every_spec_is_mermaid(file: Path) -> None:
    for line in mermaid(graph([spec_of(file)])).splitlines():
        assert _LINE.fullmatch(line), line


@requires("dot")
def test_graphviz_draws_all_specs() -> None:
    text = dot(graph([spec_of(file) for file in FILES]))
    done = subprocess.run(("dot", "-Tsvg"), input=text.encode(), capture_output=True, check=True)
    assert done.stdout.rstrip().endswith(b"</svg>")
    assert done.stderr == b""


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("- item", "#45; item"),
        ("    code", "#32;   code"),
        ("1. one", "1#46; one"),
        ("1)", "1#41;"),
        ("10.0.0.1/24 (x) y", "10.0.0.1/24 (x) y"),
        ("_a_ *b*", "#95;a#95; #42;b#42;"),
        ("www.example.org", "www#46;example.org"),
        ("https://a", "https#58;//a"),
        ("a@b.c", "a#64;b.c"),
        ("fd00::1/64", "fd00::1/64"),
        ("#quot;", "#35;quot#59;"),
        ("a\nb", "a#92;nb"),
    ],
)
def test_no_text_is_read_as_markdown(text: str, shown: str) -> None:
    assert escaped(text) == shown


@requires("dot")
def test_graphviz_shows_hostile_names_as_they_are() -> None:
    names = ["\\N", 'a"b', "<b>", "a\\", "&lt;", "{x|y}", "é", "end"]
    one = Graph()
    one.place("h", names[0])
    keys = [one.node("h", name) for name in names]
    one.edge(keys[0], keys[1], "\\E")
    done = subprocess.run(
        ("dot", "-Tsvg"), input=dot(one).encode(), capture_output=True, check=True
    )
    texts = {found.text for found in ElementTree.fromstring(done.stdout).iter(f"{_SVG}text")}
    assert texts == {*names, "\\E"}
    assert done.stderr == b""


@given(HOSTILE)
def test_no_name_leaves_its_text(name: str) -> None:
    assert not set(escaped(name)) & set("\"[]{}|<>\n'`&\\")
    one = Graph()
    one.place("h", name)
    one.edge(one.node("h", name), one.node("h", name + "2", name), name)
    for line in mermaid(one).splitlines():
        assert _LINE.fullmatch(line), line
    for line in dot(one).splitlines():
        # Outside of strings there is no quote, and each string is closed.
        assert '"' not in re.sub(r'"(?:[^"\\]|\\.)*"', "", line)


# --- names of outer ends ---------------------------------------------------------------------


@given(st.from_regex(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,63}", fullmatch=True), st.integers(0, 200))
def test_an_outer_ends_name_fits(container: str, number: int) -> None:
    name = host_name(container, number)
    assert len(name) <= NAME_MAX
    assert re.fullmatch(r"ve-[A-Za-z0-9_.-]+(\+\d+)?", name)
    assert name == host_name(container, number)


@given(st.lists(st.from_regex(r"[a-z][a-z0-9-]{0,9}", fullmatch=True), unique=True, max_size=30))
def test_containers_have_outer_ends_of_their_own(containers: list[str]) -> None:
    names = {host_name(container, number) for container in containers for number in range(3)}
    assert len(names) == 3 * len(containers)


def test_short_names_are_kept() -> None:
    assert host_name("web", 0) == "ve-web"
    assert host_name("web", 1) == "ve-web+1"
    assert host_name("a-long-container-name", 0).startswith("ve-a-long-")
