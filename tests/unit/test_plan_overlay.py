"""Overlays: how layers are named, whose they are, and the scratch space that goes again."""

from __future__ import annotations

import pytest

from nsrun.kernel.facts import Facts
from nsrun.plan.model import Action, Plan, Track
from tests.support import planning
from tests.support.planning import ORDINARY, ROOT, folder, has, knowing, lines, only, order, why

PATHS = {path: folder(1000) for path in ("/r", "/x/up", "/x/wk", "/l1", "/l2", "/l:1")}
OURS = knowing(ORDINARY, PATHS)
# The layers belong to the host's root, whose id no container has.
ROOTS = knowing(ROOT, {path: folder(0) for path in PATHS})
LAYERS = {"upper": "/x/up", "work": "/x/wk"}
NOTHING = {"default_mounts": False, "masked_paths": "none", "readonly_paths": "none"}


def planned(facts: Facts = OURS, **keys: object) -> Plan:
    spaces = ["user", "mount", "pid"]
    return planning.planned(facts, **{"namespaces": spaces, **NOTHING, **keys})


def rooted(overlay: object, facts: Facts = OURS, path: str = "/r", **keys: object) -> Plan:
    return planned(facts, rootfs={"path": path, "overlay": overlay}, **keys)


def entry(facts: Facts = OURS, **keys: object) -> Plan:
    overlay = {"type": "overlay", "target": "/o", "lower": ["/l1", "/l2"], **keys}
    return planned(facts, mounts=[overlay])


def options(action: Action) -> dict[str, str]:
    """key=value of fsconfig(2) for the overlay."""
    found = {}
    for line in lines(action):
        if line.startswith("fsconfig(%overlay, FSCONFIG_SET"):
            _, kind, key, value, _ = line.rstrip(")").split(", ")
            found[key.strip('"')] = value.strip('"') if kind.endswith("STRING") else "flag"
    found.pop("source")
    return found


# --- an entry of mounts --------------------------------------------------------------------------


def test_layers_by_their_paths() -> None:
    plan = entry(**LAYERS)
    mounted = only(plan, "mount overlay on /o")
    assert options(mounted) == {
        "lowerdir": "/l1:/l2", "upperdir": "/x/up", "workdir": "/x/wk", "userxattr": "flag",
    }  # fmt: skip
    assert why(mounted) == "mounts[0]"
    assert not has(plan, "open the layer")


def test_lower_layers_alone_are_only_read() -> None:
    assert options(only(entry(), "mount overlay")) == {"lowerdir": "/l1:/l2"}


def test_trusted_attributes_outside_of_a_user_namespace() -> None:
    mounts = [{"type": "overlay", "target": "/o", "lower": ["/l1"], **LAYERS}]
    plan = planned(ROOTS, namespaces=["mount"], mounts=mounts)
    assert "userxattr" not in options(only(plan, "mount overlay"))


def test_options_of_the_overlays_own() -> None:
    plan = entry(**LAYERS, options=["index=off", "userxattr", "ro"])
    mounted = only(plan, "mount overlay")
    found = options(mounted)
    assert (found["index"], found["userxattr"]) == ("off", "flag")
    assert 'mount_setattr(%m_overlay, "", AT_EMPTY_PATH, {set=MOUNT_ATTR_RDONLY}, 32)' in (
        lines(mounted)
    )
    assert " ".join(lines(mounted)).count("userxattr") == 1


@pytest.mark.parametrize(
    "lower", [["/l:1"], ["/l1,x"], ["/l\\1"], ["/" + "n" * 130, "/" + "m" * 130]]
)
def test_a_path_that_an_option_cannot_hold_is_named_by_its_descriptor(lower: list[str]) -> None:
    """fsconfig(2) takes 255 bytes, and `:`, `,` and `\\` mean something else."""
    plan = entry(lower=lower, **LAYERS)
    opened = [a for a in plan.actions if a.what.startswith("open the layer")]
    assert [a.what.removeprefix("open the layer ") for a in opened] == [*lower, "/x/up", "/x/wk"]
    assert lines(opened[0])[0].endswith("O_DIRECTORY|O_CLOEXEC|O_PATH)")
    found = options(only(plan, "mount overlay"))
    assert found["lowerdir"].split(":")[0] == "/proc/self/fd/%layer"
    assert found["upperdir"].startswith("/proc/self/fd/%layer")


def test_layers_of_the_hosts_root_are_mapped_and_attached_while_the_overlay_is_made() -> None:
    plan = entry(ROOTS, **LAYERS)
    sent = [a.what for a in plan.actions if a.what.startswith("map the ids of")]
    # Upper and work must lie in one mount: the folder of both is mapped.
    assert [what.split()[4] for what in sent] == ["/l1", "/l2", "/x"]
    mounted = only(plan, "mount overlay")
    assert options(mounted) == {
        "lowerdir": "/proc/self/fd/%scratch/0:/proc/self/fd/%scratch/1",
        "upperdir": "/proc/self/fd/%scratch/layers/up",
        "workdir": "/proc/self/fd/%scratch/layers/wk",
        "userxattr": "flag",
    }
    steps = lines(mounted)
    attach = 'move_mount(%layers, "", %scratch, "layers", MOVE_MOUNT_F_EMPTY_PATH)'
    create = "fsconfig(%overlay, FSCONFIG_CMD_CREATE, NULL, NULL, 0)"
    places = [steps.index(step) for step in (
        'mkdirat(%scratch, "layers", 0755)', attach, create, "fchdir(%scratch)",
        'umount2(".", MNT_DETACH)', "fchdir(%home)", 'mkdirat(%root, "o", 0755)',
    )]  # fmt: skip
    assert places == sorted(places)


# --- the root ------------------------------------------------------------------------------------


def test_an_ephemeral_root_keeps_its_changes_on_a_tmpfs() -> None:
    plan = rooted("ephemeral")
    order(plan, Track.CHILD, "take the rootfs /r", "keep every mount", "make scratch space",
          "make an overlay on /r", "take the scratch space", "put the new root over",
          "enter the new root")  # fmt: skip
    assert options(only(plan, "make an overlay")) == {
        "lowerdir": "/r",
        "upperdir": "/proc/self/fd/%scratch/upper",
        "workdir": "/proc/self/fd/%scratch/work",
        "userxattr": "flag",
    }
    assert lines(only(plan, "put the new root")) == [
        'move_mount(%root, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH)'
    ]
    assert lines(only(plan, "take the scratch space")) == [
        "fchdir(%scratch)",
        'umount2(".", MNT_DETACH)',
        "close(%scratch)",
    ]
    assert why(only(plan, "make an overlay")) == "rootfs.overlay"


def test_a_rootfs_of_the_hosts_root_is_the_mapped_tree() -> None:
    plan = rooted("ephemeral", ROOTS)
    assert has(plan, "map the ids of /r")
    assert options(only(plan, "make an overlay"))["lowerdir"] == "/proc/self/fd/%scratch/lower"
    assert 'move_mount(%rootfs, "", %scratch, "lower", MOVE_MOUNT_F_EMPTY_PATH)' in lines(
        only(plan, "make scratch space")
    )


def test_changes_that_are_kept() -> None:
    assert options(only(rooted(LAYERS), "make an overlay")) == {
        "lowerdir": "/r", "upperdir": "/x/up", "workdir": "/x/wk", "userxattr": "flag",
    }  # fmt: skip
    mapped = rooted(LAYERS, ROOTS)
    assert has(mapped, "map the ids of /x and")
    assert options(only(mapped, "make an overlay"))["upperdir"] == (
        "/proc/self/fd/%scratch/layers/up"
    )


def test_a_rootfs_whose_path_an_option_cannot_hold() -> None:
    plan = rooted("ephemeral", knowing(OURS, {"/a:b": folder(1000)}), "/a:b")
    assert options(only(plan, "make an overlay"))["lowerdir"] == "/proc/self/fd/%scratch/lower"


def test_scratch_on_a_shared_root_does_not_show_on_the_host() -> None:
    steps = lines(only(rooted("ephemeral", propagation="rshared"), "make scratch space"))
    private, attach = 'mount(NULL, "/", NULL, MS_PRIVATE, NULL)', [
        s for s in steps if s.startswith("move_mount(%scratch")
    ]
    assert steps.index(private) < steps.index(attach[0])
