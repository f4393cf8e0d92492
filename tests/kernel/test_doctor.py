"""``nsrun doctor``: what it says of a spec is what a run of it comes to."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.box import Box
from tests.support.host import unchanged
from tests.support.requires import requires
from tests.support.runner import Result
from tests.support.users import User, ordinary_user


@pytest.fixture
def executor() -> str:
    """Nothing is replayed to look; what a run comes to is the same with both."""
    return ""


def looked(box: Box, text: str) -> list[Mapping[str, Any]]:
    """What doctor says of a spec, as JSON; nothing is left, and its status fits."""
    file = box.folder / "spec.yaml"
    file.write_text(text)
    with unchanged(box.folder):
        return rows(box.runner.run("doctor", "--format", "json", file))


def rows(result: Result) -> list[Mapping[str, Any]]:
    assert result.stderr == "", str(result)
    document = json.loads(result.stdout)
    found: list[Mapping[str, Any]] = document["diagnostics"]
    errors = [row for row in found if row["severity"] == "error"]
    assert document["works"] is (not errors)
    assert result.status == (1 if errors else 0)
    return found


def places(found: list[Mapping[str, Any]]) -> list[tuple[int, str]]:
    return [(row["line"], row["code"]) for row in found]


def check(box: Box, text: str) -> list[Mapping[str, Any]]:
    """As above, where a run must agree."""
    found = looked(box, text)
    status = box.runner.run(box.folder / "spec.yaml").status
    failed = any(row["severity"] == "error" for row in found)
    assert (status in (125, 126, 127)) is failed, (status, found)
    return found


@pytest.mark.parametrize("name", ["quickstart", "shell", "build", "service"])
def test_the_examples_work_here(examples: Path, box: Box, name: str) -> None:
    result = box.runner.run("doctor", examples / f"{name}.yaml")
    assert result.status == 0, str(result)
    assert result.stdout == f"{examples}/{name}.yaml: every line works here\n"


def test_an_example_for_root(examples: Path, box: Box) -> None:
    found = rows(box.runner.run("doctor", "--format", "json", examples / "shared.yaml"))
    assert [row["code"] for row in found] == ([] if box.runner.user.uid == 0 else ["NS402"] * 2)


def test_every_line_that_will_not_work(box: Box) -> None:
    found = check(
        box,
        """\
namespaces:
  - user
  - mount
  - network
  - {type: uts, container: nobody-runs-this}
hostnam: web
mounts:
  - {type: nosuchfs, target: /mnt}
  - {type: bind, source: /nowhere, target: /srv}
  - {type: ext4, source: /dev/null, target: /opt}
sysctl: {net.ipv4.no_such_thing: "1"}
user: no-such-user
command: [/bin/true]
""",
    )
    assert places(found) == [
        (5, "NS404"),
        (6, "NS201"),
        (8, "NS401"),
        (9, "NS305"),
        (10, "NS402"),
        (11, "NS401"),
        (12, "NS317"),
    ]


def test_it_shows_the_lines(box: Box) -> None:
    file = box.folder / "a.yaml"
    file.write_text("namespaces: [user, mount]\nmounts:\n  - {type: nosuchfs, target: /mnt}\n"
                    "command: [no-such-tool]\n")  # fmt: skip
    result = box.runner.run("doctor", file)
    assert (result.status, result.stdout) == (1, "")
    assert "3 |   - {type: nosuchfs, target: /mnt}" in result.stderr
    assert "= why: nosuchfs is not in /proc/filesystems" in result.stderr
    assert "4 | command: [no-such-tool]" in result.stderr
    assert result.stderr.endswith("2 errors\n")


def test_a_namespace_that_is_at_its_limit(user_box: Box) -> None:
    script = 'echo 0 > /proc/sys/user/max_net_namespaces && exec "$@"'
    around = ("unshare", "--user", "--map-root-user", "--", "/bin/sh", "-c", script, "sh")
    box = user_box.as_(wrapper=around)
    found = check(box, "namespaces:\n  - user\n  - uts\n  - network\ncommand: [/bin/true]\n")
    assert places(found) == [(4, "NS401")]
    assert found[0]["why"] == ["user.max_net_namespaces is 0: nobody may make one"]
    assert found[0]["errno"] == "ENOSPC"


def test_without_user_namespaces_nothing_else_is_said(user_box: Box) -> None:
    script = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"'
    around = ("unshare", "--user", "--map-root-user", "--", "/bin/sh", "-c", script, "sh")
    box = user_box.as_(wrapper=around)
    found = check(box, "namespaces:\n  - uts\n  - user\ncommand: [/bin/true]\n")
    assert places(found) == [(3, "NS401")]
    assert found[0]["why"] == ["user.max_user_namespaces is 0: nobody may make one"]


def test_without_privilege_each_namespace_is_told(user_box: Box) -> None:
    found = check(user_box, "namespaces:\n  - mount\n  - uts\ncommand: [/bin/true]\n")
    assert places(found) == [(2, "NS402"), (3, "NS402")]


@requires("root", "newuidmap")
def test_a_user_without_subordinate_ids(area: Path, user_box: Box) -> None:
    alone = ordinary_user(area, subordinate_ids=False, name="alone")
    box = Box(runner=user_box.runner.with_(user=alone), folder=alone.home)
    found = check(box, "namespaces: [user]\nidmap: auto\ncommand: [/bin/true]\n")
    assert [(row["line"], row["severity"]) for row in found] == [(2, "warning")]
    assert found[0]["why"] == [
        "/etc/subuid has no line for alone",
        "/etc/subgid has no line for alone",
    ]
    text = 'namespaces: [user]\nidmap: {uid: ["0:200000:10"], gid: ["0:200000:10"]}\n'
    found = check(box, f"{text}command: [/bin/true]\n")
    assert places(found) == [(2, "NS403"), (2, "NS403")]


@requires("root", "newuidmap")
def test_without_newuidmap(user_box: Box, user: User, area: Path) -> None:
    empty = area / "empty"
    empty.write_text("")
    hidden = ((empty, Path("/usr/bin/newuidmap")), (empty, Path("/usr/bin/newgidmap")))
    bound = dataclasses.replace(user, binds=(*user.binds, *hidden))
    box = user_box.as_(user=bound)
    found = check(box, "namespaces: [user]\nidmap: auto\ncommand: [/bin/true]\n")
    assert places(found) == [(2, "NS403")]
    assert "newuidmap is not installed" in found[0]["summary"]
    found = check(box, "namespaces: [user]\ncommand: [/bin/true]\n")
    assert [(row["severity"], row["why"]) for row in found] == [
        ("warning", ["newuidmap is not installed"])
    ]


def test_a_source_that_cannot_be_reached(user_box: Box, area: Path) -> None:
    closed = area / "closed"
    (closed / "inner").mkdir(parents=True)
    closed.chmod(0o700)
    found = check(
        user_box,
        f"namespaces: [user, mount]\nmounts:\n  - {closed}/inner:/mnt\ncommand: [/bin/true]\n",
    )
    assert places(found) == [(3, "NS402")]
    assert "may not enter" in found[0]["why"][0]


@requires("root", "idmapped_mounts")
def test_ids_that_cannot_be_mapped(root_box: Box) -> None:
    found = check(
        root_box,
        "namespaces: [user, mount]\nmounts:\n"
        "  - {type: bind, source: /proc, target: /mnt, idmap: true}\ncommand: [/bin/true]\n",
    )
    assert places(found) == [(3, "NS401")]
    assert found[0]["why"] == ["/proc lies on proc (/proc), which has no idmapped mounts here"]


def test_file_systems_that_need_other_namespaces(box: Box) -> None:
    text = "namespaces: [user, mount{}]\nmounts:\n  - {{type: mqueue, target: /mnt}}\n"
    found = check(box, text.format("") + "command: [/bin/true]\n")
    assert places(found) == [(3, "NS301")]
    assert check(box, text.format(", ipc") + "command: [/bin/true]\n") == []


def test_a_pin_of_an_ordinary_user(user_box: Box) -> None:
    text = "namespaces:\n  - user\n  - {type: uts, pin: ./pin}\ncommand: [/bin/true]\n"
    assert places(check(user_box, text)) == [(3, "NS402")]


def test_a_namespace_that_may_not_be_joined(user_box: Box) -> None:
    text = "namespaces:\n  - {type: user, path: /proc/self/ns/user}\ncommand: [/bin/true]\n"
    found = check(user_box, text)
    assert places(found) == [(2, "NS404")]
    assert "is the caller's own user namespace" in found[0]["why"][0]


def test_a_command_in_what_is_mounted_is_left_to_the_run(box: Box, rootfs: Path) -> None:
    text = (
        f"namespaces: [user, mount, pid]\nrootfs: {rootfs}\n"
        "mounts:\n  - {type: bind, source: /bin, target: /opt}\ncommand: [%s]\n"
    )
    assert looked(box, text % "/opt/true") == []
    found = check(box, text % "/srv/true")
    assert places(found) == [(5, "NS601")]
    assert found[0]["why"] == [f"/srv/true does not exist in {rootfs}"]


def test_the_machine_alone(box: Box) -> None:
    table = box.runner.run("doctor").ok()
    data = json.loads(box.runner.run("doctor", "--format", "json").ok())
    assert data["uid"] == box.runner.user.uid
    assert table.startswith(f"Linux {data['kernel']} {data['machine']}, uid {data['uid']}\n")
    named = {row["name"] for row in data["features"]}
    assert {"user namespace", "overlay", "subordinate ids"} <= named
    assert all(row["name"] in table for row in data["features"])
    # Every plan makes these calls, and a plan runs here.
    needed = {"openat2", "fsopen of tmpfs", "mount_setattr", "close_range", "pidfd_open"}
    assert needed <= {row["name"] for row in data["features"] if row["ok"]}
    box.run("true", namespaces=["user", "mount"])
