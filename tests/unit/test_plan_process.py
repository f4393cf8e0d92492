"""The command's surroundings: variables, folder, limits, sysctls, descriptors, signals, search."""

from __future__ import annotations

import signal

import pytest

from nsrun.kernel.values import Call, Int, Strings
from nsrun.plan.model import Plan, Track
from nsrun.plan.ops import Await
from nsrun.plan.process import DEFAULT_PATH
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
    refused,
    why,
)


def environment(plan: Plan) -> list[str]:
    (call, *_) = only(plan, "run ").steps
    assert isinstance(call, Call)
    assert isinstance(call.args[2], Strings)
    return list(call.args[2].values)


def tried(**keys: object) -> list[str]:
    return [line.split('"')[1] for line in lines(only(planned(ORDINARY, **keys), "run "))]


# --- variables -----------------------------------------------------------------------------------


def test_only_named_variables_pass_on() -> None:
    variables = {"TERM": "vt100", "LANG": "C", "SECRET": "s", "HOME": "/h"}
    caller = knowing(ORDINARY, environment=variables)
    assert environment(planned(caller)) == [f"PATH={DEFAULT_PATH}", "TERM=vt100", "LANG=C"]
    assert environment(planned(ORDINARY)) == [f"PATH={DEFAULT_PATH}"]


def test_variables_of_the_spec() -> None:
    caller = knowing(ORDINARY, environment={"TERM": "vt100", "HOME": "/h"})
    env = {"PATH": "/bin", "A": "b=c\nd", "EMPTY": "", "HOME": None, "ABSENT": None}
    assert environment(planned(caller, env=env)) == [
        "PATH=/bin", "TERM=vt100", "A=b=c\nd", "EMPTY=", "HOME=/h",
    ]  # fmt: skip
    # What the caller does not have is not passed on, though it has a default.
    assert environment(planned(ORDINARY, env={"PATH": None})) == []


def test_a_terminal_has_a_type() -> None:
    assert "TERM=xterm" in environment(planned(ORDINARY, namespaces=["user"], tty=True))
    typed = knowing(ORDINARY, environment={"TERM": "vt100"})
    assert "TERM=vt100" in environment(planned(typed, namespaces=["user"], tty=True))


# --- the command ---------------------------------------------------------------------------------


def test_a_path_is_executed_as_it_is() -> None:
    assert tried(command=["./x", "a"]) == ["./x"]


def test_a_name_is_looked_for_in_the_containers_path() -> None:
    assert tried(command=["x"], env={"PATH": "/a:/b/:"}) == ["/a/x", "/b/x", "./x"]
    assert tried(command=["x"])[:2] == ["/usr/local/sbin/x", "/usr/local/bin/x"]
    steps = only(planned(ORDINARY, command=["x"], env={"PATH": "/a:/b"}), "run x").steps
    # execvp(3): what is missing or not executable is passed over, but the last decides.
    assert [getattr(op, "accept", None) for op in steps] == [("ENOENT", "ENOTDIR", "EACCES"), ()]


def test_the_last_steps_in_their_order() -> None:
    plan = planned(knowing(ORDINARY, ignored_signals=(signal.SIGHUP, signal.SIGPIPE)))
    assert lines(only(plan, "pass on no descriptor")) == [
        "close_range(3, UINT_MAX, CLOSE_RANGE_CLOEXEC)"
    ]
    assert lines(only(plan, "reset signals")) == [
        "rt_sigaction(SIGHUP, {SIG_DFL}, NULL, 8)",
        "rt_sigaction(SIGPIPE, {SIG_DFL}, NULL, 8)",
        "rt_sigaction(SIGXFSZ, {SIG_DFL}, NULL, 8)",
        "rt_sigprocmask(SIG_SETMASK, [], NULL, 8)",
    ]
    last = [a.what for a in plan.actions if a.track is Track.CHILD][-5:]
    assert last == [
        "set the command's umask",
        "pass on no descriptor but 0 to 2",
        "reset signals to what a new process has",
        "allow only the system calls of the filter",
        "run /bin/true",
    ]


def test_umask() -> None:
    action = only(planned(ORDINARY), "set the command's umask")
    assert (lines(action), why(action)) == (["umask(022)"], "(default umask)")
    given = only(planned(ORDINARY, user={"umask": "077"}), "set the command's umask")
    assert (lines(given), why(given)) == (["umask(077)"], "user.umask")


# --- the folder ----------------------------------------------------------------------------------

INSIDE = "getcwd({the working directory lies below the root}, 4096)"


def test_the_folder_is_entered_as_the_user_and_must_lie_inside() -> None:
    plan = planned(ORDINARY, namespaces=["user"], cwd="/srv")
    assert lines(only(plan, "work in /srv")) == ['chdir("/srv")', INSIDE]
    assert why(only(plan, "work in /srv")) == "cwd"
    order(plan, Track.CHILD, "become 0:0", "hold no other", "work in /srv", "run /bin/true")


def test_the_callers_folder_may_be_gone() -> None:
    (inside,) = only(planned(ORDINARY), "stay in the caller's folder").steps
    assert (lines([inside]), getattr(inside, "accept", None)) == ([INSIDE], ("ENOENT",))


def test_in_a_rootfs_the_folder_is_the_root() -> None:
    facts = knowing(ORDINARY, {"/r": folder(1000)})
    plan = planned(facts, namespaces=["user", "mount"], rootfs="/r")
    assert not has(plan, "stay in") and not has(plan, "work in")
    assert lines(only(plan, "enter the new root"))[-1] == 'chdir("/")'


# --- limits --------------------------------------------------------------------------------------


def test_limits_are_set_while_they_can_be_raised() -> None:
    plan = planned(ROOT, rlimits={"nofile": "1024:8192", "core": 0, "stack": "unlimited"})
    assert lines(only(plan, "limit nofile")) == [
        "prlimit64(0, RLIMIT_NOFILE, {1024, 8192}, NULL)"
    ]
    assert "unlimited" in lines(only(plan, "limit stack"))[0]
    assert why(only(plan, "limit nofile")) == "rlimits.nofile"
    order(plan, Track.CHILD, "limit nofile", "limit what execve can give")


@pytest.mark.parametrize("wanted", [4097, "unlimited", "1:4097"])
def test_a_hard_limit_that_only_root_can_raise(wanted: object) -> None:
    assert refused(ORDINARY, rlimits={"nofile": wanted}) == [("NS402", "rlimits.nofile")]
    assert planned(ROOT, rlimits={"nofile": wanted})
    assert planned(ORDINARY, rlimits={"nofile": 4096})


def test_the_score_for_running_out_of_memory() -> None:
    plan = planned(ORDINARY, namespaces=["user"], oom_score_adj=500)
    assert lines(only(plan, "set the out-of-memory score to 500")) == [
        'openat(AT_FDCWD, "/proc/self/oom_score_adj", O_WRONLY|O_CLOEXEC)',
        "fstatfs(%oom, {f_type == PROC_SUPER_MAGIC})",
        'write(%oom, "500", 3)',
        "close(%oom)",
    ]
    # Once it is not dumpable the file is root's.
    order(plan, Track.CHILD, "set the out-of-memory", "close /proc/self to others")


# --- sysctls -------------------------------------------------------------------------------------


def test_a_sysctl_is_written_without_following_links_and_to_procfs_only() -> None:
    plan = planned(ROOT, namespaces=["network"], sysctl={"net.ipv4.ip_forward": 1})
    written = only(plan, "set net.ipv4.ip_forward to 1")
    assert lines(written) == [
        'openat2(AT_FDCWD, "/proc/sys/net/ipv4/ip_forward", {O_WRONLY|O_CLOEXEC, '
        "RESOLVE_NO_MAGICLINKS|RESOLVE_NO_SYMLINKS}, 24)",
        "fstatfs(%ip_forward, {f_type == PROC_SUPER_MAGIC})",
        'write(%ip_forward, "1", 1)',
        "close(%ip_forward)",
    ]
    assert why(written) == 'sysctl["net.ipv4.ip_forward"]'


def test_a_new_network_namespace_lets_every_group_ping() -> None:
    let = only(planned(ROOT, namespaces=["network"]), "let every group ping")
    assert lines(let) == [
        'openat2(AT_FDCWD, "/proc/sys/net/ipv4/ping_group_range", {O_WRONLY|O_CLOEXEC, '
        "RESOLVE_NO_MAGICLINKS|RESOLVE_NO_SYMLINKS}, 24)",
        "fstatfs(%ping_group_range, {f_type == PROC_SUPER_MAGIC})",
        'write(%ping_group_range, "0 2147483647", 12)',
        "close(%ping_group_range)",
    ]
    assert let.origin.rule == "default ping_group_range"


def test_only_mapped_groups_are_named_to_ping() -> None:
    idmap = {"uid": ["0:0:1"], "gid": ["5:100000:10", "20:200000:5"]}
    plan = planned(ROOT, namespaces=["user", "network"], idmap=idmap)
    assert 'write(%ping_group_range, "5 24", 4)' in lines(only(plan, "let every group ping"))


def test_who_sets_the_range_keeps_it() -> None:
    key = "net.ipv4.ping_group_range"
    plan = planned(ROOT, namespaces=["network"], sysctl={key: "7 7"})
    assert 'write(%ping_group_range, "7 7", 3)' in lines(only(plan, f"set {key} to 7 7"))
    assert not [a for a in plan.actions if a.what == "let every group ping"]


def test_no_ping_for_others_network_namespaces() -> None:
    for namespaces in ([], [{"type": "network", "path": "/run/netns/x"}]):
        facts = knowing(ROOT, {"/run/netns/x": folder()})
        plan = planned(facts, namespaces=namespaces)
        assert not [a for a in plan.actions if "ping" in a.what]


# --- programs with rights of their own ------------------------------------------------------------


def test_programs_raise_no_rights_where_execve_would_refuse_them() -> None:
    what = "let no program raise its rights"
    assert lines(only(planned(ROOT, namespaces=["mount"]), what)) == [
        'mount_setattr(AT_FDCWD, "/", AT_RECURSIVE, {set=MOUNT_ATTR_NOSUID}, 32)'
    ]
    facts = knowing(ROOT, {"/r": folder()})
    plan = planned(facts, namespaces=["mount"], rootfs="/r")
    assert lines(only(plan, what)) == [
        'mount_setattr(%rootfs, "", AT_EMPTY_PATH|AT_RECURSIVE, {set=MOUNT_ATTR_NOSUID}, 32)'
    ]
    order(plan, Track.CHILD, what, "mount proc on /proc")


def test_with_privileges_to_gain_programs_keep_theirs() -> None:
    plan = planned(ROOT, namespaces=["mount"], no_new_privileges=False)
    assert not [a for a in plan.actions if a.what == "let no program raise its rights"]


def test_a_sysctl_through_the_containers_own_proc_before_it_is_read_only() -> None:
    facts = knowing(ROOT, {"/r": folder()})
    plan = planned(facts, namespaces=["mount", "pid", "network"], rootfs="/r",
                   sysctl={"net.ipv4.ip_forward": 1})  # fmt: skip
    assert lines(only(plan, "set net.ipv4"))[0].startswith(
        'openat2(%rootfs, "proc/sys/net/ipv4/ip_forward", '
    )
    order(plan, Track.CHILD, "mount proc on /proc", "set net.ipv4", "make /proc/sys read-only")


# --- the end -------------------------------------------------------------------------------------


def test_supervision_as_the_spec_says() -> None:
    plan = planned(ORDINARY, stop_signal="SIGINT", stop_timeout="3s", timeout="1m")
    (op,) = only(plan, "supervise the command").steps
    assert isinstance(op, Await)
    assert op.stop_signal == Int(2, "SIGINT")
    assert (op.stop_timeout, op.timeout) == (3 * 10**9, 60 * 10**9)
    order(plan, Track.PARENT, "wait for the command to be executed", "supervise the command")


def test_standard_input() -> None:
    assert not has(planned(ORDINARY), "take the standard input")
    closed = planned(ORDINARY, stdin="closed")
    assert "major 1; minor 3" in lines(only(closed, "give no standard input"))[1]
    assert calls_of(closed, "dup3") == ["dup3(%stdin, 0, 0)"]
    held = planned(ORDINARY, stdin="open")
    order(held, Track.PARENT, "hold a standard input open", "start the child")
    # A writing end in the child would keep it from ever seeing the end.
    assert lines(only(held, "leave it to the launcher")) == ["close(%stdin_held)"]
    assert calls_of(held, "dup3") == ["dup3(%stdin, 0, 0)"]
