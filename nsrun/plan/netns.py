"""Named network namespaces as plans, kept as ip-netns(8) keeps them: files in /run/netns.

    add      a file, and the new namespace mounted on it
    delete   the mount and the file go; the namespace ends with its last process
    exec     a spec like any other, which joins it: see :func:`exec_spec`

Source: iproute2's ip/ipnetns.c, so that either program finds what the other has made.
"""

from __future__ import annotations

from collections.abc import Mapping

from nsrun.kernel import abi, calls
from nsrun.kernel.abi import AtFlag, CloneFlag, MountFlag, OpenFlag, UmountFlag
from nsrun.kernel.facts import Facts, Kind, PathFact
from nsrun.kernel.values import Expect
from nsrun.plan.build import finished
from nsrun.plan.draft import Draft
from nsrun.plan.model import Plan, UndoWhen
from nsrun.spec.model import Capabilities, Mount, Namespace, NamespaceType, Spec

FOLDER = "/run/netns"
# Files of a folder of this name stand in the place of those in /etc while `exec` runs.
CONFIGURATION = "/etc/netns"
# struct statx of linux/stat.h: stx_attributes at 8, STATX_ATTR_MOUNT_ROOT.
_ATTRIBUTES_AT, _MOUNT_ROOT = 8, 0x2000


def path_of(name: str) -> str:
    return f"{FOLDER}/{name}"


def is_name(name: str) -> bool:
    """Whether a file in /run/netns may be called so (ipnetns.c, invalid_name)."""
    fits = 0 < len(name.encode("utf-8", "surrogateescape")) <= 255
    return fits and "/" not in name and name not in (".", "..") and "\0" not in name


def _require_admin(draft: Draft, facts: Facts, what: str) -> None:
    if abi.Capability.CAP_SYS_ADMIN not in facts.permitted:
        draft.refuse(
            "NS402",
            f"{what} a named network namespace is not permitted",
            "",
            "run it as root",
            "or list `network` under namespaces in a spec of your own: with `user` anybody may",
            why=f"it needs CAP_SYS_ADMIN, which uid {facts.uid} does not have",
        )


# --- add -------------------------------------------------------------------------------------


def plan_add(name: str, facts: Facts) -> Plan:
    """Raises NsrunError (NS318) where the name is taken, NS402 without the right."""
    path = path_of(name)
    draft = Draft(Spec(name="netns", file=path, sha256=""))
    _require_admin(draft, facts, "adding")
    fact = facts.paths.get(path)
    if fact is not None and fact.kind is not Kind.MISSING:
        draft.refuse(
            "NS318",
            f"there is a network namespace {name} already"
            if fact.namespace == "network"
            else f"{path} is there already",
            "",
            f"nsrun netns delete {name}",
        )
    _folder(draft)
    home, file = draft.reg("home"), draft.reg("file")
    oflags = OpenFlag.O_CREAT | OpenFlag.O_EXCL | OpenFlag.O_CLOEXEC
    draft.parent(
        f"make {path}",
        calls.openat(calls.CWD, path, oflags, 0, save=file),
        calls.close(file),
        rule="nsrun netns add",
        undo=(calls.allow(calls.unlinkat(calls.CWD, path), accept=("ENOENT",)),),
        undo_when=UndoWhen.FAILURE,
    )
    draft.parent(
        "go into a new network namespace",
        calls.openat(calls.CWD, "/proc/self/ns/net", OpenFlag.O_CLOEXEC, save=home),
        calls.unshare(CloneFlag.CLONE_NEWNET),
        rule="nsrun netns add",
        undo=(calls.setns(home, int(CloneFlag.CLONE_NEWNET)),),
    )
    detach = UmountFlag.MNT_DETACH | UmountFlag.UMOUNT_NOFOLLOW
    draft.parent(
        f"keep it on {path}",
        calls.bind("/proc/self/ns/net", path),
        rule="nsrun netns add",
        undo=(calls.allow(calls.umount2(path, detach), accept=("EINVAL", "ENOENT")),),
        undo_when=UndoWhen.FAILURE,
    )
    draft.parent(
        "come back",
        calls.setns(home, int(CloneFlag.CLONE_NEWNET)),
        rule="nsrun netns add",
    )
    return finished(draft, facts, root=True)


def _folder(draft: Draft) -> None:
    """/run/netns, a shared mount: what is mounted in it shows in other mount namespaces too, and
    what is unmounted there goes there."""
    remove = calls.unlinkat(calls.CWD, FOLDER, AtFlag.AT_REMOVEDIR)
    draft.parent(
        f"make {FOLDER}",
        calls.allow(calls.mkdirat(calls.CWD, FOLDER, 0o755), accept=("EEXIST",)),
        rule="nsrun netns add",
        undo=(calls.allow(remove, accept=("ENOTEMPTY", "EBUSY", "ENOENT")),),
        undo_when=UndoWhen.FAILURE,
    )
    plain = Expect(_ATTRIBUTES_AT, 8, _MOUNT_ROOT, 0, "no mount is there", otherwise="skip")
    draft.parent(
        f"make {FOLDER} a mount",
        calls.statx(calls.CWD, plain, path=FOLDER),
        calls.mount(FOLDER, FOLDER, "none", int(MountFlag.MS_BIND | MountFlag.MS_REC)),
        rule="nsrun netns add",
        # With a namespace mounted in it, it stays.
        undo=(calls.allow(calls.umount2(FOLDER, UmountFlag(0)), accept=("EBUSY", "EINVAL")),),
        undo_when=UndoWhen.FAILURE,
    )
    private = int(MountFlag.MS_PRIVATE)
    draft.parent(
        f"share {FOLDER} with other mount namespaces",
        calls.mount(None, FOLDER, "none", int(MountFlag.MS_SHARED | MountFlag.MS_REC)),
        rule="nsrun netns add",
        undo=(calls.allow(calls.mount(None, FOLDER, "none", private), accept=("EINVAL",)),),
        undo_when=UndoWhen.FAILURE,
    )


# --- delete ----------------------------------------------------------------------------------


def plan_delete(name: str, facts: Facts) -> Plan:
    """Raises NsrunError (NS305) where there is none, NS402 without the right."""
    path = path_of(name)
    draft = Draft(Spec(name="netns", file=path, sha256=""))
    _require_admin(draft, facts, "deleting")
    _require(draft, name, facts.paths.get(path))
    detach = UmountFlag.MNT_DETACH | UmountFlag.UMOUNT_NOFOLLOW
    draft.parent(
        f"let go of the network namespace {name}",
        # EINVAL: a file that holds none, as one is left by a reboot of what mounted it.
        calls.allow(calls.umount2(path, detach), accept=("EINVAL",)),
        calls.unlinkat(calls.CWD, path),
        rule="nsrun netns delete",
    )
    return finished(draft, facts, root=True)


def _require(draft: Draft, name: str, fact: PathFact | None) -> None:
    if fact is None or fact.kind is Kind.MISSING:
        draft.refuse(
            "NS305",
            f"there is no network namespace {name}",
            "",
            "`nsrun netns list` shows those that there are",
            why=f"{path_of(name)} does not exist",
        )


# --- exec ------------------------------------------------------------------------------------


def exec_spec(
    name: str,
    command: tuple[str, ...],
    *,
    cwd: str,
    env: Mapping[str, str],
    files: tuple[str, ...] = (),
) -> Spec:
    """A command in the namespace: the caller's own variables, folder and capabilities, /sys as the
    namespace has it, and ``files`` (names in /etc/netns/NAME) in the place of those in /etc."""
    binds = tuple(
        Mount(
            type="bind",
            source=f"{CONFIGURATION}/{name}/{file}",
            target=f"/etc/{file}",
            path="",
            create=False,
        )
        for file in files
    )
    return Spec(
        name=f"netns-{name}"[:64],
        file=path_of(name),
        sha256="",
        namespaces=(
            Namespace(type=NamespaceType.NETWORK, join_path=path_of(name)),
            Namespace(type=NamespaceType.MOUNT),
        ),
        propagation="rslave",
        mounts=(Mount(type="sysfs", source=name, target="/sys", path=""), *binds),
        command=command,
        env=dict(env),
        cwd=cwd,
        capabilities=Capabilities(base="all"),
        no_new_privileges=False,
        masked_paths="none",
        readonly_paths="none",
    )
