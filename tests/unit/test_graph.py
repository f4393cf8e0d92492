"""The picture of a spec's networks, exactly, and that no name breaks out of it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
# A line of a flowchart as it is written here; a text holds no quote, bracket, bar or newline.
_TEXT = r'"[^"\[\]{}|<>\n]*(?:<br/>[^"\[\]{}|<>\n]*)*"'
_LINE = re.compile(
    rf"""flowchart\ LR
    |\ {{4}}subgraph\ p\d+\[{_TEXT}\]
    |\ {{8}}[ne]\d+(?:\[{_TEXT}\]|\{{\{{{_TEXT}\}}\}}|\(\[{_TEXT}\]\)|>{_TEXT}\])
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


def test_mermaid() -> None:
    assert mermaid(drawn(WEB)) == """\
flowchart LR
    subgraph p0["container web"]
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
        n8(["port 127.0.0.1:8080"])
    end
    n1 --- n2
    n2 --- n3
    n4 ---|"macvlan"| n5
    n1 -->|"masquerade"| n7
    n8 -->|"80/tcp"| n1
"""


def test_dot() -> None:
    text = dot(drawn("namespaces: [network]\nnetwork: {mode: user, ports: ['53:53/udp']}\nname: d"))
    assert text == """\
digraph network {
    rankdir=LR; fontname=Helvetica; compound=true;
    node [fontname=Helvetica, fontsize=10]; edge [fontname=Helvetica, fontsize=9];
    subgraph cluster_0 {
        label="container d";
        n0 [shape=box, label="lo\\n127.0.0.1/8\\n::1/128"];
        n1 [shape=box, label="tap\\nuser mode\\nby pasta or slirp4netns"];
    }
    subgraph cluster_1 {
        label="the host";
        n2 [shape=ellipse, label="the world outside"];
        n3 [shape=ellipse, label="port *:53"];
    }
    n1 -> n2 [label="sockets of the caller"];
    n3 -> n1 [label="53/udp"];
}
"""


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
    assert shared.nodes["host/a"].lines[1] == "shares the host's network"
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


@given(
    st.lists(st.from_regex(r"[a-z][a-z0-9-]{0,11}", fullmatch=True), unique=True, max_size=30)
)
def test_containers_have_outer_ends_of_their_own(containers: list[str]) -> None:
    assert len({host_name(c, 0) for c in containers}) == len(containers)


def test_short_names_are_kept() -> None:
    assert host_name("web", 0) == "ve-web"
    assert host_name("web", 1) == "ve-web+1"
    assert host_name("a-long-container-name", 0).startswith("ve-a-long-")


