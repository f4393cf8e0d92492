"""The listing, held as text: it is what people compare."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings

from nsrun.diag import Span
from nsrun.kernel import abi, calls
from nsrun.kernel.values import Call, Int, Reg, RegKind, Str
from nsrun.plan.model import Action, Origin, Plan, Track
from nsrun.plan.ops import Clone, Signal, Wait
from nsrun.render.listing import listing
from tests.support import plans

FULL = """\
plan web    27 steps: 13 parent (p), 14 child (c), 3 syncs    needs root, linux >= 5.15, idmapped tmpfs
spec web.yaml sha256:8ec9b9c7    format 1 x86_64

 ●     p0  %chan, %peer = socketpair(AF_UNIX, SEQPACKET|CLOEXEC, 0)                                ·  control channel
 ●─┐   p1  %child, %pidfd = clone3(NEWNS|NEWUTS|NEWUSER, SIGCHLD)                                 :4  namespaces
 │ ◇   c0  await #mapped                                                                          :5  idmap
 ● ┊   p2  %uid_map = openat(cwd, "/proc/%child/uid_map", WRONLY)                                 :6  idmap.uid
 ● ┊   p3  write(%uid_map, "0 100000 65536\\n")                                                    :6  idmap.uid
 ● ┊   p4  write(%uid_map, "{%child}")                                                            :6  idmap.uid
 ● ┊   p5  close(%uid_map)                                                                        :6  idmap.uid
 ● ┊   p6  spawn(["/usr/bin/newgidmap", "%child", "0", "100000"], stdin="add\\n", timeout=10s)  [or status 3]   :6  idmap.uid
 ●─▶   p7  signal #mapped %child                                                                  :6  idmap.uid
 ● │   p8  rtnl link set ve-web up  [or EEXIST]                                                  :13  network.interfaces[0]
 ● │   p9  sendto(%rtnl, {len=4, filter})                                                        :13  network.interfaces[0]
 │ ●   c1  sethostname("web-1")                                                                   :3  hostname
 │ ●   c2  mount(-, "/", -, REC|PRIVATE, -)                                                        ·  default propagation
 │ ●   c3  %root = open_tree(cwd, "/srv/machines/pro…a/long/name/rootfs", CLONE|RECURSIVE|CLOEXEC)   :2  rootfs · pivot
 │ ●   c4  mount_setattr(%root, -, EMPTY_PATH, {set=RDONLY, userns=%ns})                          :2  rootfs · pivot
 │ ●   c5  %masked = openat2(%root, "proc/kcore", {PATH, IN_ROOT})  [or EEXIST, ENOENT skips]     :2  rootfs · pivot
 │ ●   c6  fstatfs(%masked, {f_type == PROC_SUPER_MAGIC})                                         :2  rootfs · pivot
 │ ●   c7  %fs = fsopen("proc", CLOEXEC)                                                          :9  mounts[0]
 │ ●   c8  fsconfig(%fs, CMD_CREATE)                                                              :9  mounts[0]
 ◀─●   c9  send #pty %master                                                                     :10  tty
 ◇ │  p10  %pty, %inside = receive #pty                                                          :10  tty
 ◀─●  c10  %pid1, %pid1fd = clone3(0, SIGCHLD) hand over #moved                                  :11  namespaces[2]
 │ ●  c11  init: reap orphans, forward signals                                                   :12  init
 ◇ │  p11  %ran = await exec                                                                     :14  command
 ┊ ●  c12  close_range(3, MAX, CLOEXEC)                                                          :14  command
 ◀─■  c13  execve("/bin/busybox", ["httpd", "-f"], 3 variables)                                  :14  command
 ●    p12  %status = supervise(%pidfd, stop=SIGTERM, kill_after=10s, timeout=5m, terminal=%pty)    ·  report

undo, last first:
  p8 rtnl link del ve-web
  p1 pidfd_send_signal(%pidfd, SIGKILL, -, 0) (on failure)
"""  # noqa: E501  # the text as it is printed

BRIEF_ASCII = """\
plan web    27 steps: 13 parent (p), 14 child (c), 3 syncs    needs root, linux >= 5.15, idmapped tmpfs
spec web.yaml sha256:8ec9b9c7    format 1 x86_64

 *     p0  open the control channel                   -  control channel
 *-.   p1  make the namespaces user, mount and uts   :4  namespaces
 | o   c0  wait for the id maps                      :5  idmap
 *->   p2  map uid 0 to 100000                       :6  idmap.uid
 * |   p8  connect eth0                             :13  network.interfaces[0]
 | *   c1  set the host name                         :3  hostname
 | *   c2  make every mount private                   -  default propagation
 | *   c3  enter the root                            :2  rootfs - pivot
 | *   c7  mount proc on /proc                       :9  mounts[0]
 <-*   c9  hand over the terminal                   :10  tty
 o |  p10  take the terminal                        :10  tty
 <-*  c10  become a member of the pid namespace     :11  namespaces[2]
 | *  c11  reap orphans as PID 1                    :12  init
 o |  p11  wait until the command runs              :14  command
 <-#  c12  run the command                          :14  command
 *    p12  wait for its end                           -  report

undo, last first:
  p8 rtnl link del ve-web
  p1 pidfd_send_signal(%pidfd, SIGKILL, -, 0) (on failure)
"""  # noqa: E501  # the text as it is printed


def rows(plan: Plan, **options: bool) -> list[str]:
    """The lines of the steps alone."""
    return [
        line for line in listing(plan, **options).splitlines() if re.match(r".{4,6} +[pc]\d", line)
    ]


def test_every_operation() -> None:
    assert listing(plans.everything()) == FULL


def test_one_line_an_action_in_ascii() -> None:
    assert listing(plans.everything(), brief=True, ascii=True) == BRIEF_ASCII


@pytest.mark.parametrize("brief", [False, True])
def test_ascii_is_ascii(brief: bool) -> None:
    action = plans.child("mount 漢字 on /µ…", plans.implied("·"), calls.chdir("/漢字" * 30))
    text = listing(plans.make_plan(action), ascii=True, brief=brief)
    assert text.isascii()
    assert "  -  -" in text


def test_color_adds_nothing_but_color() -> None:
    plan = plans.everything()
    painted = listing(plan, color=True)
    assert painted != FULL
    plain = re.sub(r"\x1b\[[0-9;]*m", "", painted)
    assert [line.rstrip() for line in plain.splitlines()] == FULL.splitlines()


@pytest.mark.parametrize("ascii", [False, True])
@pytest.mark.parametrize("width", [100, 120])
def test_a_width_is_kept(width: int, ascii: bool) -> None:
    text = listing(plans.everything(), width=width, ascii=ascii)
    lines = text.splitlines()[3:-4]
    assert max(map(len, lines)) <= width
    assert all("supervise(" in line for line in lines if "report" in line)


def test_a_hopeless_width_still_shows_the_calls() -> None:
    assert "sethostname" in listing(plans.everything(), width=1)


def test_an_empty_plan_is_its_header() -> None:
    text = listing(plans.make_plan())
    assert text.splitlines()[0].startswith(
        "plan web    0 steps: 0 parent (p), 0 child (c), 0 syncs"
    )
    assert text.endswith("x86_64\n\n")


def test_many_needs_take_a_line_of_their_own() -> None:
    plan = plans.make_plan()
    needs = type(plan.needs)(
        kernel="5.15", machine="x86_64", root=False, features=("user namespaces",) * 6
    )
    lines = listing(Plan(name="a", source=plan.source, needs=needs, actions=())).splitlines()
    assert lines[2] == "needs linux >= 5.15" + ", user namespaces" * 6


def test_an_undo_that_fits_stands_on_one_line() -> None:
    close = calls.close(Reg("a"))
    actions = [
        plans.parent("a", plans.implied("x"), close, undo=(calls.fchdir(Reg("a")),)),
        plans.parent("b", plans.implied("x"), close, close, undo=(close, close)),
    ]
    last = listing(plans.make_plan(*actions)).splitlines()[-1]
    assert last == "undo, last first:  p1 close(%a)   p1 close(%a)   p0 fchdir(%a)"


def test_a_place_in_another_file_names_it() -> None:
    origin = Origin(span=Span(file="base.yaml", line=7, column=1), path="hostname")
    action = plans.child("x", origin, calls.setsid())
    assert rows(plans.make_plan(action))[0].endswith("base.yaml:7  hostname")


def test_equal_neighbours_are_two_actions() -> None:
    action = plans.child("leave", plans.implied("r"), calls.setsid())
    assert len(rows(plans.make_plan(action, action), brief=True)) == 2


def test_a_process_that_only_holds_is_no_track() -> None:
    hold = Clone(
        flags=Int(0, "0"),
        exit_signal=Int(17, "SIGCHLD"),
        pid=Reg("holder", RegKind.PID),
        pidfd=Reg("holderfd"),
        hold=True,
    )
    action = plans.parent("hold", plans.implied("r"), hold, calls.setsid())
    first, second = rows(plans.make_plan(action))
    assert first.startswith(" ●     p0  %holder, %holderfd = clone3(0, SIGCHLD) hold")
    assert second.startswith(" ●     p1")


def test_a_signal_before_its_wait_does_not_stop_the_track() -> None:
    clone = Clone(
        flags=Int(0, "0"), exit_signal=Int(17, "SIGCHLD"), pid=plans.CHILD, pidfd=plans.PIDFD
    )
    why = plans.implied("r")
    actions = [
        plans.parent("a", why, clone, Signal(sync="go", channel=plans.CHAN), calls.setsid()),
        plans.child("b", why, Wait(sync="go", channel=plans.PEER)),
        plans.parent("c", why, calls.setsid()),
        plans.child("d", why, calls.setsid()),
    ]
    drawn = [row[1:4] for row in rows(plans.make_plan(*actions))]
    assert drawn == ["●─┐", "●─▶", "● │", "│ ◇", "● │", "│ ●"]


@pytest.mark.parametrize(
    "char", ["\x00", "\x1b", "\x7f", "\x9b", "\u202e", "\u2066", "\u2028", "\u200b"]
)
def test_nothing_from_a_spec_acts_on_the_terminal(char: str) -> None:
    dirty = f"a{char}b"
    steps = (
        calls.chdir(dirty),
        calls.execve(dirty, (dirty,), (dirty,)),
        Call(name="close", args=(Int(1, dirty),)),
        calls.sethostname(dirty),
        calls.write(Reg("fd"), dirty.encode(), text=f"<{dirty}>"),
        calls.symlinkat(dirty, calls.CWD, Str(dirty)),
    )
    span = Span(file=f"x{char}.yaml", line=1, column=1)
    origin = Origin(span=span, path=dirty, rule=dirty)
    plan = Plan(
        name=dirty,
        source=type(plans.make_plan().source)(file=dirty, sha256="0" * 64),
        needs=type(plans.make_plan().needs)(
            kernel="5.15", machine="x86_64", root=True, features=(dirty,)
        ),
        actions=(Action(track=Track.CHILD, what=dirty, origin=origin, steps=steps, undo=steps),),
    )
    for brief in (False, True):
        assert char not in listing(plan, brief=brief)
        assert len(listing(plan, brief=brief).splitlines()) == (17 if not brief else 12)


@settings(max_examples=60, deadline=None)
@given(plans.plans)
def test_any_plan_can_be_listed(plan: Plan) -> None:
    text = listing(plan)
    steps = [line for line in text.splitlines() if re.match(r" .{3}  +[pc]\d+  ", line)]
    assert len(steps) == sum(len(action.steps) for action in plan.actions)
    assert text == listing(plan)
    assert listing(plan, ascii=True, width=90).isascii()


def test_flags_keep_what_has_no_name() -> None:
    mode = abi.MountFlag.MS_REC | 0x40000000
    action = plans.child("x", plans.implied("r"), calls.mount(None, "/", None, mode))
    assert 'mount(-, "/", -, REC|0x40000000, -)' in listing(plans.make_plan(action))
