"""What is no longer as planned, by plans and observations that are only described."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import pytest

from nsrun.kernel.facts import CgroupFolder, Cgroups, Kind, PathFact
from nsrun.kernel.observed import Link, Observed, Route, SeenMount, Source, nft_rules
from nsrun.plan import binary
from nsrun.plan.difference import Difference
from nsrun.plan.drift import compare, question, unseen, updated
from nsrun.plan.expected import Expected, expected
from nsrun.plan.expected_mounts import Mount
from nsrun.plan.model import Plan
from tests.support.planning import folder, knowing, planned
from tests.unit.test_plan_nat import host

FUSE = PathFact(kind=Kind.FILE, character="10:229")
_DEVICES = "/sys/fs/cgroup/devices/nsrun-web"
_PIDS = "/sys/fs/cgroup/pids"


def made(**keys: object) -> Plan:
    """A plan by root on a machine with nft and the controllers pids and memory."""
    groups = {
        name: CgroupFolder(path=f"/sys/fs/cgroup/{name}", owner=0, writable=True)
        for name in ("pids", "memory", "cpuset", "devices")
    }
    facts = knowing(
        host(),
        paths={"/data": folder(), "/srv/root": folder(), "/dev/fuse": FUSE},
        targets={path: folder() for path in ("/tmp", "/mnt", "/proc", "/sys", "/dev")},
        cgroups=Cgroups(v2=None, v1=MappingProxyType(groups)),
    )
    keys = {"name": "web", "namespaces": ["mount", "pid", "uts", "network"], **keys}
    return planned(facts, **keys)


def as_planned(wanted: Expected) -> Observed:
    """What is seen of a container that is just as it was planned."""
    asked = question(wanted)
    inodes = {kind: 10 + n for n, kind in enumerate(("user", "mnt", "pid", "net", "ipc", "uts"))}
    last = {mount.target: mount for mount in wanted.mounts}
    mounts = tuple(
        SeenMount(
            ident=number,
            target=target,
            fstype=mount.fstype or "ext4",
            root=mount.bound or "/",
            options=frozenset(
                [word for word, is_set in mount.flags.items() if is_set]
                + ([mount.atime] if mount.atime in ("relatime", "noatime") else [])
            ),
            super_options=_options(mount),
            propagation=("shared:1",) if mount.propagation == "shared" else (),
        )
        for number, (target, mount) in enumerate(last.items(), start=1)
    )

    def seen(where: dict[str, Any], first: int) -> dict[str, Link]:
        return {
            name: dataclasses.replace(
                one.link,
                index=first + n,
                up=one.link.up or one.lifted is not None,
                addresses=tuple(one.addresses),
                mtu=one.link.mtu or 1500,
            )
            for n, (name, one) in enumerate(where.items())
        }

    inside, outside = seen(wanted.networks.inside, 2), seen(wanted.networks.host, 20)
    lo = Link(name="lo", index=1, up=wanted.networks.lo is not None, addresses=("127.0.0.1/8",))
    return Observed(
        namespaces={k: n + (100 if k in wanted.made else 0) for k, n in inodes.items()},
        callers=inodes,
        joined=dict.fromkeys(asked.namespaces, 13),
        mounts=mounts,
        places={line.target: line.ident for line in mounts},
        sources={path: Source(fstype="ext4", root=path) for path in asked.sources},
        hostname=wanted.hostname[0] if wanted.hostname else "outer",
        domainname=wanted.domainname[0] if wanted.domainname else "",
        links=(lo, *inside.values()),
        routes=tuple(
            dataclasses.replace(
                one.route, index=inside[one.dev].index if one.dev else one.route.index
            )
            for one in wanted.networks.routes
        ),
        host_links=tuple(outside.values()),
        sysctls={path: text.text for path, text in wanted.sysctls.items()},
        files={path: text.text for path, text in wanted.files.items()}
        | {
            f"{folder}/devices.list": "".join(f"{rule}\n" for rule in rules)
            for folder, rules in wanted.groups.devices.items()
        },
        status={
            "NoNewPrivs": "1",
            "Seccomp": "2",
            "Seccomp_filters": str(len(wanted.running.filters)),
            "CapBnd": "0",
            "Uid": "1000\t1000\t1000\t1000",
            "Gid": "1000\t1000\t1000\t1000",
            "Groups": "7 8",
        },
        groups=tuple(f"{folder}/below" for folder in wanted.groups.entered),
        once={"uid_map": "0 0 4294967295", "gid_map": "0 0 4294967295"}
        | {name: text for name, (text, _) in wanted.running.once.items()},
        programs={folder: len(one) for folder, one in wanted.groups.programs.items()},
        labels={"apparmor": "nsrun (enforce)"},
        limits={number: most for number, (most, _) in wanted.limits.items()},
        oom_score_adj=wanted.oom.text if wanted.oom else "0",
        tables={table.name: table.rules for table in wanted.tables},
    )


def _options(mount: Mount) -> frozenset[str]:
    """As mountinfo has them; devpts shows its modes always."""
    defaults = {"mode": "600", "ptmxmode": "000"} if mount.fstype == "devpts" else {}
    options = {**defaults, **mount.options}
    return frozenset({"rw", *(f"{key}={text}" if text else key for key, text in options.items())})


RICH: dict[str, object] = {
    "hostname": "web-1",
    "domainname": "example.org",
    "rootfs": {"path": "/srv/root", "readonly": True},
    "mounts": [
        {"type": "tmpfs", "target": "/tmp", "options": ["noexec", "noatime", "size=10m"]},
        {"type": "bind", "source": "/data", "target": "/mnt", "options": ["ro", "shared"]},
    ],
    "network": {
        "interfaces": [
            {
                "name": "eth0",
                "type": "veth",
                "mtu": 1400,
                "mac": "02:00:00:00:00:01",
                "addresses": ["10.1.0.2/24", "fd00::2/64"],
                "peer": {"addresses": ["10.1.0.1/24"]},
            },
            {"name": "d0", "type": "dummy", "up": False},
        ],
        "routes": [
            {"to": "default", "via": "10.1.0.1"},
            {"to": "198.51.100.0/24", "type": "blackhole"},
        ],
        "masquerade": True,
    },
    "sysctl": {"net.ipv4.ip_default_ttl": 33},
    "resources": {"pids": 50, "memory": "64m"},
    "rlimits": {"nofile": 256},
    "oom_score_adj": 300,
    "capabilities": "none",
    "user": {"uid": 1000, "gid": 1000, "groups": [7, 8]},
    "devices": [{"path": "/dev/fuse", "permissions": "r"}],
}

Change = Callable[[Observed], dict[str, Any]]


def status(**changes: str) -> Change:
    return lambda seen: {"status": {**seen.status, **changes}}


def devices(text: str) -> Change:
    return lambda seen: {"files": {**seen.files, f"{_DEVICES}/devices.list": text}}


def line(target: str, **changes: Any) -> Change:
    """That the mount on ``target`` is otherwise; None for ``gone`` takes it away."""

    def change(seen: Observed) -> dict[str, Any]:
        if "gone" in changes:
            return {"places": {**seen.places, target: 0}}
        lines = (
            dataclasses.replace(m, **changes) if m.target == target else m for m in seen.mounts
        )
        return {"mounts": tuple(lines)}

    return change


def link(name: str, field: str = "links", **changes: Any) -> Change:
    def change(seen: Observed) -> dict[str, Any]:
        return {
            field: tuple(
                dataclasses.replace(one, **changes) if one.name == name else one
                for one in getattr(seen, field)
                if one.name != name or "gone" not in changes
            )
        }

    return change


def shown(found: Difference) -> tuple[str, str, str, str]:
    at = found.origin.path if found.origin is not None else "nobody"
    return found.what, found.expected, found.found, at


CASES: dict[str, tuple[Change, tuple[str, str, str, str]]] = {
    "hostname": (lambda _: {"hostname": "b"}, ("hostname", "web-1", "b", "hostname")),
    "domain": (
        lambda _: {"domainname": "b"}, ("domainname", "example.org", "b", "domainname")
    ),
    "namespace": (
        lambda s: {"namespaces": {**s.namespaces, "uts": s.callers["uts"]}},
        ("namespace uts", "its own", "the host's", "namespaces"),
    ),
    "not its own": (
        lambda s: {"namespaces": {**s.namespaces, "ipc": 99}},
        ("namespace ipc", "the host's", "another: 99", "nobody"),
    ),
    "unmounted": (line("/tmp", gone=True), ("mount /tmp", "tmpfs", "-", "mounts[0]")),
    "another file system": (
        line("/tmp", fstype="ext4"), ("mount /tmp", "tmpfs", "ext4", "mounts[0]")
    ),
    "another source": (
        line("/mnt", root="/other"), ("mount /mnt", "bind of /data", "ext4 /other", "mounts[1]")
    ),
    "writable": (
        line("/mnt", options=frozenset({"nosuid", "nodev"})),
        ("mount /mnt", "nosuid,nodev,ro", "rw,nosuid,nodev", "mounts[1]"),
    ),
    "mtu": (link("eth0", mtu=1), ("link eth0", "mtu 1400", "mtu 1", "network.interfaces[0]")),
    "down": (link("eth0", up=False), ("link eth0", "up", "down", "network.interfaces[0]")),
    "up": (link("d0", up=True), ("link d0", "down", "up", "network.interfaces[1]")),
    "kind": (link("d0", kind=""), ("link d0", "dummy", "a device", "network.interfaces[1]")),
    "gone": (link("d0", gone=True), ("link d0", "dummy", "-", "network.interfaces[1]")),
    "mac": (
        link("eth0", mac="02:00:00:00:00:02"),
        ("link eth0", "02:00:00:00:00:01", "02:00:00:00:00:02", "network.interfaces[0]"),
    ),
    "address": (
        link("eth0", addresses=("10.1.0.2/24",)),
        ("address of eth0", "fd00::2/64", "-", "network.interfaces[0].addresses[1]"),
    ),
    "more addresses": (
        link("d0", addresses=("10.1.0.2/24",)),
        ("address of d0", "-", "10.1.0.2/24", "nobody"),
    ),
    "lo": (link("lo", up=False), ("link lo", "up", "down", "")),
    "another link": (
        lambda s: {"links": (*(s.links or ()), Link(name="x", kind="bridge"))},
        ("link x", "-", "bridge", "nobody"),
    ),
    "route": (
        lambda s: {"routes": s.routes[:1]},
        ("route", "blackhole 198.51.100.0/24", "-", "network.routes[1]"),
    ),
    "another route": (
        lambda s: {"routes": (*s.routes, Route(to="10.9.0.0/24", via="10.1.0.9", protocol=3))},
        ("route", "-", "10.9.0.0/24 via 10.1.0.9", "nobody"),
    ),
    "outer end": (
        link("ve-web", "host_links", gone=True),
        ("host: link ve-web", "veth", "-", "network.interfaces[0]"),
    ),
    "table": (
        lambda _: {"tables": {"nsrun-web": None}},
        ("host: table inet nsrun-web", "12 rules", "-", "network.masquerade"),
    ),
    "sysctl": (
        lambda _: {"sysctls": {"/proc/sys/net/ipv4/ip_default_ttl": "64\n"}},
        ("sysctl net.ipv4.ip_default_ttl", "33", "64", 'sysctl["net.ipv4.ip_default_ttl"]'),
    ),
    "pids": (
        lambda s: {"files": {**s.files, f"{_PIDS}/nsrun-web/pids.max": "max\n"}},
        (f"{_PIDS}/nsrun-web/pids.max", "50", "max", "resources.pids"),
    ),
    "limit": (lambda _: {"limits": {7: None}}, ("rlimit nofile", "256", "unlimited",
                                                "rlimits.nofile")),
    "oom": (lambda _: {"oom_score_adj": "0"}, ("oom_score_adj", "300", "0", "oom_score_adj")),
    "capability": (
        lambda s: {"status": {**s.status, "CapBnd": "1"}},
        ("capability", "-", "CAP_CHOWN", "capabilities"),
    ),
    "seccomp": (status(Seccomp="0"), ("seccomp", "mode 2", "mode 0", "")),
    "fewer filters": (status(Seccomp_filters="0"), ("seccomp filters", "1", "0", "")),
    "more rights": (
        status(CapPrm="1"), ("capability in CapPrm", "-", "CAP_CHOWN", "capabilities")
    ),
    "uid": (status(Uid="0\t1000\t1000\t1000"), ("uid", "1000", "0,1000", "user")),
    "gid": (status(Gid="5\t5\t5\t5"), ("gid", "1000", "5", "user")),
    "groups": (status(Groups="7"), ("groups", "7,8", "7", "user")),
    "size": (
        line("/tmp", super_options=frozenset({"rw", "size=20480k"})),
        ("mount /tmp", "tmpfs size=10240k", "tmpfs size=20480k", "mounts[0]"),
    ),
    "mode": (
        line("/tmp", super_options=frozenset({"rw", "size=10240k", "mode=755"})),
        ("mount /tmp", "tmpfs mode=1777", "tmpfs mode=755", "mounts[0]"),
    ),
    "superblock": (
        line("/tmp", super_options=frozenset({"ro", "size=10m"})),
        ("mount /tmp", "tmpfs rw", "tmpfs ro", "mounts[0]"),
    ),
    "hidepid": (
        line("/proc", super_options=frozenset({"rw", "hidepid=invisible"})),
        ("mount /proc", "proc hidepid=off", "proc hidepid=invisible", ""),
    ),
    "another group": (
        lambda s: {"groups": tuple(one for one in s.groups if "/pids/" not in one)},
        ("control group", f"{_PIDS}/nsrun-web", "-", "resources.pids"),
    ),
    "all devices": (
        lambda s: devices(s.files[f"{_DEVICES}/devices.list"] + "b *:* rwm\n")(s),
        ("device", "-", "b *:* rwm", "nobody"),
    ),
    "a device less": (
        lambda s: devices(s.files[f"{_DEVICES}/devices.list"].replace("c 10:229 r\n", ""))(s),
        ("device", "c 10:229 r", "-", "devices[0]"),
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def rich() -> Expected:
    """As it is read from the stored form of a plan."""
    plan = made(**RICH)
    return expected(binary.decode(binary.encode(plan), file="plan"))


@pytest.mark.parametrize("name", CASES)
def test_each_difference(rich: Expected, name: str) -> None:
    change, wanted = CASES[name]
    seen = as_planned(rich)
    assert list(compare(rich, seen)) == []
    other = dataclasses.replace(seen, **change(seen))
    assert [shown(one) for one in compare(rich, other)] == [wanted]


def test_what_must_be_there(rich: Expected) -> None:
    targets = {mount.target: mount for mount in rich.mounts}
    assert {"/", "/tmp", "/mnt", "/proc", "/proc/sys", "/dev", "/dev/null"} <= targets.keys()
    assert targets["/"].flags["ro"] and targets["/"].bound == "/srv/root"
    assert targets["/tmp"].flags["noexec"] and targets["/tmp"].atime == "noatime"
    assert rich.has_root and not rich.others
    assert set(rich.made) == {"mnt", "pid", "uts", "net"}


def test_a_mount_that_nobody_asked_for_is_told_where_all_are_known(rich: Expected) -> None:
    seen = as_planned(rich)
    more = [SeenMount(ident=900, target=target, fstype="tmpfs") for target in ("/x", "/mnt/deep")]
    received = SeenMount(ident=901, target="/y", fstype="tmpfs", propagation=("master:3",))
    other = dataclasses.replace(seen, mounts=(*seen.mounts, *more, received))
    # What lies in a tree that was bound as a whole came with it.
    assert [shown(one)[0] for one in compare(rich, other)] == ["mount /x"]
    bare = expected(made(mounts=[{"type": "tmpfs", "target": "/tmp"}]))
    seen = as_planned(bare)
    other = dataclasses.replace(seen, mounts=(*seen.mounts, *more))
    assert list(compare(bare, other)) == []


def test_what_a_start_goes_on_without(rich: Expected) -> None:
    """A mask of what this kernel lacks is no drift; one of what is there is."""
    seen = as_planned(rich)
    for there, count in ((None, 0), (0, 1)):
        places = {**seen.places, "/proc/kcore": there}
        other = dataclasses.replace(seen, places=places)
        assert len(list(compare(rich, other))) == count


def test_what_could_not_be_looked_at_is_no_difference(rich: Expected) -> None:
    assert list(compare(rich, Observed())) == []


def test_the_kernels_own_words_for_a_limit() -> None:
    wanted = expected(made(resources={"memory": 4096 * 10 + 5, "cpuset": {"cpus": "0,1,2"}}))
    seen = as_planned(wanted)
    memory = next(path for path in wanted.files if path.endswith("limit_in_bytes"))
    cpus = next(path for path in wanted.files if path.endswith("cpuset.cpus"))
    same = {**seen.files, memory: "40960\n", cpus: "0-2\n"}
    assert list(compare(wanted, dataclasses.replace(seen, files=same))) == []
    other = {**seen.files, memory: "45056\n", cpus: "0-1\n"}
    found = compare(wanted, dataclasses.replace(seen, files=other))
    assert [one.found for one in found] == ["45056", "0-1"]


def test_what_an_update_has_written_is_expected_and_noted(rich: Expected) -> None:
    pids, swap = f"{_PIDS}/nsrun-web/pids.max", "/sys/fs/cgroup/memory/nsrun-web/memory.swap.max"
    wanted, notes = updated(rich, {pids: "40", swap: "0"})
    assert [(one.what, one.why) for one in notes] == [
        (pids, "40 by nsrun update, planned 50"),
        (swap, "0 by nsrun update, planned without a limit"),
    ]
    seen = as_planned(wanted)
    assert list(compare(wanted, seen)) == []
    other = dataclasses.replace(seen, files={**seen.files, pids: "50\n"})
    (found,) = compare(wanted, other)
    assert (found.what, found.expected, found.found) == (pids, "40", "50")
    assert found.origin is not None and found.origin.rule == "nsrun update"
    # As planned again.
    assert updated(rich, {pids: "50\n"})[1] == ()


def test_a_joined_namespace() -> None:
    wanted = expected(made(namespaces=["mount", {"type": "network", "path": "/run/netns/a"}]))
    seen = as_planned(wanted)
    assert wanted.joined[0].path == "/run/netns/a"
    assert list(compare(wanted, dataclasses.replace(seen, joined={"/run/netns/a": 13}))) == []
    found = compare(wanted, dataclasses.replace(seen, joined={"/run/netns/a": 77}))
    assert [shown(one)[1:] for one in found] == [
        ("that of /run/netns/a: 77", "another: 13", "namespaces[1]")
    ]


def test_a_pair_whose_outer_end_is_elsewhere() -> None:
    """The container's end is known, and the other one is looked for nowhere."""
    peer = {"netns": "/run/netns/a", "addresses": ["10.1.0.1/24"]}
    pair = {"name": "eth0", "type": "veth", "addresses": ["10.1.0.2/24"], "peer": peer}
    wanted = expected(made(network={"interfaces": [pair]}))
    assert list(wanted.networks.inside) == ["eth0"]
    assert wanted.networks.inside["eth0"].addresses.keys() == {"10.1.0.2/24"}
    assert not wanted.networks.host
    assert list(compare(wanted, as_planned(wanted))) == []


def test_maps_of_ids_and_what_the_ids_are_in_there() -> None:
    idmap = {kind: [{"container": 0, "host": 100_000, "size": 1000}] for kind in ("uid", "gid")}
    wanted = expected(
        made(namespaces=["user", "mount"], idmap=idmap, user={"uid": 5, "gid": 6}, init=True)
    )
    assert question(wanted).forked
    assert len(wanted.running.filters) == 2
    seen = as_planned(wanted)
    ids = {"Uid": "100005", "Gid": "100006", "Groups": ""}
    seen = dataclasses.replace(seen, status={**seen.status, **ids})
    assert list(compare(wanted, seen)) == []
    other = dataclasses.replace(
        seen,
        once={**seen.once, "gid_map": "  0  0  4294967295\n"},
        status={**seen.status, "Uid": "5"},
    )
    assert [shown(one)[:3] for one in compare(wanted, other)] == [
        ("gid_map", "0 100000 1000", "0 0 4294967295"),
        ("uid", "5", "unmapped 5"),
        ("gid", "6", "100006"),
    ]


def test_a_program_for_devices() -> None:
    facts = knowing(
        host(),
        paths={"/dev/fuse": FUSE},
        cgroups=Cgroups(
            v2=CgroupFolder(path="/sys/fs/cgroup", owner=0, writable=True),
            v1=MappingProxyType({}),
        ),
    )
    keys = {"name": "web", "namespaces": ["mount"], "devices": RICH["devices"]}
    wanted = expected(planned(facts, **keys))
    group = "/sys/fs/cgroup/nsrun-web"
    assert question(wanted).programs == (group,)
    seen = as_planned(wanted)
    assert list(compare(wanted, seen)) == []
    other = dataclasses.replace(seen, programs={group: 0})
    (found,) = compare(wanted, other)
    assert (found.what, found.expected, found.found) == ("device programs", "1", "0")
    # Who may not ask is told so.
    other = dataclasses.replace(seen, programs={})
    assert [one.what for one in unseen(wanted, other)] == [f"device programs of {group}"]


def test_what_cannot_be_seen_is_told(rich: Expected) -> None:
    assert list(unseen(rich, as_planned(rich))) == []
    said = {one.what for one in unseen(rich, Observed())}
    assert {"mounts", "network", "hostname", f"{_PIDS}/nsrun-web/pids.max"} <= said


def test_options_as_the_kernel_shows_them() -> None:
    """What nobody can tell is no difference: a share of the memory, a descriptor's path."""
    sizes = {"size=5000": "8k", "size=1g": "1048576k", "size=0": "", "size=50%": "77k"}
    for option, text in sizes.items():
        wanted = expected(
            made(mounts=[{"type": "tmpfs", "target": "/tmp", "options": [option, "mode=0700"]}])
        )
        options = {"rw", "mode=700", *([f"size={text}"] if text else [])}
        change = line("/tmp", super_options=frozenset(options))
        seen = as_planned(wanted)
        assert list(compare(wanted, dataclasses.replace(seen, **change(seen)))) == []


def test_rules_of_nft_are_counted_as_read_and_as_printed() -> None:
    read = (
        "table inet a {\n\tchain b {\n\t\ttype nat hook x; policy accept;\n\t\tr 1\n\t\tr 2\n\t}\n}"
    )
    printed = (
        'table inet a {\n\tcomment "c"\n\tchain b {\n\t\ttype nat\n\n\t\tr 1\n\t\tr 2\n\t}\n}\n'
    )
    assert nft_rules(read) == nft_rules(printed) == 2
