"""``nsrun explain SPEC --security``: each rule has a spec it speaks of, and one it does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nsrun import cli
from nsrun.plan.review import exposure, review, word
from tests.support.planning import spec_of

EVERY = ["user", "mount", "pid", "network", "ipc", "uts", "cgroup"]
TIGHT: dict[str, Any] = {
    "namespaces": EVERY,
    "rootfs": {"path": "./root", "readonly": True},
    "user": "1000:1000",
    "capabilities": "none",
    "landlock": "required",
    "resources": {"memory": "64m", "pids": 10},
}


def found(**keys: Any) -> dict[str, str]:
    return {one.at: one.what for one in review(spec_of(**{**TIGHT, **keys}))}


def test_ids_that_root_keeps() -> None:
    for kept in ("keep", "root"):
        spec = spec_of(**{**TIGHT, "idmap": kept})
        assert [one.at for one in review(spec, uid=1000) if one.at == "idmap"] == []
        (found,) = [one for one in review(spec, uid=0) if one.at == "idmap"]
        assert found.points == 4.0
        assert found.what.startswith("run by root, uid and gid 0 of the host are mapped: ")


def test_nothing_is_said_of_a_tight_spec() -> None:
    assert review(spec_of(**TIGHT)) == ()
    assert (exposure(()), word(0.0)) == (0.0, "tight")


def without(kind: str) -> list[str]:
    return [name for name in EVERY if name != kind]


@pytest.mark.parametrize(
    ("keys", "at", "says"),
    [
        ({"namespaces": without("user")}, "namespaces", "root of the host"),
        ({"namespaces": without("network")}, "namespaces", "network of the caller"),
        ({"namespaces": without("pid")}, "namespaces", "processes of the caller"),
        (
            {"namespaces": [*without("ipc"), {"type": "ipc", "path": "/x"}]},
            "namespaces[6]",
            "joined",
        ),
        ({"idmap": {"uid": ["0:0:9"], "gid": ["0:9:9"]}, "user": "5:5"}, "idmap.uid", "uid 0"),
        ({"user": None}, "user", "root of its user namespace"),
        ({"capabilities": "default"}, "capabilities", "default set"),
        ({"capabilities": ["CAP_SYS_ADMIN"]}, "capabilities", "CAP_SYS_ADMIN"),
        ({"no_new_privileges": False}, "no_new_privileges", "set-uid"),
        ({"seccomp": "unconfined"}, "seccomp", "every system call"),
        ({"seccomp": {"defaultAction": "SCMP_ACT_ALLOW"}}, "seccomp", "does not name"),
        ({"landlock": None}, "landlock", "only wall"),
        ({"masked_paths": "none"}, "masked_paths", "/proc and /sys"),
        ({"readonly_paths": "none"}, "readonly_paths", "/proc and /sys"),
        ({"rootfs": None}, "rootfs", "all files"),
        ({"rootfs": "./root"}, "rootfs", "next run"),
        ({"propagation": "rshared"}, "propagation", "appear on the host"),
        ({"mounts": ["/srv:/srv"]}, "mounts[0]", "can be written"),
        ({"mounts": ["/etc:/mnt:ro"]}, "mounts[0]", "can be read"),
        ({"mounts": ["/run/docker.sock:/s:ro"]}, "mounts[0]", "another container engine"),
        ({"mounts": ["/srv:/srv:ro,dev"]}, "mounts[0]", "devices on it"),
        ({"devices": ["/dev/sda"]}, "devices[0]", "in reach"),
        ({"resources": {"memory": "1m"}}, "resources", "start processes"),
        ({"resources": {"pids": 3}}, "resources", "all memory"),
    ],
)
def test_what_could_be_tighter(keys: dict[str, Any], at: str, says: str) -> None:
    said = found(**keys)
    assert says in said[at]
    assert set(said) == {at}


def test_the_worst_comes_first_and_ten_is_the_most() -> None:
    findings = review(spec_of(profile="none", namespaces=[]))
    assert [one.points for one in findings] == sorted((o.points for o in findings), reverse=True)
    assert exposure(findings) == 10.0
    assert word(10.0) == "open"
    assert all(one.points >= 0.1 and one.tighter for one in findings)


def test_capabilities_over_what_is_its_own_count_for_less() -> None:
    inside = review(spec_of(**{**TIGHT, "capabilities": ["CAP_SYS_ADMIN"]}))
    outside = review(
        spec_of(**{**TIGHT, "namespaces": without("user"), "capabilities": ["CAP_SYS_ADMIN"]})
    )
    points = [
        next(one.points for one in findings if "CAP_SYS_ADMIN" in one.what)
        for findings in (inside, outside)
    ]
    assert points[0] < points[1]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = tmp_path / "web.yaml"
    spec.write_text("command: 'true'\nnamespaces: [user]\nseccomp: unconfined\n")
    assert cli.carry_out(["explain", str(spec), "--security"]) == 0
    shown = capsys.readouterr().out
    assert ":3" in shown and "seccomp: default" in shown
    assert "of 10, " in shown.splitlines()[-1]
    assert cli.carry_out(["explain", str(spec), "--security", "--format", "json"]) == 0
    data = json.loads(capsys.readouterr().out)
    (one,) = [row for row in data["findings"] if row["path"] == "seccomp"]
    assert one["line"] == 3
    assert data["exposure"] == exposure(review_of(data))
    assert cli.carry_out(["explain", "--security"]) != 0


def review_of(data: dict[str, Any]) -> list[Any]:
    from nsrun.plan.review import Finding

    return [
        Finding(points=row["points"], at=row["path"], what=row["what"], tighter=row["tighter"])
        for row in data["findings"]
    ]
