"""``apparmor`` and ``selinux``: what is written where, when, and on which host."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nsrun.diag import NsrunError
from nsrun.host import procfs
from nsrun.kernel.facts import Facts
from nsrun.plan.labels import planned_labels
from nsrun.plan.model import Plan, Track
from nsrun.plan.review import review
from nsrun.plan.wanted import wanted
from nsrun.spec.document import parse_document
from nsrun.spec.load import load_document
from nsrun.spec.model import Selinux
from tests.support.planning import (
    ORDINARY,
    ROOT,
    calls_of,
    file,
    folder,
    has,
    knowing,
    lines,
    only,
    order,
    planned,
    refused,
    spec_of,
    why,
)

LABEL = "system_u:system_r:container_t:s0:c1,c2"
FILES = "system_u:object_r:container_file_t:s0:c1,c2"
APPARMOR = frozenset({"apparmor"})
SELINUX = frozenset({"selinux"})


def labelled(labels: frozenset[str], facts: Facts = ORDINARY, **keys: Any) -> Plan:
    keys = {"namespaces": ["user", "mount", "pid"], **keys}
    return planned(knowing(facts, labels=labels), **keys)


def test_the_profile_is_written_to_a_file_of_procfs() -> None:
    plan = labelled(APPARMOR, apparmor="docker-default")
    opened, checked = lines(only(plan, "take the host's /proc"))
    assert opened.startswith('openat(AT_FDCWD, "/proc", O_DIRECTORY|O_NOFOLLOW|')
    assert "PROC_SUPER_MAGIC" in checked
    action = only(plan, "take AppArmor's profile docker-default")
    opened, checked, written, closed = lines(action)
    assert 'openat2(%attributes, "thread-self/attr/apparmor/exec"' in opened
    assert "O_WRONLY" in opened
    assert "RESOLVE_NO_XDEV" in opened
    assert "%apparmor_exec" in checked
    assert "PROC_SUPER_MAGIC" in checked
    assert written == 'write(%apparmor_exec, "exec docker-default", 19)'
    assert closed == "close(%apparmor_exec)"
    assert why(action) == "apparmor"


def test_the_label_is_written_as_it_is() -> None:
    plan = labelled(SELINUX, selinux={"label": LABEL})
    action = only(plan, "take SELinux's label")
    assert '"thread-self/attr/exec"' in lines(action)[0]
    assert lines(action)[2] == f'write(%selinux_exec, "{LABEL}", 38)'
    assert why(action) == "selinux.label"


@pytest.mark.parametrize("nnp", [True, False])
@pytest.mark.parametrize(
    "namespaces",
    [["mount", "uts"], [{"type": "mount", "path": "/other"}, {"type": "pid", "path": "/other"}]],
    ids=["made", "joined through a stage"],
)
def test_when(nnp: bool, namespaces: list[object]) -> None:
    """The host's /proc is taken before another's mounts are entered, and what is written to it
    comes before all that could forbid it."""
    plan = labelled(
        SELINUX,
        knowing(ROOT, paths={"/other": file()}),
        namespaces=namespaces,
        selinux={"label": LABEL},
        landlock={"scoped": True},
        no_new_privileges=nnp,
    )
    order(
        plan,
        Track.CHILD,
        "leave the caller's keyring",
        "take the host's /proc",
        "close /proc/self to others",
        "take SELinux's label",
        "leave the host's /proc",
        "hold no other capabilities",
        "end when the launcher ends, if",
        "pass on no descriptor",
        "run ",
    )
    walls = ("keep execve from giving privileges",) if nnp else ()
    order(plan, Track.CHILD, "leave the host's /proc", *walls)


def test_nothing_is_written_unasked() -> None:
    plan = labelled(APPARMOR | SELINUX)
    assert not has(plan, "take the host's /proc")
    assert not [line for line in calls_of(plan, "fsconfig") if '"context"' in line]


def test_unconfined_is_said_where_there_is_apparmor() -> None:
    plan = labelled(APPARMOR, apparmor="unconfined")
    assert lines(only(plan, "take AppArmor"))[2] == 'write(%apparmor_exec, "exec unconfined", 15)'
    assert not has(labelled(frozenset(), apparmor="unconfined"), "take")


@pytest.mark.parametrize(
    ("keys", "labels", "places"),
    [
        ({"apparmor": "a"}, frozenset(), ["apparmor"]),
        ({"apparmor": "a"}, SELINUX, ["apparmor"]),
        ({"selinux": {"label": LABEL}}, APPARMOR, ["selinux"]),
        ({"selinux": {"mount_label": FILES}}, frozenset(), ["selinux"]),
        ({"apparmor": "a", "selinux": {"label": LABEL}}, frozenset(), ["apparmor", "selinux"]),
    ],
)
def test_a_wall_that_cannot_be_set_is_an_error(
    keys: dict[str, Any], labels: frozenset[str], places: list[str]
) -> None:
    facts = knowing(ORDINARY, labels=labels)
    found = refused(facts, namespaces=["user"], **keys)
    assert sorted(found) == [("NS401", place) for place in places]


def contexts(plan: Plan) -> list[str]:
    """The actions with a labelled file system."""
    return [
        action.what
        for action in plan.actions
        if any(f'"context", "{FILES}"' in line for line in lines(action))
    ]


def test_new_file_systems_are_labelled() -> None:
    plan = labelled(
        SELINUX,
        knowing(ROOT, paths={"/here/root": folder()}),
        namespaces=["mount", "pid", "ipc"],
        rootfs={"path": "./root", "overlay": "ephemeral"},
        selinux={"mount_label": FILES},
        mounts=[
            {"type": "tmpfs", "target": "/tmp"},
            {"type": "tmpfs", "target": "/own", "options": ["context=mine"]},
            {"type": "mqueue", "target": "/queues"},
        ],
        files={"/hello": {"content": "x"}},
    )
    found = contexts(plan)
    for what in ("mount tmpfs on /dev", "mount devpts on /dev/pts", "mount tmpfs on /dev/shm",
                 "mount tmpfs on /tmp", "make a tmpfs for files"):  # fmt: skip
        assert what in found
    assert any("overlay" in what or "rootfs" in what or "root" in what for what in found)
    for what in ("mount proc on /proc", "mount sysfs on /sys", "mount mqueue on /dev/mqueue",
                 "mount mqueue on /queues", "mount tmpfs on /own"):  # fmt: skip
        assert what not in found
        assert has(plan, what)
    # A queue's file system takes no context; its first folder takes a label, through a descriptor
    # that is more than a place.
    for what in ("mount mqueue on /dev/mqueue", "mount mqueue on /queues"):
        steps = lines(only(plan, what))
        (at,) = [number for number, line in enumerate(steps) if line.startswith("fsetxattr(")]
        assert f'"security.selinux", "{FILES}", {len(FILES)}' in steps[at]
        assert "openat(%" in steps[at - 1] and "O_DIRECTORY|O_CLOEXEC" in steps[at - 1]
        assert steps[at + 1].startswith("close(%mqueue_root")
        assert "move_mount" in "".join(steps[at:])
    # A label of files alone writes nothing to /proc.
    assert not has(plan, "take the host's /proc")


def test_another_command_is_called_the_same() -> None:
    plan = labelled(APPARMOR | SELINUX, apparmor="a b", selinux={"label": LABEL})
    assert planned_labels(plan.actions) == ("a b", Selinux(label=LABEL))
    assert planned_labels(labelled(frozenset()).actions) == (None, Selinux())


@pytest.mark.parametrize(
    ("keys", "at"),
    [
        ({"apparmor": "a\0b"}, "apparmor"),
        ({"apparmor": "a\n"}, "apparmor"),
        ({"apparmor": " a"}, "apparmor"),
        ({"apparmor": "a" * 4092}, "apparmor"),
        ({"apparmor": ""}, "apparmor"),
        ({"selinux": {"label": "a\nb"}}, "selinux.label"),
        ({"selinux": {"label": "a" * 4097}}, "selinux.label"),
        ({"selinux": {"mount_label": "é" * 128}}, "selinux.mount_label"),
    ],
)
def test_what_is_no_label(keys: dict[str, Any], at: str) -> None:
    with pytest.raises(NsrunError) as caught:
        load_document(parse_document(json.dumps({"command": ["true"], **keys}), "s.yaml"))
    assert [(d.code, d.path) for d in caught.value.diagnostics] == [("NS203", at)]


def test_the_longest() -> None:
    spec = spec_of(apparmor="a" * 4091, selinux={"label": "a" * 4096, "mount_label": "a" * 255})
    assert spec.apparmor == "a" * 4091


def test_the_host_is_asked_only_where_it_matters() -> None:
    assert not wanted(spec_of()).labels
    for keys in ({"apparmor": "a"}, {"selinux": {"label": "a"}}, {"selinux": {"mount_label": "a"}}):
        assert wanted(spec_of(**keys)).labels


@pytest.mark.parametrize(
    ("files", "kinds", "found"),
    [
        ({"/sys/kernel/security/lsm": "lockdown,yama,apparmor\n"}, {"selinuxfs"}, APPARMOR),
        ({"/sys/kernel/security/lsm": "lockdown,selinux,bpf"}, set(), SELINUX),
        ({"/sys/kernel/security/lsm": "lockdown,yama"}, set(), frozenset()),
        ({"/proc/self/attr/apparmor/current": "unconfined\n"}, set(), APPARMOR),
        ({}, {"selinuxfs", "proc"}, SELINUX),
        ({}, {"proc"}, frozenset()),
    ],
)
def test_which_modules_are_in_force(
    monkeypatch: pytest.MonkeyPatch,
    files: dict[str, str],
    kinds: set[str],
    found: frozenset[str],
) -> None:
    monkeypatch.setattr(procfs, "read", files.get)
    monkeypatch.setattr(procfs, "filesystems", lambda: frozenset(kinds))
    assert procfs.labelling_modules() == found


def test_this_machine_has_what_its_files_say() -> None:
    listed = Path("/sys/kernel/security/lsm")
    if listed.exists():
        names = set(listed.read_text().strip().split(","))
        assert procfs.labelling_modules() == names & {"apparmor", "selinux"}
    else:
        assert procfs.labelling_modules() <= {"apparmor", "selinux"}


BOTH = {"label": LABEL, "mount_label": FILES}


@pytest.mark.parametrize(
    ("keys", "modules", "said"),
    [
        ({}, frozenset(), []),
        ({"apparmor": "unconfined"}, frozenset(), ["apparmor"]),
        ({"apparmor": "a"}, APPARMOR, []),
        ({}, APPARMOR, ["apparmor"]),
        ({}, SELINUX, ["selinux"]),
        ({}, APPARMOR | SELINUX, ["apparmor", "selinux"]),
        ({"selinux": {"label": LABEL}}, SELINUX, ["selinux"]),
        ({"selinux": {"mount_label": FILES}}, SELINUX, ["selinux"]),
        ({"selinux": BOTH}, SELINUX, []),
        ({"selinux": BOTH, "init": True}, SELINUX, ["init"]),
        ({"apparmor": "a", "init": True}, APPARMOR, ["init"]),
        ({"apparmor": "unconfined", "init": True}, frozenset(), ["apparmor"]),
        ({"init": True}, frozenset(), []),
    ],
)
def test_what_a_module_of_the_host_is_not_told_to_forbid(
    keys: dict[str, Any], modules: frozenset[str], said: list[str]
) -> None:
    spec = spec_of(namespaces=["user", "mount", "pid"], **keys)
    places = {"apparmor", "selinux", "init"}
    assert sorted(one.at for one in review(spec, modules) if one.at in places) == said
