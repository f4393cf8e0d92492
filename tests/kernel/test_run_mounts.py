"""Every kind of mount and of change, as the command's mountinfo shows it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.box import Box, MountLine, give, mountinfo, top_mounts
from tests.support.requires import requires

TABLE = "cat /proc/self/mountinfo"
SPACES = ["user", "mount", "pid"]


@pytest.fixture
def bare(box: Box, rootfs: Path) -> Box:
    """A busybox rootfs with nothing but its own mounts."""
    return box.with_(namespaces=["user", "mount", "pid", "ipc", "network"], rootfs=str(rootfs))


@pytest.fixture
def data(box: Box) -> Path:
    """A folder with a file and a folder in it, the user's own."""
    made = box.folder_of_user("data")
    (made / "file").write_text("content\n")
    (made / "sub").mkdir()
    return made


def table(box: Box, mounts: list[Any], **keys: Any) -> dict[str, MountLine]:
    return top_mounts(box.out(TABLE, mounts=mounts, **keys))


# --- binds -----------------------------------------------------------------------------------


def test_bind_a_folder_and_a_file(box: Box, own_root: Path, data: Path) -> None:
    mounts = [f"{data}:/mnt", f"{data}/file:/srv/one"]
    bare = box.with_(namespaces=SPACES, rootfs=str(own_root))
    assert bare.out("ls /mnt | xargs; cat /srv/one", mounts=mounts) == "file sub\ncontent"


def test_bind_short_form_with_options(bare: Box, data: Path) -> None:
    seen = table(bare, [f"{data}:/mnt:ro,noexec"])["/mnt"]
    assert {"ro", "noexec", "nosuid", "nodev"} <= set(seen.options)


def test_a_bind_is_nosuid_and_nodev_unless_it_says_otherwise(bare: Box, data: Path) -> None:
    plain = {"type": "bind", "source": str(data), "target": "/mnt"}
    open_ = {**plain, "target": "/srv", "options": ["suid", "dev"]}
    seen = table(bare, [plain, open_])
    assert {"nosuid", "nodev"} <= set(seen["/mnt"].options)
    assert not {"nosuid", "nodev"} & set(seen["/srv"].options)


def test_read_only_holds(bare: Box, data: Path) -> None:
    mounts = [{"type": "bind", "source": str(data), "target": "/mnt", "options": ["ro"]}]
    result = bare.run("touch /mnt/x", mounts=mounts)
    assert result.status == 1
    assert "Read-only file system" in result.stderr


def test_relative_sources_are_beside_the_spec(bare: Box, data: Path) -> None:
    assert data.parent == bare.folder
    assert bare.out("cat /mnt/file", mounts=["./data:/mnt"]) == "content"


def test_a_file_shows_its_changes_outside(user_box: Box, rootfs: Path) -> None:
    folder = user_box.folder_of_user("shared")
    spec = user_box.spec(
        command="echo made > /mnt/new",
        namespaces=SPACES,
        rootfs=str(rootfs),
        mounts=[f"{folder}:/mnt"],
    )
    user_box.runner.run(spec).ok()
    assert (folder / "new").read_text() == "made\n"


def test_a_fifo_through_a_bind_needs_no_namespace(box: Box, rootfs: Path) -> None:
    folder = box.folder_of_user("fifos")
    os.mkfifo(folder / "fifo")
    os.chmod(folder / "fifo", 0o666)
    keys = {"namespaces": SPACES, "rootfs": str(rootfs), "mounts": [f"{folder}:/mnt"]}
    with box.running("cat /mnt/fifo", **keys) as running:
        with open(folder / "fifo", "w") as fifo:
            fifo.write("through\n")
        assert running.line() == "through"


@pytest.fixture
def nested(root_box: Box) -> Iterator[Path]:
    """A folder with a tmpfs mounted in it, on the host; only for root."""
    made = root_box.folder / "nested"
    (made / "inner").mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "nsrun-test", made / "inner"], check=True)
    try:
        (made / "inner/deep").touch()
        yield made
    finally:
        subprocess.run(["umount", made / "inner"], check=True)


@requires("root")
@pytest.mark.parametrize("recursive", [True, False])
def test_recursive(root_box: Box, rootfs: Path, nested: Path, recursive: bool) -> None:
    entry = {"type": "bind", "source": str(nested), "target": "/mnt", "recursive": recursive}
    keys = {"namespaces": ["mount", "pid"], "rootfs": str(rootfs), "mounts": [entry]}
    assert root_box.out("ls /mnt/inner", **keys) == ("deep" if recursive else "")


@requires("root")
@pytest.mark.parametrize(("word", "inner"), [("ro", False), ("rro", True)])
def test_recursive_attributes(
    root_box: Box, rootfs: Path, nested: Path, word: str, inner: bool
) -> None:
    entry = {"type": "bind", "source": str(nested), "target": "/mnt", "options": [word]}
    keys = {"namespaces": ["mount", "pid"], "rootfs": str(rootfs), "mounts": [entry]}
    seen = top_mounts(root_box.out(TABLE, **keys))
    assert "ro" in seen["/mnt"].options
    assert ("ro" in seen["/mnt/inner"].options) == inner


@requires("root")
@pytest.mark.parametrize("word", ["rnosuid", "rnodev", "rnoexec", "rnosymfollow"])
def test_other_recursive_attributes(
    root_box: Box, rootfs: Path, nested: Path, word: str
) -> None:
    options = [word] if word == "rnoexec" else [word, "suid", "dev"]
    if word in ("rnosuid", "rnodev"):
        options = [word]
    entry = {"type": "bind", "source": str(nested), "target": "/mnt", "options": options}
    keys = {"namespaces": ["mount", "pid"], "rootfs": str(rootfs), "mounts": [entry]}
    seen = top_mounts(root_box.out(TABLE, **keys))
    assert word.removeprefix("r") in seen["/mnt"].options
    assert word.removeprefix("r") in seen["/mnt/inner"].options


def test_nosymfollow(bare: Box, data: Path) -> None:
    (data / "link").symlink_to("file")
    mounts = [{"type": "bind", "source": str(data), "target": "/mnt", "options": ["nosymfollow"]}]
    result = bare.run("cat /mnt/file; cat /mnt/link", mounts=mounts)
    assert result.stdout == "content\n"
    assert result.status == 1


def test_noexec_and_exec(bare: Box, data: Path) -> None:
    program = data / "program"
    program.write_text("#!/bin/sh\necho ran\n")
    program.chmod(0o755)
    entry = {"type": "bind", "source": str(data), "target": "/mnt"}
    assert bare.out("/mnt/program", mounts=[entry]) == "ran"
    assert bare.run("/mnt/program", mounts=[{**entry, "options": ["noexec"]}]).status == 126


@pytest.mark.parametrize(
    ("word", "shown"),
    [("noatime", "noatime"), ("relatime", "relatime"), ("strictatime", ""),
     ("nodiratime", "nodiratime")],
)  # fmt: skip
def test_access_times(bare: Box, word: str, shown: str) -> None:
    seen = table(bare, [{"type": "tmpfs", "target": "/mnt", "options": [word]}])["/mnt"]
    modes = {"noatime", "relatime", "nodiratime"} & set(seen.options)
    assert shown in modes if shown else not modes & {"noatime", "relatime"}


def test_an_optional_source(bare: Box, data: Path) -> None:
    missing = {"type": "bind", "source": str(data / "none"), "target": "/mnt"}
    seen = table(bare, [{**missing, "optional": True}])
    assert "/mnt" not in seen
    said = bare.refused(mounts=[missing])
    assert "NS305" in said and "none` does not exist" in said


# --- file systems ----------------------------------------------------------------------------


def test_tmpfs_with_options(bare: Box) -> None:
    entry = {"type": "tmpfs", "target": "/mnt", "options": ["size=64k", "mode=0711", "noexec"]}
    seen = table(bare, [entry])["/mnt"]
    assert (seen.type, seen.source) == ("tmpfs", "tmpfs")
    assert "size=64k" in seen.super_options and "mode=711" in seen.super_options
    assert {"nosuid", "nodev", "noexec"} <= set(seen.options)
    full = bare.run("head -c 100000 /dev/zero > /mnt/x", mounts=[entry])
    assert full.status == 1
    assert bare.run("head -c 10000 /dev/zero > /mnt/x", mounts=[entry]).status == 0


def test_the_source_is_a_name_for_people(bare: Box) -> None:
    entry = {"type": "tmpfs", "target": "/mnt", "source": "my-scratch"}
    assert table(bare, [entry])["/mnt"].source == "my-scratch"


@pytest.mark.parametrize("kind", ["proc", "sysfs", "mqueue", "devpts", "cgroup2", "ramfs"])
def test_other_file_systems(bare: Box, kind: str) -> None:
    spaces = ["user", "mount", "pid", "ipc", "network", "cgroup"]
    seen = table(bare, [{"type": kind, "target": "/mnt"}], namespaces=spaces)
    assert seen["/mnt"].type == kind


@pytest.mark.parametrize(
    ("kind", "lacks"),
    [("proc", "pid"), ("sysfs", "network"), ("mqueue", "ipc"), ("cgroup2", "cgroup")],
)
def test_a_file_system_of_the_callers_namespace(bare: Box, kind: str, lacks: str) -> None:
    """It is refused before anything is made, and unshare(1) shows that the kernel would do it."""
    flags = {"pid": "-p", "network": "-n", "ipc": "-i", "cgroup": "-C"}
    script = ["mount", "-t", kind, "none", "/mnt"]
    every = ["unshare", "-Urmf", *flags.values()]
    bare.runner.run_program(*every, *script).ok()
    without = [word for word in every if word != flags[lacks]]
    assert bare.runner.run_program(*without, *script).status != 0
    spaces = [space for space in ("user", "mount", *flags) if space != lacks]
    said = bare.refused(
        namespaces=spaces, default_mounts=False, mounts=[{"type": kind, "target": "/mnt"}]
    )
    assert "NS301" in said and f"needs the {lacks} namespace" in said


def test_the_kernels_own_words_about_a_bad_option(bare: Box) -> None:
    """fsconfig(2) says only EINVAL; the text is read from the fsopen(2) descriptor."""
    said = bare.refused(mounts=[{"type": "tmpfs", "target": "/mnt", "options": ["size=much"]}])
    assert "EINVAL" in said
    assert "the kernel says: " in said
    assert "Bad value for 'size'" in said
    unknown = bare.refused(mounts=[{"type": "tmpfs", "target": "/mnt", "options": ["colour=red"]}])
    assert "Unknown parameter 'colour'" in unknown


def test_an_unknown_file_system(bare: Box) -> None:
    said = bare.refused(mounts=[{"type": "nosuchfs", "target": "/mnt"}])
    assert "ENODEV" in said and "nosuchfs" in said


@requires("overlay_userns", "overlay")
def test_an_overlay_entry(bare: Box) -> None:
    names = ("base", "over", "up", "work")
    base, over, up, work = (bare.folder_of_user(f"o/{n}") for n in names)
    give(bare.folder / "o", bare.runner)
    (base / "lower").write_text("low\n")
    (over / "upper").write_text("up\n")
    layers = {"type": "overlay", "target": "/mnt", "lower": [str(over), str(base)]}
    assert bare.out("cat /mnt/lower /mnt/upper", mounts=[layers]) == "low\nup"
    full = {**layers, "lower": [str(base)], "upper": str(up), "work": str(work)}
    file = bare.spec(command="cat /mnt/lower; echo new > /mnt/new", mounts=[full])
    assert bare.runner.run(file).ok() == "low\n"
    assert (up / "new").read_text() == "new\n"
    assert not (base / "new").exists()


@requires("overlay_userns", "overlay")
def test_an_overlay_entry_without_a_rootfs(box: Box) -> None:
    """The command starts in the caller's folder, whatever the making of the overlay took."""
    base, over = (box.folder_of_user(f"o/{name}") for name in ("base", "over"))
    (base / "lower").write_text("low\n")
    layers = {"type": "overlay", "target": "/mnt", "lower": [str(over), str(base)]}
    here = box.out("pwd", namespaces=SPACES)
    assert box.out("pwd; cat /mnt/lower", namespaces=SPACES, mounts=[layers]) == f"{here}\nlow"


def test_an_optional_device_that_is_not_there(bare: Box) -> None:
    missing = {"type": "ext4", "source": "/dev/none", "target": "/mnt"}
    assert "does not exist" in bare.refused(mounts=[missing])
    assert "/mnt" not in table(bare, [{**missing, "optional": True}])


# --- order -----------------------------------------------------------------------------------


def test_entries_are_mounted_in_their_order(bare: Box, data: Path) -> None:
    mounts = [
        {"type": "tmpfs", "target": "/mnt"},
        {"type": "bind", "source": str(data), "target": "/mnt/data"},
        {"type": "tmpfs", "target": "/mnt/data/sub"},
    ]
    seen = top_mounts(bare.out(TABLE, mounts=mounts))
    outer, middle, inner = (seen[t] for t in ("/mnt", "/mnt/data", "/mnt/data/sub"))
    assert (outer.type, inner.type) == ("tmpfs", "tmpfs")
    assert (middle.parent, inner.parent) == (outer.id, middle.id)


def test_a_later_entry_covers_an_earlier_one(bare: Box, data: Path) -> None:
    mounts = [f"{data}:/mnt", {"type": "tmpfs", "target": "/mnt"}]
    result = bare.run("ls /mnt | wc -l", mounts=mounts)
    assert result.ok().strip() == "0"
    assert "NS310" in result.stderr, "no warning that the second hides the first"


def test_without_a_rootfs_a_source_may_be_an_earlier_mount(box: Box) -> None:
    mounts = [
        {"type": "tmpfs", "target": "/mnt"},
        {"type": "bind", "source": "/mnt", "target": "/media"},
    ]
    assert box.out("touch /mnt/x; ls /media", namespaces=SPACES, mounts=mounts) == "x"


# --- changes ---------------------------------------------------------------------------------


def test_umount(bare: Box) -> None:
    mounts = [{"type": "tmpfs", "target": "/mnt"}, {"type": "umount", "target": "/mnt"},
              {"type": "umount", "target": "/dev/mqueue"}]  # fmt: skip
    seen = table(bare, mounts)
    assert "/mnt" not in seen
    assert "/dev/mqueue" not in seen
    assert "/dev/shm" in seen


def test_umount_of_what_is_no_mount(bare: Box) -> None:
    said = bare.refused(mounts=[{"type": "umount", "target": "/srv"}])
    assert "EINVAL" in said and "unmount /srv" in said


def test_remount_read_only(box: Box, own_root: Path) -> None:
    keys = {"namespaces": SPACES, "rootfs": str(own_root)}
    mounts = [{"target": "/", "options": ["ro"], "remount": True}]
    assert box.run("touch /x", mounts=mounts, **keys).status == 1


def test_the_file_system_behind_a_bind_stays_as_it_is(root_box: Box, tmp_path: Path) -> None:
    """Seen from outside: a superblock is shared, so what a container did to it would stay."""
    place = tmp_path / "place"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], check=True)
    try:
        mounts = [
            {"type": "bind", "source": str(place), "target": "/mnt"},
            {"target": "/mnt", "options": ["size=2m"], "remount": True},
        ]
        said = root_box.refused(namespaces=SPACES, mounts=mounts)
        assert "NS409" in said and f"{place} is the host's" in said
        here = mountinfo(Path("/proc/self/mountinfo").read_text())
        (seen,) = (m for m in here if m.target == str(place))
        assert "size=1024k" in seen.super_options
    finally:
        subprocess.run(["umount", place], check=True)


def test_remount_changes_the_file_system_too(bare: Box) -> None:
    mounts = [
        {"type": "tmpfs", "target": "/mnt", "options": ["size=1m"]},
        {"target": "/mnt", "options": ["size=2m"], "remount": True},
    ]
    assert "size=2048k" in table(bare, mounts)["/mnt"].super_options


def test_attributes_of_a_mount_that_is_there(bare: Box) -> None:
    mounts = [{"target": "/dev/shm", "options": ["ro", "noatime"]}]
    seen = table(bare, mounts)["/dev/shm"]
    assert {"ro", "noatime"} <= set(seen.options)


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("private", ""),
        ("shared", "shared"),
        ("unbindable", "unbindable"),
        ("slave", ""),  # the only member of its group: private
        (["shared", "slave"], ""),
        (["slave", "shared"], "shared"),
        (["shared", "unbindable"], "unbindable"),
    ],
)
def test_propagation_of_an_entry(bare: Box, words: object, wanted: str) -> None:
    entry = {"type": "tmpfs", "target": "/mnt", "propagation": words}
    seen = table(bare, [entry])["/mnt"]
    assert [tag.partition(":")[0] for tag in seen.tags] == ([wanted] if wanted else [])


def test_propagation_of_a_whole_tree(bare: Box) -> None:
    mounts = [
        {"type": "tmpfs", "target": "/mnt"},
        {"type": "tmpfs", "target": "/mnt/inner"},
        {"target": "/mnt", "propagation": "rshared"},
        {"type": "tmpfs", "target": "/srv"},
        {"type": "tmpfs", "target": "/srv/inner"},
        {"target": "/srv", "propagation": "shared"},
    ]
    seen = table(bare, mounts)
    assert seen["/mnt"].peer_group and seen["/mnt/inner"].peer_group
    assert seen["/srv"].peer_group and not seen["/srv/inner"].peer_group


# --- between host and container --------------------------------------------------------------


@pytest.fixture
def host_shared(root_box: Box) -> Iterator[Path]:
    """A folder that is a shared mount of the host, for mounts to come and go in."""
    made = root_box.folder / "exchange"
    made.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "nsrun-test", made], check=True)
    try:
        subprocess.run(["mount", "--make-shared", made], check=True)
        (made / "a").mkdir()
        (made / "b").mkdir()
        yield made
    finally:
        subprocess.run(["umount", "-R", made], check=True)


@requires("root")
@pytest.mark.parametrize(
    ("words", "from_host", "to_host"),
    [("private", False, False), ("slave", True, False), ("shared", True, True),
     ("rslave", True, False), ([], False, False)],
)  # fmt: skip
def test_propagation_with_the_host(
    root_box: Box, host_shared: Path, words: object, from_host: bool, to_host: bool
) -> None:
    entry = {"type": "bind", "source": str(host_shared), "target": "/mnt"}
    if words:
        entry["propagation"] = words  # type: ignore[assignment]
    keys = {
        "namespaces": ["mount"],
        "mounts": [entry],
        "capabilities": {"add": ["CAP_SYS_ADMIN"]},
    }
    command = "mount -t tmpfs from-inside /mnt/b; echo ready; read x; cat /proc/self/mountinfo"
    with root_box.running(command, **keys) as running:
        assert running.line() == "ready"
        out = {line.target for line in mountinfo(Path("/proc/self/mountinfo").read_text())}
        subprocess.run(["mount", "-t", "tmpfs", "from-host", host_shared / "a"], check=True)
        stdout, _ = running.process.communicate("\n", timeout=10)
        inside = {line.target for line in mountinfo(stdout)}
        subprocess.run(["umount", host_shared / "a"], check=True)
    assert ("/mnt/a" in inside) == from_host
    assert (str(host_shared / "b") in out) == to_host


@requires("root")
@pytest.mark.parametrize("propagation", ["rprivate", "rslave", "rshared"])
@pytest.mark.parametrize(("word", "field"), [("slave", "master:"), ("rshared", "shared:")])
def test_an_entry_keeps_its_propagation_whatever_the_root_has(
    root_box: Box, host_shared: Path, rootfs: Path, propagation: str, word: str, field: str
) -> None:
    """The old root is parted from the host before it is unmounted; what is in the new is not."""
    entry = {"type": "bind", "source": str(host_shared), "target": "/mnt", "propagation": word}
    before = Path("/proc/self/mountinfo").read_text()
    out = root_box.out(
        "grep ' /mnt ' /proc/self/mountinfo", rootfs=str(rootfs), mounts=[entry],
        namespaces=["mount", "pid"], propagation=propagation,
    )  # fmt: skip
    assert field in out
    assert Path("/proc/self/mountinfo").read_text() == before


@requires("root")
def test_the_tree_follows_the_host_with_rslave(root_box: Box, host_shared: Path) -> None:
    for propagation, seen in (("rslave", True), ("rprivate", False)):
        keys = {"namespaces": ["mount"], "propagation": propagation}
        with root_box.running("echo up; read x; cat /proc/self/mountinfo", **keys) as running:
            assert running.line() == "up"
            subprocess.run(["mount", "-t", "tmpfs", "later", host_shared / "a"], check=True)
            stdout, _ = running.process.communicate("\n", timeout=10)
            subprocess.run(["umount", host_shared / "a"], check=True)
        assert (str(host_shared / "a") in {m.target for m in mountinfo(stdout)}) == seen


def test_a_bind_of_an_unbindable_mount_fails(box: Box) -> None:
    mounts = [
        {"type": "tmpfs", "target": "/mnt", "propagation": "unbindable"},
        {"type": "bind", "source": "/mnt", "target": "/media"},
    ]
    said = box.refused(namespaces=SPACES, mounts=mounts)
    assert "cannot bind /mnt on /media: Invalid argument (EINVAL)" in said


# --- idmapped --------------------------------------------------------------------------------


@requires("root", "idmapped_mounts")
def test_an_idmapped_bind(root_box: Box, rootfs: Path) -> None:
    folder = root_box.folder / "mapped"
    folder.mkdir()
    mounts = [{"type": "bind", "source": str(folder), "target": "/mnt", "idmap": True}]
    keys = {"namespaces": SPACES, "rootfs": str(rootfs), "mounts": mounts}
    file = root_box.spec(command="touch /mnt/x; stat -c %u /mnt /mnt/x", **keys)
    assert root_box.runner.run(file).ok().split() == ["0", "0"]
    assert (folder / "x").stat().st_uid == 0


@requires("root", "idmapped_mounts")
def test_a_bind_with_maps_of_its_own(root_box: Box, rootfs: Path) -> None:
    folder = root_box.folder / "mapped"
    folder.mkdir()
    (folder / "file").touch()
    os.chown(folder / "file", 4242, 4343)
    maps = {"uid": ["4242:5000:1", "0:0:1"], "gid": ["4343:6000:1", "0:0:1"]}
    mounts = [{"type": "bind", "source": str(folder), "target": "/mnt", "idmap": maps}]
    keys = {"namespaces": ["mount"], "mounts": mounts}
    assert root_box.out("stat -c %u:%g /mnt/file", **keys) == "5000:6000"


def test_an_idmapped_bind_needs_root(user_box: Box, rootfs: Path) -> None:
    folder = user_box.folder_of_user("mapped")
    mounts = [{"type": "bind", "source": str(folder), "target": "/mnt", "idmap": True}]
    said = user_box.refused(namespaces=SPACES, rootfs=str(rootfs), mounts=mounts)
    assert "NS402" in said and "needs root" in said
