"""Why a step failed, and what to try: small explainers that look at the live system.

A table on (call, errno). Each explainer checks its cause and returns None where it is not
certain: without a checked cause there is no ``why``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from nsrun.host import (
    ceilings,
    hints_bpf,
    hints_cgroup,
    hints_confined,
    hints_exec,
    hints_exec_denied,
    hints_filesystems,
    hints_ids,
    hints_limits,
    hints_mount,
    hints_network,
    hints_overlay,
    hints_paths,
    hints_process,
    hints_sysctl,
)
from nsrun.host.hint import Hint, HintContext

Explainer = Callable[[tuple[str | int, ...], HintContext], Hint | None]


@dataclass(frozen=True, slots=True)
class _Row:
    """``errnos`` empty are all."""

    calls: tuple[str, ...]
    errnos: tuple[str, ...]
    explainer: Explainer


_FILE = ("open_tree", "openat", "openat2")
_OPENS = (*_FILE, "fsopen", "fsmount", "fspick", "socket", "socketpair", "pipe2", "signalfd4",
          "clone3", "landlock_create_ruleset")  # fmt: skip
_MAKE = ("mkdirat", "mknodat")
_MOUNTS = ("mount", "umount2", "move_mount", "pivot_root", "mount_setattr", "fsmount")

# Several rows may fit; the first explainer that sees its cause is believed.
_TABLE: tuple[_Row, ...] = (
    # A filter of the caller's answers before anything else does.
    *(
        _Row((call,), ("EPERM", "ENOSYS", "EACCES"), hints_confined.by_filter(call))
        for call in hints_confined.CALLS
    ),
    _Row(_MOUNTS, ("EPERM",), hints_confined.by_landlock),
    _Row(_MOUNTS, ("EPERM", "EACCES"), hints_confined.by_label),
    _Row(("execve",), (), hints_exec_denied.by_own_filter),
    _Row(("execve",), ("ENOENT",), hints_exec.not_found),
    _Row(("execve",), ("ENOTDIR", "ELOOP"), hints_exec.no_way_to_it),
    _Row(("execve",), ("EACCES",), hints_exec_denied.not_executable),
    _Row(("execve",), ("E2BIG",), hints_exec.too_big),
    _Row(("execve",), ("ENAMETOOLONG",), hints_exec.name_too_long),
    _Row(("execve",), ("ETXTBSY",), hints_exec.being_written),
    _Row(("execve",), ("ENOEXEC",), hints_exec.not_a_program),
    _Row(("chdir",), ("ENOENT", "ENOTDIR"), hints_paths.no_such_folder),
    _Row(_OPENS, ("EMFILE",), hints_limits.too_many_files),
    _Row(("clone3", "init", "spawn"), ("EAGAIN",), hints_limits.too_many_processes),
    _Row(
        (*_MAKE, "openat", "openat2", "symlinkat", "write", "sendfile"),
        ("ENOSPC",),
        hints_limits.no_room,
    ),
    _Row(("chdir",), ("EACCES",), hints_process.closed_on_the_way),
    _Row(("write",), ("EACCES", "EPERM"), hints_process.score_lowered),
    _Row(("write",), ("ERANGE",), hints_process.clock_out_of_range),
    _Row(("bpf",), ("EPERM", "ENOSYS", "EACCES"), hints_bpf.not_taken),
    _Row(("bpf",), ("EPERM", "EINVAL"), hints_bpf.not_attached),
    _Row(("clone3", "unshare"), ("ENOSPC", "EUSERS"), hints_ids.namespace_limit),
    _Row(("clone3", "unshare"), ("EPERM",), hints_ids.namespaces_forbidden),
    _Row(("clone3", "clone"), ("ENOMEM",), hints_ids.init_has_ended),
    _Row(("setns",), ("EINVAL",), hints_ids.cannot_enter),
    _Row(("setns",), ("EPERM",), hints_ids.not_the_owner),
    _Row(("setresuid", "setresgid"), ("EINVAL",), hints_ids.not_mapped),
    _Row(("setgroups",), ("EPERM",), hints_ids.setgroups_denied),
    _Row(("prlimit64",), ("EPERM",), hints_ids.hard_limit),
    _Row(("write",), ("EPERM", "EINVAL"), hints_ids.map_refused),
    _Row(("write",), ("EINVAL", "ERANGE"), hints_sysctl.value_refused),
    _Row(("spawn",), ("ENOENT",), hints_exec.no_helper),
    _Row(("spawn",), ("",), hints_ids.helper_failed),
    _Row(("spawn",), ("",), hints_network.no_tun),
    _Row(("open_tree",), ("EINVAL",), hints_mount.not_bindable),
    _Row(("openat2",), ("ENOENT",), hints_sysctl.no_such_sysctl),
    _Row(("openat2",), ("EACCES",), hints_sysctl.not_writable),
    _Row(("openat2",), ("EROFS",), hints_sysctl.on_read_only),
    _Row(_FILE, ("ENOENT",), hints_paths.missing_part),
    _Row(_FILE, ("EACCES",), hints_paths.closed_folder),
    _Row(("openat2",), ("ELOOP",), hints_paths.link_in_the_way),
    _Row(_MAKE, ("EROFS",), hints_paths.read_only),
    _Row(("symlinkat",), ("EROFS",), hints_paths.link_read_only),
    _Row(_MAKE, ("EACCES",), hints_paths.not_writable),
    _Row(("fsopen",), ("ENODEV",), hints_mount.no_such_filesystem),
    _Row(("fsconfig",), ("EINVAL", "ENOENT", "ELOOP", "EBUSY"), hints_overlay.cannot_be_made),
    _Row(("fsconfig",), ("EBUSY",), hints_mount.busy),
    _Row(("fsmount", "fsconfig", "mount"), ("EPERM",), hints_mount.too_revealing),
    _Row(("fsconfig",), ("EPERM",), hints_filesystems.not_in_user_namespaces),
    _Row(("umount2",), ("EINVAL",), hints_mount.cannot_unmount),
    _Row(("move_mount", "mount"), ("ENOSPC",), hints_mount.mount_limit),
    _Row(("move_mount",), ("EINVAL", "ENOTDIR"), hints_mount.not_alike),
    _Row(("mount",), ("EINVAL",), hints_mount.pin_on_shared),
    _Row(("mount",), ("EPERM",), hints_mount.mounting_forbidden),
    _Row(("open_tree",), ("EPERM",), hints_mount.pinning_forbidden),
    _Row(("mount_setattr",), ("EINVAL",), hints_mount.attributes_refused),
    _Row(("mount_setattr",), ("EPERM",), hints_mount.locked_flags),
    _Row(("unlinkat",), ("EBUSY",), hints_cgroup.in_use),
    _Row(("write",), ("EBUSY",), hints_cgroup.cannot_give_on),
    _Row(("write",), ("EBUSY",), hints_cgroup.more_is_used),
    _Row(("write",), ("EBUSY", "EINVAL", "ERANGE", "EACCES"), hints_cgroup.above_allows_less),
    _Row(("netlink",), ("EEXIST",), hints_network.name_taken),
    # The same number; Python calls it by the second name.
    _Row(("netlink",), ("EOPNOTSUPP", "ENOTSUP"), hints_network.unknown_kind),
    _Row(("netlink",), ("EOPNOTSUPP", "ENOTSUP"), hints_network.no_bridge),
    _Row(("netlink",), ("EACCES", "EPERM"), hints_network.ipv6_is_off),
    _Row(("setsockopt",), ("ENODEV",), hints_network.no_such_interface),
    _Row(("bind",), ("EADDRINUSE",), hints_network.port_in_use),
    _Row(("bind",), ("EACCES",), hints_network.privileged_port),
    _Row(("bind",), ("EADDRNOTAVAIL",), hints_network.no_such_address),
    # No call: the kernel's count of what it has ended.
    _Row(("oom_kill",), ("",), ceilings.below_a_lower_one),
    # Asked before a run, of a host path alone.
    _Row(("idmap",), ("EINVAL", "EPERM"), hints_mount.cannot_be_idmapped),
)


def explain(
    call: str, errno: str, args: tuple[str | int, ...], context: HintContext | None = None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(why, try) of a failed call, both empty where no cause could be seen.

    ``args`` are the call's arguments: strings as they are, numbers, registers as ``%name``.
    """
    known = replace(context or HintContext(), errno=errno)
    for row in _TABLE:
        if call in row.calls and errno in (row.errnos or (errno,)):
            try:
                found = row.explainer(args, known)
            except (OSError, ValueError):
                # What cannot be looked at explains nothing, and hides no failure.
                found = None
            if found is not None:
                return found.why, found.help
    return (), ()
