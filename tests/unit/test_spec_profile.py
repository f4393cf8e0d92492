"""``profile``: what it fills in, and that the spec's own keys count more."""

from __future__ import annotations

from nsrun.spec.model import Landlock
from tests.support.planning import ORDINARY, ROOT, knowing, lines, only, planned, spec_of

NAMESPACES = ["user", "mount", "pid"]


def limits(**keys: object) -> dict[str, tuple[int | None, int | None]]:
    spec = spec_of(namespaces=NAMESPACES, profile="strict", **keys)
    return {limit.name: (limit.soft, limit.hard) for limit in spec.rlimits}


def test_strict() -> None:
    spec = spec_of(namespaces=NAMESPACES, profile="strict", rootfs="./root")
    assert spec.capabilities.base == "none"
    assert spec.rootfs is not None and spec.rootfs.readonly
    assert [(m.type, m.target) for m in spec.mounts] == [("tmpfs", "/tmp"), ("tmpfs", "/run")]
    assert spec.landlock == Landlock(write=("/tmp", "/run"), scoped=True, required=True)
    assert limits() == {"core": (0, 0), "nofile": (1024, 4096), "nproc": (1024, 1024)}
    assert spec.seccomp == "default" and spec.no_new_privileges


def test_a_key_of_the_spec_counts_more() -> None:
    spec = spec_of(
        namespaces=NAMESPACES,
        profile="strict",
        rootfs={"path": "./root", "readonly": False},
        capabilities=["CAP_KILL"],
        landlock={"read": ["/usr"]},
        mounts=[{"type": "tmpfs", "target": "/tmp", "options": ["ro"]}],
    )
    assert spec.capabilities.explicit == ("CAP_KILL",)
    assert spec.landlock == Landlock(read=("/usr",))
    assert spec.rootfs is not None and not spec.rootfs.readonly
    assert [m.target for m in spec.mounts] == ["/run", "/tmp"]
    assert limits(rlimits={"nofile": 9}) == {
        "nofile": (9, 9), "core": (0, 0), "nproc": (1024, 1024),
    }  # fmt: skip
    assert "nproc" not in limits(resources={"pids": 5})


def test_what_is_mounted_writable_can_be_written() -> None:
    spec = spec_of(
        namespaces=NAMESPACES,
        profile="strict",
        mounts=[
            {"type": "bind", "source": "/srv", "target": "/data"},
            {"type": "bind", "source": "/srv", "target": "/locked", "options": ["ro"]},
        ],
    )
    assert isinstance(spec.landlock, Landlock)
    assert spec.landlock.write == ("/tmp", "/run", "/data")


def test_without_a_user_namespace_processes_are_counted_by_a_group() -> None:
    spec = spec_of(namespaces=["mount"], profile="strict", resources={"memory": "1m"})
    assert spec.resources is not None
    assert (spec.resources.pids, spec.resources.memory) == (1024, 1 << 20)
    assert "nproc" not in {limit.name for limit in spec.rlimits}


def test_none() -> None:
    spec = spec_of(namespaces=NAMESPACES, profile="none", seccomp="default")
    assert spec.capabilities.base == "all"
    assert (spec.masked_paths, spec.readonly_paths) == ("none", "none")
    assert not spec.no_new_privileges
    assert spec.seccomp == "default"


def test_default_sets_nothing() -> None:
    assert spec_of(profile="default").preset == frozenset()


def test_a_step_says_that_it_comes_from_the_profile() -> None:
    plan = planned(knowing(ORDINARY, landlock=7), namespaces=NAMESPACES, profile="strict")
    for what in ("limit core", "hold no other capabilities", "forbid all", "mount tmpfs on /tmp"):
        assert only(plan, what).origin.path == "profile", what
    for what in ("keep execve from giving", "allow only the system calls"):
        assert only(plan, what).origin.path != "profile"
    # No capability is left to any set.
    assert "{effective=0x0, permitted=0x0, inheritable=0x0}" in lines(
        only(plan, "hold no other capabilities")
    )[1]
    plan = planned(ROOT, namespaces=["mount"], profile="none")
    assert only(plan, "hold no other capabilities").origin.path == "profile"
