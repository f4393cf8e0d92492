"""From the launcher's first act to the child in its namespaces: clone, stage, joins, pins."""

from __future__ import annotations

import pytest

from nsrun.kernel.facts import Kind, PathFact
from nsrun.plan.model import Action, Plan, Track, UndoWhen
from nsrun.plan.ops import Clone, ReceiveFd, Wait
from tests.support.planning import (
    ORDINARY,
    ROOT,
    WITH_IDS,
    calls_of,
    file,
    has,
    knowing,
    lines,
    missing,
    only,
    order,
    planned,
    refused,
    why,
)

RUNNING = knowing(ROOT, pids=frozenset({7}), containers={"web": 9})
KILL = ["pidfd_send_signal(%pidfd, SIGKILL, NULL, 0)"]


def clones(plan: Plan) -> list[str]:
    return calls_of(plan, "clone3")


# --- the launcher --------------------------------------------------------------------------------


def test_the_launcher_is_ready_before_there_is_a_child() -> None:
    plan = planned(ORDINARY, namespaces=["user"])
    order(plan, Track.PARENT, "block signals", "open the control channel", "adopt orphans",
          "reserve the name", "start the child", "supervise the command")  # fmt: skip
    assert lines(only(plan, "block signals")) == [
        "rt_sigprocmask(SIG_SETMASK, ~[], NULL, 8)",
        "signalfd4(-1, ~[], 8, SFD_NONBLOCK|SFD_CLOEXEC)",
    ]
    assert lines(only(plan, "open the control channel")) == [
        "socketpair(AF_UNIX, SOCK_SEQPACKET|SOCK_CLOEXEC, 0, {%chan, %peer})"
    ]


def test_the_name_is_the_users_own() -> None:
    plan = planned(ORDINARY, name="web")
    reserved = only(plan, "reserve the name web")
    assert lines(reserved)[1] == 'bind(%name, {AF_UNIX, "@nsrun/1000/web"}, 17)'
    assert getattr(reserved.steps[1], "accept", None) == ("EADDRINUSE",)
    assert why(reserved) == "name (found by name while it runs)"
    assert only(plan, "be found as web").track is Track.CHILD


def test_the_child_leaves_what_is_the_callers() -> None:
    plan = planned(ORDINARY, namespaces=["user"])
    ends = [a for a in plan.actions if a.what == "keep one end of the channel"]
    assert [(a.track, *lines(a)) for a in ends] == [
        (Track.PARENT, "close(%peer)"),
        (Track.CHILD, "close(%chan)"),
    ]
    left = only(plan, "leave the caller's keyring")
    assert lines(left) == ["keyctl(KEYCTL_JOIN_SESSION_KEYRING, NULL)", "setsid()", "umask(00)"]
    first = [a.what for a in plan.actions if a.track is Track.CHILD][:3]
    assert first == ["keep one end of the channel", "end when the launcher ends", left.what]


# --- one clone -----------------------------------------------------------------------------------

FLAGS = {
    "user": "CLONE_NEWUSER", "mount": "CLONE_NEWNS", "pid": "CLONE_NEWPID",
    "network": "CLONE_NEWNET", "ipc": "CLONE_NEWIPC", "uts": "CLONE_NEWUTS",
    "cgroup": "CLONE_NEWCGROUP",
}  # fmt: skip


@pytest.mark.parametrize("kind", FLAGS)
def test_each_namespace_by_its_flag(kind: str) -> None:
    (text,) = clones(planned(ROOT, namespaces=[kind]))
    flags = text.removeprefix("clone3(").split(",")[0].split("|")
    assert set(flags) == {FLAGS[kind], "CLONE_PIDFD", "CLONE_CLEAR_SIGHAND"}


def test_all_new_namespaces_are_made_by_one_clone_which_is_undone() -> None:
    plan = planned(ROOT, namespaces=list(FLAGS))
    assert len(clones(plan)) == 1
    started = only(plan, "start the child with new namespaces: user, mount, pid, network")
    assert lines(started.undo) == KILL
    assert getattr(started.undo[0], "accept", None) == ("ESRCH",)
    assert (started.undo_when, why(started)) == (UndoWhen.END, "namespaces")


def test_loopback_of_a_new_network() -> None:
    up = only(planned(ROOT, namespaces=["network"]), "bring up lo")
    assert lines(up)[1] == 'ioctl(%inet, SIOCSIFFLAGS, {"lo", IFF_UP})'
    assert why(up) == "(default loopback)"
    off = planned(ROOT, namespaces=["network"], network={"loopback": False})
    assert not has(off, "bring up lo")
    assert not has(planned(ROOT, namespaces=["uts"]), "bring up lo")


def test_names_in_a_new_uts_namespace() -> None:
    plan = planned(ROOT, namespaces=["uts"], hostname="web-1", domainname="example.org")
    assert lines(only(plan, "set the host name")) == ['sethostname("web-1", 5)']
    assert lines(only(plan, "set the domain name")) == ['setdomainname("example.org", 11)']
    assert why(only(plan, "set the host name")) == "hostname"


# --- joins ---------------------------------------------------------------------------------------


def test_every_file_is_opened_before_a_joined_mount_namespace_hides_it() -> None:
    kinds = ["mount", "network", "user", "uts"]
    plan = planned(RUNNING, namespaces=[{"type": k, "pid": 7} for k in kinds])
    steps = [(a.what.split()[0], a.what.split()[2]) for a in plan.actions
             if a.what.startswith(("open the", "join the")) and "namespace" in a.what]  # fmt: skip
    wanted = ["user", "network", "uts", "mount"]
    assert steps == [("open", k) for k in wanted] + [("join", k) for k in wanted]
    assert lines(only(plan, "open the mount namespace")) == [
        'openat(AT_FDCWD, "/proc/7/ns/mnt", O_CLOEXEC)'
    ]
    joined = only(plan, "join the mount")
    assert lines(joined) == ["setns(%mountns, CLONE_NEWNS)", "close(%mountns)"]
    assert why(joined) == "namespaces[0]"
    assert len(clones(plan)) == 1


def test_what_is_joined_by_file_pid_and_name() -> None:
    plan = planned(
        RUNNING,
        namespaces=[
            {"type": "uts", "path": "/run/uts"},
            {"type": "ipc", "pid": 7},
            {"type": "network", "container": "web"},
        ],
    )
    opened = [a.what.rsplit(" ", 1)[1] for a in plan.actions if a.what.startswith("open the") and
              "namespace" in a.what]  # fmt: skip
    assert opened == ["/run/uts", "/proc/7/ns/ipc", "/proc/9/ns/net"]
    assert not has(plan, "bring up lo")


def test_what_is_not_running_cannot_be_joined() -> None:
    spaces = [{"type": "uts", "pid": 8}, {"type": "ipc", "container": "db"}]
    assert refused(RUNNING, namespaces=spaces) == [
        ("NS404", "namespaces[0]"),
        ("NS404", "namespaces[1]"),
    ]


def test_nobody_can_look_into_a_process_that_joins() -> None:
    """A process of the joined namespaces could open its descriptors (CVE-2016-9962)."""
    plan = planned(RUNNING, namespaces=[{"type": "pid", "pid": 7}])
    order(plan, Track.CHILD, "close /proc/self to others", "join the pid namespace")
    assert lines(only(plan, "close /proc/self")) == ["prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)"]


# --- the stage -----------------------------------------------------------------------------------

OFFSETS = {"type": "time", "monotonic": "-1500ms", "boottime": "1h"}


@pytest.mark.parametrize(
    ("spaces", "staged"),
    [
        (["user", "mount", "pid"], False),
        ([{"type": "network", "pid": 7}, "mount"], False),
        (["time"], False),
        ([OFFSETS], True),
        ([{"type": "pid", "pid": 7}], True),
        (["user", {"type": "network", "pid": 7}], True),
        ([{"type": "user", "pid": 7}], False),
        ([{"type": "user", "pid": 7}, "uts"], True),
    ],
)
def test_a_second_process_only_where_the_kernel_needs_one(
    spaces: list[object], staged: bool
) -> None:
    assert len(clones(planned(RUNNING, namespaces=spaces))) == (2 if staged else 1)


def test_the_stage_hands_over_a_child_of_the_launchers_own() -> None:
    plan = planned(RUNNING, namespaces=["uts", {"type": "pid", "pid": 7}])
    second = only(plan, "go on in a new process with new namespaces: uts")
    (clone,) = second.steps
    assert isinstance(clone, Clone) and clone.hand_over and clone.exit_signal.value == 0
    assert set(clone.flags.text.split("|")) == {
        "CLONE_PARENT", "CLONE_PIDFD", "CLONE_CLEAR_SIGHAND", "CLONE_NEWUTS",
    }  # fmt: skip
    taken = only(plan, "take over the process")
    receive, reap = taken.steps
    assert isinstance(receive, ReceiveFd)
    assert (receive.save.name, receive.value and receive.value.name) == ("pidfd", "child")
    assert lines([reap]) == ["waitid(P_PIDFD, %stagefd, {siginfo}, WEXITED, NULL)"]
    assert lines(taken.undo) == KILL
    assert lines(only(plan, "start the child").undo) == [KILL[0].replace("pidfd,", "stagefd,")]
    # The death signal is not inherited (prctl(2)).
    deaths = [n for n, a in enumerate(plan.actions) if a.what == "end when the launcher ends"]
    assert len(deaths) == 2 and deaths[1] > plan.actions.index(second)


def test_the_callers_namespaces_are_joined_before_a_new_user_namespace() -> None:
    """In it the caller would have no right to join them."""
    spaces = ["user", {"type": "network", "pid": 7}]
    plan = planned(knowing(WITH_IDS, pids=frozenset({7})), namespaces=spaces)
    assert "CLONE_NEWUSER" not in clones(plan)[0] and "CLONE_NEWUSER" in clones(plan)[1]
    order(plan, Track.CHILD, "join the network", "go on in a new process", "open /proc/self for",
          "wait for the id maps")  # fmt: skip
    order(plan, Track.PARENT, "take over the process", "map uids", "map gids")


def test_what_is_made_beside_a_joined_user_namespace_belongs_to_it() -> None:
    spaces = [{"type": "user", "pid": 7}, "uts", OFFSETS]
    plan = planned(RUNNING, namespaces=spaces)
    order(plan, Track.CHILD, "join the user namespace", "make a time namespace",
          "go on in a new process with new namespaces: uts")  # fmt: skip


def test_offsets_are_written_before_the_first_process_is_in_the_time_namespace() -> None:
    plan = planned(ROOT, namespaces=["mount", OFFSETS])
    made = only(plan, "make a time namespace")
    assert lines(made) == [
        "unshare(CLONE_NEWTIME)",
        'openat(AT_FDCWD, "/proc/self/timens_offsets", O_WRONLY|O_CLOEXEC)',
        "fstatfs(%offsets, {f_type == PROC_SUPER_MAGIC})",
        # -1.5 s: whole seconds down, nanoseconds up.
        'write(%offsets, "monotonic -2 500000000\\nboottime 3600 0\\n", 39)',
        "close(%offsets)",
    ]
    assert why(made) == "namespaces[1]"
    order(plan, Track.CHILD, "make a time namespace", "close /proc/self", "go on in a new process")


# --- pins ----------------------------------------------------------------------------------------


def pinning(fact: PathFact) -> Plan:
    return planned(
        knowing(ROOT, {"/pins/net": fact}), namespaces=[{"type": "network", "pin": "/pins/net"}]
    )


def kept(plan: Plan) -> Action:
    return only(plan, "keep the namespace on /pins/net")


def test_a_pin_is_bound_while_the_child_waits_and_undone_only_by_a_failure() -> None:
    plan = pinning(file())
    # By descriptors: mount(2) would follow whatever lies at its path by then.
    flags = "MOVE_MOUNT_F_EMPTY_PATH|MOVE_MOUNT_T_EMPTY_PATH"
    assert lines(kept(plan)) == [
        'open_tree(AT_FDCWD, "/proc/%child/ns/net", OPEN_TREE_CLONE|OPEN_TREE_CLOEXEC)',
        f'move_mount(%pinned, "", %pin, "", {flags})',
    ]
    assert lines(kept(plan).undo) == ['umount2("/pins/net", MNT_DETACH|UMOUNT_NOFOLLOW)']
    assert (kept(plan).undo_when, why(kept(plan))) == (UndoWhen.FAILURE, "namespaces[0]")
    assert not has(plan, "make /pins/net")
    order(plan, Track.PARENT, "keep the namespace", "release the child", "wait for the command")
    order(plan, Track.CHILD, "wait for the launcher", "run /bin/true")
    # The message may be read after the launcher's end, which it hid from the look before it.
    assert lines(only(plan, "wait for the launcher"))[1].startswith("recvfrom(%")


def test_the_file_of_a_pin_is_made_and_taken_back_too() -> None:
    plan = pinning(missing("/pins/net"))
    made = only(plan, "make /pins/net")
    # Alone in its action: with another step that fails it would not be taken back.
    flags = "O_CREAT|O_EXCL|O_NOFOLLOW|O_CLOEXEC"
    assert lines(made) == [f'openat(AT_FDCWD, "/pins/net", {flags}, 0644)']
    assert lines(made.undo) == ['unlinkat(AT_FDCWD, "/pins/net", 0)']
    assert made.undo_when is UndoWhen.FAILURE
    order(plan, Track.PARENT, "make /pins/net", "keep the namespace")


def test_a_file_that_holds_a_namespace_already_is_no_pin() -> None:
    held = PathFact(kind=Kind.FILE, namespace="uts")
    spaces = [{"type": "network", "pin": "/pins/net"}]
    assert refused(knowing(ROOT, {"/pins/net": held}), namespaces=spaces) == [
        ("NS318", "namespaces[0]")
    ]


def test_without_anything_to_do_meanwhile_the_child_is_not_held_up() -> None:
    plan = planned(ROOT, namespaces=["uts"])
    assert not any(isinstance(p.op, Wait) for p in plan.track(Track.CHILD))
