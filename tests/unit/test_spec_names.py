"""Names, units, places and phrases."""

# ruff: noqa: E501 -- a case of a table is read on one line

from __future__ import annotations

import signal

import pytest

from nsrun.diag import Span
from nsrun.spec import names, units
from nsrun.spec.model import NamespaceType, Spec
from nsrun.spec.mount_words import contradictions
from nsrun.spec.path import item_path, join_path, key_path, parent_path, top_key
from nsrun.spec.words import did_you_mean, either, found, plural, quote


@pytest.mark.parametrize(
    ("value", "nanoseconds"),
    [
        (10, 10_000_000_000), (0.5, 500_000_000), ("10s", 10_000_000_000), ("500ms", 500_000_000),
        ("1m30s", 90_000_000_000), ("2h", 7_200_000_000_000), ("7us", 7_000), ("7ns", 7),
        ("1.5s", 1_500_000_000), ("-5s", -5_000_000_000), (-3, -3_000_000_000), ("12", 12_000_000_000),
        (0, 0), (1e-9, 1), (0.1, 100_000_000),
    ],
)  # fmt: skip
def test_durations(value: float | str, nanoseconds: int) -> None:
    assert units.parse_duration(value) == nanoseconds


@pytest.mark.parametrize(
    "value", ["", "s", "10q", "10 s", "1s ", "٣s", "--1s", 10**12, "9" * 30 + "h"]
)
def test_no_durations(value: int | str) -> None:
    with pytest.raises(ValueError):
        units.parse_duration(value)


@pytest.mark.parametrize(
    ("value", "size"),
    [(5, 5), ("64k", 65536), ("512M", 512 << 20), ("2g", 2 << 30), ("1t", 1 << 40)],
)
def test_sizes(value: int | str, size: int) -> None:
    assert units.parse_size(value) == size


@pytest.mark.parametrize("value", ["", "k", "1.5g", "-1", "1kb", "1 k"])
def test_no_sizes(value: str) -> None:
    with pytest.raises(ValueError):
        units.parse_size(value)


def test_modes() -> None:
    assert units.parse_mode("0755") == 0o755
    assert units.parse_mode("7777") == 0o7777
    for text in ("17777", "8", "", "0x1", "755\n"):
        with pytest.raises(ValueError):
            units.parse_mode(text)


def test_capabilities() -> None:
    for name in ("chown", "CHOWN", "cap_chown", "Cap_Chown", "CAP_CHOWN"):
        assert names.capability(name) == "CAP_CHOWN"
    assert names.capability("CAP_CHWON") is None
    assert names.capability("") is None
    assert names.nearest("net_admn", names.CAPABILITIES) == "did you mean `CAP_NET_ADMIN`?"


def test_signals() -> None:
    for value in (15, "15", "term", "SIGTERM", "sigterm"):
        assert names.signal_name(value) == "SIGTERM"
    assert names.signal_name("rtmin+3") == "SIGRTMIN+3"
    assert names.signal_name(int(signal.SIGRTMIN) + 3) == "SIGRTMIN+3"
    assert names.signal_name(int(signal.SIGRTMIN)) == "SIGRTMIN"
    for value in (0, 65, -1, "", "SIGNOTHING", "32", "SIGTERM+1", "TERM "):
        assert names.signal_name(value) is None, value
    assert names.nearest("TREM", names.SIGNALS) == "did you mean `SIGTERM`?"


def test_limits() -> None:
    for name in ("nofile", "NOFILE", "RLIMIT_NOFILE", "rlimit_nofile"):
        assert names.rlimit(name) == "nofile"
    assert names.rlimit("files") is None
    assert len(names.RLIMITS) == 16


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("net.ipv4.ip_forward", NamespaceType.NETWORK), ("net.core.somaxconn", NamespaceType.NETWORK),
        ("kernel.shmmax", NamespaceType.IPC), ("kernel.msg_next_id", NamespaceType.IPC),
        ("kernel.sem", NamespaceType.IPC), ("fs.mqueue.msg_max", NamespaceType.IPC),
        ("kernel.hostname", NamespaceType.UTS), ("kernel.domainname", NamespaceType.UTS),
        ("user.max_user_namespaces", NamespaceType.USER),
        ("vm.swappiness", None), ("kernel.core_pattern", None), ("kernel.shm", None), ("fs.file-max", None),
        ("net", None), ("net.", None), ("net..x", None), ("net.ipv4/../../kernel.core_pattern", None),
        ("net/ipv4/ip_forward", None), ("net.a+b", None), ("net.x\nkernel.y", None), ("net.x\n", None),
        ("NET.ipv4.ip_forward", None), ("", None), ("kernel.shmmax.x", None),
    ],
)  # fmt: skip
def test_sysctls(name: str, kind: NamespaceType | None) -> None:
    assert names.sysctl_namespace(name) is kind


def test_places() -> None:
    assert key_path("", "a") == "a"
    assert key_path("a", "b-c_1") == "a.b-c_1"
    assert key_path("sysctl", "net.ipv4") == 'sysctl["net.ipv4"]'
    assert key_path("files", '/a"]["b') == 'files["/a\\"][\\"b"]'
    assert item_path("mounts", 3) == "mounts[3]"
    assert join_path(("mounts", 0, "target")) == "mounts[0].target"


@pytest.mark.parametrize(
    ("path", "parent"),
    [
        ("a", ""), ("a.b", "a"), ("a[0]", "a"), ("a[0].b", "a[0]"), ('s["x.y[0]"]', "s"),
        ('s["x.y"].z', 's["x.y"]'), ('["a.b"]', ""), ('f["/a\\"][\\"b"]', "f"), ("", ""),
    ],
)  # fmt: skip
def test_parents(path: str, parent: str) -> None:
    assert parent_path(path) == parent


def test_top_keys() -> None:
    assert top_key("mounts[0].target") == "mounts"
    assert top_key('["a.b"].c') == "a.b"
    assert top_key("") == ""


def test_the_span_of_a_spec_is_that_of_the_nearest_parent() -> None:
    def at(line: int) -> Span:
        return Span(file="f", line=line, column=1)

    spans = {"": at(1), "sysctl": at(2), 'sysctl["net.ipv4.x"]': at(3), "mounts[0]": at(4)}
    spec = Spec(name="a", file="f", sha256="", spans=spans)
    lines = {p: s.line for p in ('sysctl["net.ipv4.x"]', 'sysctl["net.y.z"]', "mounts[0].target.x",
                                 "mounts[1]", "other") if (s := spec.span(p)) is not None}  # fmt: skip
    assert lines == {'sysctl["net.ipv4.x"]': 3, 'sysctl["net.y.z"]': 2, "mounts[0].target.x": 4,
                     "mounts[1]": 1, "other": 1}  # fmt: skip


def test_phrases() -> None:
    assert either([]) == ""
    assert either(["a", "b", "a", "c"]) == "a, b or c"
    assert plural("a string") == "strings"
    assert plural("text such as that") == "text such as that"
    assert quote("a\x1b[0m\n") == "`a\\x1b[0m\\n`"
    assert len(quote("x" * 500)) < 70
    assert found(True) == "`true`"
    assert found([]) == "a list"
    assert did_you_mean("hostnam", ["hostname", "host"]) == "did you mean `hostname`?"
    assert did_you_mean("HOSTNAM", ["hostname"]) == "did you mean `hostname`?"
    assert did_you_mean("qqq", ["hostname"]) == ""
    actions = ["SCMP_ACT_ERRNO", "SCMP_ACT_ALLOW", "SCMP_ACT_LOG"]
    assert did_you_mean("SCMP_ACT_PERMIT", actions) == ""
    assert did_you_mean("SCMP_ACT_ALOW", actions) == "did you mean `SCMP_ACT_ALLOW`?"
    assert did_you_mean("SCMPACT_ALLOW", actions) == "did you mean `SCMP_ACT_ALLOW`?"
    assert did_you_mean("SCMP_ACT_", actions) == ""
    assert did_you_mean("dst", ["target"], {"dst": "target"}) == "did you mean `target`?"


@pytest.mark.parametrize(
    ("options", "pairs"),
    [
        (("ro", "nosuid", "rro"), []), (("ro", "rw"), [("ro", "rw")]),
        (("relatime", "atime", "nostrictatime"), []), (("noatime", "nodiratime"), []),
        (("noatime", "relatime"), [("noatime", "relatime")]), (("rro", "rrw"), [("rro", "rrw")]),
        (("size=1m", "ro", "ro"), []), (("sync", "async"), [("sync", "async")]),
        (("strictatime", "norelatime"), []), (("rnoatime", "noatime"), []),
    ],
)  # fmt: skip
def test_contradicting_options(options: tuple[str, ...], pairs: list[tuple[str, str]]) -> None:
    assert contradictions(options) == pairs
