"""A stack's file: what it means, and what is wrong with it, at its place."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsrun.diag import NsrunError
from nsrun.spec.ipam import Full, Pool, bridge_name, default_subnet, subnet_of
from nsrun.spec.stack import Condition, Restart, Stack
from nsrun.spec.stack_load import load_stack

BASE = "namespaces: [mount, uts, network]\nenv: {A: base, B: base}\ncommand: [sleep, '1']\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "base.yaml").write_text(BASE)
    return tmp_path


def loaded(folder: Path, text: str, **keywords: object) -> Stack:
    file = folder / "shop.yaml"
    file.write_text(text)
    return load_stack(str(file), **keywords)[0]  # type: ignore[arg-type]


def errors(folder: Path, text: str) -> list[tuple[int, str, str]]:
    """(line, code, summary) of everything that is wrong."""
    with pytest.raises(NsrunError) as caught:
        loaded(folder, text)
    return [(d.span.line if d.span else 0, d.code, d.summary) for d in caught.value.diagnostics]


def names(stack: Stack) -> list[str]:
    return [m.spec.name for m in stack.members]


# --- containers ------------------------------------------------------------------------------


def test_containers_are_called_after_the_stack(folder: Path) -> None:
    stack = loaded(folder, "containers: {a: {extends: ./base.yaml}, b: {command: 'true'}}")
    assert stack.name == "shop"
    assert names(stack) == ["shop-a", "shop-b"]
    assert [m.spec.hostname for m in stack.members] == ["a", None]


def test_what_is_extended_is_merged(folder: Path) -> None:
    text = """
containers:
  a:
    extends: ./base.yaml
    env: {B: own}
    command: [other]
"""
    spec = loaded(folder, text).members[0].spec
    assert dict(spec.env) == {"A": "base", "B": "own"}
    assert spec.command == ("other",)
    assert [n.type.value for n in spec.namespaces] == ["mount", "uts", "network"]


def test_several_are_extended_in_their_order_and_chains_too(folder: Path) -> None:
    (folder / "one.yaml").write_text("extends: ./base.yaml\nenv: {A: one, C: one}\n")
    (folder / "two.yaml").write_text("env: {C: two}\n")
    text = "containers: {a: {extends: [./one.yaml, ./two.yaml]}}"
    spec = loaded(folder, text).members[0].spec
    assert dict(spec.env) == {"A": "one", "B": "base", "C": "two"}


def test_relative_paths_begin_where_they_are_written(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub/data").mkdir()
    (folder / "own").mkdir()
    (folder / "sub/b.yaml").write_text(
        "namespaces: [mount]\nmounts: ['./data:/data']\ncommand: [x]\n"
    )
    text = """
containers:
  a: {extends: ./sub/b.yaml}
  b: {extends: ./sub/b.yaml, mounts: ['./own:/o']}
"""
    first, second = loaded(folder, text).members
    assert first.spec.mounts[0].source == str(folder / "sub/data")
    assert second.spec.mounts[0].source == str(folder / "own")


def test_an_error_in_what_is_extended_is_shown_there(folder: Path) -> None:
    (folder / "bad.yaml").write_text("command: [x]\nhostnam: y\n")
    with pytest.raises(NsrunError) as caught:
        loaded(folder, "containers: {a: {extends: ./bad.yaml}}")
    (found,) = caught.value.diagnostics
    assert found.span is not None
    assert found.span.file.endswith("bad.yaml")
    assert found.span.line == 2


def test_extending_in_a_circle(folder: Path) -> None:
    (folder / "one.yaml").write_text("extends: ./two.yaml\ncommand: [x]\n")
    (folder / "two.yaml").write_text("extends: ./one.yaml\n")
    with pytest.raises(NsrunError) as caught:
        loaded(folder, "containers: {a: {extends: ./one.yaml}}")
    assert "extends itself" in caught.value.diagnostics[0].summary


def test_extending_what_is_not_there(folder: Path) -> None:
    found = errors(folder, "containers:\n  a:\n    extends: ./none.yaml\n")
    assert found[0][:2] == (3, "NS001")


def test_replicas_have_numbers(folder: Path) -> None:
    stack = loaded(folder, "containers: {w: {extends: ./base.yaml, replicas: 3}}")
    assert names(stack) == ["shop-w-1", "shop-w-2", "shop-w-3"]
    assert loaded(folder, "containers: {w: {command: 'x', replicas: 0}}").members == ()


def test_profiles(folder: Path) -> None:
    text = "containers: {a: {command: x}, b: {command: x, profiles: [dev, test]}}"
    assert names(loaded(folder, text)) == ["shop-a"]
    assert names(loaded(folder, text, profiles=frozenset({"test"}))) == ["shop-a", "shop-b"]
    assert names(loaded(folder, text, all_profiles=True)) == ["shop-a", "shop-b"]


def test_restart_and_health(folder: Path) -> None:
    text = """
containers:
  a: {command: x, restart: always}
  b:
    command: x
    restart: {policy: on-failure, max: 5}
    healthcheck: {command: 'test -e /x', interval: 5s, timeout: 500ms, retries: 2, start_period: 1m}
"""
    a, b = loaded(folder, text).members
    assert a.restart == Restart(policy="always")
    assert b.restart == Restart(policy="on-failure", max=5)
    assert b.healthcheck is not None
    assert b.healthcheck.command == ("/bin/sh", "-c", "test -e /x")
    assert (b.healthcheck.interval, b.healthcheck.timeout) == (5 * 10**9, 5 * 10**8)
    assert (b.healthcheck.retries, b.healthcheck.start_period) == (2, 60 * 10**9)


# --- order -----------------------------------------------------------------------------------


def test_containers_come_after_what_they_depend_on(folder: Path) -> None:
    text = """
containers:
  web: {command: x, depends_on: {db: {condition: healthy}, init: {condition: completed}}}
  db: {command: x, depends_on: [init], healthcheck: {command: x}}
  init: {command: x}
"""
    stack = loaded(folder, text)
    assert names(stack) == ["shop-init", "shop-db", "shop-web"]
    assert [d.condition for d in stack.members[-1].depends_on] == [
        Condition.HEALTHY,
        Condition.COMPLETED,
    ]


def test_a_joined_namespace_is_a_dependency(folder: Path) -> None:
    text = """
containers:
  side: {command: x, namespaces: [{type: network, container: main}]}
  main: {command: x, namespaces: [network]}
"""
    stack = loaded(folder, text)
    assert names(stack) == ["shop-main", "shop-side"]
    assert stack.members[1].spec.namespaces[0].join_container == "shop-main"


def test_the_other_end_of_a_pair_is_in_a_container_of_the_stack(folder: Path) -> None:
    text = """
containers:
  side:
    command: x
    namespaces: [network]
    network:
      interfaces:
        - {name: a0, type: veth, peer: {name: b0, container: main}}
        - {name: a1, type: veth, peer: {name: b1, container: stranger}}
  main: {command: x, namespaces: [network]}
"""
    stack = loaded(folder, text)
    assert names(stack) == ["shop-main", "shop-side"]
    side = stack.members[1].spec
    assert side.network is not None
    assert [i.peer.container for i in side.network.interfaces] == ["shop-main", "stranger"]


def test_a_circle_is_said_at_its_line(folder: Path) -> None:
    text = "containers:\n  a: {command: x, depends_on: [b]}\n  b: {command: x, depends_on: [a]}\n"
    assert errors(folder, text) == [(3, "NS318", "the containers wait for each other: a -> b -> a")]


def test_a_dependency_that_is_not_there(folder: Path) -> None:
    text = "containers:\n  web: {command: x}\n  b: {command: x, depends_on: [wev]}\n"
    with pytest.raises(NsrunError) as caught:
        loaded(folder, text)
    assert caught.value.diagnostics[0].help == ("did you mean `web`?",)


# --- networks --------------------------------------------------------------------------------

NETS = """
networks:
  front: {subnet: [10.10.0.0/24, "fd10::/64"], masquerade: true, mtu: 1400}
  back: {subnet: 10.20.0.0/29, internal: true}
containers:
  db: {extends: ./base.yaml, networks: {back: {address: 10.20.0.5}}}
  web: {extends: ./base.yaml, networks: [front, back], replicas: 2}
"""


def test_addresses_are_fixed_or_the_next_free(folder: Path) -> None:
    stack = loaded(folder, NETS)
    addresses = {
        m.spec.name: {n: [str(a) for a in found] for n, found in m.addresses.items()}
        for m in stack.members
    }
    assert addresses == {
        "shop-db": {"back": ["10.20.0.5/29"]},
        "shop-web-1": {"front": ["10.10.0.2/24", "fd10::2/64"], "back": ["10.20.0.2/29"]},
        "shop-web-2": {"front": ["10.10.0.3/24", "fd10::3/64"], "back": ["10.20.0.3/29"]},
    }


def test_a_container_has_an_interface_on_each_network(folder: Path) -> None:
    stack = loaded(folder, NETS)
    network = stack.members[1].spec.network
    assert network is not None
    assert [(i.name, i.peer.bridge, i.mtu) for i in network.interfaces] == [
        ("eth0", "nsb-shop-front", 1400),
        ("eth1", "nsb-shop-back", None),
    ]
    # The same at each start, or neighbours would send to the one before.
    assert [i.mac for i in network.interfaces] == ["02:42:0a:0a:00:02", "02:42:0a:14:00:02"]
    # The internal network leads nowhere.
    assert [(str(r.to), str(r.via)) for r in network.routes] == [
        ("0.0.0.0/0", "10.10.0.1"),
        ("::/0", "fd10::1"),
    ]
    assert stack.members[0].spec.network is not None
    assert stack.members[0].spec.network.routes == ()


def test_everybody_on_a_network_is_known_by_name(folder: Path) -> None:
    stack = loaded(folder, NETS)
    db, first, _ = (m.spec.network for m in stack.members)
    assert db is not None and first is not None
    assert dict(db.hosts) == {
        "web": ip_address("10.20.0.2"),
        "web-1": ip_address("10.20.0.2"),
        "web-2": ip_address("10.20.0.3"),
    }
    assert first.hosts["db"] == ip_address("10.20.0.5")
    # Its own name is its hostname's, which hosts(5) gets anyway.
    assert "web-1" not in first.hosts


@pytest.mark.parametrize(
    ("networks", "member", "line", "summary"),
    [
        ("n: {subnet: 10.0.0.0/24}", "[m]", 3, "there is no network `m` in this stack"),
        ("n: {subnet: 10.0.0.1/24}", "[n]", 2, "`10.0.0.1/24` is no network for containers"),
        ("n: {subnet: 10.0.0.0/31}", "[n]", 2, "`10.0.0.0/31` is no network for containers"),
        ("n: {subnet: 0.0.0.0/0}", "[n]", 2, "`0.0.0.0/0` is no network for containers"),
        ("n: {subnet: 127.3.0.0/16}", "[n]", 2, "`127.3.0.0/16` is no network for containers"),
        ("n: {subnet: 224.0.0.0/24}", "[n]", 2, "`224.0.0.0/24` is no network for containers"),
        ("n: {subnet: 'fe80::/64'}", "[n]", 2, "`fe80::/64` is no network for containers"),
        ("n: {subnet: 'fd00::/127'}", "[n]", 2, "`fd00::/127` is no network for containers"),
        ("n: {subnet: [10.0.0.0/24, 10.1.0.0/24]}", "[n]", 2, "a second IPv4 network"),
        ("n: {internal: true, masquerade: true}", "[n]", 2,
         "an internal network has no way out to translate addresses on"),
        ("n: {subnet: 10.0.0.0/24}", "{n: {address: 10.1.0.2}}", 3,
         "10.1.0.2 is no address for a container in 10.0.0.0/24"),
        ("n: {subnet: 10.0.0.0/24}", "{n: {address: 10.0.0.255}}", 3,
         "10.0.0.255 is no address for a container in 10.0.0.0/24"),
        ("n: {subnet: 10.0.0.0/24}", "{n: {address: 10.0.0.1}}", 3, "10.0.0.1 is taken"),
        ("n: {subnet: 10.0.0.0/24}", "{n: {address: here}}", 3, "`here` is no IP address"),
        ("n: {subnet: 10.0.0.0/24}, m: {subnet: 10.0.0.0/25}", "[n]", 2,
         "10.0.0.0/25 has addresses of the network `n`"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_network(
    folder: Path, networks: str, member: str, line: int, summary: str
) -> None:
    text = (
        "name: shop\n"
        f"networks: {{{networks}}}\n"
        f"containers: {{a: {{extends: ./base.yaml, networks: {member}}}}}\n"
    )
    assert (line, summary) in [(at, said) for at, _, said in errors(folder, text)]


def test_a_network_can_be_full(folder: Path) -> None:
    text = """
networks: {n: {subnet: 10.0.0.0/29}}
containers: {a: {extends: ./base.yaml, networks: [n], replicas: 6}}
"""
    assert errors(folder, text)[0][2] == "the network `n` has no address left"


def test_networks_need_a_network_namespace(folder: Path) -> None:
    text = "networks: {n: {}}\ncontainers:\n  a: {command: x, networks: [n]}\n"
    assert errors(folder, text) == [(3, "NS301", "`networks` needs a new network namespace")]


def test_ports_lead_to_the_containers_networks(folder: Path) -> None:
    text = """
networks: {n: {}}
containers: {a: {extends: ./base.yaml, networks: [n], network: {ports: ["80:80"]}}}
"""
    network = loaded(folder, text).members[0].spec.network
    assert network is not None
    assert network.ports[0].host == 80


@given(st.integers(2, 8), st.data())
def test_addresses_are_apart(size: int, data: st.DataObject) -> None:
    pool = Pool(subnet_of(f"10.0.0.0/{32 - size}"))
    free = [a for a in pool.subnet.hosts() if pool.is_free(a)]
    for address in data.draw(st.lists(st.sampled_from(free), unique=True, max_size=3)):
        pool.take(address)
    found = []
    with pytest.raises(Full):
        while True:
            found.append(pool.next())
    assert len(set(found)) == len(found)
    assert all(a.network == pool.subnet and pool.is_usable(a.ip) for a in found)
    assert pool.gateway not in found


@given(st.from_regex(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,63}", fullmatch=True))
def test_a_bridge_has_a_name_the_kernel_takes(name: str) -> None:
    made = bridge_name(name, "front")
    assert made.startswith("nsb-")
    assert len(made) <= 15
    assert made == bridge_name(name, "front")
    assert default_subnet(name, "n").prefixlen == 24
    assert ip_interface("10.128.0.0/9").network.supernet_of(default_subnet(name, "n"))


# --- volumes ---------------------------------------------------------------------------------


def test_volumes_are_mounts(folder: Path) -> None:
    (folder / "own").mkdir()
    text = """
volumes: {data: {}, here: {path: ./own}}
containers: {a: {extends: ./base.yaml, volumes: ["data:/data", "here:/here:ro", "./own:/own"]}}
"""
    stack = loaded(folder, text, volumes="/v")
    assert [(m.source, m.target) for m in stack.members[0].spec.mounts] == [
        ("/v/shop/data", "/data"),
        (str(folder / "own"), "/here"),
        (str(folder / "own"), "/own"),
    ]
    assert [(v.name, v.folder, v.named) for v in stack.volumes] == [
        ("data", "/v/shop/data", True),
        ("here", str(folder / "own"), False),
    ]


def test_a_volume_that_is_not_there(folder: Path) -> None:
    text = "containers:\n  a: {extends: ./base.yaml, volumes: ['data:/data']}\n"
    assert errors(folder, text)[0] == (2, "NS318", "there is no volume `data` in this stack")


@pytest.mark.parametrize("name", ["a/b", "..", "a b", "", "-a"])
def test_names_that_are_none(folder: Path, name: str) -> None:
    text = f'name: "{name}"\ncontainers: {{a: {{command: x}}}}\n'
    assert errors(folder, text)[0][0] == 1


# --- secrets and configs ---------------------------------------------------------------------

KEPT = """
secrets: {pw: {file: ./pw}, token: {environment: NSRUN_TEST_TOKEN}}
configs: {motd: {content: "hello\\n"}, conf: {file: ./conf}, word: {environment: NSRUN_TEST_TOKEN}}
containers:
  a:
    extends: ./base.yaml
    secrets: [pw, {source: token, target: /etc/token, mode: "0400", uid: 3, gid: 4}]
    configs: [motd, {source: conf, target: /etc/conf, mode: "0640", gid: 9}, word]
"""


@pytest.fixture
def kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (folder / "pw").write_text("hidden")
    (folder / "conf").write_bytes(b"\xff\0")
    monkeypatch.setenv("NSRUN_TEST_TOKEN", "tok")
    return folder


def test_secrets_are_binds_of_what_is_not_there_yet(kept: Path) -> None:
    stack = loaded(kept, KEPT, stacks="/run/s")
    spec = stack.members[0].spec
    assert [(m.source, m.target, m.options) for m in spec.mounts] == [
        ("/run/s/shop/secrets/a/0", "/run/secrets/pw", ("ro", "nosuid", "nodev", "noexec")),
        ("/run/s/shop/secrets/a/1", "/etc/token", ("ro", "nosuid", "nodev", "noexec")),
    ]
    assert [(s.file, s.environment, s.mode, s.uid, s.gid) for s in stack.secrets] == [
        (str(kept / "pw"), None, 0o444, None, None),
        (None, "NSRUN_TEST_TOKEN", 0o400, 3, 4),
    ]
    assert "hidden" not in repr(stack)
    assert spec.span("secrets[1]") is not None


def test_configs_are_files(kept: Path) -> None:
    files = loaded(kept, KEPT).members[0].spec.files
    assert [(f.target, f.content, f.mode, f.uid, f.gid) for f in files] == [
        ("/motd", b"hello\n", 0o444, None, None),
        ("/etc/conf", b"\xff\0", 0o640, None, 9),
        ("/word", b"tok", 0o444, None, None),
    ]


@pytest.mark.parametrize(
    ("definitions", "member", "line", "code", "summary"),
    [
        ("secrets: {pw: {file: ./pw}}", "secrets: [pv]", 2, "NS318",
         "there is no secret `pv` in this stack"),
        ("configs: {a: {content: x}}", "configs: [{source: b}]", 2, "NS318",
         "there is no config `b` in this stack"),
        ("secrets: {pw: {file: ./none}}", "secrets: [pw]", 1, "NS305", "/none` does not exist"),
        ("secrets: {pw: {file: .}}", "secrets: [pw]", 1, "NS305", "is no regular file"),
        ("configs: {c: {file: ./none}}", "configs: [c]", 1, "NS305", "/none"),
        ("secrets: {pw: {environment: NSRUN_UNSET}}", "secrets: [pw]", 1, "NS318",
         "the variable `NSRUN_UNSET` is not set"),
        ("configs: {c: {file: ./pw, content: x}}", "configs: [c]", 1, "NS318",
         "`file` and `content` for the config `c`"),
        ("secrets: {s: {file: ./pw, environment: X}}", "init: false", 1, "NS318",
         "`file` and `environment` for the secret `s`"),
        ("secrets: {s: {}}", "init: false", 1, "NS204", "nothing says what the secret `s` holds"),
        ("secrets: {s: {content: x}}", "init: false", 1, "NS201", "content"),
        ("secrets: {s: {file: ./pw}}", "secrets: [s, s]", 2, "NS318", "are both to be"),
        ("secrets: {s: {file: ./pw}}", 'secrets: [{source: s, target: "../x"}]', 2, "NS304",
         "is no path"),
        ("secrets: {s: {file: ./pw}}", 'secrets: [{source: s, mode: "77777"}]', 2, "NS203",
         "`77777` is no mode"),
        ("secrets: {s: {file: ./pw}}", "secrets: [s], namespaces: [uts]", 2, "NS301",
         "`secrets` needs a new mount namespace"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_secret(
    kept: Path, definitions: str, member: str, line: int, code: str, summary: str
) -> None:
    text = f"{definitions}\ncontainers: {{a: {{extends: ./base.yaml, {member}}}}}\n"
    found = errors(kept, text)
    assert [(at, c) for at, c, said in found if summary in said] == [(line, code)], found


# --- together --------------------------------------------------------------------------------


def published(*ports: str) -> str:
    return f"{{extends: ./base.yaml, network: {{mode: none, ports: [{', '.join(ports)}]}}}}"


@pytest.mark.parametrize(
    ("first", "second", "line", "summary"),
    [
        ("{command: x, depends_on: [b]}", "{command: x, profiles: [p]}", 2,
         "`b` is not brought up: it is of the profile p"),
        ("{command: x, depends_on: [b]}", "{command: x, profiles: [p, q]}", 2,
         "`b` is not brought up: it is of the profiles p, q"),
        ("{command: x, namespaces: [{type: network, container: b}]}",
         "{extends: ./base.yaml, profiles: [p]}", 2,
         "`b` is not brought up: it is of the profile p"),
        ("{command: x, depends_on: {b: {condition: healthy}}}", "{command: x}", 2,
         "`b` has no healthcheck, which would say that it is healthy"),
        ("{command: x, depends_on: {b: {condition: completed}}}", "{command: x, restart: always}",
         2, "`b` is always started again, and never completed"),
        ("{command: x, depends_on: {b: {condition: completed}}}",
         "{command: x, restart: {policy: always, max: 2}}", 0, ""),
        ("{command: x, namespaces: [{type: network, container: b}]}",
         "{extends: ./base.yaml, replicas: 2}", 2, "`b` stands for 2 containers"),
        ("{command: x, namespaces: [{type: network, container: b}]}",
         "{extends: ./base.yaml, replicas: 0}", 2, "`b` stands for 0 containers"),
        ("{command: x, depends_on: [b]}", "{command: x, replicas: 0}", 0, ""),
    ],
)  # fmt: skip
def test_what_waits_for_what_does_not_come(
    folder: Path, first: str, second: str, line: int, summary: str
) -> None:
    text = f"containers:\n  a: {first}\n  b: {second}\n"
    if line:
        assert (line, "NS318", summary) in errors(folder, text)
    else:
        loaded(folder, text)


@pytest.mark.parametrize(
    ("key", "line", "code", "summary"),
    [
        ("volumes: ['v:']", 3, "NS203", "`v:` is not `volume:target[:options]`"),
        ("volumes: [':/d']", 3, "NS203", "`:/d` is not `volume:target[:options]`"),
        ("volumes: [v]", 3, "NS203", "`v` is not `volume:target[:options]`"),
        ("volumes: ['z/y:/d']", 3, "NS318", "there is no volume `z/y` in this stack"),
        ("networks: {n: {address: [10.9.0.5, 10.9.0.6]}}", 3, "NS318",
         "a second IPv4 address on one network"),
        ("healthcheck: {command: x, interval: 0s}", 3, "NS203",
         "`interval` of a healthcheck is more than nothing"),
        ("healthcheck: {command: x, timeout: 0}", 3, "NS203",
         "`timeout` of a healthcheck is more than nothing"),
        ("profiles: [p]", 2, "NS318",
         "no container is brought up: all are of profiles, and none of these is asked for"),
        ("restart: {max: 3}", 3, "NS204", "the key `policy` is missing"),
        ("networks: [e]", 1, "NS316", "`a/b` cannot be an interface's name"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_container_of_a_stack(
    folder: Path, key: str, line: int, code: str, summary: str
) -> None:
    more = "e: {external: a/b}" if key == "networks: [e]" else ""
    text = (
        f"networks: {{n: {{subnet: 10.9.0.0/24}}, {more}}}\ncontainers:\n"
        f"  a: {{extends: ./base.yaml, {key}}}\nvolumes: {{v: {{}}}}\n"
    )
    assert errors(folder, text) == [(line, code, summary)]


def test_replicas_and_others_of_one_name(folder: Path) -> None:
    text = "containers:\n  a: {command: x, replicas: 2}\n  a-2: {command: x}\n"
    summary = "a second container `shop-a-2`, beside that of `a`"
    assert errors(folder, text) == [(3, "NS318", summary)]


@pytest.mark.parametrize(
    ("first", "second", "summary"),
    [
        (["'80:80'"], ["'80:81'"], "80/tcp"),
        (["'80:80'"], ["'127.0.0.1:80:80'"], "80/tcp"),
        (["'127.0.0.1:80:80'"], ["'80:80'"], "80/tcp"),
        (["'10-90:10-90'"], ["'80-99:80-99'"], "80-99/tcp"),
        (["'127.0.0.1:80:80'"], ["'127.0.0.2:80:80'"], ""),
        (["'80:80'"], ["'80:80/udp'"], ""),
        (["'10-79:10-79'"], ["'80:80'"], ""),
    ],
)
def test_a_port_that_two_publish(
    folder: Path, first: list[str], second: list[str], summary: str
) -> None:
    text = f"containers:\n  a: {published(*first)}\n  b: {published(*second)}\n"
    text = text.replace("mode: none", "mode: user")
    if not summary:
        loaded(folder, text)
        return
    (found,) = errors(folder, text)
    assert found[1:] == (
        "NS318",
        f"port {summary} of the host is published by "
        + ("shop-a, too" if found[0] == 3 else "shop-b, too"),
    )
    # Alternatives, of which one is meant at a time, are none to `validate`.
    other = text.replace("b: {", "b: {profiles: [p], ").replace("a: {", "a: {profiles: [q], ")
    loaded(folder, other, all_profiles=True)


# --- names -----------------------------------------------------------------------------------


@pytest.mark.parametrize("section", ["networks", "volumes", "secrets", "configs", "containers"])
@pytest.mark.parametrize("name", ["a/b", "..", "../../etc", "a b", "", "-a", "a\\tb", "a" * 65])
def test_parts_with_names_that_are_none(folder: Path, section: str, name: str) -> None:
    """A volume `../../etc` would be made and removed where it leads to."""
    value = {"secrets": "{file: ./base.yaml}", "configs": "{content: x}"}.get(section, "{}")
    value = "{command: x}" if section == "containers" else value
    text = f'name: shop\n{section}:\n  "{name}": {value}\n'
    if section != "containers":
        text += "containers: {a: {command: x}}\n"
    (found,) = errors(folder, text)
    assert found[:2] == (3, "NS316")
    assert found[2].endswith(f"cannot be the name of a {section[:-1]}")


def test_an_address_is_given_once(folder: Path) -> None:
    text = """networks: {n: {subnet: 10.0.0.0/24}}
containers:
  a: {extends: ./base.yaml, networks: {n: {address: 10.0.0.5}}}
  b: {extends: ./base.yaml, networks: {n: {address: 10.0.0.5}}}
"""
    assert errors(folder, text) == [(4, "NS318", "10.0.0.5 is taken")]


def test_many_containers_on_many_networks(folder: Path) -> None:
    networks = "".join(f"  n{i}: {{subnet: 10.{i}.0.0/16}}\n" for i in range(51))
    on = ", ".join(f"n{i}" for i in range(51))
    text = (
        f"networks:\n{networks}containers:\n  a:\n    extends: ./base.yaml\n    networks: [{on}]\n"
    )
    (found,) = errors(folder, f"{text}    replicas: 99\n")
    assert "the stack's containers are on more than 5000 networks together" in found
    assert len(loaded(folder, f"{text}    replicas: 98\n").members) == 98
