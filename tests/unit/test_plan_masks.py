"""Paths that are hidden or made read-only."""

from __future__ import annotations

from nsrun.kernel.facts import Facts
from nsrun.plan.model import Plan, Track
from tests.support import planning
from tests.support.planning import ORDINARY, ROOT, folder, has, knowing, lines, only, order, why

OURS = knowing(ORDINARY, {"/r": folder(1000)})
WITHIN = "RESOLVE_NO_MAGICLINKS|RESOLVE_IN_ROOT"
ONTO = "MOVE_MOUNT_F_EMPTY_PATH|MOVE_MOUNT_T_EMPTY_PATH"
RULE, FIXED = "(default masked paths)", "(default read-only paths)"


def planned(facts: Facts = OURS, **keys: object) -> Plan:
    spaces = ["user", "mount", "pid", "network"]
    return planning.planned(facts, **{"namespaces": spaces, "rootfs": "/r", **keys})


def hidden(plan: Plan, reason: str = RULE) -> list[str]:
    return [a.what.removeprefix("hide ") for a in plan.actions
            if a.what.startswith("hide") and why(a) == reason]  # fmt: skip


def fixed(plan: Plan, reason: str = FIXED) -> list[str]:
    return [a.what.split()[1] for a in plan.actions if why(a) == reason]


FILES = [
    "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug",
    "/proc/timer_list", "/proc/timer_stats",
]  # fmt: skip
FOLDERS = ["/proc/acpi", "/proc/asound", "/proc/scsi"]
SYS = ["/sys/firmware", "/sys/devices/virtual/powercap", "/sys/fs/selinux"]
THERMAL = "/sys/devices/system/cpu/cpu{}/thermal_throttle"


def test_the_defaults() -> None:
    plan = planned(knowing(OURS, cpus=2))
    assert hidden(plan) == [*FILES, *FOLDERS, *SYS, THERMAL.format(0), THERMAL.format(1)]
    assert fixed(plan) == ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]


def test_the_callers_own_proc_and_sys_are_left_as_they_are() -> None:
    plan = planned(namespaces=["user", "mount"], rootfs=None, mounts=["/x:/y"])
    assert (hidden(plan), fixed(plan)) == ([], [])
    assert not has(plan, "open /dev/null")


def test_an_entry_that_changes_a_mount_brings_no_masks() -> None:
    change = [{"type": "bind", "target": "/", "options": ["remount", "ro"]}]
    plan = planned(namespaces=["user", "mount"], rootfs=None, mounts=change)
    assert (hidden(plan), fixed(plan)) == ([], [])


def test_a_proc_of_the_specs_own_is_masked_too() -> None:
    keys = {"rootfs": None, "mounts": [{"type": "proc", "target": "/proc/"}]}
    assert hidden(planned(**keys)) == [*FILES, *FOLDERS]


def test_none_and_an_own_list_replace_the_defaults() -> None:
    none = planned(masked_paths="none", readonly_paths="none")
    assert not has(none, "hide") and not has(none, "open /dev/null")
    own = planned(masked_paths=["/etc/shadow"], readonly_paths=["/etc"])
    assert (hidden(own), fixed(own)) == ([], [])
    assert hidden(own, "masked_paths[0]") == ["/etc/shadow", "/etc/shadow"]
    assert fixed(own, "readonly_paths[0]") == ["/etc"]


def test_a_file_is_hidden_behind_a_null_device_that_was_looked_at() -> None:
    plan = planned()
    assert lines(only(plan, "open /dev/null")) == [
        'openat(AT_FDCWD, "/dev/null", O_CLOEXEC|O_PATH)',
        'statx(%null2, "", AT_EMPTY_PATH, STATX_BASIC_STATS, '
        "{a character device; major 1; minor 3})",
    ]
    assert lines(only(plan, "hide /proc/interrupts")) == [
        f'openat2(%rootfs, "proc/interrupts", {{O_CLOEXEC|O_PATH, {WITHIN}}}, 24)',
        'open_tree(%null2, "", OPEN_TREE_CLONE|AT_EMPTY_PATH|OPEN_TREE_CLOEXEC)',
        f'move_mount(%cover, "", %hidden, "", {ONTO})',
        "close(%cover)",
        "close(%hidden)",
    ]


def test_a_folder_is_hidden_behind_an_empty_one() -> None:
    steps = lines(only(planned(), "hide /proc/acpi"))
    assert steps[0].startswith('openat2(%rootfs, "proc/acpi", {O_DIRECTORY|')
    assert steps[-4].endswith("close(%tmpfs_fs3)")
    (mounted,) = (s for s in steps if s.startswith("fsmount"))
    for attribute in ("RDONLY", "NOSUID", "NODEV", "NOEXEC"):
        assert f"MOUNT_ATTR_{attribute}" in mounted


def test_what_this_kernel_lacks_is_skipped_and_nothing_else() -> None:
    plan = planned(masked_paths=["/x"], readonly_paths=["/y"])
    as_folder, as_file = (a for a in plan.actions if a.what == "hide /x")
    fixed_one = only(plan, "make /y read-only")
    skipped = [getattr(a.steps[0], "skip", ()) for a in (as_folder, as_file, fixed_one)]
    assert skipped == [("ENOENT", "ENOTDIR"), ("ENOENT",), ("ENOENT",)]
    for action in (as_folder, as_file, fixed_one):
        assert all(not getattr(op, "skip", ()) for op in action.steps[1:])
    # A folder is not hidden twice: the second look goes on with what is none.
    assert "{it is no folder}" in lines(as_file)[1]


def test_a_readonly_path_with_everything_below_it() -> None:
    assert lines(only(planned(readonly_paths=["/etc"]), "make /etc read-only")) == [
        f'openat2(%rootfs, "etc", {{O_CLOEXEC|O_PATH, {WITHIN}}}, 24)',
        'open_tree(%fixed, "", OPEN_TREE_CLONE|AT_EMPTY_PATH|AT_RECURSIVE|OPEN_TREE_CLOEXEC)',
        'mount_setattr(%copy, "", AT_EMPTY_PATH|AT_RECURSIVE, {set=MOUNT_ATTR_RDONLY}, 32)',
        f'move_mount(%copy, "", %fixed, "", {ONTO})',
        "close(%copy)",
        "close(%fixed)",
    ]


def test_masks_lie_over_the_mounts_and_below_the_root() -> None:
    order(
        planned(ROOT, mounts=[{"type": "tmpfs", "target": "/tmp"}], files={"/x": {"content": "y"}}),
        Track.CHILD, "mount tmpfs on /tmp", "put /x in its place", "hide /proc/kcore",
        "make /proc/sys read-only", "enter the new root",
    )  # fmt: skip


def test_a_null_device_with_peers_on_the_host_is_parted_from_them() -> None:
    plan = planned(propagation="rslave")
    parted = [s for s in lines(only(plan, "hide /proc/kcore")) if "MS_PRIVATE" in s]
    assert len(parted) == 1 and parted[0].startswith("mount_setattr(%cover")
