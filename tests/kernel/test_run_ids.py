"""Id maps of every kind, and who the command is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.box import Box, give
from tests.support.requires import requires
from tests.support.rootfs import make_rootfs

MAPS = "cat /proc/self/uid_map; echo; cat /proc/self/gid_map; echo; cat /proc/self/setgroups"


def maps(box: Box, **keys: object) -> tuple[list[list[int]], list[list[int]], str]:
    """uid_map, gid_map and setgroups as the command sees them."""
    uid, gid, setgroups = box.out(MAPS, namespaces=["user"], **keys).split("\n\n")
    numbers = [
        [[int(n) for n in line.split()] for line in text.strip().splitlines()]
        for text in (uid, gid)
    ]
    return numbers[0], numbers[1], setgroups.strip()


def test_root_is_the_caller_alone(box: Box) -> None:
    user = box.runner.user
    uid, gid, setgroups = maps(box, idmap="root")
    assert (uid, gid) == ([[0, user.uid, 1]], [[0, user.gid, 1]])
    # An unprivileged gid_map is only written once setgroups is denied (user_namespaces(7)).
    assert setgroups == ("allow" if user.is_caller else "deny")


def test_keep_is_the_caller_itself(box: Box) -> None:
    user = box.runner.user
    uid, gid, _ = maps(box, idmap="keep")
    assert (uid, gid) == ([[user.uid, user.uid, 1]], [[user.gid, user.gid, 1]])
    assert box.out("id -u; id -g", namespaces=["user"], idmap="keep").split() == [
        str(user.uid),
        str(user.gid),
    ]


def test_auto_of_root_is_no_id_of_the_hosts_people(root_box: Box) -> None:
    uid, gid, setgroups = maps(root_box, name="auto")
    assert len(uid) == len(gid) == 1
    assert uid[0][0] == 0 and uid[0][1] >= 100_000 and uid[0][2] >= 65_536
    assert setgroups == "allow"
    assert maps(root_box, name="auto") == (uid, gid, setgroups), "not the same the second time"


@requires("newuidmap")
def test_auto_of_a_user_with_subordinate_ids(user_box: Box) -> None:
    user = user_box.runner.user
    uid, gid, setgroups = maps(user_box)
    assert uid == [[0, user.uid, 1], [1, user.sub_start, user.sub_size]]
    assert gid == [[0, user.gid, 1], [1, user.sub_start, user.sub_size]]
    assert setgroups == "allow"
    assert maps(user_box, idmap="auto") == (uid, gid, setgroups)


def test_auto_of_a_user_without_subordinate_ids(area: Path) -> None:
    from tests.support.runner import Runner
    from tests.support.users import ordinary_user

    user = ordinary_user(area, subordinate_ids=False, name="nosub")
    box = Box(runner=Runner(user=user, cwd=area), folder=user.home)
    assert maps(box) == ([[0, user.uid, 1]], [[0, user.gid, 1]], "deny")


def test_explicit_ranges_of_root(root_box: Box) -> None:
    gids = [{"container": 0, "host": 5, "size": 1}]
    wanted = {"uid": ["0:700000:10", "1000:1000:1"], "gid": gids}
    uid, gid, _ = maps(root_box, idmap=wanted)
    assert uid == [[0, 700000, 10], [1000, 1000, 1]]
    assert gid == [[0, 5, 1]]


@requires("newuidmap")
def test_explicit_ranges_of_a_user(user_box: Box) -> None:
    user = user_box.runner.user
    ranges = [f"0:{user.uid}:1", f"1:{user.sub_start + 7}:100"]
    uid, gid, setgroups = maps(user_box, idmap={"uid": ranges, "gid": ranges})
    assert uid == gid == [[0, user.uid, 1], [1, user.sub_start + 7, 100]]
    assert setgroups == "allow"


def test_ids_that_are_not_the_users(user_box: Box) -> None:
    said = user_box.refused(namespaces=["user"], idmap={"uid": ["0:0:1"], "gid": ["0:0:1"]})
    assert "NS403" in said
    assert "not the caller's to map" in said
    assert "/etc/subuid" in said


def test_host_ids_written_out_by_root(root_box: Box) -> None:
    uid, gid, _ = maps(root_box, idmap={"uid": ["0:0:65536"], "gid": ["0:0:65536"]})
    assert (uid, gid) == ([[0, 0, 65536]], [[0, 0, 65536]])


def test_a_nested_user_namespace_has_narrower_maps(root_box: Box) -> None:
    """Ids of the outer namespace that are not mapped on are nobody's in the inner."""
    outer = {"uid": ["0:700000:1000"], "gid": ["0:700000:1000"]}
    inner = root_box.spec(
        "inner",
        command="cat /proc/self/uid_map; id -u",
        namespaces=["user"],
        idmap={"uid": ["0:500:10"], "gid": ["0:500:10"]},
    )
    words = root_box.runner.argv(inner)
    root_box.folder.chmod(0o755)
    text = root_box.out(
        [*words],
        namespaces=["user"],
        idmap=outer,
        capabilities="all",
        # Nested, it joins a session keyring of its own: keyctl(2).
        seccomp="unconfined",
        env=root_box.runner.environment(),
    )
    assert text.split() == ["0", "500", "10", "0"]


def test_a_map_is_written_once(box: Box) -> None:
    """Not even root inside, with every capability, changes who it is outside."""
    write = "echo '0 0 1' > /proc/self/uid_map || cat /proc/self/uid_map"
    result = box.run(write, namespaces=["user"], idmap="root", capabilities="all")
    assert result.ok().split() == ["0", str(box.runner.user.uid), "1"]
    assert "Operation not permitted" in result.stderr or "I/O error" in result.stderr


@pytest.mark.parametrize("lacks", ["uid", "gid"])
def test_one_of_the_maps_alone(box: Box, lacks: str) -> None:
    """An empty list maps none: the other id stays without a number inside."""
    user = box.runner.user
    full = {"uid": [f"0:{user.uid}:1"], "gid": [f"0:{user.gid}:1"]}
    shown = box.out("id -u; id -g", namespaces=["user"], idmap={**full, lacks: []}).split()
    assert shown == (["65534", "0"] if lacks == "uid" else ["0", "65534"])
    lines = box.out("wc -l < /proc/self/uid_map; wc -l < /proc/self/gid_map",
                    namespaces=["user"], idmap={**full, lacks: []}).split()  # fmt: skip
    assert lines == (["0", "1"] if lacks == "uid" else ["1", "0"])


def test_nobody_is_chosen_without_a_map(box: Box) -> None:
    nothing = {"uid": [], "gid": []}
    said = box.refused(namespaces=["user"], idmap=nothing, user="0:0")
    assert said.count("NS403") == 2 and "mapped are none" in said


@requires("root")
def test_groups_that_cannot_be_dropped_are_refused(root_box: Box) -> None:
    """Without a gid map setgroups(2) fails, and the command would keep the caller's groups."""
    wrapped = root_box.as_(wrapper=("setpriv", "--groups", "0,4242", "--"))
    nothing = {"uid": ["0:0:1"], "gid": []}
    assert "NS403" in wrapped.refused(namespaces=["user"], idmap=nothing)
    assert wrapped.out("id -G", namespaces=["user"], idmap="root") == "0"


# --- a host range and the rootfs -------------------------------------------------------------


@pytest.fixture
def root_rootfs(root_box: Box) -> Path:
    return give(make_rootfs(root_box.folder / "rootfs"), root_box.runner)


FURNISHED = ["user", "mount", "pid", "ipc", "uts", "network"]


@requires("root", "idmapped_mounts")
def test_files_made_in_an_idmapped_rootfs_are_roots_on_disk(
    root_box: Box, root_rootfs: Path
) -> None:
    keys = {"namespaces": FURNISHED, "rootfs": str(root_rootfs), "name": "idmapped"}
    file = root_box.spec(command="id -u; cat /proc/self/uid_map; touch /made; stat -c %u:%g /made",
                         **keys)
    printed = root_box.runner.run(file).ok().split()
    assert printed[0] == "0"
    assert int(printed[2]) >= 100_000, "uid 0 is mapped to a person's or to host root"
    assert printed[-1] == "0:0"
    made = (root_rootfs / "made").stat()
    assert (made.st_uid, made.st_gid) == (0, 0)


@requires("root", "idmapped_mounts")
def test_other_ids_keep_their_numbers_on_disk(root_box: Box, root_rootfs: Path) -> None:
    keys = {"namespaces": FURNISHED, "rootfs": str(root_rootfs)}
    root_box.runner.run(root_box.spec(command="touch /made; chown 1000:10 /made", **keys)).ok()
    made = (root_rootfs / "made").stat()
    assert (made.st_uid, made.st_gid) == (1000, 10)


@requires("root")
def test_without_the_map_the_files_of_root_are_foreign(root_box: Box, root_rootfs: Path) -> None:
    """The control: the same folder bound as it is belongs to nobody inside."""
    mounts = [{"type": "bind", "source": str(root_rootfs), "target": "/mnt"}]
    said = root_box.run(
        "stat -c %u /mnt/etc; touch /mnt/etc/x",
        namespaces=["user", "mount"],
        mounts=mounts,
    )
    assert said.stdout == "65534\n"
    assert said.status != 0


# --- the user --------------------------------------------------------------------------------


def test_the_default_is_root_inside(boxed: Box) -> None:
    assert boxed.out("id -u; id -g; id -G").split() == ["0", "0", "0"]


@requires("newuidmap")
@pytest.mark.parametrize(
    ("who", "wanted"),
    [
        ("1000:1000", "uid=1000(alice) gid=1000(alice)"),
        ("alice", "uid=1000(alice) gid=1000(alice)"),
        ("alice:daemon", "uid=1000(alice) gid=1(daemon)"),
        ("1000", "uid=1000(alice) gid=1000(alice)"),
        (4242, "uid=4242 gid=0(root)"),
        ({"uid": 5, "gid": 6, "groups": [7, "wheel"]}, "uid=5 gid=6 groups=7,10(wheel)"),
    ],
)
def test_user(boxed: Box, who: object, wanted: str) -> None:
    printed = boxed.out("id", user=who)
    if "groups" not in wanted:
        printed = printed.partition(" groups=")[0]
    assert printed == wanted


@requires("newuidmap")
def test_a_name_brings_its_groups(boxed: Box) -> None:
    assert sorted(boxed.out("id -G", user="alice").split()) == ["10", "1000"]


def test_digits_are_never_looked_up(box: Box, own_root: Path) -> None:
    """A user called 4242 with uid 0 must not make 4242 root (CVE-2016-3697)."""
    passwd = own_root / "etc/passwd"
    passwd.write_text("root:x:0:0::/:/bin/sh\n4242:x:0:0::/:/bin/sh\n")
    box = box.with_(namespaces=FURNISHED, rootfs=str(own_root))
    result = box.run("id -u", user="4242")
    # Mapped or not, it is never 0.
    assert result.stdout.strip() in ("4242", "")
    assert (result.status == 0) == (result.stdout.strip() == "4242")


def test_an_unknown_name(boxed: Box) -> None:
    said = boxed.refused(user="mallory")
    assert "user mallory is not known" in said
    assert "/etc/passwd" in said


def test_an_id_that_is_not_mapped(boxed: Box) -> None:
    said = boxed.refused(user="4000000000:0")
    assert "NS403" in said
    assert "4000000000 is not mapped" in said


def test_a_passwd_that_is_a_fifo_does_not_hang(box: Box, own_root: Path) -> None:
    import os

    (own_root / "etc/passwd").unlink()
    os.mkfifo(own_root / "etc/passwd")
    box = box.with_(namespaces=FURNISHED, rootfs=str(own_root))
    assert "not known" in box.refused(user="alice")


def test_a_passwd_that_leads_outside_is_not_read(box: Box, own_root: Path) -> None:
    """Names are looked up within the rootfs: a symlink to the host's file is not followed."""
    (own_root / "etc/passwd").unlink()
    (own_root / "etc/passwd").symlink_to("/proc/self/root/etc/passwd")
    box = box.with_(namespaces=FURNISHED, rootfs=str(own_root))
    assert "not known" in box.refused(user="daemon")


@requires("root")
def test_root_without_a_user_namespace_takes_other_ids(root_box: Box) -> None:
    user = {"uid": 4242, "gid": 4343, "groups": [4444]}
    printed = root_box.out("id -u; id -g; id -G", namespaces=["uts"], user=user)
    assert printed.split() == ["4242", "4343", "4343", "4444"]


def test_a_user_cannot_become_another_without_a_user_namespace(user_box: Box) -> None:
    said = user_box.refused(namespaces=[], user="0:0")
    assert "NS402" in said and "cannot run as 0:0" in said


@requires("root")
def test_supplementary_groups_are_not_inherited(root_box: Box) -> None:
    runner = root_box.runner.with_(wrapper=("setpriv", "--groups=4242,4243", "--"))
    control = runner.run_program("setpriv", "--groups=4242,4243", "--", "id", "-G").ok()
    assert "4242" in control
    file = root_box.spec(command="id -G", namespaces=["uts"])
    assert runner.run(file).ok().split() == ["0"]


def test_umask(boxed: Box) -> None:
    assert boxed.out("umask") == "0022"
    assert boxed.out("umask", user={"uid": 0, "umask": "027"}) == "0027"
