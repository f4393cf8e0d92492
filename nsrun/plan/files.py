"""``files``: contents on a tmpfs of their own, bound to their places; links and folders.

What a spec says in ``content`` never touches the rootfs: a file of the same name is covered,
not overwritten.
"""

from __future__ import annotations

from nsrun.kernel import calls
from nsrun.kernel.abi import MountAttr, OpenFlag, OpenTreeFlag
from nsrun.kernel.facts import Kind
from nsrun.kernel.values import Reg
from nsrun.plan.covers import Cover, components
from nsrun.plan.draft import Draft
from nsrun.plan.labels import mount_context
from nsrun.plan.mounts import TO_DESCRIPTOR, place
from nsrun.plan.ops import Op
from nsrun.plan.tree import Tree, unmount
from nsrun.spec.model import FileEntry

# A write(2) of this size goes through in one piece on tmpfs.
_CHUNK = 1 << 20


def make_files(draft: Draft, tree: Tree, more: tuple[FileEntry, ...] = ()) -> None:
    """Everything below ``files``, in the spec's order, and after it what else is asked for."""
    entries = (*draft.spec.files, *more)
    contents = [e for e in entries if e.content is not None]
    made = _contents(draft, tree, contents) if contents else {}
    for entry in entries:
        at = entry.path
        if entry.content is not None:
            _bind_content(draft, tree, entry, made[entry.target], at)
        elif entry.symlink is not None:
            _symlink(draft, tree, entry, entry.symlink, at)
        else:
            _folder(draft, tree, entry, at)


def _contents(draft: Draft, tree: Tree, entries: list[FileEntry]) -> dict[str, Reg]:
    """Write every content into a tmpfs and clone each file's mount.

    Mounts are only cloned from a tree that is attached, so the tmpfs stands on the root for
    the time of it; it is off again before any path inside the root is walked.
    """
    context, space = draft.reg("tmpfs"), draft.reg("files")
    at = "files" if draft.spec.files else entries[0].path
    draft.child(
        "make a tmpfs for files",
        calls.fsopen("tmpfs", save=context),
        calls.fsconfig_string(context, "source", "nsrun-files"),
        calls.fsconfig_string(context, "mode", "0755"),
        *mount_context(draft, context, "tmpfs"),
        calls.fsconfig_create(context),
        calls.fsmount(
            context, MountAttr.MOUNT_ATTR_NOSUID | MountAttr.MOUNT_ATTR_NODEV, save=space
        ),
        calls.close(context),
        calls.move_mount(space, "", tree.root, "", TO_DESCRIPTOR),
        at=at,
    )
    made = {
        entry.target: _write_content(draft, space, str(number), entry)
        for number, entry in enumerate(entries)
    }
    draft.child(
        "take the tmpfs out of sight",
        *unmount(tree, space),
        calls.close(space),
        at=at,
    )
    return made


def _write_content(draft: Draft, space: Reg, name: str, entry: FileEntry) -> Reg:
    fd, tree = draft.reg("file"), draft.reg("f_" + components(entry.target)[-1])
    oflags = OpenFlag.O_WRONLY | OpenFlag.O_CREAT | OpenFlag.O_EXCL | OpenFlag.O_CLOEXEC
    mode = 0o644 if entry.mode is None else entry.mode
    content = entry.content or b""
    steps: list[Op] = [calls.openat(space, name, oflags, mode, save=fd)]
    for at in range(0, len(content), _CHUNK):
        steps.append(calls.write(fd, content[at : at + _CHUNK]))
    clone = OpenTreeFlag.OPEN_TREE_CLONE | OpenTreeFlag.OPEN_TREE_CLOEXEC
    if entry.uid is not None or entry.gid is not None:
        # chown(2) clears the set-id bits, so that the mode comes after it.
        steps.append(calls.fchown(fd, _id(entry.uid), _id(entry.gid)))
    steps += [
        calls.fchmod(fd, mode),
        calls.close(fd),
        calls.open_tree(space, name, clone, save=tree),
    ]
    draft.child(f"write {entry.target}", *steps, at=entry.path)
    return tree


def _id(number: int | None) -> int:
    """-1 leaves an id as it is."""
    return -1 if number is None else number


def _bind_content(draft: Draft, tree: Tree, entry: FileEntry, fd: Reg, at: str) -> None:
    steps = place(tree, fd, entry.target, folder=False)
    tree.mounted(entry.target, Cover.OTHER)
    draft.child(f"put {entry.target} in its place", *steps, calls.close(fd), at=at)


def _symlink(draft: Draft, tree: Tree, entry: FileEntry, leads_to: str, at: str) -> None:
    parent, name, steps = _parent(draft, tree, entry.target)
    tree.will_make(entry.target)
    steps += [
        calls.allow(calls.symlinkat(leads_to, parent, name), accept=("EEXIST",)),
        # Something else of that name is not what was asked for.
        calls.readlink_is(parent, name, leads_to),
        calls.close(parent),
    ]
    draft.child(f"link {entry.target} to {leads_to}", *steps, at=at)


def _folder(draft: Draft, tree: Tree, entry: FileEntry, at: str) -> None:
    there = tree.fact(entry.target)
    fd, steps = tree.open(entry.target, folder=True, create=True)
    if entry.mode is not None and (there is None or there.kind is Kind.MISSING):
        # O_PATH descriptors cannot be changed by fchmod(2): open it once more for reading.
        readable = draft.reg("folder")
        steps += [
            tree.resolve(
                entry.target, save=readable, oflags=OpenFlag.O_DIRECTORY | OpenFlag.O_CLOEXEC
            ),
            calls.fchmod(readable, entry.mode),
            calls.close(readable),
        ]
    draft.child(f"make the folder {entry.target}", *steps, calls.close(fd), at=at)


def _parent(draft: Draft, tree: Tree, target: str) -> tuple[Reg, str, list[Op]]:
    parts = components(target)
    folder = "/" + "/".join(parts[:-1])
    steps = tree.make(folder, folder=True)
    parent = draft.reg("in_" + (parts[-2] if len(parts) > 1 else "root"))
    opened = OpenFlag.O_PATH | OpenFlag.O_DIRECTORY | OpenFlag.O_CLOEXEC
    steps.append(tree.resolve(folder, save=parent, oflags=opened))
    return parent, parts[-1], steps
