"""What a plan makes of the process that becomes the command: its filters, sets, ids and labels."""

from __future__ import annotations

import posixpath
import struct
from dataclasses import dataclass, field

from nsrun.kernel.observed import ONCE
from nsrun.kernel.values import Arg, Bytes, Call, Fmt, Int, Str
from nsrun.plan.labels import planned_labels
from nsrun.plan.model import Action, Track
from nsrun.plan.ops import Init, Op, Spawn

_HELPERS = {"newuidmap": "uid_map", "newgidmap": "gid_map"}


@dataclass(slots=True)
class Running:
    """``forked``: whether the command is a child of the container's first process. ``filters``: who
    has set one of seccomp(2), in their order. ``permitted``: a bit mask of the capabilities that it
    starts with. ``once``: by a name of ONCE the text; ``labels``: by security module what the
    command is called, and ``walls``: who has set rules of Landlock."""

    forked: bool = False
    filters: list[Action] = field(default_factory=list)
    permitted: tuple[int, Action] | None = None
    uid: tuple[int, Action] | None = None
    gid: tuple[int, Action] | None = None
    groups: tuple[frozenset[int], Action] | None = None
    once: dict[str, tuple[str, Action]] = field(default_factory=dict)
    labels: dict[str, tuple[str, Action]] = field(default_factory=dict)
    walls: list[Action] = field(default_factory=list)


class Process:
    """The process of a plan while it is read."""

    def __init__(self) -> None:
        self.running = Running()
        self._files: dict[str, str] = {}

    def step(self, op: Op, action: Action, sure: bool) -> None:
        match op:
            case Init():
                self.running.forked = True
            case Spawn():
                self._map(op, action)
            case Call() if op.name in ("openat", "openat2", "write"):
                self._file(op, action)
            case Call() if action.track is Track.CHILD and sure and not op.accept:
                self._call(op, action)
            case _:
                pass

    def label(self, action: Action) -> None:
        """Of an action as a whole: what it is called says what it writes."""
        profile, selinux = planned_labels((action,))
        if profile is not None:
            self.running.labels["apparmor"] = (profile, action)
        if selinux.label is not None:
            self.running.labels["selinux"] = (selinux.label, action)

    def _map(self, op: Spawn, action: Action) -> None:
        words = [word.value for word in op.argv if isinstance(word, Str)]
        name = _HELPERS.get(posixpath.basename(words[0])) if words else None
        if name is not None:
            self.running.once[name] = (" ".join(words[1:]), action)

    def _file(self, call: Call, action: Action) -> None:
        if call.name != "write":
            name = _name(call.args[1])
            if call.save is not None and name in ONCE:
                self._files[call.save.name] = name
            return
        fd, data = call.args[0], call.args[1]
        name = self._files.get(getattr(fd, "name", ""), "")
        if name and isinstance(data, Bytes):
            self.running.once[name] = (data.value.decode("utf-8", "surrogateescape"), action)

    def _call(self, call: Call, action: Action) -> None:
        args, running = call.args, self.running
        match call.name:
            case "seccomp":
                running.filters.append(action)
            case "landlock_restrict_self":
                running.walls.append(action)
            case "capset" if isinstance(args[1], Bytes):
                _, low, _, _, high, _ = struct.unpack_from("=6I", args[1].value)
                running.permitted = (low | high << 32, action)
            case "setresuid" if isinstance(args[0], Int):
                running.uid = (args[0].value, action)
            case "setresgid" if isinstance(args[0], Int):
                running.gid = (args[0].value, action)
            case "setgroups" if isinstance(args[0], Int) and isinstance(args[1], Bytes):
                found = struct.unpack_from(f"={args[0].value}I", args[1].value)
                running.groups = (frozenset(found), action)
            case _:
                pass


def _name(path: Arg) -> str:
    """The last part of a path, also of one with a pid in it."""
    if isinstance(path, Fmt):
        last = path.parts[-1]
        return posixpath.basename(last) if isinstance(last, str) else ""
    return posixpath.basename(path.value) if isinstance(path, Str) else ""
