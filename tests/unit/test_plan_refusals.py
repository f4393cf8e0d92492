"""The planner finds everything that a machine or caller cannot do, and says it in one go."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nsrun.diag import Diagnostic, NsrunError
from nsrun.kernel.facts import Facts, SubIds
from nsrun.plan.build import plan
from nsrun.spec.load import load

ORDINARY = Facts(
    kernel="6.1.0",
    machine="x86_64",
    uid=1000,
    gid=1000,
    user_name="tester",
    subuid=(SubIds(start=100000, size=65536),),
    subgid=(SubIds(start=100000, size=65536),),
    namespaces=frozenset({"user", "mount", "pid", "uts"}),
    limits={"nofile": (1024, 4096)},
    passwd="root:x:0:0::/:/bin/sh\n",
    group="root:x:0:\n",
)


def refusals(folder: Path, text: str, facts: Facts) -> tuple[Diagnostic, ...]:
    path = folder / "a.yaml"
    path.write_text(text)
    spec, _ = load(str(path))
    with pytest.raises(NsrunError) as raised:
        plan(spec, facts)
    return raised.value.diagnostics


def places(found: tuple[Diagnostic, ...]) -> list[tuple[int, str]]:
    return [(d.span.line if d.span else 0, d.code) for d in found]


def test_every_refusal_is_told_by_line(tmp_path: Path) -> None:
    text = """\
namespaces:
  - user
  - mount
  - ipc
  - {type: uts, container: other}
idmap:
  uid: ["0:1000:1", "1:100000:10", "11:5:1"]
  gid: ["0:1000:1", "1:100000:70000"]
mounts:
  - {type: tmpfs, target: /tmp, options: [size=1m]}
  - {type: bind, source: /usr, target: /mnt, idmap: true}
user: nobody
rlimits:
  nofile: 8192
command: [/bin/true]
"""
    found = refusals(tmp_path, text, ORDINARY)
    assert places(found) == [
        (4, "NS401"),
        (5, "NS404"),
        (7, "NS403"),
        (7, "NS403"),
        (8, "NS403"),
        (11, "NS402"),
        (12, "NS317"),
        (14, "NS402"),
    ]
    assert "newuidmap is not installed" in found[2].summary
    assert "host uids 5 to 5" in found[3].summary
    assert "host gids 100000 to 169999" in found[4].summary


def test_without_a_user_namespace_every_kind_is_named(tmp_path: Path) -> None:
    text = """\
namespaces:
  - mount
  - pid
user: {uid: 7, gid: 1000, groups: [4]}
capabilities: [CAP_CHOWN]
command: [/bin/true]
"""
    found = refusals(tmp_path, text, replace(ORDINARY, permitted=frozenset()))
    assert places(found) == [(2, "NS402"), (3, "NS402"), (4, "NS402"), (4, "NS402"), (5, "NS402")]


def test_one_cause_at_one_place_is_told_once(tmp_path: Path) -> None:
    # Both maps want the helper that is missing.
    text = """\
namespaces: [user]
idmap: {uid: ["0:100000:10"], gid: ["0:100000:10"]}
command: [/bin/true]
"""
    assert places(refusals(tmp_path, text, ORDINARY)) == [(2, "NS403")]


def test_groups_that_are_not_mapped_are_all_named(tmp_path: Path) -> None:
    text = """\
namespaces: [user]
idmap: {uid: ["0:100000:10"], gid: ["0:100000:10"]}
user: {uid: 0, gid: 0, groups: [3, 20, 30]}
command: [/bin/true]
"""
    facts = replace(ORDINARY, newuidmap="/usr/bin/newuidmap", newgidmap="/usr/bin/newgidmap")
    found = refusals(tmp_path, text, facts)
    assert [d.summary.split()[1] for d in found] == ["20", "30"]
