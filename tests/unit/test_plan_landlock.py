"""``landlock``: what is allowed where, for which kernel, and where in the order of a start."""

from __future__ import annotations

from typing import Any

import pytest

from nsrun.kernel.abi import LandlockAccessFs as Access
from nsrun.kernel.facts import Facts, Kind, PathFact
from nsrun.kernel.values import Call
from nsrun.plan.landlock import planned_rules
from nsrun.plan.model import Plan, Track
from nsrun.plan.wanted import wanted
from tests.support.planning import (
    ORDINARY,
    calls_of,
    has,
    knowing,
    only,
    order,
    planned,
    refused,
    spec_of,
)

READ = Access.EXECUTE | Access.READ_FILE | Access.READ_DIR


def walled(landlock: Any, abi: int = 7, facts: Facts = ORDINARY, **keys: Any) -> Plan:
    return planned(
        knowing(facts, landlock=abi), namespaces=["user", "mount"], landlock=landlock, **keys
    )


def rules(plan: Plan) -> dict[str, Access]:
    found = planned_rules(plan.actions)
    assert found is not None
    return {path: Access(rights) for path, rights in found.rules}


def skips(plan: Plan, summary: str) -> tuple[str, ...]:
    """The errnos of the first call that leave the action out."""
    first = only(plan, summary).steps[0]
    assert isinstance(first, Call)
    return first.skip


def every(abi: int) -> Access:
    found = planned_rules(walled({}, abi).actions)
    assert found is not None
    return Access(found.handled)


@pytest.mark.parametrize(
    ("abi", "without"),
    [
        (1, Access.REFER | Access.TRUNCATE | Access.IOCTL_DEV),
        (2, Access.TRUNCATE | Access.IOCTL_DEV),
        (4, Access.IOCTL_DEV),
        (5, Access(0)),
        (7, Access(0)),
    ],
)
def test_what_the_kernel_knows_is_handled(abi: int, without: Access) -> None:
    assert every(abi) == Access(2**16 - 1) & ~without
    assert every(abi) & without == 0


@pytest.mark.parametrize(("abi", "size"), [(1, 8), (3, 8), (4, 16), (5, 16), (6, 24), (9, 24)])
def test_a_kernel_gets_no_more_than_it_knows(abi: int, size: int) -> None:
    (made,) = calls_of(walled({}, abi), "landlock_create_ruleset")
    assert f"}}, {size}, 0)" in made


def test_read_and_write() -> None:
    plan = walled({"read": ["/usr"], "write": ["/tmp/"]})
    written = every(7) & ~Access.EXECUTE
    assert rules(plan) == {
        "/usr": READ, "/tmp": written, "/dev": written, "/proc": written,
    }  # fmt: skip


def test_what_is_written_may_be_executed_where_everything_may() -> None:
    assert rules(walled({"write": ["/tmp"]}))["/tmp"] == every(7)


def test_a_path_of_both_is_written_and_executed() -> None:
    assert rules(walled({"read": ["/srv"], "write": ["/srv"]}))["/srv"] == every(7)


def test_a_file_gets_no_right_of_folders() -> None:
    targets = {"/etc/hosts": PathFact(kind=Kind.FILE), "/usr": PathFact(kind=Kind.FOLDER)}
    facts = knowing(ORDINARY, targets=targets)
    found = rules(walled({"read": ["/etc/hosts", "/usr"], "write": []}, facts=facts))
    assert found["/etc/hosts"] == Access.EXECUTE | Access.READ_FILE
    assert found["/usr"] == READ


def test_without_lists_the_mounts_decide() -> None:
    """``required`` forbids what the mounts forbid too."""
    mounts = [
        {"type": "tmpfs", "target": "/tmp"},
        {"type": "tmpfs", "target": "/locked", "options": ["ro"]},
    ]
    plan = walled("required", mounts=mounts, rootfs=None)
    found = rules(plan)
    assert found["/"] == every(7)
    assert found["/tmp"] == every(7)
    assert "/locked" not in found
    (made,) = calls_of(plan, "landlock_create_ruleset")
    assert "SIGNAL" in made


def test_what_is_required_is_refused_where_it_is_missing() -> None:
    asked = {"namespaces": ["user", "mount"]}
    none = knowing(ORDINARY, landlock=0)
    assert refused(none, landlock="required", **asked) == [("NS401", "landlock")]
    assert refused(none, landlock={"required": True}, **asked) == [("NS401", "landlock")]
    old = knowing(ORDINARY, landlock=5)
    assert refused(old, landlock="required", **asked) == [("NS401", "landlock")]
    assert not has(planned(none, landlock={"read": ["/usr"]}, **asked), "forbid")
    assert has(planned(old, landlock={"read": ["/usr"], "scoped": True}, **asked), "forbid")


def test_it_comes_when_it_may() -> None:
    wall = ("forbid all", "let it hold")
    plan = walled({})
    order(plan, Track.CHILD, "keep execve from giving", *wall, "pass on no descriptor")
    plan = walled({}, no_new_privileges=False, seccomp="unconfined")
    order(plan, Track.CHILD, *wall, "hold no other capabilities")


def test_what_is_named_has_to_be_there() -> None:
    plan = walled({"read": ["/usr"], "write": ["/proc"]})
    assert skips(plan, "allow reading in /usr") == ()
    assert only(plan, "allow reading and writing in /proc").origin.path == "landlock.write[0]"
    assert wanted(spec_of(landlock={"read": ["/a"]}, namespaces=[])).targets == ("/a",)


@pytest.mark.parametrize("path", ["/opt/lib", "/opt/lib/a"])
def test_what_an_optional_mount_would_bring_may_be_missing(path: str) -> None:
    bind = {"type": "bind", "source": "/srv/lib", "target": "/opt/lib", "optional": True}
    facts = knowing(ORDINARY, paths={**ORDINARY.paths, "/srv/lib": PathFact(kind=Kind.MISSING)})
    plan = walled({"read": ["/usr", path], "write": []}, facts=facts, mounts=[bind])
    assert skips(plan, f"allow reading in {path}") == ("ENOENT",)
    assert skips(plan, "allow reading in /usr") == ()
    there = knowing(ORDINARY, paths={**ORDINARY.paths, "/srv/lib": PathFact(kind=Kind.FOLDER)})
    plan = walled({"read": [path], "write": []}, facts=there, mounts=[bind])
    assert skips(plan, f"allow reading in {path}") == ()


def test_what_the_mounts_let_be_written_may_be_missing_with_an_optional_mount() -> None:
    bind = {"type": "bind", "source": "/srv/lib", "target": "/opt/lib", "optional": True}
    facts = knowing(ORDINARY, paths={**ORDINARY.paths, "/srv/lib": PathFact(kind=Kind.MISSING)})
    plan = walled("required", facts=facts, mounts=[bind])
    assert skips(plan, "allow reading and writing in /opt/lib") == ("ENOENT",)
