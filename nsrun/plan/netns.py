"""Named network namespaces as plans, kept as ip-netns(8) keeps them: files in /run/netns.

    add      a file, and the new namespace mounted on it
    delete   the mount and the file go; the namespace ends with its last process
    exec     the launcher itself enters it and becomes the command

All of them are the parent's track alone. Source: iproute2's ip/ipnetns.c and lib/namespace.c, so
that either program finds what the other has made.
"""

from __future__ import annotations

import hashlib
import signal
from collections.abc import Mapping

from nsrun.kernel import abi, calls
from nsrun.kernel.abi import (
    AtFlag,
    CloneFlag,
    FlockOperation,
    MountFlag,
    MoveMountFlag,
    OpenFlag,
    OpenTreeFlag,
    UmountFlag,
)
from nsrun.kernel.facts import Facts, Kind
from nsrun.kernel.values import Expect
from nsrun.plan.build import finished
from nsrun.plan.draft import Draft
from nsrun.plan.model import Plan, UndoWhen
from nsrun.plan.ops import Op
from nsrun.plan.process import searched
from nsrun.spec.model import Spec

FOLDER = "/run/netns"
# Files of a folder of this name stand in the place of those in /etc while `exec` runs.
CONFIGURATION = "/etc/netns"
_DETACH = UmountFlag.MNT_DETACH | UmountFlag.UMOUNT_NOFOLLOW
_NEWNET = int(CloneFlag.CLONE_NEWNET)
# struct statx of linux/stat.h: stx_attributes at 8, STATX_ATTR_MOUNT_ROOT.
_ATTRIBUTES_AT, _MOUNT_ROOT = 8, 0x2000
# NAME_MAX of linux/limits.h, in bytes.
_NAME_MAX = 255
# Signals that Python ignores from its start on, which an execve(2) would pass on.
_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)


def path_of(name: str) -> str:
    return f"{FOLDER}/{name}"


def is_name(name: str) -> bool:
    """Whether a file in /run/netns may be called so (ipnetns.c, invalid_name)."""
    fits = 0 < len(name.encode("utf-8", "surrogateescape")) <= _NAME_MAX
    return fits and "/" not in name and name not in (".", "..") and "\0" not in name


def _draft(action: str, name: str, facts: Facts, *help_: str) -> Draft:
    """Raises NsrunError (NS402) for a caller who may not: the facts may be wrong for one to whom
    the folder is closed."""
    words = f"netns {action} {name}".encode("utf-8", "surrogateescape")
    draft = Draft(
        Spec(name="netns", file=path_of(name), sha256=hashlib.sha256(words).hexdigest())
    )
    if abi.Capability.CAP_SYS_ADMIN not in facts.permitted:
        doing = {"add": "adding", "delete": "deleting", "exec": "entering"}[action]
        draft.refuse(
            "NS402",
            f"{doing} a named network namespace is not permitted",
            "",
            f"run it as root: sudo nsrun netns {action}",
            *help_,
            why=f"it needs CAP_SYS_ADMIN, which uid {facts.uid} does not have",
        )
        draft.refused.raise_if_failed()
    return draft


def _refuse_missing(draft: Draft, name: str, facts: Facts) -> None:
    fact = facts.paths.get(path_of(name))
    if fact is None or fact.kind is Kind.MISSING:
        draft.refuse(
            "NS305",
            f"there is no network namespace {name}",
            "",
            "`nsrun netns list` shows those that there are",
            why=f"{path_of(name)} does not exist",
        )
    elif fact.kind is Kind.FOLDER:
        draft.refuse("NS309", f"{path_of(name)} is a folder, not a network namespace", "")


# --- add -------------------------------------------------------------------------------------


def plan_add(name: str, facts: Facts, *, private: bool = False) -> Plan:
    """``private``: /run/netns is a mount already, and one that is not shared.

    Raises NsrunError (NS318) where the name is taken, NS402 without the right.
    """
    path = path_of(name)
    draft = _draft(
        "add", name, facts, "or list `user` and `network` under namespaces in a spec: anybody may"
    )
    _refuse_taken(draft, name, facts)
    rule = "nsrun netns add"
    _folder(draft, rule, private=private)
    home, file = draft.reg("home"), draft.reg("file")
    oflags = OpenFlag.O_CREAT | OpenFlag.O_EXCL | OpenFlag.O_CLOEXEC
    draft.parent(
        f"make {path}",
        calls.openat(calls.CWD, path, oflags, 0, save=file),
        calls.close(file),
        rule=rule,
        undo=(calls.allow(calls.unlinkat(calls.CWD, path), accept=("ENOENT",)),),
        undo_when=UndoWhen.FAILURE,
    )
    draft.parent(
        "make a network namespace",
        calls.openat(calls.CWD, "/proc/self/ns/net", OpenFlag.O_CLOEXEC, save=home),
        calls.unshare(CloneFlag.CLONE_NEWNET),
        rule=rule,
        undo=(calls.setns(home, _NEWNET),),
        undo_when=UndoWhen.FAILURE,
    )
    draft.parent(
        f"keep it on {path}",
        calls.bind("/proc/self/ns/net", path),
        rule=rule,
        undo=(calls.allow(calls.umount2(path, _DETACH), accept=("EINVAL", "ENOENT")),),
        undo_when=UndoWhen.FAILURE,
    )
    draft.parent("come back from it", calls.setns(home, _NEWNET), rule=rule)
    return finished(draft, facts, root=True)


def _refuse_taken(draft: Draft, name: str, facts: Facts) -> None:
    path = path_of(name)
    fact = facts.paths.get(path)
    if fact is None or fact.kind is Kind.MISSING:
        return
    if fact.namespace == "network":
        summary = f"there is a network namespace {name} already"
    else:
        summary = f"{path} is there already, and no network namespace"
    removal = () if fact.kind is Kind.FOLDER else (f"remove it: nsrun netns delete {name}",)
    draft.refuse("NS318", summary, "", "choose another name", *removal)


def _folder(draft: Draft, rule: str, *, private: bool) -> None:
    """/run/netns, a shared mount: what is mounted in it shows in other mount namespaces too, and
    what is unmounted there goes there."""
    remove = calls.unlinkat(calls.CWD, FOLDER, AtFlag.AT_REMOVEDIR)
    draft.parent(
        f"make {FOLDER}",
        calls.allow(calls.mkdirat(calls.CWD, FOLDER, 0o755), skip=("EEXIST",)),
        rule=rule,
        undo=(calls.allow(remove, accept=("ENOTEMPTY", "EBUSY", "ENOENT")),),
        undo_when=UndoWhen.FAILURE,
    )
    lock = draft.reg("lock")
    draft.parent(
        "wait for others who add one",
        # As ip(8) does: two at once would mount the folder on itself twice.
        calls.openat(calls.CWD, FOLDER, OpenFlag.O_DIRECTORY | OpenFlag.O_CLOEXEC, save=lock),
        calls.flock(lock, FlockOperation.LOCK_EX),
        rule=rule,
    )
    tree = draft.reg("tree")
    plain = Expect(_ATTRIBUTES_AT, 8, _MOUNT_ROOT, 0, "no mount is there", otherwise="skip")
    cloned = (
        OpenTreeFlag.OPEN_TREE_CLONE
        | OpenTreeFlag.OPEN_TREE_CLOEXEC
        | OpenTreeFlag.AT_RECURSIVE
    )
    draft.parent(
        f"make {FOLDER} a shared mount",
        calls.statx(calls.CWD, plain, path=FOLDER),
        calls.open_tree(calls.CWD, FOLDER, cloned, save=tree),
        calls.mount_setattr(
            tree,
            "",
            AtFlag.AT_EMPTY_PATH | AtFlag.AT_RECURSIVE,
            propagation=MountFlag.MS_SHARED,
        ),
        calls.move_mount(tree, "", calls.CWD, FOLDER, MoveMountFlag.MOVE_MOUNT_F_EMPTY_PATH),
        # Held open, it would be busy where it is to be unmounted again.
        calls.close(tree),
        rule=rule,
        # With the namespace of another mounted in it by now, it stays.
        undo=(calls.allow(calls.umount2(FOLDER, UmountFlag(0)), accept=("EBUSY", "EINVAL")),),
        undo_when=UndoWhen.FAILURE,
    )
    if private:
        draft.parent(
            f"share {FOLDER} with other mount namespaces",
            calls.mount(None, FOLDER, None, int(MountFlag.MS_SHARED | MountFlag.MS_REC)),
            rule=rule,
            undo=(calls.mount(None, FOLDER, None, int(MountFlag.MS_PRIVATE)),),
            undo_when=UndoWhen.FAILURE,
        )


# --- delete ----------------------------------------------------------------------------------


def plan_delete(name: str, facts: Facts) -> Plan:
    """Raises NsrunError (NS305) where there is none, NS402 without the right."""
    path = path_of(name)
    draft = _draft("delete", name, facts)
    _refuse_missing(draft, name, facts)
    draft.parent(
        f"let go of the network namespace {name}",
        # EINVAL: a file that holds none, as it is left by one that was killed half-way.
        calls.allow(calls.umount2(path, _DETACH), accept=("EINVAL",)),
        calls.unlinkat(calls.CWD, path),
        rule="nsrun netns delete",
    )
    return finished(draft, facts, root=True)


# --- exec ------------------------------------------------------------------------------------


def plan_exec(
    name: str,
    command: tuple[str, ...],
    facts: Facts,
    *,
    env: Mapping[str, str],
    files: tuple[str, ...] = (),
    read_only_sys: bool = False,
) -> Plan:
    """The launcher enters the namespace and becomes the command, which has its terminal,
    descriptors, ids and variables.

    ``files``: names in /etc/netns/NAME that take the place of those in /etc. ``read_only_sys``:
    the caller's /sys is mounted read-only. Raises NsrunError: NS305 where there is no such
    namespace, NS309 where the file holds another, NS402 without the right.
    """
    path = path_of(name)
    draft = _draft("exec", name, facts)
    _refuse_missing(draft, name, facts)
    held = facts.paths[path].namespace if path in facts.paths else None
    if not draft.refused.failed and held != "network":
        what = f"a {held} namespace" if held else "no namespace"
        draft.refuse("NS309", f"{path} holds {what}", "", f"remove it: nsrun netns delete {name}")
    rule = "nsrun netns exec"
    netns = draft.reg("netns")
    draft.parent(
        f"enter the network namespace {name}",
        calls.openat(calls.CWD, path, OpenFlag.O_CLOEXEC, save=netns),
        calls.setns(netns, _NEWNET),
        calls.close(netns),
        rule=rule,
    )
    draft.parent(
        "make a mount namespace",
        calls.unshare(CloneFlag.CLONE_NEWNS),
        calls.mount(None, "/", None, int(MountFlag.MS_REC | MountFlag.MS_SLAVE)),
        rule=rule,
    )
    draft.parent(
        "mount the namespace's own /sys", *_own_sys(name, read_only=read_only_sys), rule=rule
    )
    for file in files:
        target, source = f"/etc/{file}", f"{CONFIGURATION}/{name}/{file}"
        draft.parent(f"lay {source} over {target}", calls.bind(source, target), rule=rule)
    draft.parent(
        "reset the signals that Python ignores",
        *(calls.rt_sigaction_default(int(n), n.name) for n in _IGNORED_BY_PYTHON),
        rule=rule,
    )
    words = tuple(f"{key}={value}" for key, value in env.items())
    draft.parent(f"run {command[0]}", *searched(command, words), rule=rule)
    return finished(draft, facts, root=True)


def _own_sys(name: str, *, read_only: bool) -> list[Op]:
    """A sysfs shows the network namespace of who mounts it."""
    steps: list[Op] = [
        # EINVAL: nothing is mounted there, or what is may not be taken from above what it hides.
        calls.allow(calls.umount2("/sys", UmountFlag.MNT_DETACH), accept=("EINVAL",))
    ]
    plain = calls.mount(name, "/sys", "sysfs", 0)
    if not read_only:
        return [*steps, plain]
    # EPERM: where the caller's is locked to be read-only, any other has to be as well
    # (mount_namespaces(7)). EBUSY: the first one is there, and a file system is mounted only once
    # on one place.
    second = calls.mount(name, "/sys", "sysfs", int(MountFlag.MS_RDONLY))
    accepted = calls.allow(plain, accept=("EPERM",))
    return [*steps, accepted, calls.allow(second, accept=("EBUSY",))]
