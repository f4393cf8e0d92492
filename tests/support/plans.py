"""Plans for tests: one by hand that uses every operation and argument, and strategies."""

from __future__ import annotations

import dataclasses
import errno
import struct

from hypothesis import strategies as st

from nsrun.diag import Span
from nsrun.kernel import abi, calls, sockets
from nsrun.kernel.values import (
    NULL,
    Bytes,
    Call,
    Expect,
    Fmt,
    Hole,
    Int,
    Length,
    Out,
    Pointer,
    Reg,
    RegKind,
    Str,
    Strings,
)
from nsrun.plan.model import Action, Needs, Origin, Plan, Source, Track, UndoWhen
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

FILE = "web.yaml"
SHA256 = "8ec9b9c7" + "0" * 56

CHAN, PEER = Reg("chan"), Reg("peer")
CHILD, PIDFD = Reg("child", RegKind.PID), Reg("pidfd")
ROOT, FS, MASTER, SIGNALS, RTNL = (Reg(n) for n in ("root", "fs", "master", "signals", "rtnl"))
STATUS = Reg("status", RegKind.NUMBER)
INDEX = Reg("veth", RegKind.IFINDEX)


def at(line: int, path: str, rule: str = "") -> Origin:
    return Origin(span=Span(file=FILE, line=line, column=3), path=path, rule=rule)


def implied(rule: str) -> Origin:
    return Origin(rule=rule)


def parent(what: str, origin: Origin, *steps: Op, undo: tuple[Op, ...] = ()) -> Action:
    return Action(track=Track.PARENT, what=what, origin=origin, steps=steps, undo=undo)


def child(what: str, origin: Origin, *steps: Op) -> Action:
    return Action(track=Track.CHILD, what=what, origin=origin, steps=steps)


def make_plan(*actions: Action, name: str = "web") -> Plan:
    return Plan(
        name=name,
        source=Source(file=FILE, sha256=SHA256),
        needs=Needs(kernel="5.15", machine="x86_64", root=True, features=("idmapped tmpfs",)),
        actions=actions,
    )


def namespaces_of(*names: str) -> Int:
    value = sum(abi.CloneFlag[name] for name in names)
    return Int(value, abi.flag_text(value, abi.CloneFlag))


LINK_UP = Netlink(
    socket=RTNL,
    message=Bytes(
        bytes(32),
        "rtnl link set ve-web up",
        (Hole(20, 4, INDEX),),
        (),
    ),
    accept=("EEXIST",),
)

LOOKUP = Call(
    name="sendto",
    args=(
        RTNL,
        Bytes(struct.pack("=QQ", 4, 0), "{len=4, filter}", (), (Pointer(8, Bytes(b"\x06\0\0\0")),)),
        Int(16),
    ),
)


def everything() -> Plan:
    """A plan with every operation and every form of argument, sound enough to be listed."""
    undo_child = Call(name="pidfd_send_signal", args=(PIDFD, Int(9, "SIGKILL"), NULL, Int(0)))
    clone = Clone(
        flags=namespaces_of("CLONE_NEWUSER", "CLONE_NEWNS", "CLONE_NEWUTS"),
        exit_signal=Int(17, "SIGCHLD"),
        pid=CHILD,
        pidfd=PIDFD,
    )
    uid_map = Reg("uid_map")
    inside = Reg("inside", RegKind.PID)
    pid1, pid1fd = Reg("pid1", RegKind.PID), Reg("pid1fd")
    return make_plan(
        parent(
            "open the control channel",
            implied("control channel"),
            sockets.socketpair(first=CHAN, second=PEER),
        ),
        dataclasses.replace(
            parent(
                "make the namespaces user, mount and uts",
                at(4, "namespaces"),
                clone,
                undo=(undo_child,),
            ),
            undo_when=UndoWhen.FAILURE,
        ),
        child("wait for the id maps", at(5, "idmap"), Wait(sync="mapped", channel=PEER)),
        parent(
            "map uid 0 to 100000",
            at(6, "idmap.uid"),
            calls.openat(
                calls.CWD, Fmt(("/proc/", CHILD, "/uid_map")), abi.OpenFlag.O_WRONLY, save=uid_map
            ),
            calls.write(uid_map, b"0 100000 65536\n"),
            calls.write(uid_map, Fmt(("{", CHILD, "}"))),
            calls.close(uid_map),
            Spawn(
                argv=(Str("/usr/bin/newgidmap"), Fmt((CHILD,)), Str("0"), Str("100000")),
                env=("PATH=/usr/bin",),
                stdin=Bytes(b"add\n", "add\n"),
                success=(0, 3),
                timeout=10_000_000_000,
            ),
            Signal(sync="mapped", channel=CHAN, value=CHILD),
        ),
        parent(
            "connect eth0",
            at(13, "network.interfaces[0]"),
            LINK_UP,
            LOOKUP,
            undo=(Netlink(socket=RTNL, message=Bytes(b"\1", "rtnl link del ve-web")),),
        ),
        child("set the host name", at(3, "hostname"), calls.sethostname("web-1")),
        child(
            "make every mount private",
            implied("default propagation"),
            calls.mount(None, "/", None, abi.MountFlag.MS_REC | abi.MountFlag.MS_PRIVATE),
        ),
        child(
            "enter the root",
            at(2, "rootfs", "pivot"),
            calls.open_tree(
                calls.CWD,
                "/srv/machines/production/web/with/a/long/name/rootfs",
                abi.OpenTreeFlag.OPEN_TREE_CLONE
                | abi.OpenTreeFlag.AT_RECURSIVE
                | abi.OpenTreeFlag.OPEN_TREE_CLOEXEC,
                save=ROOT,
            ),
            calls.mount_setattr(
                ROOT,
                "",
                abi.AtFlag.AT_EMPTY_PATH,
                attr_set=abi.MountAttr.MOUNT_ATTR_RDONLY,
                userns=Reg("ns"),
            ),
            calls.allow(
                calls.openat2(
                    ROOT,
                    "proc/kcore",
                    abi.OpenFlag.O_PATH,
                    abi.ResolveFlag.RESOLVE_IN_ROOT,
                    save=Reg("masked"),
                ),
                skip=("ENOENT",),
                accept=("EEXIST",),
            ),
            calls.fstatfs(Reg("masked"), abi.Magic.PROC_SUPER_MAGIC),
        ),
        child(
            "mount proc on /proc",
            at(9, "mounts[0]"),
            calls.fsopen("proc", save=FS),
            calls.fsconfig_create(FS),
        ),
        child("hand over the terminal", at(10, "tty"), SendFd(sync="pty", channel=PEER, fd=MASTER)),
        parent(
            "take the terminal",
            at(10, "tty"),
            ReceiveFd(sync="pty", channel=CHAN, save=Reg("pty"), value=inside, signals=SIGNALS),
        ),
        child(
            "become a member of the pid namespace",
            at(11, "namespaces[2]"),
            Clone(
                flags=Int(0, "0"),
                exit_signal=Int(17, "SIGCHLD"),
                pid=pid1,
                pidfd=pid1fd,
                hand_over=True,
                sync="moved",
                channel=PEER,
            ),
        ),
        child("reap orphans as PID 1", at(12, "init"), Init(channel=PEER)),
        parent(
            "wait until the command runs",
            at(14, "command"),
            Wait(sync=EXEC, channel=CHAN, save=Reg("ran", RegKind.NUMBER), signals=SIGNALS),
        ),
        child(
            "run the command",
            at(14, "command"),
            calls.close_range(3, abi.UINT_MAX, abi.CloseRangeFlag.CLOSE_RANGE_CLOEXEC),
            calls.execve("/bin/busybox", ("httpd", "-f"), ("A=1", "B=2", "C=3")),
        ),
        parent(
            "wait for its end",
            implied("report"),
            Await(
                child=CHILD,
                pidfd=PIDFD,
                signals=SIGNALS,
                status=STATUS,
                stop_signal=Int(15, "SIGTERM"),
                stop_timeout=10_000_000_000,
                timeout=300_000_000_000,
                terminal=Reg("pty"),
            ),
        ),
    )


# --- strategies --------------------------------------------------------------------------------

_names = st.from_regex(r"[a-z_][a-z0-9_.-]{0,8}", fullmatch=True)
# Every register's kind follows from its name, so that one name never has two kinds.
_KINDS = list(RegKind)


def _reg(name: str) -> Reg:
    return Reg(name, _KINDS[sum(name.encode()) % len(_KINDS)])


def regs(*kinds: RegKind) -> st.SearchStrategy[Reg]:
    """Registers of one of these kinds, or of any: made for it, not thrown away until one fits."""
    if not kinds:
        return _names.map(_reg)
    return st.builds(_reg_of, _names, st.sampled_from(kinds))


def _reg_of(name: str, kind: RegKind) -> Reg:
    return next(reg for reg in (_reg(name + last) for last in "abcd") if reg.kind is kind)


_undecodable = st.integers(0xDC80, 0xDCFF).map(chr)
texts = st.text(st.one_of(st.characters(codec="utf-8"), _undecodable), max_size=12)
_no_nul = st.characters(codec="utf-8", exclude_characters="\0")
strings = st.text(st.one_of(_no_nul, _undecodable), max_size=12)
_numbers = st.integers(-(2**63), 2**64 - 1)
ints = st.builds(Int, _numbers, st.one_of(st.just(""), texts))
_errnos = st.lists(st.sampled_from(sorted(errno.errorcode.values())), max_size=3).map(tuple)


def _join(parts: list[str | Reg]) -> Fmt:
    """A format as it is read back: neighbouring texts are one, none is empty."""
    joined: list[str | Reg] = []
    for part in parts:
        if isinstance(part, str) and joined and isinstance(joined[-1], str):
            joined[-1] += part
        elif part != "":
            joined.append(part)
    return Fmt(tuple(joined))


_parts = st.one_of(strings, st.sampled_from(["{", "}", "{{"]), regs())
fmts = st.lists(_parts, max_size=5).map(_join)
_sizes = st.sampled_from([1, 2, 4, 8])


@st.composite
def _holes(draw: st.DrawFn, size: int) -> tuple[Hole, ...]:
    found = []
    for width in draw(st.lists(_sizes, max_size=2)):
        if width <= size:
            found.append(Hole(draw(st.integers(0, size - width)), width, draw(regs())))
    return tuple(found)


@st.composite
def buffers(draw: st.DrawFn, depth: int = 2) -> Bytes:
    value = draw(st.binary(max_size=24))
    pointers: tuple[Pointer, ...] = ()
    if depth and len(value) >= 8 and draw(st.booleans()):
        pointers = (Pointer(len(value) - 8, draw(buffers(depth - 1))),)
    return Bytes(value, draw(texts), draw(_holes(len(value))), pointers)


@st.composite
def outs(draw: st.DrawFn) -> Out:
    size = draw(st.integers(8, 4096))
    words = st.integers(0, 2**64 - 1)
    expect = st.builds(
        Expect,
        st.integers(0, size - 8),
        _sizes,
        words,
        words,
        texts,
        st.sampled_from(["fail", "skip"]),
    )
    expects = tuple(draw(st.lists(expect, max_size=2)))
    return Out(size, draw(_holes(size)), expects, draw(texts))


args = st.one_of(
    ints,
    strings.map(Str),
    fmts,
    fmts.map(Length),
    regs(),
    buffers(),
    outs(),
    st.lists(strings, max_size=3).map(lambda values: Strings(tuple(values))),
)
_fds, _pids = regs(RegKind.FD), regs(RegKind.PID)
_optional_reg = st.none() | regs()
_optional_fd = st.none() | _fds
_times = st.integers(0, 2**63 - 1)

ops: st.SearchStrategy[Op] = st.one_of(
    st.builds(
        Call,
        name=st.sampled_from(sorted(abi.syscall_names())),
        args=st.lists(args, max_size=6).map(tuple),
        save=_optional_reg,
        result=st.none() | st.integers(-(2**63), 2**63 - 1),
        accept=_errnos,
        skip=_errnos,
        log=_optional_fd,
    ),
    st.builds(
        Clone,
        flags=ints,
        exit_signal=ints,
        pid=_pids,
        pidfd=_fds,
        hand_over=st.booleans(),
        hold=st.booleans(),
        sync=st.just("") | _names,
        channel=_optional_fd,
    ),
    st.builds(Signal, sync=_names, channel=_fds, value=_optional_reg),
    st.builds(Wait, sync=_names, channel=_fds, save=_optional_reg, signals=_optional_fd),
    st.builds(SendFd, sync=_names, channel=_fds, fd=_fds),
    st.builds(
        ReceiveFd, sync=_names, channel=_fds, save=_fds, value=_optional_reg, signals=_optional_fd
    ),
    st.builds(Netlink, socket=_fds, message=buffers(), accept=_errnos, skip=_errnos),
    st.builds(
        Spawn,
        argv=st.lists(strings.map(Str) | fmts, max_size=3).map(tuple),
        env=st.lists(strings, max_size=2).map(tuple),
        stdin=st.none() | buffers() | fmts,
        success=st.lists(st.integers(0, 255), max_size=3).map(tuple),
        timeout=_times,
    ),
    st.builds(Init, channel=_fds),
    st.builds(
        Await,
        child=_pids,
        pidfd=_fds,
        signals=_fds,
        status=regs(RegKind.NUMBER),
        stop_signal=ints,
        stop_timeout=_times,
        timeout=_times,
        terminal=_optional_fd,
    ),
)

_spans = st.builds(Span, file=texts, line=st.integers(1, 10_000), column=st.integers(1, 10_000))
origins = st.builds(Origin, span=st.none() | _spans, path=texts, rule=texts)
actions = st.builds(
    Action,
    track=st.sampled_from(Track),
    what=texts,
    origin=origins,
    steps=st.lists(ops, max_size=3).map(tuple),
    undo=st.lists(ops, max_size=1).map(tuple),
    undo_when=st.sampled_from(UndoWhen),
)
_plan_names = st.from_regex(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,12}", fullmatch=True)
plans = st.builds(
    Plan,
    name=_plan_names,
    source=st.builds(Source, file=texts, sha256=st.binary(min_size=32, max_size=32).map(bytes.hex)),
    needs=st.builds(
        Needs,
        kernel=st.from_regex(r"[0-9]{1,2}\.[0-9]{1,2}", fullmatch=True),
        machine=st.sampled_from(["x86_64", "aarch64"]),
        root=st.booleans(),
        features=st.lists(texts, max_size=2).map(tuple),
    ),
    actions=st.lists(actions, max_size=4).map(tuple),
    format=st.just(1),
)
