"""The ``network`` block: what it means, and where what is wrong with it stands."""

# ruff: noqa: E501 -- a case of a table is read on one line

from __future__ import annotations

import json
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_interface, ip_network
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nsrun.diag import Diagnostic, NsrunError
from nsrun.spec.build import build
from nsrun.spec.document import parse_document
from nsrun.spec.load import load_document
from nsrun.spec.model import Dns, Interface, LinkType, Network, Peer, Port, Route, Spec
from nsrun.spec.schema import validate

FAST = settings(
    max_examples=150, deadline=None, database=None, derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)  # fmt: skip

FRAME = "command: [x]\nnamespaces: [network, mount]\nnetwork:\n"


def network(text: str) -> Network:
    """What ``network: {text}`` is read as; nothing is checked."""
    document = parse_document(f"command: [x]\nnetwork: {{{text}}}", "/specs/web.yaml")
    assert validate(document) == []
    found = build(document).network
    assert found is not None
    return found


def interface(text: str) -> Interface:
    (found,) = network(f"interfaces: [{{{text}}}]").interfaces
    return found


def route(text: str) -> Route:
    (found,) = network(f"routes: [{{{text}}}]").routes
    return found


def port(text: str) -> Port:
    (found,) = network(f"ports: [{json.dumps(text)}]").ports
    return found


def problems(body: str) -> tuple[Diagnostic, ...]:
    """What is said about ``body``, the lines below ``network:``."""
    try:
        return load_document(parse_document(FRAME + body, "web.yaml"))[1]
    except NsrunError as error:
        return error.diagnostics


def marked(body: str, diagnostic: Diagnostic) -> str:
    """The part of ``body`` that the diagnostic points at."""
    span = diagnostic.span
    assert span is not None
    assert span.line == span.end_line
    line = (FRAME + body).splitlines()[span.line - 1]
    return line[span.column - 1 : span.end_column - 1]


# --- what it means -----------------------------------------------------------------------------


def test_the_least_block_has_the_documented_defaults() -> None:
    assert network("") == Network(
        loopback=True, interfaces=(), routes=(), masquerade=False, ports=(), dns=None, hosts={}, mode=None
    )  # fmt: skip
    assert interface("name: a, type: dummy") == Interface(
        path="network.interfaces[0]", name="a", type=LinkType.DUMMY, addresses=(), mac=None, mtu=None,
        up=True, peer=Peer(), parent=None, mode=None, id=None,
    )  # fmt: skip
    assert route("to: default") == Route(
        path="network.routes[0]", to=IPv4Network("0.0.0.0/0"), via=None, dev=None, metric=None,
        on_link=False, type="unicast",
    )  # fmt: skip
    assert network("dns: {}").dns == Dns(nameservers=(), search=(), options=())


def test_every_field() -> None:
    found = network(
        "loopback: false, masquerade: true, mode: user, hosts: {db: 10.0.0.3, x-y.example: '::1'}, "
        "dns: {nameservers: [10.0.0.1, 'fd00::1'], search: [example.org, .], options: ['ndots:1', trust-ad]}"
    )
    assert (found.loopback, found.masquerade, found.mode) == (False, True, "user")
    assert dict(found.hosts) == {"db": ip_address("10.0.0.3"), "x-y.example": ip_address("::1")}
    assert found.dns == Dns(
        nameservers=(ip_address("10.0.0.1"), ip_address("fd00::1")),
        search=("example.org", "."),
        options=("ndots:1", "trust-ad"),
    )


def test_every_field_of_an_interface() -> None:
    text = (
        "name: eth0, type: veth, addresses: [169.254.1.2/30, 'FD00:0::2/64'], mac: 02:00:00:00:00:AF, mtu: 1400, "
        "up: false, peer: {name: veth0, addresses: [169.254.1.1/30], bridge: br0, netns: ./blue, container: db}"
    )
    assert interface(text) == Interface(
        path="network.interfaces[0]", name="eth0", type=LinkType.VETH,
        addresses=(ip_interface("169.254.1.2/30"), ip_interface("fd00::2/64")), mac="02:00:00:00:00:af", mtu=1400,
        up=False, peer=Peer(name="veth0", addresses=(ip_interface("169.254.1.1/30"),), bridge="br0",
                            netns="/specs/blue", container="db"),
    )  # fmt: skip
    assert interface("name: v.7, type: vlan, parent: eth0, id: 7, mode: l3s") == Interface(
        path="network.interfaces[0]", name="v.7", type=LinkType.VLAN, parent="eth0", id=7, mode="l3s"
    )  # fmt: skip


@pytest.mark.parametrize("kind", list(LinkType))
def test_every_kind(kind: LinkType) -> None:
    assert interface(f"name: a, type: {kind}").type is kind


def test_entries_know_their_place() -> None:
    found = network(
        "interfaces: [{name: a, type: dummy}, {name: b, type: dummy}], ports: ['1:1', '2:2'], "
        "routes: [{to: default}, {to: '::/0'}]"
    )
    assert [i.path for i in found.interfaces] == ["network.interfaces[0]", "network.interfaces[1]"]
    assert [r.path for r in found.routes] == ["network.routes[0]", "network.routes[1]"]
    assert [p.path for p in found.ports] == ["network.ports[0]", "network.ports[1]"]


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("to: default, via: 10.0.0.1", {"to": IPv4Network("0.0.0.0/0"), "via": ip_address("10.0.0.1")}),
        ("to: default, via: 'fd00::1'", {"to": IPv6Network("::/0"), "via": ip_address("fd00::1")}),
        ("to: '::/0', dev: eth0", {"to": IPv6Network("::/0"), "dev": "eth0"}),
        ("to: 10.9.0.0/16, dev: eth0, metric: 100", {"to": IPv4Network("10.9.0.0/16"), "dev": "eth0", "metric": 100}),
        ("to: 10.9.0.0/255.255.0.0, metric: 0", {"to": IPv4Network("10.9.0.0/16"), "metric": 0}),
        ("to: 10.9.0.7", {"to": IPv4Network("10.9.0.7/32")}),
        ("to: 'fd00::7'", {"to": IPv6Network("fd00::7/128")}),
        ("to: 10.0.0.0/8, on_link: true, type: blackhole", {"to": IPv4Network("10.0.0.0/8"), "on_link": True, "type": "blackhole"}),
    ],
)  # fmt: skip
def test_routes(text: str, fields: dict[str, object]) -> None:
    assert route(text) == Route(**{"path": "network.routes[0]", **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "host", "container", "count", "address", "protocol"),
    [
        ("8080:80", 8080, 80, 1, None, "tcp"), ("8080:80/tcp", 8080, 80, 1, None, "tcp"),
        ("8080:80/udp", 8080, 80, 1, None, "udp"), ("8080:80/UDP", 8080, 80, 1, None, "udp"),
        ("1:65535", 1, 65535, 1, None, "tcp"), ("0080:080", 80, 80, 1, None, "tcp"),
        ("127.0.0.1:8080:80/tcp", 8080, 80, 1, "127.0.0.1", "tcp"), ("0.0.0.0:53:53/udp", 53, 53, 1, "0.0.0.0", "udp"),
        ("[::1]:8080:80", 8080, 80, 1, "::1", "tcp"), ("[::]:53:53/udp", 53, 53, 1, "::", "udp"),
        ("[fd00:0::1]:1:2", 1, 2, 1, "fd00::1", "tcp"), ("[127.0.0.1]:1:2", 1, 2, 1, "127.0.0.1", "tcp"),
        ("8000-8009:80-89", 8000, 80, 10, None, "tcp"), ("7-7:8", 7, 8, 1, None, "tcp"),
        ("[::1]:1-65535:1-65535/udp", 1, 1, 65535, "::1", "udp"),
    ],
)  # fmt: skip
def test_ports(text: str, host: int, container: int, count: int, address: str | None, protocol: str) -> None:  # fmt: skip
    found = port(text)
    assert (found.host, found.container, found.count, found.protocol) == (host, container, count, protocol)  # fmt: skip
    assert found.address == (None if address is None else ip_address(address))


def test_a_name_server_on_a_link_names_its_interface() -> None:
    dns = network("dns: {nameservers: ['fe80::1%eth0']}").dns
    assert dns is not None
    assert str(dns.nameservers[0]) == "fe80::1%eth0"


# --- what is wrong, and where ------------------------------------------------------------------

NAME = "cannot be an interface's name"
HELP = "write [ADDRESS:]HOST:CONTAINER[/tcp|/udp], as in `127.0.0.1:8080:80/tcp`"
NO_PORT = "is no port of the host and one of the container"

# The line of the block, what is marked in it, code, path below `network.`, summary, help.
WRONG: list[tuple[str, str, str, str, str, str]] = [
    # names
    *(
        (f"interfaces: [{{name: {text}, type: dummy}}]", text, "NS316", "interfaces[0].name", f"`{shown}` {NAME}", "")
        for text, shown in ((".", "."), ("..", ".."), ("a/b", "a/b"), ('"a:b"', "a:b"), ("a b", "a b"), ("é", "é"),
                            ('"a\\t"', "a\\t"), ('"a\\n"', "a\\n"), ("all", "all"), ("default", "default"))
    ),
    ("interfaces: [{name: eth%d, type: dummy}]", "eth%d", "NS316", "interfaces[0].name",
     "`eth%d` is a pattern, not an interface's name", ""),
    ('interfaces: [{name: "a\\0", type: dummy}]', '"a\\0"', "NS203", "interfaces[0].name",
     "a NUL character in a value that cannot hold one", ""),
    ("interfaces: [{name: a, type: vlan, id: 1, parent: a/b}]", "a/b", "NS316", "interfaces[0].parent", f"`a/b` {NAME}", ""),
    ("interfaces: [{name: a, type: veth, peer: {name: a/b}}]", "a/b", "NS316", "interfaces[0].peer.name", f"`a/b` {NAME}", ""),
    ("interfaces: [{name: a, type: veth, peer: {bridge: a/b}}]", "a/b", "NS316", "interfaces[0].peer.bridge", f"`a/b` {NAME}", ""),
    ("routes: [{to: default, dev: a/b}]", "a/b", "NS316", "routes[0].dev", f"`a/b` {NAME}", ""),
    # hardware addresses
    *(
        (f"interfaces: [{{name: a, type: dummy, mac: {mac}}}]", mac, "NS203", "interfaces[0].mac", f"`{mac}` is not the address of one interface", "")
        for mac in ("01:00:00:00:00:00", "33:33:00:00:00:01", "ff:ff:ff:ff:ff:ff", "FF:00:00:00:00:01", "00:00:00:00:00:00")
    ),
    # addresses
    *(
        (f"interfaces: [{{name: a, type: veth, {put}}}]".replace("@", text), text, "NS203", f"interfaces[0].{path}[0]", summary, help)
        for put, path in (("addresses: [@]", "addresses"), ("peer: {addresses: [@]}", "peer.addresses"))
        for text, summary, help in (
            ("10.0.0.2", "`10.0.0.2` has no prefix length", "write `10.0.0.2/24`, or the length that you mean"),
            ("'fd00::2'", "`fd00::2` has no prefix length", "write `fd00::2/64`, or the length that you mean"),
            ("10.0.0.2/255.255.0.0", "`10.0.0.2/255.255.0.0` has no prefix length", "write `10.0.0.2/16`, or the length that you mean"),
            ("10.0.0.2/255.255.255.255", "`10.0.0.2/255.255.255.255` has no prefix length",
             "write `10.0.0.2/32`, or the length that you mean"),
            ("10.0.0.2/33", "`10.0.0.2/33` is no address with a prefix length", "write it as in `10.0.0.2/24` or `fd00::2/64`"),
            ("'fd00::2/129'", "`fd00::2/129` is no address with a prefix length", "write it as in `10.0.0.2/24` or `fd00::2/64`"),
            ("10.0.0/24", "`10.0.0/24` is no address with a prefix length", "write it as in `10.0.0.2/24` or `fd00::2/64`"),
            ("dhcp", "`dhcp` is no address with a prefix length", "write it as in `10.0.0.2/24` or `fd00::2/64`"),
            ("224.0.0.1/4", "`224.0.0.1/4` is not the address of an interface", ""),
            ("'ff02::1/64'", "`ff02::1/64` is not the address of an interface", ""),
            ("0.0.0.0/0", "`0.0.0.0/0` is not the address of an interface", ""),
            ("'::/64'", "`::/64` is not the address of an interface", ""),
            ("255.255.255.255/32", "`255.255.255.255/32` is not the address of an interface", ""),
            ("'::1/128'", "`::1/128` is the address of `lo`", ""),
            ("'fe80::1%eth0/64'", "`fe80::1%eth0/64` names an interface", ""),
            ('"10.0.0.2/24\\0"', "a NUL character in a value that cannot hold one", ""),
        )
    ),
    # routes
    ("routes: [{to: 10.9.0.5/16, dev: lo}]", "10.9.0.5/16", "NS203", "routes[0].to", "`10.9.0.5/16` is an address in a network",
     "write `10.9.0.0/16`"),
    ("routes: [{to: 'fd00::5/64', dev: lo}]", "'fd00::5/64'", "NS203", "routes[0].to", "`fd00::5/64` is an address in a network",
     "write `fd00::/64`"),
    ("routes: [{to: 10.9.0.5/255.255.0.0, dev: lo}]", "10.9.0.5/255.255.0.0", "NS203", "routes[0].to",
     "`10.9.0.5/255.255.0.0` is an address in a network", "write `10.9.0.0/16`"),
    ("routes: [{to: everywhere, dev: lo}]", "everywhere", "NS203", "routes[0].to", "`everywhere` is no network",
     "write `default`, or a network as in `10.9.0.0/16`"),
    ("routes: [{to: 10.9.0.0/40, dev: lo}]", "10.9.0.0/40", "NS203", "routes[0].to", "`10.9.0.0/40` is no network",
     "write `default`, or a network as in `10.9.0.0/16`"),
    ("routes: [{to: 'fe80::%eth0/64', dev: lo}]", "'fe80::%eth0/64'", "NS203", "routes[0].to",
     "`fe80::%eth0/64` names an interface", "name the interface with `dev`"),
    ('routes: [{to: "default\\0", dev: lo}]', '"default\\0"', "NS203", "routes[0].to", "a NUL character in a value that cannot hold one", ""),
    ("routes: [{to: default, via: gateway}]", "gateway", "NS203", "routes[0].via", "`gateway` is no IP address", ""),
    ("routes: [{to: default, via: 10.0.0.1/24}]", "10.0.0.1/24", "NS203", "routes[0].via", "`10.0.0.1/24` is no IP address", ""),
    ("routes: [{to: default, via: 'fe80::1%eth0'}]", "'fe80::1%eth0'", "NS203", "routes[0].via", "`fe80::1%eth0` names an interface",
     "name the interface with `dev`"),
    *(
        (f"routes: [{{to: default, via: {text}}}]", text, "NS203", "routes[0].via",
         f"`{text.strip(chr(39))}` is not the address of a next hop", "")
        for text in ("0.0.0.0", "'::'", "224.0.0.1", "'ff02::1'")
    ),
    # ports
    *(
        (f"ports: ['{text}']", f"'{text}'", "NS203", "ports[0]", f"`{text}` {NO_PORT}", HELP)
        for text in ("80", "80/tcp", ":80", "80:", ":8080:80", "127.0.0.1::80", "http:80", "80:80 ", " 80:80", "-1:80", "80:-1",
                     "80-:80", "123456:80", "80:80/tcp/udp", "127.0.0.1/8:80:80", "[::1:80:80", "٨٠:80", "80:8٠", "[::1]80:80")
    ),
    ("ports: ['::1:8080:80']", "'::1:8080:80'", "NS203", "ports[0]", f"`::1:8080:80` {NO_PORT}",
     "write an IPv6 address in brackets, as in `[::1]:8080:80`"),
    *(
        (f"ports: ['{text}']", f"'{text}'", "NS203", "ports[0]", summary, help)
        for text, summary, help in (
            ("80:80/sctp", "`sctp` is neither tcp nor udp", ""), ("80:80/", "`` is neither tcp nor udp", ""),
            ("0:80", "`0:80` has a port that is not in 1 to 65535", HELP), ("80:0", "`80:0` has a port that is not in 1 to 65535", HELP),
            ("65536:80", "`65536:80` has a port that is not in 1 to 65535", HELP),
            ("1-65536:1-65536", "`1-65536:1-65536` has a port that is not in 1 to 65535", HELP),
            ("9-8:9-8", "`9-8:9-8` has a range that ends before it begins", HELP),
            ("8:9-8", "`8:9-8` has a range that ends before it begins", HELP),
            ("80-81:80", "`80-81:80` has two ranges of different sizes", HELP),
            ("80-81:80-82", "`80-81:80-82` has two ranges of different sizes", HELP),
            ("localhost:80:80", "`localhost` is no IP address", ""), ("[::g]:80:80", "`::g` is no IP address", ""),
            ("[]:80:80", "`` is no IP address", ""), ("10.0.0.256:80:80", "`10.0.0.256` is no IP address", ""),
            ("[fe80::1%eth0]:80:80", "`fe80::1%eth0` names an interface", ""),
            ("224.0.0.1:80:80", "`224.0.0.1` is not an address of the host", ""),
            ("[ff02::1]:80:80", "`ff02::1` is not an address of the host", ""),
        )
    ),
    ('ports: ["80:80\\0"]', '"80:80\\0"', "NS203", "ports[0]", "a NUL character in a value that cannot hold one", ""),
    ('ports: ["80:80\\n"]', '"80:80\\n"', "NS203", "ports[0]", f"`80:80\\n` {NO_PORT}", HELP),
    # names
    ("dns: {nameservers: [dns.example]}", "dns.example", "NS203", "dns.nameservers[0]", "`dns.example` is no IP address", ""),
    ("dns: {nameservers: ['fd00::1%eth0']}", "'fd00::1%eth0'", "NS203", "dns.nameservers[0]", "`fd00::1%eth0` names an interface",
     "only an address of fe80::/10 needs one"),
    ('dns: {nameservers: ["fe80::1%a\\nsearch b"]}', '"fe80::1%a\\nsearch b"', "NS316", "dns.nameservers[0]", f"`a\\nsearch b` {NAME}", ""),
    ("dns: {nameservers: ['fe80::1%a234567890123456']}", "'fe80::1%a234567890123456'", "NS316", "dns.nameservers[0]",
     f"`a234567890123456` {NAME}", ""),
    ('dns: {nameservers: ["fe80::1%a\\0"]}', '"fe80::1%a\\0"', "NS203", "dns.nameservers[0]",
     "a NUL character in a value that cannot hold one", ""),
    *(
        (f"dns: {{{key}: [{text}]}}", text, "NS203", f"dns.{key}[0]", f"`{shown}` is not one word", "")
        for key in ("search", "options")
        for text, shown in (("a b", "a b"), ('"a\\nb"', "a\\nb"), ('"#a"', "#a"), ("a;b", "a;b"), ('"a\\u009b"', "a\\x9b"),
                            ('"\\u00a0"', "\\xa0"), ('"a\\e[m"', "a\\x1b[m"))
    ),
    ('dns: {search: ["a\\0"]}', '"a\\0"', "NS203", "dns.search[0]", "a NUL character in a value that cannot hold one", ""),
    ("hosts: {a b: 10.0.0.1}", "a b", "NS203", 'hosts["a b"]', "`a b` is not one word", ""),
    ('hosts: {"a\\n": 10.0.0.1}', '"a\\n"', "NS203", 'hosts["a\\n"]', "`a\\n` is not one word", ""),
    ('hosts: {"": 10.0.0.1}', '""', "NS203", 'hosts[""]', "`` is not one word", ""),
    ("hosts: {db: db.example}", "db.example", "NS203", "hosts.db", "`db.example` is no IP address", ""),
    ("hosts: {db: 'fe80::1%eth0'}", "'fe80::1%eth0'", "NS203", "hosts.db", "`fe80::1%eth0` names an interface", ""),
]  # fmt: skip


@pytest.mark.parametrize(("line", "mark", "code", "path", "summary", "help"), WRONG)
def test_what_is_wrong_is_said_once_and_marked(
    line: str, mark: str, code: str, path: str, summary: str, help: str
) -> None:
    body = f"  loopback: true\n  {line}\n"
    (found,) = problems(body)
    assert (found.code, found.path, found.summary) == (code, f"network.{path}", summary)
    assert found.help == ((help,) if help else ())
    assert found.span is not None
    assert (found.span.line, found.span.column) == (5, 3 + line.rindex(mark))
    assert marked(body, found) == mark


def test_mistakes_of_the_block_come_together() -> None:
    body = """\
  interfaces:
    - {name: a/b, type: veth, addresses: [10.0.0.2, x], mac: 01:00:00:00:00:00}
  routes:
    - {to: 10.0.0.1/8, via: y}
  ports: ["80", "127.0.0.1:0:1"]
  hosts: {a b: z}
"""
    assert [(d.span.line, d.span.column) for d in problems(body) if d.span] == [
        (5, 14), (5, 43), (5, 53), (5, 62), (7, 12), (7, 29), (8, 11), (8, 17), (9, 11), (9, 16),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "mark", "code"),
    [
        ("interfaces: [{name: a2345678901234567, type: veth}]", "a2345678901234567", "NS203"),
        ("interfaces: [{name: a}]", "{name: a}", "NS204"),
        ("interfaces: [{name: a, type: tun}]", "tun", "NS203"),
        ("interfaces: [{name: a, type: veth, mtu: 67}]", "67", "NS203"),
        (
            "interfaces: [{name: a, type: veth, mac: 02-00-00-00-00-01}]",
            "02-00-00-00-00-01",
            "NS203",
        ),
        (
            'interfaces: [{name: a, type: veth, mac: "02:00:00:00:00:01\\n"}]',
            '"02:00:00:00:00:01\\n"',
            "NS203",
        ),
        ("interfaces: [{name: a, type: vlan, parent: b, id: 4095}]", "4095", "NS203"),
        ("interfaces: [{name: a, type: veth, adresses: []}]", "adresses", "NS201"),
        ("routes: [{via: 10.0.0.1}]", "{via: 10.0.0.1}", "NS204"),
        ("routes: [{to: default, metric: -1}]", "-1", "NS203"),
        ("routes: [{to: default, type: nat}]", "nat", "NS203"),
        ("ports: [8080]", "8080", "NS202"),
        ("hosts: {a: 5}", "5", "NS202"),
        ("mode: host", "host", "NS203"),
    ],
)
def test_what_the_schema_refuses_is_marked(line: str, mark: str, code: str) -> None:
    body = f"  {line}\n"
    (found,) = problems(body)
    assert (found.code, marked(body, found)) == (code, mark)


# --- messages of the checks that depend on what is there -----------------------------------------


def only(body: str) -> Diagnostic:
    (found,) = problems(body)
    return found


def test_a_name_that_is_taken_says_by_whom() -> None:
    assert only("  interfaces: [{name: lo, type: dummy}]").label.startswith("the loopback")
    found = only("  interfaces:\n  - {name: a, type: dummy}\n  - {name: a, type: dummy}\n")
    assert (found.summary, found.label) == ("the name `a` is taken", "by the interface at web.yaml:5:12")  # fmt: skip


def test_the_port_that_two_ranges_share_is_named() -> None:
    found = only("  mode: user\n  ports: ['80-90:80-90', '85-95:1-11/tcp']\n")
    assert found.summary == "port 85/tcp of the host is given twice"
    assert found.label == "also at web.yaml:5:11"
    assert only("  mode: user\n  ports: ['85:85', '80-90:80-90']\n").summary.startswith("port 85/")


def test_a_route_that_is_there_says_what_brings_it() -> None:
    veth = "  interfaces: [{name: a, type: veth, addresses: [10.0.0.2/24]}]\n"
    found = only(f"{veth}  routes: [{{to: 10.0.0.0/24, dev: a}}]\n")
    assert (found.summary, found.label) == (
        "the route to 10.0.0.0/24 is there already", "the address at web.yaml:4:50 brings it"
    )  # fmt: skip
    assert only("  routes: [{to: '::/0', dev: lo}, {to: '::/0', dev: lo}]\n").label == "also at web.yaml:4:12"  # fmt: skip


def test_a_file_of_names_says_who_gives_it_too(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("")
    more = f"  dns: {{}}\nmounts: ['{tmp_path}/f:/etc/resolv.conf']\n"
    assert only(more).summary == "/etc/resolv.conf is given by `mounts` too"
    more = "  hosts: {a: '::1'}\nfiles: {/etc//hosts: {content: x}}\n"
    assert only(more).summary == "/etc/hosts is given by `files` too"
    assert problems("  dns: {}\nmounts: [{type: umount, target: /etc/resolv.conf}]\n") == ()


def test_user_mode_is_one_mistake_for_each_key() -> None:
    body = "  mode: user\n  interfaces: [{name: a, type: veth}]\n  routes: [{to: default, via: 10.0.0.1, dev: b}]\n"
    assert [(d.code, d.path) for d in problems(body)] == [
        ("NS318", "network.interfaces"), ("NS318", "network.routes"),
    ]  # fmt: skip


def test_specs_of_other_fronts_are_held_against_the_same_rules() -> None:
    """They have no text: what is given is told by the values alone."""
    from nsrun.spec.check import check
    from nsrun.spec.model import Namespace, NamespaceType

    def codes(made: Network) -> list[tuple[str, str]]:
        spaces = tuple(Namespace(type=kind) for kind in (NamespaceType.NETWORK, NamespaceType.MOUNT))  # fmt: skip
        spec = Spec(name="a", file="f", sha256="", namespaces=spaces, network=made)
        return [(d.code, d.path) for d in check(spec)]

    def one(**values: object) -> Network:
        made = Interface(**{"path": "network.interfaces[0]", "name": "a", **values})  # type: ignore[arg-type]
        return Network(interfaces=(made,))

    assert codes(one(type=LinkType.MACVLAN, parent="eth0", mode="bridge")) == []
    assert codes(one(type=LinkType.VLAN, parent="eth0", id=7)) == []
    assert codes(one(type=LinkType.DUMMY)) == []
    assert codes(one(type=LinkType.MACVLAN)) == [("NS204", "network.interfaces[0]")]
    assert codes(one(type=LinkType.DUMMY, id=7)) == [("NS318", "network.interfaces[0].id")]
    assert codes(one(type=LinkType.DUMMY, peer=Peer(name="v"))) == [("NS318", "network.interfaces[0].peer")]  # fmt: skip
    twice = Peer(name="v", netns="/n", container="c")
    assert codes(one(type=LinkType.VETH, peer=twice)) == [("NS318", "network.interfaces[0].peer.container")]  # fmt: skip


# --- any text ----------------------------------------------------------------------------------

PLACES = [
    "interfaces: [{name: @, type: dummy}]", "interfaces: [{name: a, type: dummy, addresses: [@]}]",
    "interfaces: [{name: a, type: dummy, mac: @}]", "interfaces: [{name: a, type: macvlan, parent: @}]",
    "interfaces: [{name: a, type: veth, peer: {name: @}}]", "interfaces: [{name: a, type: veth, peer: {bridge: @}}]",
    "interfaces: [{name: a, type: veth, peer: {name: v, container: @}}]",
    "interfaces: [{name: a, type: veth, peer: {addresses: [@]}}]",
    "routes: [{to: @, dev: lo}]", "routes: [{to: default, via: @}]", "routes: [{to: default, dev: @}]",
    "mode: user, ports: [@]", "dns: {nameservers: [@]}", "dns: {search: [@]}", "dns: {options: [@]}",
    "hosts: {a: @}", "hosts: {@: '::1'}",
]  # fmt: skip
# Pieces that addresses, names and ports are made of.
PIECES = st.lists(
    st.sampled_from(["0", "1", "80", "255", "65536", ".", ":", "::", "/", "%", "-", "[", "]", "tcp", "udp", "fe80",
                     "ffff", "10.0.0.1", "default", "a", "\0", "\n", " ", "#", "٣", "é", "/24", "/64"]),
    max_size=9,
).map("".join)  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
@FAST
@given(text=st.one_of(st.text(max_size=20), PIECES))
def test_any_text_is_a_network_or_has_its_place(place: str, text: str) -> None:
    written = json.dumps(text)
    source = (
        f"command: [x]\nnamespaces: [network, mount]\nnetwork: {{{place.replace('@', written)}}}\n"
    )
    try:
        spec = load_document(parse_document(source, "web.yaml"))[0]
    except NsrunError as error:
        for diagnostic in error.diagnostics:
            assert diagnostic.span is not None
            assert diagnostic.span.line == 3
            assert diagnostic.summary.isprintable()
        # One text, one mistake.
        paths = [d.path for d in error.diagnostics]
        assert len(paths) == len(set(paths))
    else:
        assert isinstance(spec.network, Network)
        one_line(spec.network)


def one_line(found: Network) -> None:
    """What goes into files of names and into messages for the kernel holds no second line."""
    words = [str(a) for a in found.hosts.values()] + list(found.hosts)
    if found.dns is not None:
        words += [str(a) for a in found.dns.nameservers] + [*found.dns.search, *found.dns.options]
    words += [i.name for i in found.interfaces]
    words += [str(a) for i in found.interfaces for a in (*i.addresses, *i.peer.addresses)]
    words += [i.mac for i in found.interfaces if i.mac is not None]
    for word in words:
        assert word.split() == [word]


# --- and back ----------------------------------------------------------------------------------

PORT_NUMBERS = st.integers(1, 65535)


@st.composite
def ports(draw: st.DrawFn) -> tuple[str, Port]:
    address = draw(st.none() | st.ip_addresses().filter(lambda a: not a.is_multicast))
    host, container = draw(PORT_NUMBERS), draw(PORT_NUMBERS)
    count = draw(st.integers(1, 65536 - max(host, container)))
    protocol = draw(st.sampled_from(["tcp", "udp"]))
    shown = "" if address is None else f"[{address}]:" if address.version == 6 else f"{address}:"
    ends = [str(n) if count == 1 else f"{n}-{n + count - 1}" for n in (host, container)]
    made = Port(path="network.ports[0]", host=host, container=container, count=count, address=address,
                protocol="udp" if protocol == "udp" else "tcp")  # fmt: skip
    return f"{shown}{ends[0]}:{ends[1]}/{protocol}", made


@FAST
@given(case=ports())
def test_a_port_is_read_as_it_is_meant(case: tuple[str, Port]) -> None:
    text, made = case
    assert port(text) == made


OWN = st.ip_addresses().filter(
    lambda a: not (a.is_multicast or a.is_unspecified or a == ip_address("255.255.255.255")
                   or (isinstance(a, IPv6Address) and a.is_loopback))
)  # fmt: skip


@FAST
@given(address=OWN, data=st.data())
def test_an_address_is_read_as_it_is_meant(address: object, data: st.DataObject) -> None:
    length = data.draw(st.integers(0, 32 if "." in str(address) else 128))
    text = f"{address}/{length}"
    found = interface(f"name: a, type: veth, addresses: ['{text}'], peer: {{addresses: ['{text}']}}")  # fmt: skip
    assert found.addresses == found.peer.addresses == (ip_interface(text),)
    assert str(found.addresses[0]) == text


@FAST
@given(address=st.ip_addresses(), data=st.data())
def test_a_network_is_read_as_it_is_meant(address: object, data: st.DataObject) -> None:
    length = data.draw(st.integers(0, 32 if "." in str(address) else 128))
    made = ip_network(f"{address}/{length}", strict=False)
    assert route(f"to: '{made}'").to == made


NAMES = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="/:%"),
                min_size=1, max_size=15).filter(lambda n: n not in (".", "..", "all", "default"))  # fmt: skip


@FAST
@given(name=NAMES)
def test_a_name_is_kept(name: str) -> None:
    shown = json.dumps(name)
    found = interface(f"name: {shown}, type: veth, parent: {shown}, peer: {{name: {shown}, bridge: {shown}}}")  # fmt: skip
    assert {found.name, found.parent, found.peer.name, found.peer.bridge} == {name}


@FAST
@given(octets=st.binary(min_size=6, max_size=6).filter(lambda b: any(b) and not b[0] & 1))
def test_a_hardware_address_is_kept(octets: bytes) -> None:
    assert interface(f"name: a, type: veth, mac: '{octets.hex(':').upper()}'").mac == octets.hex(":")  # fmt: skip
