"""Mounts that fail for real: the error names the cause, and none where none was seen."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.box import Box, give
from tests.support.hints import Said, run_after, said
from tests.support.requires import requires

MOUNT = ["user", "mount"]


def refused(box: Box, /, *mounts: object, **keys: object) -> Said:
    keys.setdefault("namespaces", MOUNT)
    return said(box.refused("true", mounts=list(mounts), **keys))


@pytest.fixture
def layers(box: Box) -> dict[str, str]:
    """Folders for an overlay that belong to the user."""
    return {name: str(box.folder_of_user(name)) for name in ("lower", "upper", "work")}


def overlay(layers: dict[str, str], **keys: object) -> dict[str, object]:
    return {
        "type": "overlay",
        "target": "/mnt",
        "lower": [layers["lower"]],
        "upper": layers["upper"],
        "work": layers["work"],
        **keys,
    }


# --- overlays ----------------------------------------------------------------------------------


@requires("overlay", "overlay_userns")
def test_layers_that_hold_each_other(box: Box, layers: dict[str, str]) -> None:
    inside = str(box.folder_of_user("upper/work"))
    found = refused(box, overlay(layers, work=inside))
    assert f"{inside} lies in {layers['upper']}" in found.why
    assert "neither of which holds the other" in found.tips


@requires("overlay", "overlay_userns")
def test_layers_of_two_mounts(box: Box, layers: dict[str, str]) -> None:
    shm = Path("/dev/shm") / f"nsrun-{box.folder.name}-{box.folder.parent.name}"
    shm.mkdir()
    try:
        give(shm, box.runner)
        found = refused(box, overlay(layers, work=str(shm)))
    finally:
        shm.rmdir()
    assert "upper lies on " in found.why, found.text
    assert "work on /dev/shm (tmpfs): they must be on one mount" in found.why
    assert found.tips == f"make the work folder beside {layers['upper']}"


@requires("root", "overlay")
def test_an_upper_layer_on_an_overlay(root_box: Box) -> None:
    at = root_box.folder
    for name in ("l", "u", "w", "over", "lower"):
        (at / name).mkdir()
    options = f"lowerdir={at}/l,upperdir={at}/u,workdir={at}/w"
    script = f"mount -t overlay o -o {options} {at}/over && mkdir {at}/over/up {at}/over/wk"
    found = said(run_after(root_box.runner, script, overlay_spec(root_box, "over")))
    assert f"{at}/over/up lies on an overlay ({at}/over), which can be no upper layer" in found.why
    assert "from another file system" in found.tips


@requires("root", "overlay")
def test_an_upper_layer_that_cannot_be_written(root_box: Box) -> None:
    at = root_box.folder
    for name in ("ro", "lower"):
        (at / name).mkdir()
    made = f"mount -t tmpfs t {at}/ro && mkdir {at}/ro/up {at}/ro/wk"
    script = f"{made} && mount -o remount,ro {at}/ro"
    found = said(run_after(root_box.runner, script, overlay_spec(root_box, "ro")))
    assert found.why == f"{at}/ro/up lies on {at}/ro, which is mounted read-only"


def overlay_spec(box: Box, folder: str) -> Path:
    """A spec with an overlay whose upper and work folders lie in ``folder``."""
    layers = {name: f"{box.folder}/{folder}/{name}" for name in ("up", "wk")}
    entry = overlay({"lower": f"{box.folder}/lower", "upper": layers["up"], "work": layers["wk"]})
    return box.spec(namespaces=["mount"], mounts=[entry], command="true")


@requires("overlay", "overlay_userns")
def test_a_lower_layer_in_the_upper_one(box: Box, layers: dict[str, str]) -> None:
    inner = str(box.folder_of_user("upper/lower"))
    # The kernel leaves the work folder's own `work` behind.
    spec = box.spec(namespaces=MOUNT, mounts=[overlay(layers, lower=[inner])], command="true")
    found = said(box.runner.run(spec))
    assert f"the lower layer {inner} lies in upper ({layers['upper']})" in found.why, found.text
    assert "outside of every lower layer" in found.tips


@requires("overlay", "overlay_userns")
def test_a_volatile_overlay_of_before(box: Box, layers: dict[str, str]) -> None:
    box.folder_of_user("work/work/incompat/volatile")
    give(Path(layers["work"]), box.runner)
    found = refused(box, overlay(layers))
    assert f"{layers['work']}/work/incompat/volatile is there" in found.why
    assert f"empty {layers['work']}" in found.tips


@requires("root", "overlay")
def test_layers_in_use(root_box: Box) -> None:
    at = root_box.folder
    for name in ("lower", "upper", "work", "over"):
        (at / name).mkdir()
    script = (
        f"mount -t overlay o -o lowerdir={at}/lower,upperdir={at}/upper,workdir={at}/work {at}/over"
    )
    layers = {name: f"{at}/{name}" for name in ("lower", "upper", "work")}
    entry = overlay(layers, options=["index=on"])
    spec = root_box.spec(namespaces=["mount"], mounts=[entry], command="true")
    found = said(run_after(root_box.runner, script, spec))
    assert "EBUSY" in found.text
    assert f"{at}/upper is the upperdir of the overlay on {at}/over already" in found.why


@requires("overlay", "overlay_userns")
def test_an_option_that_overlay_does_not_know_has_no_cause(
    box: Box, layers: dict[str, str]
) -> None:
    found = refused(box, overlay(layers, options=["redirect_dir=maybe"]))
    assert "fsconfig" in found.text
    assert (found.why, found.tips) == ("", "")


# --- binds -------------------------------------------------------------------------------------


def test_a_source_whose_folder_is_closed(user_box: Box) -> None:
    closed = user_box.folder.parent / "closed"
    (closed / "inner").mkdir(parents=True)
    closed.chmod(0o700)
    found = refused(user_box, {"type": "bind", "source": str(closed / "inner"), "target": "/mnt"})
    assert "uid 0, which is " in found.why
    assert f"on the host, may not enter {closed} (mode 0700, owner 0:0)" in found.why


@requires("root")
def test_host_root_may_not_enter_what_others_own(root_box: Box) -> None:
    closed = root_box.folder.parent / "closed"
    (closed / "inner").mkdir(parents=True)
    closed.chmod(0o700)
    os.chown(closed, 4711, 4711)
    # With its own ids the container's root has no right over 4711, as user_namespaces(7) says.
    found = refused(
        root_box,
        {"type": "bind", "source": str(closed / "inner"), "target": "/mnt"},
        idmap={"uid": ["0:0:1"], "gid": ["0:0:1"]},
    )
    assert f"uid 0 in a new user namespace may not enter {closed} (mode 0700" in found.why


def test_a_source_that_another_entry_hides_is_no_missing_file(user_box: Box) -> None:
    inner = user_box.folder_of_user("a/b")
    found = refused(
        user_box,
        {"type": "tmpfs", "target": str(inner.parent)},
        {"type": "bind", "source": str(inner), "target": "/mnt"},
    )
    assert "ENOENT" in found.text
    # The host still has it: nothing was seen that explains it.
    assert found.why == ""


@requires("root")
def test_the_containers_root_is_another_on_the_host(root_box: Box) -> None:
    # The home is of mode 0700 and belongs to host root.
    found = refused(root_box, {"type": "tmpfs", "target": str(root_box.folder / "a")})
    assert f"a is missing in {root_box.folder}, where uid 0, which is " in found.why
    assert "on the host, may make nothing (mode 0700, owner 0:0)" in found.why
    assert "make a in it beforehand" in found.tips
    (root_box.folder / "a/b").mkdir(parents=True)
    found = refused(root_box, {"type": "tmpfs", "target": str(root_box.folder / "a/b")})
    assert f"may not enter {root_box.folder} (mode 0700, owner 0:0)" in found.why


def test_a_mount_that_the_spec_has_made_unbindable(user_box: Box) -> None:
    inner = user_box.folder_of_user("a/b")
    found = refused(
        user_box,
        {"type": "bind", "source": str(inner.parent), "target": str(inner.parent)},
        {"target": str(inner.parent), "propagation": "unbindable"},
        {"type": "bind", "source": str(inner), "target": "/mnt"},
    )
    assert f"{inner} lies on {inner.parent}, which the spec has made unbindable" in found.why
    assert f"put it above the entry for {inner.parent}" in found.tips


def test_a_tree_that_must_stay_whole(user_box: Box) -> None:
    entry = {"type": "bind", "source": "/dev", "target": "/mnt", "recursive": False}
    found = refused(user_box, entry)
    assert "is mounted in it, and a user namespace may not uncover what that hides" in found.why
    assert found.tips == "leave out `recursive: false`"


def test_a_file_on_a_folder(box: Box) -> None:
    file = box.folder / "file"
    file.write_text("")
    give(file, box.runner)
    found = refused(box, {"type": "bind", "source": str(file), "target": "/mnt"})
    assert found.why == f"{file} is a file, and /mnt a folder"
    assert "name a target that is a file" in found.tips


@requires("root")
def test_flags_that_are_locked(user_box: Box) -> None:
    source = user_box.folder_of_user("source")
    script = f"mount -t tmpfs -o ro,nodev t {source}"
    box = user_box
    entry = {"type": "bind", "source": str(source), "target": "/mnt", "options": ["rw", "suid"]}
    spec = box.spec(namespaces=MOUNT, mounts=[entry], command="true")
    found = said(run_after(box.runner, script, spec))
    assert found.why == f"{source} is mounted ro, and a user namespace may not take that away"
    assert found.tips == "leave rw out of this entry's options"
