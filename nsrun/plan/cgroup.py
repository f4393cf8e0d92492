"""The container's control group: made and limited by the launcher, entered by the child.

The child enters as its first act, by writing 0 to files that the launcher has opened: so it
counts there before anything of the payload runs, and before its own id maps, which would take it
the right to. What it forks later is born inside.

Sources: cgroups(7), the kernel's Documentation/admin-guide/{cgroup-v1,cgroup-v2.rst}.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from nsrun.kernel import abi, calls
from nsrun.kernel.abi import (
    AtFlag,
    BpfAttachFlag,
    BpfAttachType,
    BpfProgType,
    CloneFlag,
    Magic,
    OpenFlag,
)
from nsrun.kernel.facts import GROUP_PREFIX, CgroupFolder, Facts, MapLine
from nsrun.kernel.values import Reg, Str
from nsrun.plan.device_program import DeviceRule, device_program
from nsrun.plan.draft import Draft
from nsrun.plan.model import MEMORY_LIMIT, UndoWhen
from nsrun.plan.ops import Op, Spawn
from nsrun.spec.model import CPU_PERIOD, IoLimit, NamespaceType, Resources, Spec

# A controller of cgroup v2 that has another name in version 1.
_V1_NAMES = {"io": "blkio"}
# null zero full random urandom tty, ptmx, and the terminals of devpts (devices.txt).
_USUAL_DEVICES = ("1:3", "1:5", "1:7", "1:8", "1:9", "5:0", "5:2", "136:*")
# user_namespaces(7): what uid_map says in the first one.
_ALL_IDS = (MapLine(inside=0, outside=0, size=4294967295),)
# Kernel, version 1: where nothing is given, 1024 shares; the weight of version 2 is then 100.
_SHARES, _WEIGHT = 1024, 100
_SHARES_MIN, _SHARES_MAX = 2, 262144
# What killed processes are given to leave their group, in nanoseconds.
_DYING = 100_000_000
# The files that hold a group to an amount of memory.
_MEMORY_FILES = ("memory.limit_in_bytes", "memory.max")
# mm/memcontrol-v1.c: "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n", the first two of one digit.
_OOM_KILL_AT = 40
# More than memory.events and memory.oom_control have, in bytes.
_COUNTS_MAX = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A text that is written to a file of the group, and the place in the spec that wants it."""

    file: str
    text: str
    at: str
    rule: str = ""


@dataclass(slots=True, kw_only=True)
class Group:
    """The container's group in one hierarchy. ``devices``: the rules of version 2, which are no
    file there; None without any."""

    folder: CgroupFolder
    is_v2: bool
    at: str
    controllers: list[str] = field(default_factory=list)
    limits: list[Limit] = field(default_factory=list)
    devices: tuple[DeviceRule, ...] | None = None


def group_name(container: str) -> str:
    """The name of a container's control group in each hierarchy."""
    return GROUP_PREFIX + container


def make_groups(draft: Draft, facts: Facts, notify: str = "") -> tuple[Reg, ...]:
    """The launcher's part; the registers of what :func:`enter` writes to. ``notify``: the socket
    in the folder of a container that is left running, where its end is told; "" for none."""
    entered = [_open_joined(draft, path) for path in draft.spec.cgroups]
    resources = draft.spec.resources or Resources()
    groups = groups_for(draft, facts, resources)
    folder = notify.rpartition("/")[0]
    if draft.spec.resources is not None:
        _add_freezer(facts, groups)
    return (*entered, *(_make(draft, facts, group, folder) for group in groups))


def enter(draft: Draft, entered: tuple[Reg, ...]) -> None:
    """The child's part."""
    if not entered:
        return
    for procs in entered:
        draft.parent("keep no control group open", calls.close(procs), rule="no descriptor leaks")
    at = next((key for key in ("resources", "devices") if key in draft.spec.spans), "")
    draft.child(
        "enter the control group",
        *(op for procs in entered for op in (calls.write(procs, b"0"), calls.close(procs))),
        at=at,
        rule="" if at else "the container's control group",
    )


def new_namespace(draft: Draft) -> None:
    """A cgroup namespace, whose root is the group that the process is in when it is made."""
    number = next(
        n for n, one in enumerate(draft.spec.namespaces) if one.type is NamespaceType.CGROUP
    )
    draft.child(
        "make a cgroup namespace with the control group as its root",
        calls.unshare(CloneFlag.CLONE_NEWCGROUP),
        at=f"namespaces[{number}]",
    )


# --- where, and what ---------------------------------------------------------------------------


def narrows_devices(spec: Spec) -> bool:
    """Whether a device may be less than read and written: only device rules can say so."""
    return any(not {"r", "w"} <= set(device.permissions) for device in spec.devices)


def groups_for(
    draft: Draft, facts: Facts, resources: Resources, *, inherit: bool = True
) -> list[Group]:
    """Each hierarchy that limits something, and what is written there; what this machine cannot
    limit is refused. ``inherit``: a new cpuset gets what it needs to be entered."""
    made: dict[str, Group] = {}
    wants = [
        *_memory(resources),
        *_processes(resources),
        *_devices(draft, facts, resources),
        *_pages(resources),
        *_unified(resources),
    ]
    for controller, v1, v2 in wants:
        at = (v1 or v2)[0].at
        found = _folder(facts, controller, v2_alone=not v1)
        if found is None:
            _refuse_controller(draft, facts, controller, at, v2_alone=not v1)
            continue
        folder, is_v2 = found
        if at == "resources.memory_swap" and not is_v2 and resources.memory is None:
            draft.refuse(
                "NS318",
                "`memory_swap` without `memory`",
                at,
                "add `memory`",
                why="cgroup version 1 limits swap only together with memory",
            )
        group = made.setdefault(folder.path, Group(folder=folder, is_v2=is_v2, at=at))
        if controller not in group.controllers:
            group.controllers.append(controller)
            if inherit and controller == "cpuset" and not is_v2:
                group.limits += _inherited_cpuset(folder, resources)
        group.limits += v2 if is_v2 else v1
    if narrows_devices(draft.spec):
        _narrow_devices(draft, facts, made)
    return list(made.values())


def _add_freezer(facts: Facts, groups: list[Group]) -> None:
    """Version 1 has what stops a whole group in a hierarchy of its own; version 2 in each group.

    By it `pause` and the end of a whole tree reach what has left the tree of processes. Where the
    container has a group of version 2 already, or none at all, nothing is added.
    """
    found = facts.cgroups
    folder = found.v1.get("freezer") if found is not None else None
    if not groups or folder is None or not folder.writable or any(g.is_v2 for g in groups):
        return
    if all(group.folder.path != folder.path for group in groups):
        groups.append(Group(folder=folder, is_v2=False, at="resources", controllers=["freezer"]))


Want = tuple[str, list[Limit], list[Limit]]


def _memory(resources: Resources) -> Iterator[Want]:
    memory, swap = resources.memory, resources.memory_swap
    if memory is not None:
        at = "resources.memory"
        yield (
            "memory",
            [Limit(file="memory.limit_in_bytes", text=str(memory), at=at)],
            [Limit(file="memory.max", text=str(memory), at=at)],
        )
    if swap is not None:
        at = "resources.memory_swap"
        # Version 1 counts both together, and takes no less than the memory alone.
        both = str((memory or 0) + swap)
        yield (
            "memory",
            [Limit(file="memory.memsw.limit_in_bytes", text=both, at=at)],
            [Limit(file="memory.swap.max", text=str(swap), at=at)],
        )


def _processes(resources: Resources) -> Iterator[Want]:
    if resources.pids is not None:
        pids = [Limit(file="pids.max", text=str(resources.pids), at="resources.pids")]
        yield "pids", pids, pids
    quota, weight = resources.cpu_quota, resources.cpu_weight
    if quota is not None:
        at = "resources.cpus"
        yield (
            "cpu",
            [
                Limit(file="cpu.cfs_period_us", text=str(CPU_PERIOD), at=at),
                Limit(file="cpu.cfs_quota_us", text=str(quota), at=at),
            ],
            [Limit(file="cpu.max", text=f"{quota} {CPU_PERIOD}", at=at)],
        )
    if weight is not None:
        at = "resources.cpu_weight"
        shares = min(max(weight * _SHARES // _WEIGHT, _SHARES_MIN), _SHARES_MAX)
        yield (
            "cpu",
            [Limit(file="cpu.shares", text=str(shares), at=at)],
            [Limit(file="cpu.weight", text=str(weight), at=at)],
        )
    for name, text in (("cpus", resources.cpus), ("mems", resources.mems)):
        if text is not None:
            limit = [Limit(file=f"cpuset.{name}", text=text, at=f"resources.cpuset.{name}")]
            yield "cpuset", limit, limit


def _inherited_cpuset(folder: CgroupFolder, resources: Resources) -> list[Limit]:
    """Kernel: no process enters a cpuset of version 1 without processors or memory nodes."""
    missing = (("cpus", resources.cpus, folder.cpus), ("mems", resources.mems, folder.mems))
    return [
        Limit(file=f"cpuset.{name}", text=own, at="resources.cpuset", rule="as the caller's own")
        for name, given, own in missing
        if given is None
    ]


def _narrow_devices(draft: Draft, facts: Facts, made: dict[str, Group]) -> None:
    """Rules of version 1 where its hierarchy is there: then version 2 is the machine's for other
    things. Else a program, which only who may load it can have."""
    rules = _device_rules(draft, facts)
    found = facts.cgroups
    old = found.v1.get("devices") if found is not None else None
    new = found.v2 if found is not None else None
    folder = old or new
    if folder is None:
        _refuse_controller(draft, facts, "devices", "devices", v2_alone=False)
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
    is_first = facts.uid_map == _ALL_IDS
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


def _devices(draft: Draft, facts: Facts, resources: Resources) -> Iterator[Want]:
    for limit in resources.io:
        fact = facts.paths.get(limit.device)
        if fact is None or not fact.block:
            draft.refuse(
                "NS305",
                f"{limit.device} is no block device",
                f"{limit.path}.device",
                why="" if fact is None or not fact.missing_part else "it does not exist",
            )
            continue
        yield "io", _io_v1(limit, fact.block), [_io_v2(limit, fact.block)]


def _io_v1(limit: IoLimit, device: str) -> list[Limit]:
    files = {
        "read_bps": "blkio.throttle.read_bps_device",
        "write_bps": "blkio.throttle.write_bps_device",
        "read_iops": "blkio.throttle.read_iops_device",
        "write_iops": "blkio.throttle.write_iops_device",
    }
    return [
        Limit(file=file, text=f"{device} {value}", at=f"{limit.path}.{key}")
        for key, file in files.items()
        if (value := getattr(limit, key)) is not None
    ]


def _io_v2(limit: IoLimit, device: str) -> Limit:
    names = {"read_bps": "rbps", "write_bps": "wbps", "read_iops": "riops", "write_iops": "wiops"}
    words = [
        f"{name}={value}"
        for key, name in names.items()
        if (value := getattr(limit, key)) is not None
    ]
    return Limit(file="io.max", text=" ".join((device, *words)), at=limit.path)


def _pages(resources: Resources) -> Iterator[Want]:
    for size, most in resources.hugepages.items():
        at = f"resources.hugepages.{size}"
        yield (
            "hugetlb",
            [Limit(file=f"hugetlb.{size}.limit_in_bytes", text=str(most), at=at)],
            [Limit(file=f"hugetlb.{size}.max", text=str(most), at=at)],
        )


def _unified(resources: Resources) -> Iterator[Want]:
    for file, text in resources.unified.items():
        at = f'resources.unified["{file}"]'
        yield file.partition(".")[0], [], [Limit(file=file, text=text, at=at)]


def _folder(facts: Facts, controller: str, *, v2_alone: bool) -> tuple[CgroupFolder, bool] | None:
    found = facts.cgroups
    if found is None:
        return None
    if found.v2 is not None and controller in found.v2.controllers:
        return found.v2, True
    old = found.v1.get(_V1_NAMES.get(controller, controller))
    return (old, False) if old is not None and not v2_alone else None


def _refuse_controller(
    draft: Draft, facts: Facts, controller: str, at: str, *, v2_alone: bool
) -> None:
    on_v1 = facts.cgroups is not None and controller in facts.cgroups.v1
    why = "neither cgroup v2 nor a hierarchy of version 1 has it where the caller is"
    if v2_alone and on_v1:
        why = "this machine has it in a hierarchy of version 1, and `unified` is of cgroup v2"
    helps = ("leave `permissions` away, or give `rw`",) if controller == "devices" else ()
    draft.refuse("NS401", f"there is no controller `{controller}` here", at, *helps, why=why)


# --- steps -------------------------------------------------------------------------------------


def _make(draft: Draft, facts: Facts, group: Group, ends: str) -> Reg:
    folder = group.folder
    if not folder.writable:
        _refuse_folder(draft, facts, group)
    name = group_name(draft.spec.name)
    what = "cgroup" if group.is_v2 else f"{group.controllers[0]}_cgroup"
    base, own, procs = draft.reg(f"{what}_base"), draft.reg(what), draft.reg(f"{what}_procs")
    magic = Magic.CGROUP2_SUPER_MAGIC if group.is_v2 else Magic.CGROUP_SUPER_MAGIC
    place = OpenFlag.O_PATH | OpenFlag.O_DIRECTORY | OpenFlag.O_NOFOLLOW | OpenFlag.O_CLOEXEC
    draft.parent(
        f"open {folder.path}",
        calls.openat(calls.CWD, folder.path, place, save=base),
        calls.fstatfs(base, magic),
        at=group.at,
    )
    if group.is_v2:
        _give_on(draft, group, base)
    removed = calls.unlinkat(base, name, AtFlag.AT_REMOVEDIR)
    draft.parent(
        f"make the control group {folder.path}/{name}",
        # What a killed run has left is empty; one that runs is not, and stays (EBUSY).
        calls.allow(removed, accept=("ENOENT",)),
        calls.mkdirat(base, name, 0o755),
        at=group.at,
        undo=(
            *(_kill_all(draft, base, name) if group.is_v2 else ()),
            # Who has just been killed is in it a little longer.
            calls.allow(removed, accept=("ENOENT", "EBUSY")),
            calls.allow(removed, accept=("EBUSY",), skip=("ENOENT",)),
            calls.wait_a_moment(_DYING),
            calls.allow(removed, accept=("ENOENT",)),
        ),
        undo_when=UndoWhen.END,
    )
    draft.parent(
        "open it",
        calls.openat(base, name, place, save=own),
        calls.openat(own, "cgroup.procs", OpenFlag.O_WRONLY | OpenFlag.O_CLOEXEC, save=procs),
        at=group.at,
    )
    for limit in group.limits:
        draft.parent(
            _words(limit),
            *write_file(draft, own, limit.file, limit.text),
            at=limit.at,
            rule=limit.rule,
        )
    if group.devices is not None:
        _attach_rules(draft, group.devices, own)
    if "memory" in group.controllers:
        _watch_memory(draft, facts, group, own, ends)
    return procs


def _watch_memory(draft: Draft, facts: Facts, group: Group, own: Reg, ends: str) -> None:
    """How many processes the kernel has ended for want of memory is looked at when all have
    ended, before the group goes: a count that is not 0 is told as a failed undo step. ``ends``:
    the folder of a container that is left running, which keeps what the kernel had counted.
    """
    resources = draft.spec.resources or Resources()
    at = next((one.at for one in group.limits if one.file in _MEMORY_FILES), group.at)
    limit = f" {_size(resources.memory)}" if resources.memory is not None else ""
    name = "memory.events" if group.is_v2 else "memory.oom_control"
    counts = draft.reg("oom_counts")
    steps: list[Op] = [calls.openat(own, name, OpenFlag.O_CLOEXEC, save=counts)]
    undo: list[Op] = []
    if ends:
        kept = draft.reg("oom_kept")
        made = OpenFlag.O_WRONLY | OpenFlag.O_CREAT | OpenFlag.O_TRUNC | OpenFlag.O_NOFOLLOW
        steps.append(
            calls.openat(calls.CWD, f"{ends}/oom", made | OpenFlag.O_CLOEXEC, mode=0o600, save=kept)
        )
        undo.append(calls.sendfile_whole(kept, counts, _COUNTS_MAX))
    grep = facts.helpers.get("grep")
    if not group.is_v2:
        undo.append(calls.read_digit_zero(counts, _OOM_KILL_AT, "oom_kill 0"))
    elif grep is not None:
        # Where the count stands in the text depends on those before it.
        path = f"{group.folder.path}/{group_name(draft.spec.name)}/{name}"
        undo.append(Spawn(argv=(Str(grep), Str("-qx"), Str("oom_kill 0"), Str(path))))
    draft.parent(f"{MEMORY_LIMIT}{limit}", *steps, at=at, undo=tuple(undo), undo_when=UndoWhen.END)


def _size(size: int) -> str:
    """``32m``, as a spec has it."""
    for unit, word in ((1 << 30, "g"), (1 << 20, "m"), (1 << 10, "k")):
        if size and not size % unit:
            return f"{size // unit}{word}"
    return str(size)


def _attach_rules(draft: Draft, rules: tuple[DeviceRule, ...], own: Reg) -> None:
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


def _words(limit: Limit) -> str:
    if limit.file == "devices.deny":
        return "forbid every device"
    if limit.file == "devices.allow":
        return f"allow the device {limit.text}"
    return f"limit {limit.file} to {limit.text}"


def _kill_all(draft: Draft, base: Reg, name: str) -> tuple[Op, ...]:
    """Whatever is in it still: also what has left the container's own process tree."""
    fd = draft.reg("kill")
    opened = calls.openat(
        base, f"{name}/cgroup.kill", OpenFlag.O_WRONLY | OpenFlag.O_CLOEXEC, save=fd
    )
    return (
        # ENOENT: a kernel before 5.14 has no such file.
        calls.allow(opened, skip=("ENOENT",)),
        calls.write(fd, b"1"),
        calls.close(fd),
    )


def _give_on(draft: Draft, group: Group, base: Reg) -> None:
    """Kernel: a cgroup of version 2 has the controllers that the one above gives on. It stays so:
    others below may have come to count on it."""
    missing = [name for name in group.controllers if name not in group.folder.enabled]
    if missing:
        draft.parent(
            f"give on the controllers {', '.join(missing)}",
            *write_file(draft, base, "cgroup.subtree_control", " ".join(f"+{n}" for n in missing)),
            at=group.at,
        )


def write_file(draft: Draft, folder: Reg, file: str, text: str) -> list[Op]:
    """The steps that write ``text`` to a file of the group open in ``folder``."""
    fd = draft.reg(file)
    return [
        calls.openat(folder, file, OpenFlag.O_WRONLY | OpenFlag.O_CLOEXEC, save=fd),
        calls.write(fd, text.encode()),
        calls.close(fd),
    ]


def _open_joined(draft: Draft, path: str) -> Reg:
    """The file by which a group of another container is entered."""
    procs = draft.reg("procs")
    draft.parent(
        f"open the control group {path}",
        calls.openat(
            calls.CWD,
            f"{path}/cgroup.procs",
            OpenFlag.O_WRONLY | OpenFlag.O_CLOEXEC | OpenFlag.O_NOFOLLOW,
            save=procs,
        ),
        rule="the container's control group",
    )
    return procs


def _refuse_folder(draft: Draft, facts: Facts, group: Group) -> None:
    folder = group.folder
    root = abi.Capability.CAP_SYS_ADMIN in facts.permitted
    helps = (
        ("mount the hierarchy for writing",)
        if root
        else ("let systemd delegate one: systemd-run --user --scope -p Delegate=yes nsrun ...",)
        if group.is_v2
        else ("run it as root: systemd delegates nothing of cgroup version 1",)
    )
    draft.refuse(
        "NS402",
        f"no control group can be made in {folder.path}",
        group.at,
        *helps,
        why=f"it belongs to uid {folder.owner}, and uid {facts.uid} may not write to it"
        if not root
        else "it cannot be written to",
    )
