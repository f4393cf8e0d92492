"""How much of the host a spec leaves open: ``nsrun explain SPEC --security``.

A list of small rules on the spec, and on which modules of the host label processes. Each that
applies adds its points, from 0.1 (hardly matters) to 3 (root of the host); together they are the
exposure, 0 to 10. The points say what to look at first; they are no proof.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from nsrun.kernel.abi import Capability
from nsrun.plan.security import DEFAULT, numbers
from nsrun.spec.model import (
    IdMap,
    Mount,
    NamespaceType,
    SeccompProfile,
    Spec,
)

MOST = 10.0
# From which exposure on a word is used.
WORDS = ((7.0, "open"), (4.0, "exposed"), (2.0, "medium"), (0.0, "tight"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """``at``: the place in the spec that says it, or the key that would; ``points`` of exposure."""

    points: float
    at: str
    what: str
    tighter: str


Rule = Callable[[Spec], Iterator[Finding]]


def review(
    spec: Spec, modules: frozenset[str] = frozenset(), *, uid: int = 1000
) -> tuple[Finding, ...]:
    """Everything that could be tighter, the worst first. ``modules``: which of "apparmor" and
    "selinux" are in force on the host; ``uid``: the caller's, who runs it."""
    found = [finding for rule in _RULES for finding in rule(spec)]
    found += _kept_ids(spec, uid)
    found += _labels(spec, modules)
    return tuple(sorted(found, key=lambda one: (-one.points, one.at, one.what)))


def exposure(findings: Iterable[Finding]) -> float:
    """0 to 10."""
    return round(min(sum(finding.points for finding in findings), MOST), 1)


def word(points: float) -> str:
    return next(text for least, text in WORDS if points >= least)


# --- namespaces --------------------------------------------------------------------------------

_SHARED = {
    NamespaceType.MOUNT: (1.5, "the mounts of the caller can be changed"),
    NamespaceType.NETWORK: (
        0.8, "the network of the caller is shared, with its abstract sockets and ports"
    ),
    NamespaceType.PID: (0.6, "the processes of the caller are seen, and can be sent signals"),
    NamespaceType.IPC: (0.3, "shared memory and queues of the caller are in reach"),
    NamespaceType.UTS: (0.1, "the host name is the caller's"),
    NamespaceType.CGROUP: (0.1, "the paths of the caller's control groups are seen"),
}  # fmt: skip


def _namespaces(spec: Spec) -> Iterator[Finding]:
    for kind, (points, what) in _SHARED.items():
        found = spec.namespace(kind)
        if found is None:
            tighter = f"add `{kind.value}` to `namespaces`"
            yield Finding(points=points, at="namespaces", what=what, tighter=tighter)
        elif found.joined:
            at = f"namespaces[{spec.namespaces.index(found)}]"
            tighter = f"make a new {kind.value} namespace"
            yield Finding(points=points / 2, at=at, what=f"joined: {what}", tighter=tighter)


def _ids(spec: Spec) -> Iterator[Finding]:
    if spec.namespace(NamespaceType.USER) is None:
        yield Finding(
            points=2.0,
            at="namespaces",
            what="root inside is the caller's own user outside: with root, root of the host",
            tighter="add `user` to `namespaces`",
        )
        return
    if isinstance(spec.idmap, IdMap):
        for kind, ranges in (("uid", spec.idmap.uid), ("gid", spec.idmap.gid)):
            if any(r.host == 0 for r in ranges):
                yield _of_host_root(f"idmap.{kind}", f"{kind} 0 of the host is", 2.0)
    if spec.user.uid in (None, 0, "root"):
        yield Finding(
            points=0.2,
            at="user",
            what="the command runs as root of its user namespace",
            tighter="give it a `user` of its own",
        )


def _kept_ids(spec: Spec, uid: int) -> Iterator[Finding]:
    """``keep`` and ``root`` map the caller's own ids."""
    kept = spec.idmap is not None and spec.idmap.kind in ("keep", "root")
    if uid == 0 and kept and spec.namespace(NamespaceType.USER) is not None:
        yield _of_host_root("idmap", "run by root, uid and gid 0 of the host are", 4.0)


def _of_host_root(at: str, which: str, points: float) -> Finding:
    return Finding(
        points=points,
        at=at,
        what=f"{which} mapped: what its root owns is in reach",
        tighter="map to a range that is nobody's, or `idmap: auto`",
    )


# --- rights ------------------------------------------------------------------------------------

_WEIGHTS = {
    "CAP_SYS_ADMIN": 1.5, "CAP_SYS_MODULE": 2.0, "CAP_SYS_RAWIO": 2.0, "CAP_BPF": 1.0,
    "CAP_SYS_PTRACE": 1.0, "CAP_DAC_READ_SEARCH": 1.0, "CAP_NET_ADMIN": 0.5, "CAP_MKNOD": 0.5,
    "CAP_SYS_BOOT": 0.5, "CAP_SYS_TIME": 0.3, "CAP_MAC_ADMIN": 0.5, "CAP_PERFMON": 0.5,
    "CAP_NET_RAW": 0.3, "CAP_SYSLOG": 0.3, "CAP_CHECKPOINT_RESTORE": 0.5, "CAP_SYS_NICE": 0.1,
}  # fmt: skip
_OTHERS = 0.1


def _capabilities(spec: Spec) -> Iterator[Finding]:
    held = _held(spec)
    # Over what is the container's own they count for less.
    share = 0.4 if spec.namespace(NamespaceType.USER) is not None else 1.0
    extra = sorted(held - {int(c) for c in DEFAULT})
    for number in extra:
        name = Capability(number).name if number in {int(c) for c in Capability} else str(number)
        points = max(round(_WEIGHTS.get(str(name), _OTHERS) * share, 1), _OTHERS)
        yield Finding(
            points=points,
            at="capabilities",
            what=f"{name} can be held",
            tighter=f"drop {name}",
        )
    if held & {int(c) for c in DEFAULT}:
        yield Finding(
            points=round(0.5 * share, 1),
            at="capabilities",
            what="capabilities of the default set can be held",
            tighter="`capabilities: none`, or a list of those that are needed",
        )


def _held(spec: Spec) -> frozenset[int]:
    wanted = spec.capabilities
    every = frozenset(int(c) for c in Capability)
    if wanted.sets is not None:
        return numbers(wanted.sets.get("bounding", ()))
    if wanted.explicit is not None:
        return numbers(wanted.explicit)
    base = {"default": frozenset(int(c) for c in DEFAULT), "all": every}.get(
        wanted.base, frozenset()
    )
    return (base - numbers(wanted.drop)) | numbers(wanted.add)


def _walls(spec: Spec) -> Iterator[Finding]:
    if not spec.no_new_privileges:
        yield Finding(
            points=1.0,
            at="no_new_privileges",
            what="a set-uid program gives its rights",
            tighter="`no_new_privileges: true`",
        )
    if spec.seccomp == "unconfined":
        yield Finding(
            points=1.2,
            at="seccomp",
            what="every system call of the kernel can be made",
            tighter="`seccomp: default`",
        )
    elif isinstance(spec.seccomp, SeccompProfile) and spec.seccomp.default_action in (
        "SCMP_ACT_ALLOW",
        "SCMP_ACT_LOG",
    ):
        yield Finding(
            points=0.8,
            at="seccomp",
            what="every system call that the profile does not name can be made",
            tighter="a profile that names what is allowed, or `seccomp: default`",
        )
    if spec.landlock is None:
        yield Finding(
            points=0.3,
            at="landlock",
            what="mounts and file modes are the only wall around the file system",
            tighter="`landlock: required`, or `profile: strict`",
        )
    for key, value in (("masked_paths", spec.masked_paths),
                       ("readonly_paths", spec.readonly_paths)):  # fmt: skip
        if value == "none":
            yield Finding(
                points=0.5,
                at=key,
                what="files of /proc and /sys about the whole machine are in reach",
                tighter=f"`{key}: default`",
            )


def _labels(spec: Spec, modules: frozenset[str]) -> Iterator[Finding]:
    """What a module that labels processes could forbid, and is not told to."""
    profile, label = spec.apparmor, spec.selinux.label
    if profile == "unconfined":
        yield Finding(
            points=0.3,
            at="apparmor",
            what="AppArmor confines the command by no profile, where the host has it",
            tighter="name a profile",
        )
    elif profile is None and "apparmor" in modules:
        yield Finding(
            points=0.3,
            at="apparmor",
            what="AppArmor is in force here, and the command keeps the caller's profile, if any",
            tighter="name a profile: `apparmor: docker-default`, where it is loaded",
        )
    if label is None and "selinux" in modules:
        yield Finding(
            points=0.3,
            at="selinux",
            what="SELinux is in force here, and the command keeps the caller's label",
            tighter='`selinux: {label: "system_u:system_r:container_t:s0:c1,c2"}`',
        )
    elif label is not None and spec.selinux.mount_label is None:
        yield Finding(
            points=0.1,
            at="selinux",
            what="file systems made for it have the labels of the host's policy",
            tighter="a `mount_label` with the same categories",
        )
    if spec.init and (label is not None or profile not in (None, "unconfined")):
        yield Finding(
            points=0.1,
            at="init",
            what="the small PID 1 keeps the caller's label: it executes nothing, which is when one "
            "is taken",
            tighter="an init of the image's own as the command",
        )


# --- files -------------------------------------------------------------------------------------

# Host folders by which the host is taken over, where they can be written; the first read alone.
_SOCKETS = ("docker.sock", "containerd.sock", "crio.sock", "podman.sock")
_POWERFUL = ("/", "/etc", "/boot", "/dev", "/proc", "/sys", "/run", "/var/run", "/root", "/usr",
             "/bin", "/sbin", "/lib", "/var", "/home")  # fmt: skip


def _files(spec: Spec) -> Iterator[Finding]:
    if spec.rootfs is None:
        yield Finding(
            points=1.0,
            at="rootfs",
            what="all files of the caller are seen",
            tighter="give it a `rootfs`",
        )
    elif not spec.rootfs.readonly and spec.rootfs.overlay is None:
        yield Finding(
            points=0.2,
            at="rootfs",
            what="what it writes to its root stays there for the next run",
            tighter="`readonly: true`, or `overlay: ephemeral`",
        )
    if spec.propagation == "rshared":
        yield Finding(
            points=0.8,
            at="propagation",
            what="mounts inside appear on the host",
            tighter="`propagation: rprivate`, or rslave",
        )
    for mount in spec.mounts:
        if mount.type == "bind" and mount.path.startswith("mounts"):
            yield from _bind(mount)


def _bind(mount: Mount) -> Iterator[Finding]:
    source = posixpath.normpath(mount.source)
    readonly = mount.readonly
    if posixpath.basename(source) in _SOCKETS:
        yield Finding(
            points=3.0,
            at=mount.path,
            what=f"{source} gives the rights of another container engine",
            tighter="leave the socket outside",
        )
    elif source in _POWERFUL:
        yield Finding(
            points=0.5 if readonly else 2.0,
            at=mount.path,
            what=f"{source} of the host can be {'read' if readonly else 'written'}",
            tighter="bind only what is needed below it" + ("" if readonly else ", with `ro`"),
        )
    elif not readonly:
        yield Finding(
            points=0.2,
            at=mount.path,
            what=f"{source} of the host can be written",
            tighter="`ro`, where it only reads",
        )
    for option, what in (("dev", "devices on it work"), ("suid", "set-uid programs on it work")):
        if option in mount.options:
            yield Finding(points=0.3, at=mount.path, what=what, tighter=f"leave `{option}` away")


def _devices(spec: Spec) -> Iterator[Finding]:
    deadly = ("/dev/mem", "/dev/kmem", "/dev/port", "/dev/sd", "/dev/vd", "/dev/nvme", "/dev/dm-")
    for device in spec.devices:
        whole = device.source.startswith(deadly)
        yield Finding(
            points=2.0 if whole else 0.3,
            at=device.path,
            what=f"{device.source} of the host is in reach",
            tighter="leave it outside, or narrow its `permissions`",
        )


# --- resources ---------------------------------------------------------------------------------


def _resources(spec: Spec) -> Iterator[Finding]:
    limits = spec.resources
    counted = any(limit.name == "nproc" for limit in spec.rlimits)
    if not counted and (limits is None or limits.pids is None):
        yield Finding(
            points=0.4,
            at="resources",
            what="it can start processes until the host has none left",
            tighter="`resources: {pids: 1024}`",
        )
    if limits is None or limits.memory is None:
        yield Finding(
            points=0.4,
            at="resources",
            what="it can use all memory of the host",
            tighter="`resources: {memory: 512m}`",
        )


_RULES: tuple[Rule, ...] = (
    _namespaces, _ids, _capabilities, _walls, _files, _devices, _resources,
)  # fmt: skip
