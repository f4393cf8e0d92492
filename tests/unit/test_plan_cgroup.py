"""``resources``: which files of which hierarchy get what, in which order, and what is refused."""

from __future__ import annotations

import json
from types import MappingProxyType
from typing import Any

import pytest

from nsrun.diag import NsrunError
from nsrun.kernel.facts import CgroupFolder, Cgroups, Facts, Kind, MapLine, PathFact
from nsrun.kernel.values import Out
from nsrun.plan.build import plan as make_plan
from nsrun.plan.model import MEMORY_LIMIT, Plan, Track
from nsrun.plan.wanted import wanted
from tests.support.planning import (
    ORDINARY,
    ROOT,
    calls_of,
    knowing,
    lines,
    only,
    order,
    planned,
    refusals,
    refused,
    spec_of,
)

DISK = PathFact(kind=Kind.FILE, block="8:16")
PATHS = {"/dev/sdb": DISK}
ALL = frozenset({"memory", "pids", "cpu", "cpuset", "io", "hugetlb"})


def v1(*controllers: str, **keys: Any) -> Cgroups:
    folders = {
        name: CgroupFolder(path=f"/sys/fs/cgroup/{name}", cpus="0-7", mems="0-1", **keys)
        for name in controllers or ("memory", "pids", "cpu", "cpuset", "blkio", "hugetlb")
    }
    return Cgroups(v1=MappingProxyType(folders))


def v2(*controllers: str, **keys: Any) -> Cgroups:
    has = frozenset(controllers) or ALL
    return Cgroups(v2=CgroupFolder(path="/sys/fs/cgroup", controllers=has, **keys))


def machine(cgroups: Cgroups, facts: Facts = ROOT) -> Facts:
    return knowing(facts, paths=PATHS, cgroups=cgroups, helpers={"grep": "/usr/bin/grep"})


def limited(cgroups: Cgroups, namespaces: list[str] | None = None, **resources: Any) -> Plan:
    return planned(
        machine(cgroups), name="web", namespaces=namespaces or ["mount"], resources=resources
    )


def written(plan: Plan) -> list[tuple[str, str]]:
    """(file, text) of every limit, in order."""
    found = []
    for action in plan.actions:
        ours = action.what.startswith(("limit ", "give on "))
        if ours and action.track is Track.PARENT:
            opened, wrote, _ = lines(action)
            found.append((opened.split('"')[1], wrote.split('"')[1]))
    return found


@pytest.mark.parametrize(
    ("resources", "old", "new"),
    [
        ({"memory": "32m"}, [("memory.limit_in_bytes", "33554432")], [("memory.max", "33554432")]),
        (
            {"memory": "1m", "memory_swap": "1m"},
            [("memory.limit_in_bytes", "1048576"), ("memory.memsw.limit_in_bytes", "2097152")],
            [("memory.max", "1048576"), ("memory.swap.max", "1048576")],
        ),
        ({"pids": 7}, [("pids.max", "7")], [("pids.max", "7")]),
        (
            {"cpus": 1.5},
            [("cpu.cfs_period_us", "100000"), ("cpu.cfs_quota_us", "150000")],
            [("cpu.max", "150000 100000")],
        ),
        ({"cpu_weight": 100}, [("cpu.shares", "1024")], [("cpu.weight", "100")]),
        ({"cpu_weight": 1}, [("cpu.shares", "10")], [("cpu.weight", "1")]),
        ({"cpu_weight": 10000}, [("cpu.shares", "102400")], [("cpu.weight", "10000")]),
        (
            {"cpuset": {"cpus": "0-1"}},
            [("cpuset.mems", "0-1"), ("cpuset.cpus", "0-1")],
            [("cpuset.cpus", "0-1")],
        ),
        (
            {"cpuset": {"mems": "1", "cpus": "3"}},
            [("cpuset.cpus", "3"), ("cpuset.mems", "1")],
            [("cpuset.cpus", "3"), ("cpuset.mems", "1")],
        ),
        (
            {"io": [{"device": "/dev/sdb", "read_bps": "1k", "write_iops": 5}]},
            [
                ("blkio.throttle.read_bps_device", "8:16 1024"),
                ("blkio.throttle.write_iops_device", "8:16 5"),
            ],
            [("io.max", "8:16 rbps=1024 wiops=5")],
        ),
        (
            {"hugepages": {"2MB": "4m"}},
            [("hugetlb.2MB.limit_in_bytes", "4194304")],
            [("hugetlb.2MB.max", "4194304")],
        ),
    ],
)
def test_what_is_written(
    resources: dict[str, Any], old: list[tuple[str, str]], new: list[tuple[str, str]]
) -> None:
    assert written(limited(v1(), **resources)) == old
    assert written(limited(v2(enabled=ALL), **resources)) == new


def test_raw_files_come_last() -> None:
    plan = limited(v2(enabled=ALL), unified={"memory.high": 1000}, memory="1m")
    assert written(plan) == [("memory.max", "1048576"), ("memory.high", "1000")]


def test_version_2_gives_on_what_it_does_not_yet() -> None:
    plan = limited(v2(enabled=frozenset({"pids"})), pids=3, memory="1m", cpus=1)
    assert written(plan)[0] == ("cgroup.subtree_control", "+memory +cpu")


def test_each_controller_is_taken_from_where_it_is() -> None:
    hybrid = Cgroups(v1=v1("memory").v1, v2=v2("pids", enabled=frozenset({"pids"})).v2)
    plan = limited(hybrid, memory="1m", pids=2)
    made = [a.what for a in plan.actions if a.what.startswith("make the control group")]
    assert made == [
        "make the control group /sys/fs/cgroup/memory/nsrun-web",
        "make the control group /sys/fs/cgroup/nsrun-web",
    ]
    assert len(calls_of(plan, "write", Track.CHILD)) == 2


def test_the_child_enters_before_anything_else() -> None:
    plan = limited(v2(enabled=ALL), pids=2)
    child = [a for a in plan.actions if a.track is Track.CHILD]
    assert [a.what for a in child[:2]] == ["keep one end of the channel", "enter the control group"]
    assert lines(child[1]) == ['write(%cgroup_procs, "0", 1)', "close(%cgroup_procs)"]
    order(plan, Track.PARENT, "make the control group", "limit pids.max", "start the child")


def test_the_end_kills_what_is_left_in_it_and_removes_it() -> None:
    made = only(limited(v2(enabled=ALL), pids=2), "make the control group")
    undo = lines(made.undo)
    assert '"nsrun-web/cgroup.kill"' in undo[0]
    assert undo[1].startswith('write(%kill, "1"')
    assert undo[3].startswith('unlinkat(%cgroup_base, "nsrun-web", AT_REMOVEDIR)')
    # Where it is in use all the same, by groups that the container has made or what it started.
    helper = ["/usr/bin/python3", "-I", "-m", "nsrun.host.subgroups", "/sys/fs/cgroup/nsrun-web"]
    assert undo[-1] == f"spawn({json.dumps(helper)})"


def test_who_ended_for_want_of_memory_is_counted_at_the_end() -> None:
    old, new = limited(v1(), memory="32m"), limited(v2(enabled=ALL), memory="32m")
    for plan, file in ((old, "memory.oom_control"), (new, "memory.events")):
        watch = only(plan, f"{MEMORY_LIMIT} 32m")
        assert file in lines(watch)[0]
        assert watch.origin.path == "resources.memory"
        # Actions are undone last first: the group is there still.
        order(plan, Track.PARENT, "make the control group", MEMORY_LIMIT)
    (read,) = only(old, MEMORY_LIMIT).undo
    (buffer,) = (arg for arg in read.args if isinstance(arg, Out))  # type: ignore[union-attr]
    (expect,) = buffer.expects
    for count, is_none in ((0, True), (1, False), (10, False), (203, False)):
        shown = f"oom_kill_disable 0\nunder_oom 0\noom_kill {count}\n".encode()
        assert (shown[expect.offset] == expect.equals) is is_none
    (grep,) = only(new, MEMORY_LIMIT).undo
    assert [str(getattr(word, "value", word)) for word in grep.argv] == [  # type: ignore[union-attr]
        "/usr/bin/grep", "-qx", "oom_kill 0", "/sys/fs/cgroup/nsrun-web/memory.events",
    ]  # fmt: skip
    assert not [a for a in limited(v1(), pids=3).actions if a.what.startswith(MEMORY_LIMIT)]


def test_one_left_running_keeps_what_was_counted() -> None:
    spec = spec_of(name="web", namespaces=["mount"], resources={"memory": "1m"})
    watch = only(make_plan(spec, machine(v1()), notify="/run/nsrun/c/web/notify"), MEMORY_LIMIT)
    assert '"/run/nsrun/c/web/oom"' in lines(watch)[1]
    assert lines(watch.undo)[0].startswith("sendfile(%oom_kept, %oom_counts, ")


def test_version_1_is_stopped_by_a_hierarchy_of_its_own() -> None:
    with_freezer = v1("pids", "freezer")
    made = "make the control group /sys/fs/cgroup/freezer/nsrun-web"
    assert made in [action.what for action in limited(with_freezer, pids=3).actions]
    # Version 2 stops each group, and where nothing is limited there is none.
    hybrid = Cgroups(v1=v1("freezer").v1, v2=v2("pids", enabled=frozenset({"pids"})).v2)
    for plan in (limited(hybrid, pids=3), planned(machine(with_freezer), namespaces=["mount"])):
        assert made not in [action.what for action in plan.actions]
    closed = MappingProxyType({**v1("pids").v1, "freezer": CgroupFolder(path="/f", writable=False)})
    assert "make the control group /f/nsrun-web" not in [
        action.what for action in limited(Cgroups(v1=closed), pids=3).actions
    ]


@pytest.mark.parametrize("user", [False, True])
def test_a_cgroup_namespace_has_the_group_as_its_root(user: bool) -> None:
    namespaces = [*(["user"] if user else []), "mount", "cgroup"]
    plan = limited(v2(enabled=ALL), namespaces=namespaces, pids=2)
    (clone,) = calls_of(plan, "clone3")
    assert "CLONE_NEWCGROUP" not in clone
    assert calls_of(plan, "unshare", Track.CHILD) == ["unshare(CLONE_NEWCGROUP)"]
    order(plan, Track.CHILD, "enter the control group", "make a cgroup namespace")
    plain = planned(machine(v2()), namespaces=namespaces)
    assert "CLONE_NEWCGROUP" in calls_of(plain, "clone3")[0]


def test_nothing_is_looked_up_without_limits() -> None:
    assert not wanted(spec_of()).cgroups
    query = wanted(spec_of(resources={"io": [{"device": "/dev/sdb", "read_bps": 1}]}))
    assert query.cgroups
    assert "/dev/sdb" in query.paths


@pytest.mark.parametrize(
    ("cgroups", "resources", "code", "place"),
    [
        (v1("cpu"), {"memory": "1m"}, "NS401", "resources.memory"),
        (Cgroups(), {"pids": 1}, "NS401", "resources.pids"),
        (v1(), {"unified": {"memory.high": 5}}, "NS401", 'resources.unified["memory.high"]'),
        (v1(), {"memory_swap": 0}, "NS318", "resources.memory_swap"),
        (v2(), {"io": [{"device": "/dev/x", "read_bps": 1}]}, "NS305", "resources.io[0].device"),
        (v1(writable=False), {"pids": 1}, "NS402", "resources.pids"),
    ],
)
def test_what_cannot_be_had(
    cgroups: Cgroups, resources: dict[str, Any], code: str, place: str
) -> None:
    found = refused(machine(cgroups), namespaces=["mount"], resources=resources)
    assert found == [(code, place)]


def test_a_user_is_shown_the_way_to_a_group_of_ones_own() -> None:
    facts = machine(v2(writable=False), ORDINARY)
    (found,) = refusals(facts, namespaces=["user", "mount"], resources={"pids": 1})
    assert "systemd-run --user --scope -p Delegate=yes" in found.help[0]
    assert "uid 1000 may not write to it" in found.why[0]
    (found,) = refusals(
        machine(v1(writable=False), ORDINARY), namespaces=["user"], resources={"pids": 1}
    )
    assert found.help == ("run it as root: systemd delegates nothing of cgroup version 1",)


def test_hierarchies_that_are_closed_alike_are_told_of_once() -> None:
    resources = {"memory": "1m", "pids": 1, "cpus": 1}
    facts = machine(v1("memory", "pids", "cpu", writable=False), ORDINARY)
    (found,) = refusals(facts, namespaces=["user"], resources=resources)
    assert found.summary == (
        "no control group can be made in "
        "/sys/fs/cgroup/memory or /sys/fs/cgroup/pids or /sys/fs/cgroup/cpu"
    )
    assert found.why == ("they belong to uid 0, and uid 1000 may not write to them",)
    assert found.path == "resources.memory"


FUSE = PathFact(kind=Kind.FILE, character="10:229")
ZERO = PathFact(kind=Kind.FILE, character="1:5")


def given(*devices: object, cgroups: Cgroups, namespaces: list[str] | None = None) -> Plan:
    facts = knowing(
        ROOT, paths={"/dev/fuse": FUSE, "/dev/zero": ZERO, "/etc/passwd": PathFact(kind=Kind.FILE)},
        cgroups=cgroups,
    )  # fmt: skip
    return planned(
        facts, name="web", namespaces=namespaces or ["user", "mount"], devices=list(devices)
    )


def test_devices_come_in_by_binds() -> None:
    plan = given("/dev/fuse", {"path": "/dev/zero", "target": "/dev/null2"}, cgroups=Cgroups())
    assert only(plan, "bind /dev/fuse on /dev/fuse").origin.path == "devices[0]"
    assert only(plan, "bind /dev/zero on /dev/null2").origin.path == "devices[1]"
    assert not [a for a in plan.actions if "control group" in a.what]
    # What is mounted otherwise carries no devices.
    attributes = [line for line in lines(only(plan, "bind /dev/fuse")) if "setattr" in line]
    assert attributes and not any("set=" in line and "NODEV" in line.partition("clr=")[0]
                                  for line in attributes)  # fmt: skip


def test_less_than_read_and_write_takes_device_rules() -> None:
    plan = given("/dev/fuse", {"path": "/dev/zero", "permissions": "r"}, cgroups=v1("devices"))
    rules = [
        line.split('"')[1]
        for action in plan.actions
        if action.what.startswith(("forbid every", "allow the device"))
        for line in lines(action)
        if line.startswith("write")
    ]
    assert rules[0] == "a"
    assert "c 1:3 rwm" in rules and "c 136:* rwm" in rules
    assert rules[-2:] == ["c 10:229 rwm", "c 1:5 r"]
    assert "c 1:5 rwm" not in rules


def test_version_2_takes_a_program() -> None:
    narrowed = {"path": "/dev/zero", "permissions": "r"}
    plan = given("/dev/fuse", narrowed, cgroups=v2())
    action = only(plan, "forbid every device but")
    assert action.what.endswith(", c 136:* rwm, c 10:229 rwm, c 1:5 r")
    load, attach, close = lines(action)
    assert "bpf(BPF_PROG_LOAD, {BPF_PROG_TYPE_CGROUP_DEVICE, " in load
    assert "bpf(BPF_PROG_ATTACH, {BPF_CGROUP_DEVICE, %cgroup, %device_rules," in attach
    assert close == "close(%device_rules)"
    # It holds before anybody can be in the group.
    order(plan, Track.PARENT, "make the control group", "forbid every device", "start the child")
    # A machine with both has its rules in version 1.
    both = Cgroups(v1=v1("devices").v1, v2=v2().v2)
    assert not calls_of(given(narrowed, cgroups=both), "bpf")
    assert "/sys/fs/cgroup/devices/" in only(
        given(narrowed, cgroups=both), "make the control group"
    ).what  # fmt: skip
    user = knowing(ORDINARY, paths={"/dev/zero": ZERO}, cgroups=v2())
    inner = (MapLine(inside=0, outside=1000, size=1),)
    nested = knowing(ROOT, paths={"/dev/zero": ZERO}, cgroups=v2(), uid_map=inner)
    for facts, why in ((user, "uid 1000 does not have"), (nested, "in a user namespace only")):
        (told,) = refusals(facts, namespaces=["user", "mount"], devices=[narrowed])
        assert (told.code, told.path) == ("NS402", "devices")
        assert why in told.why[0]
    with pytest.raises(NsrunError) as caught:
        given(narrowed, cgroups=Cgroups())
    assert [d.code for d in caught.value.diagnostics] == ["NS401"]


def test_what_is_no_device_is_refused() -> None:
    with pytest.raises(NsrunError) as caught:
        given("/etc/passwd", cgroups=Cgroups())
    assert [(d.code, d.path) for d in caught.value.diagnostics] == [("NS305", "devices[0]")]
