"""verify(): every way in which a plan can be broken is refused, whoever made the plan."""

from __future__ import annotations

import dataclasses
from ipaddress import IPv4Interface, IPv4Network

import pytest

from nsrun.diag import NsrunError
from nsrun.kernel import abi, calls, netlink, sockets
from nsrun.kernel.values import Bytes, Call, Fmt, Hole, Int, Out, Pointer, Reg, RegKind, Str
from nsrun.plan.model import Action, Track
from nsrun.plan.ops import (
    EXEC,
    Await,
    Clone,
    Init,
    Netlink,
    Op,
    ReceiveFd,
    SendFd,
    Signal,
    Spawn,
    Wait,
)
from nsrun.plan.verify import reads, verify, writes
from tests.support.planning import ROOT, planned
from tests.support.plans import implied, make_plan

OUTER, INNER, SIGNALS = Reg("outer"), Reg("inner"), Reg("signals")
CHILD, PIDFD = Reg("child", RegKind.PID), Reg("pidfd")
STATUS = Reg("status", RegKind.NUMBER)
A, B, C = Reg("a"), Reg("b"), Reg("c")
KILL = calls.pidfd_send_signal(PIDFD, Int(9, "SIGKILL"))
EXECVE = calls.execve("/bin/true", ("true",), ())
CLOEXEC = abi.OpenFlag.O_CLOEXEC


def p(*steps: Op, undo: tuple[Op, ...] = (), what: str = "act") -> Action:
    return Action(
        track=Track.PARENT, what=what, origin=implied("test"), steps=steps, undo=undo
    )


def c(*steps: Op, undo: tuple[Op, ...] = (), what: str = "act") -> Action:
    return dataclasses.replace(p(*steps, undo=undo, what=what), track=Track.CHILD)


def opened(save: Reg, path: str = "/x", flags: abi.OpenFlag = CLOEXEC) -> Call:
    return calls.openat(calls.CWD, path, flags, save=save)


CLONE = Clone(flags=Int(0), exit_signal=Int(17), pid=CHILD, pidfd=PIDFD)
BEGIN = (
    p(sockets.socketpair(first=OUTER, second=INNER), opened(SIGNALS)),
    p(CLONE, undo=(KILL,)),
)
RUN = c(EXECVE)
END = (
    p(Wait(sync=EXEC, channel=OUTER)),
    p(
        Await(
            child=CHILD,
            pidfd=PIDFD,
            signals=SIGNALS,
            status=STATUS,
            stop_signal=Int(15),
            stop_timeout=0,
        )
    ),
)


def problems(*middle: Action, run: Action = RUN, begin: tuple[Action, ...] = BEGIN) -> list[str]:
    """What is wrong with a usual start that has ``middle`` before its end."""
    try:
        verify(make_plan(*begin, *middle, run, *END))
    except NsrunError as error:
        assert {d.code for d in error.diagnostics} == {"NS405"}
        return [d.summary for d in error.diagnostics]
    return []


def test_the_usual_frame_is_sound() -> None:
    assert problems() == []


# --- registers -----------------------------------------------------------------------------------


def test_a_register_that_nothing_writes() -> None:
    assert problems(c(calls.close(A))) == ["step c0 reads %a, which nothing has written"]


def test_a_register_that_is_written_too_late() -> None:
    assert problems(c(calls.close(A), opened(A))) == [
        "step c0 reads %a, which nothing has written"
    ]


def test_a_register_of_the_other_track() -> None:
    """What the parent opens after the clone is no descriptor of the child, nor the reverse."""
    assert problems(p(opened(A)), c(calls.close(A))) == [
        "step c0 reads %a, which nothing has written"
    ]
    assert problems(c(opened(A)), p(calls.close(A))) == [
        "step p3 reads %a, which nothing has written"
    ]


def test_the_child_has_what_the_parent_had_at_the_clone_but_not_itself() -> None:
    early = (*BEGIN[:1], p(opened(A)), BEGIN[1])
    assert problems(c(calls.close(A)), begin=early) == []
    assert problems(c(calls.close(PIDFD))) == ["step c0 reads %pidfd, which nothing has written"]


def test_a_holder_is_no_child_track() -> None:
    holder = Clone(
        flags=Int(0), exit_signal=Int(17), pid=Reg("h", RegKind.PID), pidfd=B, hold=True
    )
    kill = (calls.pidfd_send_signal(B, Int(9)),)
    begin = (BEGIN[0], BEGIN[1], p(opened(A)), p(holder, undo=kill))
    assert problems(c(calls.close(A)), begin=begin) == [
        "step c0 reads %a, which nothing has written"
    ]


def test_a_register_that_is_written_twice() -> None:
    assert problems(c(opened(A), opened(A))) == ["step c1 writes %a again (c0 has)"]
    assert problems(c(opened(A)), p(opened(A))) == ["step p3 writes %a again (c0 has)"]


def test_a_register_of_another_kind() -> None:
    as_pid = calls.openat(
        calls.CWD, Fmt(("/proc/", Reg("a", RegKind.PID), "/ns")), CLOEXEC, save=B
    )
    assert problems(c(opened(A), as_pid)) == ["step c1 reads %a as pid, it is fd"]


INSIDE = Bytes(bytes(16), "", (), (Pointer(8, Bytes(bytes(8), "", (Hole(0, 4, A),))),))
OPERATIONS: list[tuple[Op, set[str], set[str]]] = [
    (Call(name="close", args=(A,)), {"a"}, set()),
    (Call(name="openat", args=(A, Fmt(("x", B))), save=C), {"a", "b"}, {"c"}),
    (Call(name="fsconfig", args=(A, INSIDE), log=B), {"a", "b"}, set()),
    (Call(name="pipe2", args=(Out(8, (Hole(0, 4, A), Hole(4, 4, B))),)), set(), {"a", "b"}),
    (Call(name="write", args=(Int(1), Bytes(bytes(4), "", (Hole(0, 4, A),)))), {"a"}, set()),
    (dataclasses.replace(CLONE, channel=A), {"a"}, {"child", "pidfd"}),
    (Signal(sync="s", channel=A, value=B), {"a", "b"}, set()),
    (Wait(sync="s", channel=A, save=B, signals=C), {"a", "c"}, {"b"}),
    (SendFd(sync="s", channel=A, fd=B), {"a", "b"}, set()),
    (ReceiveFd(sync="s", channel=A, save=B, value=C, signals=SIGNALS), {"a", "signals"},
     {"b", "c"}),
    (Netlink(socket=A, message=Bytes(bytes(4), "", (Hole(0, 4, B),))), {"a", "b"}, set()),
    (Spawn(argv=(Str("x"), Fmt((A,))), stdin=Fmt(("{", B, "}"))), {"a", "b"}, set()),
    (Init(channel=A), {"a"}, set()),
    (Await(child=CHILD, pidfd=A, signals=B, status=STATUS, stop_signal=Int(15), stop_timeout=0,
           terminal=C), {"child", "a", "b", "c"}, {"status"}),
]  # fmt: skip


@pytest.mark.parametrize(("op", "read", "written"), OPERATIONS)
def test_the_registers_of_each_operation(op: Op, read: set[str], written: set[str]) -> None:
    assert {reg.name for reg in reads(op)} == read
    assert {reg.name for reg in writes(op)} == written


# --- syncs ---------------------------------------------------------------------------------------


def sends(channel: Reg, *names: str) -> list[Op]:
    return [Signal(sync=name, channel=channel) for name in names]


def waits(channel: Reg, *names: str) -> list[Op]:
    return [Wait(sync=name, channel=channel) for name in names]


def test_a_signal_that_nobody_waits_for() -> None:
    (found,) = problems(p(*sends(OUTER, "mapped")))
    assert found == "the parent sends #mapped, the child waits for nothing"


def test_a_wait_that_nobody_ends() -> None:
    assert problems(c(*waits(INNER, "mapped"))) == [
        "the parent sends nothing, the child waits for #mapped",
        "the two tracks wait for each other",
    ]


def test_syncs_in_another_order() -> None:
    """Messages arrive in the order they were sent: one of another name is a fault."""
    found = problems(p(*sends(OUTER, "one", "two")), c(*waits(INNER, "two", "one")))
    assert found == ["the parent sends #one, #two, the child waits for #two, #one"]


def test_tracks_that_wait_for_each_other() -> None:
    found = problems(
        p(*waits(OUTER, "ready"), *sends(OUTER, "go")),
        c(*waits(INNER, "go"), *sends(INNER, "ready")),
    )
    assert found == ["the two tracks wait for each other"]


def test_a_parent_that_holds_up_the_exec_it_waits_for() -> None:
    """`go` is sent only after the execve that waits for it."""
    actions = (*BEGIN, c(*waits(INNER, "go")), RUN, END[0], p(*sends(OUTER, "go")), END[1])
    with pytest.raises(NsrunError) as caught:
        verify(make_plan(*actions))
    assert [d.summary for d in caught.value.diagnostics] == ["the two tracks wait for each other"]


def test_descriptors_are_syncs_too() -> None:
    hand_over = Clone(
        flags=Int(0), exit_signal=Int(0), pid=Reg("i", RegKind.PID), pidfd=Reg("ifd"),
        hand_over=True, sync="cloned", channel=INNER,
    )  # fmt: skip
    take = ReceiveFd(sync="cloned", channel=OUTER, save=A)
    assert problems(c(hand_over), p(take)) == []
    assert problems(c(hand_over)) == ["the child sends #cloned, the parent waits for nothing"]
    send = SendFd(sync="tree", channel=OUTER, fd=A)
    assert problems(p(opened(A), send)) == ["the parent sends #tree, the child waits for nothing"]


# --- the end -------------------------------------------------------------------------------------


def test_a_step_after_the_execve() -> None:
    assert problems(run=c(EXECVE, calls.setsid())) == ["step c1 follows the command's execve"]
    after = (*BEGIN, RUN, c(EXECVE, what="again"), *END)
    with pytest.raises(NsrunError) as caught:
        verify(make_plan(*after))
    assert [d.summary for d in caught.value.diagnostics] == ["step c1 follows the command's execve"]


def test_candidates_of_one_search_follow_each_other() -> None:
    search = calls.allow(EXECVE, accept=("ENOENT",))
    assert problems(run=c(search, EXECVE)) == []
    assert problems(run=c(EXECVE, search)) == [
        "step c1 lets the child go on after a failed execve"
    ]


def test_a_child_without_execve() -> None:
    found = problems(run=c(calls.setsid()))
    assert found == ["the child's track does not end in execve"]


def test_the_parent_may_become_the_command_itself() -> None:
    verify(make_plan(p(EXECVE)))
    verify(make_plan(p(calls.allow(EXECVE, accept=("ENOENT",)), EXECVE)))
    with pytest.raises(NsrunError, match="step p1 follows the command's execve"):
        verify(make_plan(p(EXECVE), p(opened(A))))
    with pytest.raises(NsrunError, match="step p0 lets the parent go on after a failed execve"):
        verify(make_plan(p(calls.allow(EXECVE, accept=("ENOENT",)))))


OWN_MOUNTS = calls.unshare(abi.CloneFlag.CLONE_NEWNS)
MOUNT = calls.mount("x", "/x", "sysfs", 0)


def propagation(how: abi.MountFlag, path: str = "/") -> Call:
    return calls.mount(None, path, None, int(how))


@pytest.mark.parametrize("how", [abi.MountFlag.MS_SLAVE, abi.MountFlag.MS_PRIVATE])
def test_what_is_mounted_in_a_mount_namespace_of_its_own_ends_with_it(how: abi.MountFlag) -> None:
    verify(make_plan(p(OWN_MOUNTS, propagation(abi.MountFlag.MS_REC | how)), p(MOUNT)))


@pytest.mark.parametrize(
    "steps",
    [
        # Without a namespace of its own, with one from which mounts propagate, or in part.
        (propagation(abi.MountFlag.MS_REC | abi.MountFlag.MS_SLAVE), MOUNT),
        (calls.unshare(abi.CloneFlag.CLONE_NEWNET), MOUNT),
        (OWN_MOUNTS, MOUNT),
        (OWN_MOUNTS, propagation(abi.MountFlag.MS_SLAVE), MOUNT),
        (OWN_MOUNTS, propagation(abi.MountFlag.MS_REC | abi.MountFlag.MS_SHARED), MOUNT),
        (OWN_MOUNTS, propagation(abi.MountFlag.MS_REC | abi.MountFlag.MS_SLAVE, "/x"), MOUNT),
        # Too late for what was mounted before.
        (OWN_MOUNTS, MOUNT, propagation(abi.MountFlag.MS_REC | abi.MountFlag.MS_SLAVE)),
    ],
)
def test_a_mount_that_others_may_see_is_undone(steps: tuple[Call, ...]) -> None:
    assert problems(p(*steps)) == ["'act' does mount on the host and does not undo it"]


def test_a_plan_of_the_parent_alone() -> None:
    verify(make_plan(p(calls.umount2("/x", abi.UmountFlag.MNT_DETACH))))


# --- undo ----------------------------------------------------------------------------------------

CREATE = abi.OpenFlag.O_CREAT | CLOEXEC
VISIBLE = [
    (calls.bind("/a", "/b"), "mount"),
    (calls.move_mount(A, "", calls.CWD, "/b", abi.MoveMountFlag(4)), "move_mount"),
    (calls.mkdirat(A, "b", 0o755), "mkdirat"),
    (calls.mknodat(A, "b", abi.FileType.S_IFREG), "mknodat"),
    (calls.symlinkat("x", A, "b"), "symlinkat"),
    (calls.openat(calls.CWD, "/b", CREATE, 0o644, save=B), "openat"),
]


@pytest.mark.parametrize(("op", "name"), VISIBLE, ids=[name for _, name in VISIBLE])
def test_what_the_parent_leaves_on_the_host_is_undone(op: Op, name: str) -> None:
    assert problems(p(opened(A), op)) == [f"'act' does {name} on the host and does not undo it"]
    undo = (calls.unlinkat(calls.CWD, "/b"),)
    assert problems(p(opened(A), op, undo=undo)) == []
    # The child's mounts and namespaces end with it.
    assert problems(c(opened(A), op)) == []


RTNL, INDEX = Reg("rtnl"), Reg("index", RegKind.IFINDEX)
OUT, IN = netlink.End(name="ve-web"), netlink.End(name="eth0", pid=CHILD)
HOME = netlink.End(name="eth0", netns=B)
STRANGER = netlink.End(name="eth0", pid=Reg("other", RegKind.PID))
STAYS = {
    "a pair": netlink.veth_add(OUT, IN),
    "a pair that is up": netlink.veth_add(dataclasses.replace(OUT, up=True), IN),
    "a bridge": netlink.link_add(OUT, "bridge"),
    "a macvlan": netlink.link_add(OUT, "macvlan", parent=INDEX),
    "one in a namespace that is there": netlink.link_add(HOME, "dummy"),
    "one in a namespace of another process": netlink.link_add(STRANGER, "dummy"),
    "one that moves in": netlink.link_move(INDEX, IN),
    "one that moves elsewhere": netlink.link_move(INDEX, HOME),
}
GOES = {
    "a macvlan in the container": netlink.link_add(IN, "macvlan", parent=INDEX),
    "a vlan in the container": netlink.link_add(IN, "vlan", parent=INDEX, tag=7),
    "a pair in the container": netlink.veth_add(IN, IN),
    "what is brought up": netlink.link_up(INDEX),
    "what joins a bridge": netlink.link_join(INDEX, INDEX),
    "what is deleted": netlink.link_delete(INDEX, "ve-web"),
    "an address": netlink.address_add(INDEX, IPv4Interface("10.0.0.1/24"), "ve-web"),
    "a route": netlink.route_add(IPv4Network("10.0.0.0/24"), via="10.0.0.1"),
    "no message at all": Bytes(bytes(12)),
    "a message that ends in its header": Bytes(netlink.veth_add(OUT, IN).value[:15]),
}
FOUND = p(
    opened(RTNL),
    opened(B),
    sockets.bound_interface(RTNL, save=INDEX),
    Call(name="getpid", args=(), save=Reg("other", RegKind.PID)),
)


@pytest.mark.parametrize("message", STAYS.values(), ids=STAYS.keys())
def test_a_link_that_stays_outside_is_undone(message: Bytes) -> None:
    made = Netlink(socket=RTNL, message=message)
    assert problems(FOUND, p(made)) == [
        f"'act' does {message.text} on the host and does not undo it"
    ]
    gone = Netlink(socket=RTNL, message=netlink.link_delete(INDEX, "ve-web"))
    assert problems(FOUND, p(made, undo=(gone,))) == []


@pytest.mark.parametrize("message", GOES.values(), ids=GOES.keys())
def test_what_goes_with_the_container_or_is_no_link_needs_no_undoing(message: Bytes) -> None:
    assert problems(FOUND, p(Netlink(socket=RTNL, message=message))) == []


@pytest.mark.parametrize("name", ["a bridge", "a macvlan"])
def test_the_childs_own_links_end_with_it(name: str) -> None:
    found = (opened(A), sockets.bound_interface(A, save=INDEX))
    assert problems(c(*found, Netlink(socket=A, message=STAYS[name]))) == []


def test_every_plan_of_a_pair_is_held_to_it() -> None:
    """The planner's own: without its undo steps each such plan is refused."""
    interfaces = [
        {"name": "eth0", "type": "veth"},
        {"name": "eth1", "type": "veth", "peer": {"netns": "/run/netns/blue"}},
        {"name": "eth2", "type": "physical", "parent": "up0"},
    ]
    made = planned(ROOT, namespaces=["network"], network={"interfaces": interfaces})
    forgetful = [
        dataclasses.replace(action, undo=())
        if any(isinstance(op, Netlink) for op in action.steps)
        else action
        for action in made.actions
    ]
    with pytest.raises(NsrunError) as caught:
        verify(dataclasses.replace(made, actions=tuple(forgetful)))
    assert [d.summary.split("'")[1].split(",")[0] for d in caught.value.diagnostics] == [
        "make the veth ve-spec",
        "make the veth ve-spec+1 there",
        "move up0 into the container as eth2",
    ]


def test_a_child_that_nobody_kills() -> None:
    begin = (BEGIN[0], p(CLONE))
    assert problems(begin=begin) == ["'act' does clone3 on the host and does not undo it"]


def test_the_child_undoes_nothing() -> None:
    assert problems(c(opened(A), undo=(calls.close(A),))) == [
        "'act' of the child has undo steps, which only the parent runs"
    ]


def test_undo_reads_what_nothing_has_written() -> None:
    assert problems(p(undo=(calls.close(A),))) == [
        "undoing 'act' reads %a, which nothing has written by then"
    ]
    assert problems(p(undo=(opened(A), calls.close(A)))) == []


def test_undo_reads_what_only_a_later_action_writes() -> None:
    """The run may fail in between: undoing would meet a register that was never set."""
    assert problems(p(undo=(calls.close(A),)), p(opened(A))) == [
        "undoing 'act' reads %a, which nothing has written by then"
    ]
    assert problems(p(opened(A)), p(undo=(calls.close(A),))) == []


def test_undo_reads_a_register_as_another_kind() -> None:
    undo = (calls.close(Reg("child", RegKind.FD)),)
    assert problems(p(undo=undo)) == ["undoing 'act' reads %child as fd, it is pid"]


def test_everything_is_told_at_once() -> None:
    found = problems(
        p(calls.bind("/a", "/b")), c(calls.close(A)), p(*sends(OUTER, "x")), run=c(calls.setsid())
    )
    assert len(found) == 4
