"""The entries of ``mounts``: sources, attributes, places inside the root, propagation."""

from __future__ import annotations

from typing import Any

import pytest

from nsrun.kernel.facts import Facts
from nsrun.plan.diff import diff, without_mount_points
from nsrun.plan.model import Action, Plan, Track
from tests.support import planning
from tests.support.planning import (
    ORDINARY,
    ROOT,
    WITH_IDS,
    file,
    folder,
    has,
    knowing,
    lines,
    missing,
    only,
    order,
    refused,
    why,
)

SPACES = ["user", "mount", "pid"]
OURS = knowing(ORDINARY, {"/r": folder(1000), "/src": folder(1000), "/file": file(1000)})
WITHIN = "RESOLVE_NO_MAGICLINKS|RESOLVE_IN_ROOT"
ONTO = "MOVE_MOUNT_F_EMPTY_PATH|MOVE_MOUNT_T_EMPTY_PATH"
HANDLE = "{O_CLOEXEC|O_PATH, " + WITHIN + "}"
FOLDER = "{O_DIRECTORY|O_CLOEXEC|O_PATH, " + WITHIN + "}"
NOTHING = {"default_mounts": False, "masked_paths": "none", "readonly_paths": "none"}


def planned(*mounts: object, facts: Facts = OURS, **keys: object) -> Plan:
    given = {"namespaces": SPACES, "mounts": list(mounts), **NOTHING, **keys}
    return planning.planned(facts, **given)


def entry(*mounts: object, facts: Facts = OURS, **keys: object) -> Action:
    """The action of the last of these entries."""
    plan = planned(*mounts, facts=facts, **keys)
    return [a for a in plan.actions if a.origin.path == f"mounts[{len(mounts) - 1}]"][-1]


def tmpfs(target: str, *options: str, **keys: object) -> dict[str, object]:
    return {"type": "tmpfs", "target": target, "options": list(options), **keys}


# --- new file systems ----------------------------------------------------------------------------


def test_a_file_system_is_made_detached_and_moved_to_its_place() -> None:
    action = entry(tmpfs("/srv/data", "size=16m", "mode=1777"))
    assert lines(action) == [
        'fsopen("tmpfs", FSOPEN_CLOEXEC)',
        'fsconfig(%tmpfs_fs, FSCONFIG_SET_STRING, "source", "tmpfs", 0)',
        'fsconfig(%tmpfs_fs, FSCONFIG_SET_STRING, "size", "16m", 0)',
        'fsconfig(%tmpfs_fs, FSCONFIG_SET_STRING, "mode", "1777", 0)',
        "fsconfig(%tmpfs_fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0)",
        "fsmount(%tmpfs_fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID|MOUNT_ATTR_NODEV)",
        "close(%tmpfs_fs)",
        'mkdirat(%root, "srv", 0755)',
        f'openat2(%root, "srv", {FOLDER}, 24)',
        'mkdirat(%in_srv, "data", 0755)',
        "close(%in_srv)",
        f'openat2(%root, "srv/data", {HANDLE}, 24)',
        f'move_mount(%m_data, "", %at_data, "", {ONTO})',
        "close(%at_data)",
        "close(%m_data)",
    ]
    assert (action.track, why(action)) == (Track.CHILD, "mounts[0]")
    assert action.origin.span is not None


def test_the_kernels_own_words_are_at_hand_where_an_option_fails() -> None:
    configured = [op for op in entry(tmpfs("/t", "size=1m")).steps
                  if getattr(op, "name", "") in ("fsconfig", "fsmount")]  # fmt: skip
    assert len(configured) == 4
    assert all(getattr(op, "log", None) is not None for op in configured)


SAFE = {"NOSUID", "NODEV"}


@pytest.mark.parametrize(
    ("kind", "options", "wanted"),
    [
        ("tmpfs", [], SAFE),
        ("tmpfs", ["suid", "dev"], set()),
        ("tmpfs", ["ro", "noexec", "noatime"], SAFE | {"RDONLY", "NOEXEC", "NOATIME"}),
        ("tmpfs", ["ro", "rw"], SAFE),
        ("tmpfs", ["noatime", "strictatime"], SAFE | {"STRICTATIME"}),
        ("proc", [], SAFE | {"NOEXEC"}),
        ("proc", ["exec"], SAFE),
        ("devpts", [], {"NOSUID", "NOEXEC"}),
        ("mqueue", [], SAFE | {"NOEXEC"}),
        ("sysfs", [], SAFE | {"NOEXEC", "RDONLY"}),
        ("sysfs", ["rw"], SAFE | {"NOEXEC"}),
        ("cgroup2", [], SAFE | {"NOEXEC", "RDONLY"}),
    ],
)
def test_attributes(kind: str, options: list[str], wanted: set[str]) -> None:
    target = {"proc": "/proc", "sysfs": "/sys"}.get(kind, "/mnt")
    spaces = ["user", "mount", "pid", "network", "ipc", "cgroup"]
    made = entry({"type": kind, "target": target, "options": options}, namespaces=spaces)
    (mounted,) = (line for line in lines(made) if line.startswith("fsmount"))
    words = mounted.rstrip(")").split(", ")[2].split("|")
    assert {word.removeprefix("MOUNT_ATTR_") for word in words if word != "0"} == wanted


# --- binds ---------------------------------------------------------------------------------------


def test_a_bind() -> None:
    action = entry("/src:/dst:ro,noexec")
    assert lines(action) == [
        'open_tree(AT_FDCWD, "/src", OPEN_TREE_CLONE|AT_RECURSIVE|OPEN_TREE_CLOEXEC)',
        'mount_setattr(%m_dst, "", AT_EMPTY_PATH|AT_RECURSIVE, '
        "{set=MOUNT_ATTR_NOSUID|MOUNT_ATTR_NODEV}, 32)",
        'mount_setattr(%m_dst, "", AT_EMPTY_PATH, {set=MOUNT_ATTR_RDONLY|MOUNT_ATTR_NOEXEC}, 32)',
        'mkdirat(%root, "dst", 0755)',
        f'openat2(%root, "dst", {HANDLE}, 24)',
        f'move_mount(%m_dst, "", %at_dst, "", {ONTO})',
        "close(%at_dst)",
        "close(%m_dst)",
    ]


def test_a_bind_of_a_file_stands_on_a_file() -> None:
    made = [s for s in lines(entry("/file:/etc/motd")) if s.startswith(("mkdirat", "mknodat"))]
    assert made == ['mkdirat(%root, "etc", 0755)', 'mknodat(%in_etc, "motd", S_IFREG|0644, 0)']


@pytest.mark.parametrize(
    ("options", "attributes"),
    [
        (["rro"], ["AT_EMPTY_PATH|AT_RECURSIVE, {set=MOUNT_ATTR_RDONLY|MOUNT_ATTR_NOSUID|"
                   "MOUNT_ATTR_NODEV}"]),
        (["suid"], ["AT_EMPTY_PATH|AT_RECURSIVE, {set=MOUNT_ATTR_NODEV}",
                    "AT_EMPTY_PATH, {clr=MOUNT_ATTR_NOSUID}"]),
        (["noatime"], ["AT_EMPTY_PATH|AT_RECURSIVE, {set=MOUNT_ATTR_NOSUID|MOUNT_ATTR_NODEV}",
                       "AT_EMPTY_PATH, {set=MOUNT_ATTR_NOATIME, clr=MOUNT_ATTR__ATIME}"]),
    ],
)  # fmt: skip
def test_attributes_of_a_bind(options: list[str], attributes: list[str]) -> None:
    bind = {"type": "bind", "source": "/src", "target": "/dst", "options": options}
    set_ = [s for s in lines(entry(bind)) if s.startswith("mount_setattr")]
    assert set_ == [f'mount_setattr(%m_dst, "", {words}, 32)' for words in attributes]


def test_a_bind_without_what_is_mounted_below() -> None:
    bind = {"type": "bind", "source": "/src", "target": "/dst", "recursive": False}
    first, second = lines(entry(bind))[:2]
    assert "AT_RECURSIVE" not in first + second


def test_an_optional_source_that_is_not_there_is_no_step() -> None:
    facts = knowing(OURS, {"/gone": missing("/gone")})
    bind = {"type": "bind", "source": "/gone", "target": "/x", "optional": True}
    assert not any(a.origin.path == "mounts[0]" for a in planned(bind, facts=facts).actions)


# --- when a source is taken ----------------------------------------------------------------------


def test_with_a_rootfs_sources_are_taken_from_the_old_tree() -> None:
    plan = planned("/src:/dst", rootfs="/r")
    assert lines(only(plan, "take /src"))[1].endswith("{propagation=MS_PRIVATE}, 32)")
    order(plan, Track.CHILD, "take /src", "become the container's root", "keep every mount",
          "put the new root", "bind /src on /dst")  # fmt: skip
    assert why(only(plan, "take /src")) == "mounts[0]"


def test_without_one_a_source_may_be_what_an_earlier_entry_mounted() -> None:
    plan = planned(tmpfs("/src"), "/src/x:/dst", facts=knowing(WITH_IDS, OURS.paths))
    assert not has(plan, "take /src/x")
    assert lines(only(plan, "bind /src/x"))[0].startswith('open_tree(AT_FDCWD, "/src/x"')


def test_what_relates_to_the_host_is_taken_before_the_mounts_are_private() -> None:
    bind = {"type": "bind", "source": "/src", "target": "/dst", "propagation": "rslave"}
    plan = planned(bind)
    # Parted from its peers it would have no master to follow.
    assert lines(only(plan, "take /src")) == [
        'open_tree(AT_FDCWD, "/src", OPEN_TREE_CLONE|AT_RECURSIVE|OPEN_TREE_CLOEXEC)'
    ]
    order(plan, Track.CHILD, "take /src", "keep every mount")
    assert lines(only(plan, "bind /src"))[-2] == (
        'mount_setattr(%m_dst, "", AT_EMPTY_PATH|AT_RECURSIVE, {propagation=MS_SLAVE}, 32)'
    )


@pytest.mark.parametrize("word", ["private", "slave", "shared", "unbindable"])
@pytest.mark.parametrize("deep", [False, True])
def test_propagation_is_set_where_the_mount_stands(word: str, deep: bool) -> None:
    action = entry({"type": "tmpfs", "target": "/t", "propagation": f"{'r' * deep}{word}"})
    at = "AT_EMPTY_PATH|AT_RECURSIVE" if deep else "AT_EMPTY_PATH"
    assert lines(action)[-2] == (
        f'mount_setattr(%m_t, "", {at}, {{propagation=MS_{word.upper()}}}, 32)'
    )


# --- idmapped binds ------------------------------------------------------------------------------

MAPPED = {"type": "bind", "source": "/src", "target": "/dst", "idmap": True}


def test_the_launcher_maps_the_ids_of_a_bind() -> None:
    plan = planned(MAPPED, facts=knowing(ROOT, OURS.paths))
    sent = only(plan, "map the ids of /src")
    assert (sent.track, why(sent)) == (Track.PARENT, "mounts[0]")
    assert "MOUNT_ATTR_IDMAP, userns=%userns" in lines(sent)[2]
    order(plan, Track.PARENT, "tell the child that its ids", "map the ids of /src")
    assert lines(only(plan, "take /src from the launcher"))[0] == "receive #m_dst"


def test_ranges_of_its_own_are_held_by_a_process_that_is_ended() -> None:
    bind = {**MAPPED, "idmap": {"uid": ["0:1000:1"], "gid": ["0:1000:1"]}}
    plan = planned(bind, facts=knowing(ROOT, OURS.paths))
    held = only(plan, "hold a user namespace")
    assert lines(held) == ["clone3(CLONE_PIDFD|CLONE_NEWUSER, SIGCHLD) hold"]
    assert lines(held.undo) == [
        "pidfd_send_signal(%holderfd, SIGKILL, NULL, 0)",
        "waitid(P_PIDFD, %holderfd, {siginfo}, WEXITED, NULL)",
    ]
    assert '"/proc/%holder/ns/user"' in lines(only(plan, "map the ids of /src"))[0]


def test_only_root_maps_the_ids_of_a_bind_and_only_of_a_new_one() -> None:
    keys = {"namespaces": SPACES, **NOTHING}
    assert refused(OURS, mounts=[MAPPED], **keys) == [("NS402", "mounts[0].idmap")]


# --- places --------------------------------------------------------------------------------------

REAL = f"RESOLVE_NO_MAGICLINKS|RESOLVE_NO_SYMLINKS|{WITHIN.partition('|')[2]}"


@pytest.mark.parametrize("target", ["/proc", "/sys", "/dev", "/proc/", "//proc", "/./dev"])
def test_proc_sys_and_dev_are_real_folders(target: str) -> None:
    """A symlink by one of these names is an attack (CVE-2023-27561)."""
    opened = [s for s in lines(entry(tmpfs(target), rootfs="/r")) if s.startswith("openat2")]
    assert len(opened) == 1 and REAL in opened[0]


def test_every_place_is_walked_from_the_root_itself() -> None:
    """No path inside the container is given to a call that resolves it from elsewhere."""
    plan = planned(tmpfs("/a/b"), "/src:/c/d", rootfs="/r", files={"/e/f": {"content": "x"}})
    entering = plan.actions.index(only(plan, "put the new root"))
    for action in plan.actions[entering:]:
        for line in lines(action):
            name = line.partition("(")[0]
            if name in ("mkdirat", "mknodat", "openat2", "open_tree", "move_mount"):
                assert f"{name}(%" in line, line


def test_a_folder_that_is_there_is_not_made() -> None:
    facts = knowing(OURS, targets={"/a/b": folder()})
    assert "mkdirat" not in " ".join(lines(entry(tmpfs("/a/b"), facts=facts)))


def test_only_what_is_missing_is_made_and_once() -> None:
    facts = knowing(OURS, targets={"/a/b/c": missing("/a/b"), "/a/b/d": missing("/a/b")})
    plan = planned(tmpfs("/a/b/c"), tmpfs("/a/b/d"), facts=facts)
    made = [s for a in plan.actions for s in lines(a) if s.startswith("mkdirat")]
    assert made == [
        'mkdirat(%in_a, "b", 0755)', 'mkdirat(%in_b, "c", 0755)', 'mkdirat(%in_b2, "d", 0755)',
    ]  # fmt: skip
    assert all(
        getattr(op, "accept", None) == ("EEXIST",)
        for a in plan.actions for op in a.steps if getattr(op, "name", "") == "mkdirat"
    )  # fmt: skip


def test_without_create_nothing_is_made() -> None:
    action = entry(tmpfs("/a", create="never"))
    assert "mkdirat" not in " ".join(lines(action))


REMEMBER = "remember that /mnt/a is missing"
# Removing a folder takes away what other mount namespaces have mounted on it (vfs_rmdir).
ALONE = [
    "flock(%held, LOCK_UN)",
    'openat(AT_FDCWD, "/r", O_DIRECTORY|O_CLOEXEC)',
    "flock(%last, LOCK_EX|LOCK_NB)",
]


def test_who_mounts_on_a_root_of_the_host_holds_it() -> None:
    held = only(planned(rootfs="/r"), "hold /r")
    assert lines(held) == [
        'openat(AT_FDCWD, "/r", O_DIRECTORY|O_CLOEXEC)', "flock(%held, LOCK_SH|LOCK_NB)"
    ]  # fmt: skip
    assert getattr(held.steps[0], "skip", None) == ("EACCES",)
    for rootfs in (None, {"path": "/r", "overlay": "ephemeral"}):
        assert not has(planned(rootfs=rootfs) if rootfs else planned(), "hold /r")


def test_what_is_made_on_the_host_is_removed_by_the_launcher() -> None:
    facts = knowing(OURS, targets={"/mnt/a": missing("/mnt")})
    plan = planned(tmpfs("/mnt/a"), facts=facts, rootfs="/r")
    kept = only(plan, REMEMBER)
    assert (kept.track, why(kept)) == (Track.PARENT, "(nothing is left behind)")
    assert lines(kept)[0] == 'openat(AT_FDCWD, "/r", O_DIRECTORY|O_CLOEXEC|O_PATH)'
    assert lines(kept.undo) == [
        *ALONE,
        'openat2(%keep, "mnt", {O_DIRECTORY|O_CLOEXEC|O_PATH, '
        "RESOLVE_NO_SYMLINKS|RESOLVE_BENEATH}, 24)",
        'unlinkat(%was, "a", AT_REMOVEDIR)',
        "close(%was)",
        'unlinkat(%keep, "mnt", AT_REMOVEDIR)',
        "close(%last)",
    ]
    # Seen before the child could make it; a folder that is in use by then is left alone.
    order(plan, Track.PARENT, "hold /r", REMEMBER, "start the child")
    for op in kept.undo[3:7:3]:
        assert {"ENOENT", "ENOTEMPTY"} <= set(getattr(op, "accept", ()))


def test_what_a_mount_stands_on_makes_no_difference_to_a_running_container() -> None:
    """It has made it itself; `up` would start it anew each time."""
    targets = ["/mnt/a", "/proc", "/sys", "/dev"]
    absent = knowing(OURS, targets={name: missing(name) for name in targets})
    present = knowing(OURS, targets={name: folder() for name in targets})
    first, again = (planned(tmpfs("/mnt/a"), facts=f, rootfs="/r") for f in (absent, present))
    assert diff(first, again).changes
    assert not diff(without_mount_points(first), without_mount_points(again)).changes
    other = planned(tmpfs("/mnt/b"), facts=present, rootfs="/r")
    assert diff(without_mount_points(first), without_mount_points(other)).changes


def test_a_file_that_was_filled_meanwhile_is_not_removed() -> None:
    facts = knowing(OURS, OURS.paths, {"/x": missing("/x")})
    kept = only(planned("/file:/x", facts=facts, rootfs="/r"), "remember that /x")
    assert lines(kept.undo) == [
        *ALONE,
        'statx(%keep, "x", AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, {it is empty})',
        'unlinkat(%keep, "x", 0)',
        "close(%last)",
    ]


@pytest.mark.parametrize(
    "keys", [{"rootfs": {"path": "/r", "overlay": "ephemeral"}}, {"mounts": [tmpfs("/mnt")]}]
)
def test_what_never_reaches_the_host_is_not_removed(keys: dict[str, object]) -> None:
    facts = knowing(OURS, targets={"/mnt/a": missing("/mnt/a"), "/mnt": folder()})
    mounts = [*keys.pop("mounts", []), tmpfs("/mnt/a")]  # type: ignore[misc]
    assert not has(planned(*mounts, facts=facts, **keys), REMEMBER)


def test_a_mount_point_inside_a_bind_is_removed_from_its_source() -> None:
    facts = knowing(OURS, {**OURS.paths, "/src/sub/x": missing("/src/sub/x")})
    plan = planned("/src:/dst", tmpfs("/dst/sub/x"), facts=facts)
    kept = only(plan, "remember that /dst/sub/x is missing")
    assert lines(kept)[:2] == [
        'openat(AT_FDCWD, "/src", O_DIRECTORY|O_CLOEXEC|O_PATH)',
        f'openat2(%host, "sub", {FOLDER}, 24)',
    ]
    assert lines(kept.undo) == ['unlinkat(%keep, "x", AT_REMOVEDIR)']


# --- entries that change or remove a mount -------------------------------------------------------


def test_a_change_of_attributes_and_options() -> None:
    change = {"target": "/t", "options": ["ro", "size=1m"], "propagation": ["shared"]}
    assert lines(entry(tmpfs("/t"), change)) == [
        f'openat2(%root, "t", {HANDLE}, 24)',
        'fspick(%at_m_t, "", FSPICK_CLOEXEC|FSPICK_EMPTY_PATH)',
        'fsconfig(%picked, FSCONFIG_SET_STRING, "size", "1m", 0)',
        "fsconfig(%picked, FSCONFIG_CMD_RECONFIGURE, NULL, NULL, 0)",
        "close(%picked)",
        'mount_setattr(%at_m_t, "", AT_EMPTY_PATH, {set=MOUNT_ATTR_RDONLY}, 32)',
        'mount_setattr(%at_m_t, "", AT_EMPTY_PATH, {propagation=MS_SHARED}, 32)',
        "close(%at_m_t)",
    ]


@pytest.mark.parametrize(
    ("target", "mounts", "keys"),
    [
        ("/mnt", [{"type": "bind", "source": "/src", "target": "/mnt"}], {}),
        ("/mnt/below", [{"type": "bind", "source": "/src", "target": "/mnt"}], {}),
        ("/mnt", [{"type": "bind", "source": "/file", "target": "/mnt"}], {}),
        ("/", [], {"rootfs": "/r"}),
        ("/", [], {}),
        ("/proc", [], {"namespaces": ["user", "mount"], "default_mounts": True}),
        ("/t", [{"type": "umount", "target": "/t"}], {}),
    ],
)
def test_the_superblock_of_others_is_not_changed(
    target: str, mounts: list[object], keys: dict[str, Any]
) -> None:
    change: dict[str, Any] = {"target": target, "options": ["nosuid", "size=1m"], "remount": True}
    given = {"namespaces": SPACES, **NOTHING, **keys}
    at = f"mounts[{len(mounts)}].options"
    assert refused(OURS, mounts=[*mounts, change], **given) == [("NS409", at)]
    del change["options"][1]
    planning.planned(OURS, mounts=[*mounts, change], **given)


def test_the_superblock_of_the_containers_own_is_changed() -> None:
    change = {"target": "/proc", "options": ["hidepid=invisible"], "remount": True}
    plan = planned(change, default_mounts=True, rootfs="/r")
    assert has(plan, "change /proc: hidepid=invisible")


def test_umount_comes_back_to_the_callers_folder() -> None:
    action = entry(tmpfs("/t"), {"type": "umount", "target": "/t"})
    assert lines(action) == [
        f'openat2(%root, "t", {HANDLE}, 24)',
        'openat(AT_FDCWD, ".", O_DIRECTORY|O_CLOEXEC|O_PATH)',
        "fchdir(%at_m_t)",
        'umount2(".", MNT_DETACH)',
        "fchdir(%root)",
        "fchdir(%home)",
        "close(%home)",
        "close(%at_m_t)",
    ]
    assert "home" not in " ".join(lines(entry(tmpfs("/t"), {"type": "umount", "target": "/t"},
                                              rootfs="/r")))  # fmt: skip


def test_entries_are_made_in_their_order() -> None:
    plan = planned(tmpfs("/b"), "/src:/a", {"type": "proc", "target": "/proc"})
    order(plan, Track.CHILD, "mount tmpfs on /b", "bind /src on /a", "mount proc on /proc")
