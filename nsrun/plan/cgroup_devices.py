"""What a container may do with devices: rules of cgroup version 1, or a program of version 2.

Sources: the kernel's Documentation/admin-guide/cgroup-v1/devices.rst and cgroup-v2.rst, "Device
controller".
"""

from __future__ import annotations

from nsrun.kernel import abi, calls
from nsrun.kernel.abi import BpfAttachFlag, BpfAttachType, BpfProgType
from nsrun.kernel.facts import ALL_IDS, Facts
from nsrun.kernel.values import Reg
from nsrun.plan.cgroup_limits import Group, Limit, refuse_controller
from nsrun.plan.device_program import DeviceRule, device_program
from nsrun.plan.draft import Draft
from nsrun.spec.model import Spec

# null zero full random urandom tty, ptmx, and the terminals of devpts (devices.txt).
_USUAL_DEVICES = ("1:3", "1:5", "1:7", "1:8", "1:9", "5:0", "5:2", "136:*")


def narrows_devices(spec: Spec) -> bool:
    """Whether a device may be less than read and written: only device rules can say so."""
    return any(not {"r", "w"} <= set(device.permissions) for device in spec.devices)


def narrow_devices(draft: Draft, facts: Facts, made: dict[str, Group]) -> None:
    """Add the rules to ``made``, the groups by their folder. They are rules of version 1 where its
    hierarchy is there: then version 2 is the machine's for other things. Else a program, which
    only who may load it can have."""
    rules = _device_rules(draft, facts)
    found = facts.cgroups
    old = found.v1.get("devices") if found is not None else None
    new = found.v2 if found is not None else None
    folder = old or new
    if folder is None:
        refuse_controller(draft, facts, "devices", "devices", v2_alone=False)
        return
    group = made.setdefault(folder.path, Group(folder=folder, is_v2=old is None, at="devices"))
    if old is None:
        _require_programs(draft, facts)
        group.devices = tuple(rule for rule, _ in rules)
        return
    group.controllers.append("devices")
    # Kernel, version 1: everything is forbidden, and what a rule allows adds up.
    group.limits.append(Limit(file="devices.deny", text="a", at="devices"))
    group.limits += [Limit(file="devices.allow", text=str(rule), at=at) for rule, at in rules]


def _device_rules(draft: Draft, facts: Facts) -> list[tuple[DeviceRule, str]]:
    """What is allowed, and the place in the spec that wants it."""
    given: dict[tuple[str, str], tuple[DeviceRule, str]] = {}
    for device in draft.spec.devices:
        fact = facts.paths.get(device.source)
        if fact is not None and (fact.block or fact.character):
            kind, numbers = ("b", fact.block) if fact.block else ("c", fact.character)
            rule = DeviceRule(kind=kind, numbers=numbers, access=device.permissions)
            given[kind, numbers] = (rule, device.path)
    usual = [
        (DeviceRule(kind="c", numbers=numbers, access="rwm"), "devices")
        for numbers in _USUAL_DEVICES
        if ("c", numbers) not in given
    ]
    return [*usual, *given.values()]


def _require_programs(draft: Draft, facts: Facts) -> None:
    """Kernel: CAP_BPF and CAP_NET_ADMIN, or CAP_SYS_ADMIN, in the first user namespace. Another
    that maps as many ids as the first is taken for it here, and refused by the kernel."""
    needed = {abi.Capability.CAP_BPF, abi.Capability.CAP_NET_ADMIN}
    held = abi.Capability.CAP_SYS_ADMIN in facts.permitted or needed <= facts.permitted
    is_first = facts.uid_map == ALL_IDS
    if held and is_first:
        return
    without = f"uid {facts.uid} does not have"
    if held:
        without = "the caller has in a user namespace only"
    draft.refuse(
        "NS402",
        "device rules of cgroup v2 are not permitted",
        "devices",
        "leave `permissions` away, or give `rw`",
        why=f"their program needs CAP_BPF and CAP_NET_ADMIN, which {without}",
    )


def attach_rules(draft: Draft, rules: tuple[DeviceRule, ...], own: Reg) -> None:
    """The group holds the program, so that no undo is needed: it goes with it."""
    program = draft.reg("device_rules")
    draft.parent(
        f"forbid every device but {', '.join(map(str, rules))}",
        calls.bpf_prog_load(
            BpfProgType.BPF_PROG_TYPE_CGROUP_DEVICE,
            device_program(rules),
            "nsrun_devices",
            save=program,
        ),
        calls.bpf_prog_attach(
            own, program, BpfAttachType.BPF_CGROUP_DEVICE, BpfAttachFlag.BPF_F_ALLOW_MULTI
        ),
        calls.close(program),
        at="devices",
    )
