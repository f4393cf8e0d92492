"""What a plan has made of a container once it runs: read off its steps, as a replay goes on.

Each thing has its action, whose place in the spec is told where it is no longer so.
"""

from __future__ import annotations

import posixpath
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from nsrun.kernel import abi
from nsrun.kernel.observed import nft_rules
from nsrun.kernel.values import Arg, Bytes, Call, Fmt, Int, Out, Reg, Str
from nsrun.plan.expected_groups import Groups
from nsrun.plan.expected_mounts import Mount, Mounts
from nsrun.plan.expected_network import Networks, Wire
from nsrun.plan.expected_process import Process, Running
from nsrun.plan.launch import CLONE_FLAGS, PROC_NAMES
from nsrun.plan.model import Action, Plan, Track
from nsrun.plan.ops import Clone, Netlink, Op, ReceiveFd, SendFd, Spawn

# The files of a control group that are no limits, or that read otherwise than they are written.
_NO_LIMITS = ("cgroup.procs", "cgroup.subtree_control", "devices.allow", "devices.deny")
_SIFFLAGS_NAME = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """What was written to a file; ``sure``: whether it must have been."""

    path: str
    text: str
    action: Action
    sure: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """A namespace that was entered by its file, and its name in /proc/PID/ns."""

    kind: str
    path: str
    action: Action


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table of nft; ``rules``: how many its text has."""

    program: str
    name: str
    rules: int
    action: Action


@dataclass(slots=True)
class Expected:
    """``made``: namespaces by their names in /proc/PID/ns. ``dropped``: capabilities that are in
    no bounding set; ``limits``: hard ones by RLIMIT_ number. ``others``: whether programs have
    furnished the network that no plan looks into."""

    made: dict[str, Action] = field(default_factory=dict)
    joined: list[Joined] = field(default_factory=list)
    mounts: tuple[Mount, ...] = ()
    has_root: bool = False
    networks: Networks = field(default_factory=Networks)
    hostname: tuple[str, Action] | None = None
    domainname: tuple[str, Action] | None = None
    sysctls: dict[str, Text] = field(default_factory=dict)
    files: dict[str, Text] = field(default_factory=dict)
    oom: Text | None = None
    limits: dict[int, tuple[int | None, Action]] = field(default_factory=dict)
    dropped: dict[int, Action] = field(default_factory=dict)
    no_new_privs: Action | None = None
    running: Running = field(default_factory=Running)
    groups: Groups = field(default_factory=Groups)
    tables: list[Table] = field(default_factory=list)
    others: bool = False


def expected(plan: Plan) -> Expected:
    """What must be there while the plan's command runs."""
    reader = _Reader()
    for action in plan.actions:
        reader.sure = True
        reader.process.label(action)
        for op in action.steps:
            reader.step(op, action)
            reader.process.step(op, action, reader.sure)
            if isinstance(op, (Call, Netlink)) and op.skip:
                reader.sure = False
    found = reader.found
    found.mounts = reader.mounts.standing()
    found.has_root = reader.mounts.pivoted
    found.networks = reader.wire.networks
    found.running = reader.process.running
    return found


_Handler = Callable[["_Reader", Call, Action], None]


class _Reader:
    def __init__(self) -> None:
        self.found = Expected()
        self.mounts = Mounts()
        self.wire = Wire()
        self.process = Process()
        # Whether no step before this one may have ended the action.
        self.sure = True
        self._paths: dict[str, str] = {}
        self._groups: set[str] = set()
        self._sent: dict[str, Reg] = {}

    def step(self, op: Op, action: Action) -> None:
        match op:
            case Clone():
                self._make(op.flags.value, action)
            case Netlink():
                self.wire.message(op, action, self.sure)
            case Spawn():
                self._spawn(op, action)
            case SendFd():
                self._sent[op.sync] = op.fd
            case ReceiveFd() if op.sync in self._sent:
                self.mounts.same(self._sent[op.sync], op.save)
            case Call():
                self._call(op, action)
            case _:
                pass

    def _make(self, flags: int, action: Action) -> None:
        for kind, flag in CLONE_FLAGS.items():
            if flags & flag:
                self.found.made[PROC_NAMES[kind]] = action

    def _spawn(self, op: Spawn, action: Action) -> None:
        words = [word.value for word in op.argv if isinstance(word, Str)]
        program = posixpath.basename(words[0]) if words else ""
        if program == "nft" and isinstance(op.stdin, Bytes):
            table = _table(words[0], op.stdin.value.decode("utf-8", "surrogateescape"), action)
            if table is not None:
                self.found.tables.append(table)
        elif program not in ("newuidmap", "newgidmap"):
            self.found.others = True

    def _call(self, call: Call, action: Action) -> None:
        self._open(call, action)
        self.wire.call(call, action)
        self.mounts.call(call, action, self.sure)
        handler = _CALLS.get(call.name)
        if handler is not None:
            handler(self, call, action)

    # --- files -------------------------------------------------------------------------------

    def _open(self, call: Call, action: Action) -> None:
        if call.name not in ("openat", "openat2") or call.save is None:
            return
        where, path = call.args[0], _path(call.args[1])
        if isinstance(where, Reg):
            above = self._paths.get(where.name) or self.mounts.path_of(where)
            if above is None or path is None:
                return
            path = posixpath.join(above, path)
            if where.name in self._groups:
                self._groups.add(call.save.name)
        if path is not None:
            self._paths[call.save.name] = path
            if action.track is Track.PARENT:
                self.found.groups.opened(path, action)

    def fstatfs(self, call: Call, action: Action) -> None:
        fd, out = call.args[0], call.args[1]
        if isinstance(fd, Reg) and isinstance(out, Out) and out.text.startswith("CGROUP"):
            self._groups.add(fd.name)

    def write(self, call: Call, action: Action) -> None:
        fd, data = call.args[0], call.args[1]
        path = self._paths.get(fd.name) if isinstance(fd, Reg) else None
        if path is None or not isinstance(data, Bytes) or not isinstance(fd, Reg):
            return
        sure = self.sure and not call.accept
        value = data.value.decode("utf-8", "surrogateescape")
        text = Text(path=path, text=value, action=action, sure=sure)
        inside = action.track is Track.CHILD
        if path == "/proc/self/oom_score_adj":
            self.found.oom = text
        elif path.startswith("/proc/sys/"):
            (self.found.sysctls if inside else self.found.files)[path] = text
        elif fd.name in self._groups:
            self.found.groups.written(path, value, action)
            if posixpath.basename(path) not in _NO_LIMITS:
                self.found.files[path] = text

    # --- the process -------------------------------------------------------------------------

    def unshare(self, call: Call, action: Action) -> None:
        if isinstance(call.args[0], Int) and action.track is Track.CHILD:
            self._make(call.args[0].value, action)

    def setns(self, call: Call, action: Action) -> None:
        fd, kind = call.args[0], call.args[1]
        if action.track is not Track.CHILD or not isinstance(fd, Reg) or not isinstance(kind, Int):
            return
        path = self._paths.get(fd.name)
        for known, flag in CLONE_FLAGS.items():
            if path is not None and kind.value == flag and path.startswith("/"):
                name = PROC_NAMES[known]
                self.found.joined.append(Joined(kind=name, path=path, action=action))

    def sethostname(self, call: Call, action: Action) -> None:
        self.found.hostname = (_text(call.args[0]), action)

    def setdomainname(self, call: Call, action: Action) -> None:
        self.found.domainname = (_text(call.args[0]), action)

    def prlimit(self, call: Call, action: Action) -> None:
        number, limit = call.args[1], call.args[2]
        if isinstance(number, Int) and isinstance(limit, Bytes):
            _, hard = struct.unpack_from("=QQ", limit.value)
            most = None if hard == abi.RLIM_INFINITY else hard
            self.found.limits[number.value] = (most, action)

    def prctl(self, call: Call, action: Action) -> None:
        option, value = call.args[0], call.args[1]
        if not isinstance(option, Int) or not isinstance(value, Int):
            return
        if option.value == abi.Prctl.PR_CAPBSET_DROP and not call.accept:
            self.found.dropped[value.value] = action
        elif option.value == abi.Prctl.PR_SET_NO_NEW_PRIVS:
            self.found.no_new_privs = action

    def bpf(self, call: Call, action: Action) -> None:
        self.found.groups.bpf(call, action, self._paths)

    def ioctl(self, call: Call, action: Action) -> None:
        request = call.args[1]
        if isinstance(request, Int) and request.value == abi.Ioctl.SIOCSIFFLAGS:
            name = _text(call.args[2])[:_SIFFLAGS_NAME].rstrip("\0")
            self.wire.lift(name, action)


_CALLS: dict[str, _Handler] = {
    "fstatfs": _Reader.fstatfs,
    "write": _Reader.write,
    "unshare": _Reader.unshare,
    "setns": _Reader.setns,
    "sethostname": _Reader.sethostname,
    "setdomainname": _Reader.setdomainname,
    "prlimit64": _Reader.prlimit,
    "prctl": _Reader.prctl,
    "bpf": _Reader.bpf,
    "ioctl": _Reader.ioctl,
}


def _path(arg: Arg) -> str | None:
    """None for one that holds a number known only then."""
    if isinstance(arg, Fmt):
        return None
    return arg.value if isinstance(arg, Str) else None


def _text(arg: Arg) -> str:
    return arg.value.decode("utf-8", "surrogateescape") if isinstance(arg, Bytes) else ""


def _table(program: str, text: str, action: Action) -> Table | None:
    first = text.split()
    if first[:3] != ["create", "table", "inet"] or len(first) < 4:
        return None
    return Table(program=program, name=first[3], rules=nft_rules(text), action=action)
