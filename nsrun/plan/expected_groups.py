"""The control groups that a plan puts the container into, and what it may do with devices there."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, field

from nsrun.kernel.abi import BpfCommand
from nsrun.kernel.values import Bytes, Call, Int
from nsrun.plan.model import Action


@dataclass(slots=True)
class Groups:
    """By the folder of a group: who has opened it to be entered; of version 1 what is allowed, by a
    rule (``c 1:3 rwm``), where everything else is forbidden; of version 2 who has attached
    programs for devices."""

    entered: dict[str, Action] = field(default_factory=dict)
    devices: dict[str, dict[str, Action]] = field(default_factory=dict)
    programs: dict[str, list[Action]] = field(default_factory=dict)

    def opened(self, path: str, action: Action) -> None:
        """A file or folder of a control group."""
        folder, _, file = path.rpartition("/")
        if file == "cgroup.procs":
            self.entered[folder] = action

    def written(self, path: str, text: str, action: Action) -> None:
        folder, file = posixpath.split(path)
        if (file, text.strip()) == ("devices.deny", "a"):
            self.devices[folder] = {}
        elif file == "devices.allow" and folder in self.devices:
            self.devices[folder][" ".join(text.split())] = action

    def bpf(self, call: Call, action: Action, paths: dict[str, str]) -> None:
        """``paths``: of descriptors, by their registers."""
        command, attr = call.args[0], call.args[1]
        if not isinstance(command, Int) or command.value != BpfCommand.BPF_PROG_ATTACH:
            return
        holes = attr.holes if isinstance(attr, Bytes) else ()
        for target in (hole.reg.name for hole in holes if hole.offset == 0):
            if target in paths:
                self.programs.setdefault(paths[target], []).append(action)
