"""``files``: contents that cover, links and folders."""

from __future__ import annotations

import pytest

from nsrun.kernel.facts import PathFact
from nsrun.kernel.values import Bytes, Call
from nsrun.plan.model import Plan, Track
from tests.support.planning import (
    ORDINARY,
    folder,
    has,
    knowing,
    lines,
    missing,
    only,
    order,
    planned,
    why,
)

WITHIN = "RESOLVE_NO_MAGICLINKS|RESOLVE_IN_ROOT"


def filed(targets: dict[str, PathFact] | None = None, **files: object) -> Plan:
    facts = knowing(ORDINARY, {"/r": folder(1000)}, targets)
    return planned(
        facts, namespaces=["user", "mount"], rootfs="/r", default_mounts=False,
        masked_paths="none", readonly_paths="none", files=files,
    )  # fmt: skip


def test_a_content_is_written_beside_the_rootfs_and_put_over_it() -> None:
    plan = filed(**{"/etc/x": {"content": "hi\n", "mode": "0600"}})
    assert lines(only(plan, "write /etc/x")) == [
        'openat(%files, "0", O_WRONLY|O_CREAT|O_EXCL|O_CLOEXEC, 0600)',
        'write(%file, "hi\\n", 3)',
        "fchmod(%file, 0600)",
        "close(%file)",
        'open_tree(%files, "0", OPEN_TREE_CLONE|OPEN_TREE_CLOEXEC)',
    ]
    assert lines(only(plan, "put /etc/x"))[-3:] == [
        'move_mount(%f_x, "", %at_x, "", MOVE_MOUNT_F_EMPTY_PATH|MOVE_MOUNT_T_EMPTY_PATH)',
        "close(%at_x)",
        "close(%f_x)",
    ]
    order(plan, Track.CHILD, "make a tmpfs for files", "write /etc/x", "take the tmpfs out",
          "put /etc/x", "enter the new root")  # fmt: skip
    assert why(only(plan, "write /etc/x")) == 'files["/etc/x"]'
    assert why(only(plan, "make a tmpfs")) == "files"


def test_the_tmpfs_is_off_before_a_path_inside_is_walked() -> None:
    plan = filed(**{"/a": {"content": "1"}, "/b": {"content": "2"}})
    order(plan, Track.CHILD, "write /a", "write /b", "take the tmpfs out", "put /a", "put /b")
    assert [s for s in lines(only(plan, "take the tmpfs")) if "umount2" in s]


def test_an_empty_content_is_an_empty_file() -> None:
    plan = filed(**{"/x": {"content": ""}})
    assert not any(s.startswith("write(") for s in lines(only(plan, "write /x")))
    assert has(plan, "put /x")


def test_a_large_content_is_written_in_pieces_that_go_through() -> None:
    text = "x" * (900 * 1024)
    steps = only(filed(**{"/x": {"content": text}}), "write /x").steps
    written = [op for op in steps if isinstance(op, Call) and op.name == "write"]
    data = [arg.value for op in written for arg in op.args if isinstance(arg, Bytes)]
    assert b"".join(data) == text.encode()
    # A short write(2) is a failure, not a loss.
    assert [op.result for op in written] == [len(piece) for piece in data]


def test_only_contents_need_a_tmpfs() -> None:
    plan = filed(**{"/l": {"symlink": "x"}, "/d": {"folder": True}})
    assert not has(plan, "make a tmpfs for files")


def test_a_link_is_what_was_asked_for() -> None:
    plan = filed({"/etc/l": missing("/etc/l"), "/etc": folder()}, **{"/etc/l": {"symlink": "/a/b"}})
    linked = only(plan, "link /etc/l to /a/b")
    opened, made, looked_at, closed = lines(linked)
    assert opened == f'openat2(%rootfs, "etc", {{O_DIRECTORY|O_CLOEXEC|O_PATH, {WITHIN}}}, 24)'
    assert made == 'symlinkat("/a/b", %in_etc, "l")'
    assert looked_at.startswith('readlinkat(%in_etc, "l", {it leads to /a/b; ')
    assert closed == "close(%in_etc)"
    assert getattr(linked.steps[1], "accept", None) == ("EEXIST",)
    kept = only(plan, "remember that /etc/l is missing")
    assert 'unlinkat(%keep, "l", 0)' in lines(kept.undo)


@pytest.mark.parametrize(
    ("fact", "changed"), [(missing("/d"), True), (folder(), False)], ids=["missing", "there"]
)
def test_a_folders_mode_is_set_where_it_is_made(fact: PathFact, changed: bool) -> None:
    """One of the rootfs's own keeps its mode: it is the host's."""
    plan = filed({"/d": fact}, **{"/d": {"folder": True, "mode": "0700"}})
    steps = lines(only(plan, "make the folder /d"))
    assert ("fchmod(%folder, 0700)" in steps) == changed
    assert has(plan, "remember that /d is missing") == changed


def test_entries_are_made_in_their_order() -> None:
    plan = filed(**{
        "/d": {"folder": True}, "/d/x": {"content": "1"}, "/l": {"symlink": "d/x"},
    })  # fmt: skip
    order(plan, Track.CHILD, "make the folder /d", "put /d/x", "link /l to d/x")
