"""The root of the container: taken, put over the old one, entered, and finished."""

from __future__ import annotations

import pytest

from nsrun.kernel.facts import Facts
from nsrun.plan.model import Plan, Track
from tests.support.planning import (
    ORDINARY,
    ROOT,
    calls_of,
    folder,
    has,
    knowing,
    lines,
    only,
    order,
    planned,
    why,
)

SPACES = ["user", "mount", "pid"]
OURS = knowing(ORDINARY, {"/r": folder(1000)})
PART = 'mount_setattr(%rootfs, "", AT_EMPTY_PATH|AT_RECURSIVE, {propagation=MS_PRIVATE}, 32)'
CLONED = 'open_tree(AT_FDCWD, "/r", OPEN_TREE_CLONE|AT_RECURSIVE|OPEN_TREE_CLOEXEC)'


def bare(facts: Facts = OURS, **keys: object) -> Plan:
    """A rootfs with nothing but what a test asks for."""
    nothing = {"default_mounts": False, "masked_paths": "none", "readonly_paths": "none"}
    return planned(facts, **{"namespaces": SPACES, "rootfs": "/r", **nothing, **keys})


def test_the_callers_tree_is_cloned_and_parted_from_the_host() -> None:
    taken = only(bare(), "take the rootfs /r")
    assert lines(taken) == [CLONED, PART]
    assert why(taken) == "rootfs"
    assert taken.origin.span is not None


def test_propagation_is_the_first_act_in_the_new_mount_namespace() -> None:
    """Whatever is mounted before it would show on the host."""
    plan = bare(mounts=[{"type": "tmpfs", "target": "/tmp"}])
    assert lines(only(plan, "keep every mount")) == [
        'mount(NULL, "/", NULL, MS_REC|MS_PRIVATE, NULL)'
    ]
    mounting = [p for p in plan.track(Track.CHILD) if getattr(p.op, "name", "").endswith("mount")]
    assert mounting[0].action is only(plan, "keep every mount")


@pytest.mark.parametrize(
    ("word", "flag"), [("rprivate", "PRIVATE"), ("rslave", "SLAVE"), ("rshared", "SHARED")]
)
def test_propagation_is_what_the_spec_says(word: str, flag: str) -> None:
    plan = planned(ROOT, namespaces=["mount"], propagation=word)
    (mounted,) = calls_of(plan, "mount")
    assert mounted == f'mount(NULL, "/", NULL, MS_REC|MS_{flag}, NULL)'
    (action,) = (a for a in plan.actions if a.origin.path == "propagation")
    assert action.origin.rule == ""


def test_default_propagation_names_the_namespace_that_implied_it() -> None:
    assert why(only(bare(), "keep every mount")) == "namespaces[1] (default propagation)"


def test_the_new_root_is_entered_and_the_old_one_left() -> None:
    plan = bare()
    assert lines(only(plan, "put the new root")) == [
        'move_mount(%rootfs, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH)'
    ]
    assert lines(only(plan, "enter the new root")) == [
        "fchdir(%rootfs)",
        'pivot_root(".", ".")',
        'umount2(".", MNT_DETACH)',
        'chdir("/")',
    ]
    order(
        plan,
        Track.CHILD,
        "take the rootfs",
        "become the container's root",
        "keep every mount",
        "put the new root",
        "enter the new root",
        "limit what execve",
    )


@pytest.mark.parametrize("propagation", ["rslave", "rshared"])
def test_the_old_root_alone_is_parted_before_it_is_unmounted(propagation: str) -> None:
    """Before pivot_root the new root lies in the old one: its mounts would lose theirs."""
    assert lines(only(bare(propagation=propagation), "enter the new root")) == [
        'openat(AT_FDCWD, "/", O_DIRECTORY|O_CLOEXEC|O_PATH)',
        "fchdir(%rootfs)",
        'pivot_root(".", ".")',
        'mount_setattr(%oldroot, "", AT_EMPTY_PATH|AT_RECURSIVE, {propagation=MS_PRIVATE}, 32)',
        "close(%oldroot)",
        'umount2(".", MNT_DETACH)',
        'chdir("/")',
    ]


def test_a_shared_parent_is_made_private_before_the_new_root_lies_on_it() -> None:
    """pivot_root(2) refuses a shared parent, and the host would see the root."""
    assert lines(only(bare(propagation="rshared"), "put the new root"))[0] == (
        'mount(NULL, "/", NULL, MS_PRIVATE, NULL)'
    )


def test_readonly_and_propagation_of_the_root_come_last() -> None:
    plan = bare(
        rootfs={"path": "/r", "readonly": True, "propagation": "rslave"},
        mounts=[{"type": "tmpfs", "target": "/tmp"}],
    )
    assert lines(only(plan, "make the root read-only")) == [
        'mount_setattr(%rootfs, "", AT_EMPTY_PATH, {set=MOUNT_ATTR_RDONLY}, 32)'
    ]
    assert lines(only(plan, "make the root rslave")) == [
        'mount_setattr(%rootfs, "", AT_EMPTY_PATH|AT_RECURSIVE, {propagation=MS_SLAVE}, 32)'
    ]
    assert why(only(plan, "make the root read-only")) == "rootfs.readonly"
    order(
        plan, Track.CHILD, "mount tmpfs", "enter the new root", "make the root read-only",
        "make the root rslave",
    )  # fmt: skip


def test_without_a_rootfs_the_callers_tree_stays() -> None:
    plan = planned(ORDINARY, namespaces=SPACES, mounts=[{"type": "tmpfs", "target": "/tmp"}])
    assert not calls_of(plan, "pivot_root")
    assert lines(only(plan, "open the caller's tree")) == [
        'openat(AT_FDCWD, "/", O_DIRECTORY|O_CLOEXEC|O_PATH)'
    ]


def test_without_anything_to_mount_no_tree_is_opened() -> None:
    assert not has(planned(ROOT, namespaces=["mount"]), "open the caller's tree")


# --- whose the root is ---------------------------------------------------------------------------


def test_root_maps_the_ids_of_a_rootfs_that_is_its_own() -> None:
    """The container's root is no root of the host, and yet owns the files of its rootfs."""
    plan = bare(knowing(ROOT, {"/r": folder(0)}))
    sent, taken = only(plan, "map the ids of /r"), only(plan, "take /r from the launcher")
    assert (sent.track, taken.track) == (Track.PARENT, Track.CHILD)
    assert lines(sent) == [
        'openat(AT_FDCWD, "/proc/%child/ns/user", O_CLOEXEC)',
        CLONED,
        'mount_setattr(%rootfs_host, "", AT_EMPTY_PATH, {set=MOUNT_ATTR_IDMAP, userns=%userns}, '
        "32)",
        "send #rootfs %rootfs_host",
        "close(%rootfs_host)",
        "close(%userns)",
    ]
    assert lines(taken) == ["receive #rootfs", PART]
    assert (why(sent), why(taken)) == ("rootfs", "rootfs")


def test_a_rootfs_that_is_the_containers_already_is_not_mapped() -> None:
    lies_in_the_range = knowing(ROOT, {"/r": folder(100_000)})
    plan = bare(
        lies_in_the_range, idmap={"uid": ["0:100000:65536"], "gid": ["0:100000:65536"]}
    )
    assert not has(plan, "map the ids of /r")
    assert lines(only(plan, "take the rootfs /r")) == [CLONED, PART]


# --- the mounts that every rootfs gets -----------------------------------------------------------


def defaults(facts: Facts = OURS, **keys: object) -> list[str]:
    plan = bare(facts, default_mounts=True, **keys)
    return [a.what for a in plan.actions if a.origin.rule.startswith("default mounts")]


def test_the_default_mounts_in_order() -> None:
    nodes = [f"bind the device /dev/{n}" for n in
             ("null", "zero", "full", "random", "urandom", "tty")]  # fmt: skip
    assert defaults(namespaces=[*SPACES, "network", "ipc"]) == [
        "mount proc on /proc",
        "mount sysfs on /sys",
        "mount tmpfs on /dev",
        *nodes,
        "make the links of /dev",
        "mount devpts on /dev/pts",
        "mount tmpfs on /dev/shm",
        "mount mqueue on /dev/mqueue",
        "close /dev",
    ]


def test_what_needs_a_namespace_that_is_not_made_is_the_callers() -> None:
    found = defaults(namespaces=["user", "mount"])
    assert found[:2] == ["bind the caller's /proc", "bind the caller's /sys"]
    assert "mount mqueue on /dev/mqueue" not in found
    plan = bare(namespaces=["user", "mount"], default_mounts=True)
    (attributes,) = (s for s in calls_of(plan, "mount_setattr") if "%sys" in s)
    assert "MOUNT_ATTR_RDONLY" in attributes and "AT_RECURSIVE" in attributes


def test_an_entry_replaces_the_default_of_its_target() -> None:
    found = defaults(mounts=[{"type": "tmpfs", "target": "/dev/shm/"}])
    assert "mount tmpfs on /dev/shm" not in found and "mount tmpfs on /dev" in found
    assert not any("/dev" in what for what in defaults(mounts=["/x:/dev"]))


def test_an_entry_that_changes_a_default_mount_does_not_replace_it() -> None:
    change = [{"type": "bind", "target": "/proc", "options": ["remount", "ro"]}]
    assert "mount proc on /proc" in defaults(mounts=change)
    order(bare(default_mounts=True, mounts=change), Track.CHILD, "mount proc", "change /proc")


def test_a_device_is_looked_at_before_it_is_used() -> None:
    """The caller's /dev may hold anything by that name."""
    assert lines(only(bare(default_mounts=True), "bind the device /dev/full")) == [
        'open_tree(AT_FDCWD, "/dev/full", OPEN_TREE_CLONE|OPEN_TREE_CLOEXEC)',
        'statx(%full, "", AT_EMPTY_PATH, STATX_BASIC_STATS, '
        "{a character device; major 1; minor 7})",
        'mknodat(%dev, "full", S_IFREG|0666, 0)',
        'move_mount(%full, "", %dev, "full", MOVE_MOUNT_F_EMPTY_PATH)',
        "close(%full)",
    ]


@pytest.mark.parametrize(("size", "has_group"), [(1, False), (5, False), (6, True)])
def test_ttys_have_their_group_where_it_is_mapped(size: int, has_group: bool) -> None:
    maps = {"uid": [f"0:100000:{size}"], "gid": [f"0:100000:{size}"]}
    plan = bare(knowing(ROOT, {"/r": folder(0)}), idmap=maps, default_mounts=True)
    given = [text for text in calls_of(plan, "fsconfig") if '"gid", "5"' in text]
    assert bool(given) == has_group
