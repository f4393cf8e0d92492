"""From a valid document to the Spec it means."""

# ruff: noqa: E501 -- a case of a table is read on one line

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nsrun.diag import NsrunError
from nsrun.spec.build import build, default_name
from nsrun.spec.document import parse_document
from nsrun.spec.model import (
    SECOND,
    Capabilities,
    FileEntry,
    Hook,
    IdMap,
    IdRange,
    Logging,
    Mount,
    Namespace,
    NamespaceType,
    Overlay,
    Rlimit,
    Rootfs,
    Spec,
    User,
)
from nsrun.spec.schema import validate


def spec(text: str, file: str = "/specs/web.yaml", command: tuple[str, ...] | None = None) -> Spec:
    document = parse_document(text, file)
    assert validate(document) == []
    return build(document, command)


def made(text: str) -> Spec:
    return spec(f"command: [x]\n{text}")


def codes(text: str) -> list[tuple[str, str]]:
    with pytest.raises(NsrunError) as caught:
        made(text)
    return [(d.code, d.path) for d in caught.value.diagnostics]


def test_the_least_spec_has_the_documented_defaults() -> None:
    digest = parse_document("command: [x]", "other").sha256
    assert spec("command: [x]") == Spec(
        name="web", file="/specs/web.yaml", command=("x",), sha256=digest
    )


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("web.yaml", "web"), ("a/b/web.yml", "web"), ("web", "web"), ("web.yaml.j2", "web"),
        ("web.json", "web"), ("web.v2.yaml", "web.v2"), ("my spec.yaml", "my-spec"), ("-x.yaml", "x"),
        ("ünï.yaml", "n"), ("日本.yaml", "spec"), ("<stdin>", "stdin"), ("", "spec"), (".yaml", "spec"),
        ("x" * 100 + ".yaml", "x" * 64),
    ],
)  # fmt: skip
def test_the_default_name_is_the_stem(file: str, name: str) -> None:
    assert default_name(file) == name


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("command: [a, b]", ("a", "b")),
        ("command: [sleep, 010, 1.50, -1]", ("sleep", "010", "1.50", "-1")),
        ("command: [a]\nargs: [b, 2]", ("a", "b", "2")),
        ("command: echo $1", ("/bin/sh", "-c", "echo $1")),
        ("command: echo $1\nargs: [x]", ("/bin/sh", "-c", "echo $1", "/bin/sh", "x")),
    ],
)
def test_commands(text: str, command: tuple[str, ...]) -> None:
    assert spec(text).command == command


def test_a_command_of_the_caller_replaces_command_and_args() -> None:
    assert spec("command: [a]\nargs: [b]", command=("c", "d")).command == ("c", "d")
    assert spec("name: x", command=("c",)).command == ("c",)


@pytest.mark.parametrize("text", ["name: x", "args: [a]"])
def test_without_a_command(text: str) -> None:
    with pytest.raises(NsrunError) as caught:
        spec(text)
    (found,) = caught.value.diagnostics
    assert found.code == "NS204"


def test_an_empty_program_is_none() -> None:
    with pytest.raises(NsrunError):
        spec("command: ['']")


def test_namespaces() -> None:
    text = """
namespaces:
  - user
  - {type: mount}
  - {type: network, path: ./net}
  - {type: ipc, pid: 12}
  - {type: uts, pin: ../uts}
  - {type: cgroup, container: db}
  - {type: time, boottime: 1h, monotonic: -5s}
"""
    assert made(text).namespaces == (
        Namespace(type=NamespaceType.USER),
        Namespace(type=NamespaceType.MOUNT),
        Namespace(type=NamespaceType.NETWORK, join_path="/specs/net"),
        Namespace(type=NamespaceType.IPC, join_pid=12),
        Namespace(type=NamespaceType.UTS, pin="/uts"),
        Namespace(type=NamespaceType.CGROUP, join_container="db"),
        Namespace(type=NamespaceType.TIME, boottime=3600 * SECOND, monotonic=-5 * SECOND),
    )


def test_id_maps() -> None:
    assert made("idmap: keep").idmap == IdMap(kind="keep")
    text = "idmap: {uid: ['0:1000:1', {container: 1, host: 100000, size: 65536}], gid: []}"
    ranges = (
        IdRange(container=0, host=1000, size=1),
        IdRange(container=1, host=100000, size=65536),
    )
    assert made(text).idmap == IdMap(kind="explicit", uid=ranges)
    assert codes("idmap: {uid: ['0:99999999999:1'], gid: []}") == [("NS303", "idmap.uid[0]")]


def test_a_rootfs() -> None:
    assert made("rootfs: ./r").rootfs == Rootfs(path="/specs/r")
    assert made("rootfs: /a/./b/../c").rootfs == Rootfs(path="/a/c")
    text = "rootfs: {path: r, readonly: true, propagation: slave, overlay: ephemeral}"
    assert made(text).rootfs == Rootfs(
        path="/specs/r", readonly=True, propagation="slave", overlay=Overlay()
    )
    assert made("rootfs: {path: r, overlay: {upper: u, work: w}}").rootfs == Rootfs(
        path="/specs/r", overlay=Overlay(upper="/specs/u", work="/specs/w")
    )


def test_home_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert made("rootfs: ~/r").rootfs == Rootfs(path="/home/me/r")
    assert codes("rootfs: ~no-such-user/r") == [("NS305", "rootfs")]


def test_relative_paths_start_at_the_specs_folder(monkeypatch: pytest.MonkeyPatch,
                                                  tmp_path: Path) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert spec("command: [x]\nrootfs: r", "sub/web.yaml").rootfs == Rootfs(
        path=f"{tmp_path}/sub/r"
    )
    assert spec("command: [x]\nrootfs: r", "<stdin>").rootfs == Rootfs(path=f"{tmp_path}/r")


def mount(entry: str) -> Mount:
    (found,) = made(f"mounts:\n- {entry}").mounts
    return found


def expected(**values: Any) -> Mount:
    return Mount(**{"path": "mounts[0]", "target": "/m", "type": "bind", **values})


@pytest.mark.parametrize(
    ("entry", "result"),
    [
        ("./a:/m", expected(source="/specs/a")),
        ("./a:/m:ro,nosuid,rslave", expected(source="/specs/a", options=("ro", "nosuid"),
                                             propagation=("rslave",))),
        ("{target: //m/./, type: tmpfs, options: [size=1m]}", expected(type="tmpfs",
                                                                      options=("size=1m",))),
        ("{target: /m, source: tmpfs, type: tmpfs}", expected(type="tmpfs", source="tmpfs")),
        ("{target: /m, source: ./disk, type: ext4}", expected(type="ext4", source="/specs/disk")),
        ("{target: /m, source: 'host:/x', type: nfs}", expected(type="nfs", source="host:/x")),
        ("{target: /m, source: a, type: bind}", expected(source="/specs/a")),
        ("{target: /m, source: a, type: bind, recursive: false}",
         expected(source="/specs/a", recursive=False)),
        # OCI's manner
        ("{target: /m, source: /a, type: none, options: [rbind, ro, rprivate]}",
         expected(source="/a", options=("ro",), propagation=("rprivate",))),
        ("{target: /m, source: /a, options: [bind]}", expected(source="/a", recursive=False)),
        ("{target: /m, options: [remount, ro, defaults]}", expected(type="", remount=True,
                                                                    options=("ro",))),
        ("{target: /m, type: bind, source: /a, options: [ridmap]}", expected(source="/a", idmap=True)),
        # changes
        ("{target: /m, propagation: [slave, shared]}", expected(type="",
                                                               propagation=("slave", "shared"))),
        ("{target: /m, type: umount}", expected(type="umount")),
        ("{target: /m, type: bind, source: /a, create: never, optional: true, idmap: true}",
         expected(source="/a", create=False, optional=True, idmap=True)),
        ("{target: /m, type: bind, source: /a, idmap: false}", expected(source="/a")),
        ("{target: /m, type: bind, source: /a, idmap: {uid: ['0:1:2'], gid: []}}",
         expected(source="/a", idmap=IdMap(kind="explicit",
                                           uid=(IdRange(container=0, host=1, size=2),)))),
        ("{target: /m, type: overlay, lower: [a, /b], upper: u, work: w}",
         expected(type="overlay", lower=("/specs/a", "/b"), upper="/specs/u", work="/specs/w")),
        ("{target: /m, type: overlay, lower: a}", expected(type="overlay", lower=("/specs/a",))),
    ],
)  # fmt: skip
def test_mounts(entry: str, result: Mount) -> None:
    assert mount(entry) == result


@pytest.mark.parametrize(
    ("entry", "code", "path"),
    [
        ("./a", "NS203", "mounts[0]"), ("./a:/b:ro:x", "NS203", "mounts[0]"), ("':/b'", "NS203", "mounts[0]"),
        ("'./a:'", "NS203", "mounts[0]"), ("data:/b", "NS203", "mounts[0]"), ("./a:b", "NS304", "mounts[0]"),
        ("{target: a, type: tmpfs}", "NS304", "mounts[0].target"),
        ("{target: /a/../b, type: tmpfs}", "NS304", "mounts[0].target"),
        ('{target: "/a\\nb", type: tmpfs}', "NS304", "mounts[0].target"),
        ('{target: "/a\\0b", type: tmpfs}', "NS203", "mounts[0].target"),
        ("{target: /a, type: tmpfs, options: [bind]}", "NS313", "mounts[0].options"),
        ("{target: /a, source: /b, options: [bind, rbind]}", "NS313", "mounts[0].options"),
        ("{target: /a, source: /b, recursive: false, options: [rbind]}", "NS313", "mounts[0].options"),
        ("{target: /a, source: /b, recursive: true, options: [bind]}", "NS313", "mounts[0].options"),
    ],
)  # fmt: skip
def test_mounts_refused(entry: str, code: str, path: str) -> None:
    assert (code, path) in codes(f"mounts:\n- {entry}")


def test_files() -> None:
    text = """
files:
  x-note: {content: none}
  /etc//motd: {content: "hé\\n", mode: "0640"}
  /l: {symlink: ../x}
  /d: {folder: true, mode: "01777"}
  /e: {content: ""}
"""
    assert made(text).files == (
        FileEntry(
            path='files["/etc//motd"]',
            target="/etc/motd",
            content="hé\n".encode(),
            mode=0o640,
        ),
        FileEntry(path='files["/l"]', target="/l", symlink="../x"),
        FileEntry(path='files["/d"]', target="/d", folder=True, mode=0o1777),
        FileEntry(path='files["/e"]', target="/e", content=b""),
    )


@pytest.mark.parametrize(
    ("entry", "code", "path"),
    [
        ("/a: {}", "NS204", 'files["/a"]'), ("/a: {mode: '0644'}", "NS204", 'files["/a"]'),
        ("/a: {content: x, symlink: y}", "NS318", 'files["/a"]'),
        ("/a: {symlink: x, mode: '0644'}", "NS318", 'files["/a"].mode'),
        ("a: {content: x}", "NS304", "files.a"), ("/a/../b: {content: x}", "NS304", 'files["/a/../b"]'),
        ("/: {folder: true}", "NS318", 'files["/"]'),
        ("/a: {content: x, mode: '17777'}", "NS203", 'files["/a"].mode'),
        ('/a: {symlink: "a\\0"}', "NS203", 'files["/a"].symlink'),
    ],
)  # fmt: skip
def test_files_refused(entry: str, code: str, path: str) -> None:
    assert (code, path) in codes(f"files: {{{entry}}}")


def test_the_environment() -> None:
    text = "env: {A: 1.10, B: true, C: null, D: '', E: 0755, x-f: g, H: NULL}"
    assert dict(made(text).env) == {
        "A": "1.10", "B": "true", "C": None, "D": "", "E": "0755", "x-f": "g", "H": None,
    }  # fmt: skip
    assert dict(made("env: [A=b, B=, TERM, 'C=d=e']").env) == {
        "A": "b", "B": "", "TERM": None, "C": "d=e",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("env: {'A=B': x}", "NS316"),
        ("env: {'': x}", "NS316"),
        ('env: {"A\\0": x}', "NS316"),
        ("env: [=x]", "NS316"),
        ("env: [A=1, A=2]", "NS318"),
        ('env: {A: "x\\0"}', "NS203"),
    ],
)
def test_an_environment_refused(text: str, code: str) -> None:
    assert code in [c for c, _ in codes(text)]


def test_env_files_come_before_env(tmp_path: Path) -> None:
    (tmp_path / "a.env").write_text("A=1\nB=1\nC=1\n")
    (tmp_path / "b.env").write_text("B=2\nC=2\n")
    found = spec(
        "command: [x]\nenv_file: [a.env, ./b.env]\nenv: {C: 3}", str(tmp_path / "web.yaml")
    )
    assert dict(found.env) == {"A": "1", "B": "2", "C": "3"}


@pytest.mark.parametrize(
    ("text", "user"),
    [
        ("0", User(uid=0)), ("'0'", User(uid=0)), ("1000:100", User(uid=1000, gid=100)),
        ("nobody", User(uid="nobody")), ("web:4294967294", User(uid="web", gid=4294967294)),
        ("007:web", User(uid=7, gid="web")), ("1a", User(uid="1a")),
        ("{uid: '5', gid: web, groups: [1, '2', x], umask: '022'}",
         User(uid=5, gid="web", groups=(1, 2, "x"), umask=0o22)),
        ("{groups: []}", User()),
    ],
)  # fmt: skip
def test_users(text: str, user: User) -> None:
    assert made(f"user: {text}").user == user


@pytest.mark.parametrize(
    "text", ["'4294967295'", "'-1'", "'a:'", "':1'", "a:b:c", "a/b", "'99999999999'", "'٣'", "'0 '",
             "{gid: '+1'}", "{groups: ['-1']}", '"0\\n"', "{umask: '1022'}"],
)  # fmt: skip
def test_users_refused(text: str) -> None:
    assert {code for code, _ in codes(f"user: {text}")} == {"NS203"}


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("none", Capabilities(base="none")),
        ("[chown, CAP_KILL, kill]", Capabilities(explicit=("CAP_CHOWN", "CAP_KILL"))),
        ("[]", Capabilities(explicit=())),
        ("{add: [net_admin], drop: [CAP_KILL]}",
         Capabilities(add=("CAP_NET_ADMIN",), drop=("CAP_KILL",))),
        ("{drop: [ALL], add: [kill]}", Capabilities(base="none", add=("CAP_KILL",))),
        ("{add: [all], drop: [kill]}", Capabilities(base="all", drop=("CAP_KILL",))),
        ("{}", Capabilities()),
        ("{bounding: [kill], ambient: []}",
         Capabilities(sets={"bounding": ("CAP_KILL",), "ambient": ()})),
    ],
)  # fmt: skip
def test_capabilities(text: str, result: Capabilities) -> None:
    assert made(f"capabilities: {text}").capabilities == result


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("[CAP_CHWON]", "NS306"),
        ("{add: [x]}", "NS306"),
        ("{bounding: [x]}", "NS306"),
        ("{add: [kill], drop: [kill]}", "NS318"),
        ("{add: [ALL], drop: [ALL]}", "NS318"),
        ("{add: [kill], bounding: [kill]}", "NS318"),
    ],
)
def test_capabilities_refused(text: str, code: str) -> None:
    assert [c for c, _ in codes(f"capabilities: {text}")] == [code]


def test_limits() -> None:
    text = (
        "rlimits: {nofile: 1024, RLIMIT_CORE: '0:unlimited', Stack: unlimited, x-a: 1, cpu: '1:2'}"
    )
    assert made(text).rlimits == (
        Rlimit(name="nofile", soft=1024, hard=1024),
        Rlimit(name="core", soft=0, hard=None),
        Rlimit(name="stack", soft=None, hard=None),
        Rlimit(name="cpu", soft=1, hard=2),
    )


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("{files: 1}", "NS315"), ("{nofile: 1, NOFILE: 2}", "NS318"),
        ("{nofile: 18446744073709551615}", "NS203"), (f"{{nofile: '{'9' * 5000}'}}", "NS203"),
    ],
)  # fmt: skip
def test_limits_refused(text: str, code: str) -> None:
    assert [c for c, _ in codes(f"rlimits: {text}")] == [code]


def test_everything_else() -> None:
    found = made(
        """
hostname: web
domainname: example.org
propagation: rslave
default_mounts: false
network: {loopback: false}
cwd: /srv/
tty: true
stdin: open
init: true
stop_signal: int
stop_timeout: 500ms
timeout: 5m
no_new_privileges: false
sysctl: {net.ipv4.ip_forward: 1, x-a: 2}
masked_paths: none
readonly_paths: [/a, /b//c]
oom_score_adj: -5
logging: {max_size: 1m, max_files: 5}
labels: {team: infra, version: 1.10}
hooks:
  prestart: [{path: ./a, args: [a, 1], env: [A=b], timeout: 2s}]
  poststop: [{path: /b, env: {C: 1}}]
"""
    )
    assert (found.hostname, found.domainname, found.propagation) == ("web", "example.org", "rslave")
    assert found.network is not None
    assert (found.default_mounts, found.network.loopback) == (False, False)
    assert (found.cwd, found.tty, found.stdin, found.init) == ("/srv", True, "open", True)
    assert (found.stop_signal, found.stop_timeout, found.timeout) == (
        "SIGINT", SECOND // 2, 300 * SECOND,
    )  # fmt: skip
    assert (found.no_new_privileges, found.oom_score_adj) == (False, -5)
    assert found.logging == Logging(max_size=1 << 20, max_files=5)
    assert dict(found.sysctl) == {"net.ipv4.ip_forward": "1"}
    assert (found.masked_paths, found.readonly_paths) == ("none", ("/a", "/b/c"))
    assert dict(found.labels) == {"team": "infra", "version": "1.10"}
    assert found.hooks.prestart == (
        Hook(path="/specs/a", args=("a", "1"), env=("A=b",), timeout=2 * SECOND),
    )
    assert found.hooks.poststop == (Hook(path="/b", env=("C=1",)),)
    assert made("masked_paths: default").masked_paths == "default"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("stop_signal: SIGTREM", "NS307"), ("stop_signal: 0", "NS307"), ("stop_signal: 32", "NS307"),
        ("cwd: srv", "NS304"), ("masked_paths: [a]", "NS304"), ("timeout: 99999999999h", "NS203"),
        ('hostname: "a\\0b"', "NS203"), ('command: ["a\\0"]', "NS203"), ('rootfs: "a\\0"', "NS203"),
        ('sysctl: {net.a: "1\\0"}', "NS203"), ("hooks: {prestart: [{path: a, env: [A]}]}", "NS203"),
        ("namespaces: [{type: time, boottime: 9999999999h}]", "NS203"),
        ("logging: {max_size: 16383}", "NS203"), ("logging: {max_size: 9999999999g}", "NS203"),
        ("logging: {driver: none, max_files: 2}", "NS318"),
    ],
)  # fmt: skip
def test_refused(text: str, code: str) -> None:
    with pytest.raises(NsrunError) as caught:
        spec(text if text.startswith("command") else f"command: [x]\n{text}")
    assert code in [d.code for d in caught.value.diagnostics]


def test_mistakes_in_several_keys_are_told_together() -> None:
    text = "cwd: x\nstop_signal: y\nuser: '-1'\nmounts: [a, b]"
    assert [c for c, _ in codes(text)] == ["NS304", "NS307", "NS203", "NS203", "NS203"]
