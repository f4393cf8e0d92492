"""Namespaces and ids that are refused: limits, nesting, chroots, owners, maps and helpers."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nsrun.host.hints import explain
from tests.support.box import Box
from tests.support.hints import Said, run_after, said
from tests.support.requires import requires
from tests.support.users import User

# The limits of a user namespace are its own: who made it sets them, and they end with it.
IN_USER_NAMESPACE = ("unshare", "--user", "--map-root-user", "--", "/bin/sh", "-c")


def within(box: Box, script: str) -> Box:
    """``box`` run by a shell that is root of a user namespace of its own."""
    return box.as_(wrapper=(*IN_USER_NAMESPACE, script, "sh"))


def refused(box: Box, *namespaces: object, **keys: object) -> Said:
    return said(box.refused("true", namespaces=list(namespaces), **keys))


# --- making ------------------------------------------------------------------------------------


def test_a_limit_of_none(user_box: Box) -> None:
    box = within(user_box, 'echo 0 > /proc/sys/user/max_net_namespaces && exec "$@"')
    found = refused(box, "user", "uts", "network")
    assert found.why == "user.max_net_namespaces is 0: nobody may make one"
    assert found.tips == "sysctl user.max_net_namespaces=1000, as root"


def test_a_limit_that_is_reached(user_box: Box) -> None:
    script = 'echo 1 > /proc/sys/user/max_uts_namespaces && exec unshare --uts -- "$@"'
    found = refused(within(user_box, script), "user", "uts", "network")
    assert found.why == (
        "the kernel makes no other uts namespace: user.max_uts_namespaces is 1"
    )
    assert "lsns" in found.tips


def test_user_namespaces_in_each_other(user_box: Box) -> None:
    # user_namespaces(7): 32 levels.
    nested = ("unshare", "--user", "--map-root-user", "--") * 33
    found = refused(user_box.as_(wrapper=nested), "user")
    assert "ENOSPC" in found.text or "EUSERS" in found.text
    assert "the kernel makes no other user namespace: user.max_user_namespaces is " in found.why
    assert "32 of them at most lie in each other" in found.why


@requires("root")
def test_a_chroot(root_box: Box) -> None:
    root = root_box.folder.parent / "chroot"
    root.mkdir()
    tops = sorted({Path(p).parts[1] for p in ("/usr/x", os.path.realpath("/tmp"), os.getcwd())})
    tops = sorted({*tops, *(n for n in ("bin", "lib", "lib64", "etc", "proc", "dev", "sys", "tmp",
                                         "work") if Path("/", n).exists())})  # fmt: skip
    bound = " && ".join(f"mkdir {root}/{top} && mount --rbind /{top} {root}/{top}" for top in tops)
    box = root_box.as_(wrapper=("chroot", str(root)))
    spec = box.spec(namespaces=["user", "uts"], command="true")
    found = said(run_after(box.runner, bound, spec))
    assert "nsrun runs in a chroot, where the kernel makes no user namespace" in found.why


def test_a_caller_without_mapping(user_box: Box) -> None:
    found = refused(user_box.as_(wrapper=("unshare", "--user", "--")), "user", idmap="root")
    assert "of the caller is not mapped in its own user namespace" in found.why


# --- joining -----------------------------------------------------------------------------------


@contextmanager
def sleeping(*around: str) -> Iterator[int]:
    """A process in namespaces of its own; its pid."""
    command = [*around, "/bin/sh", "-c", "echo; exec sleep 60"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process.pid
        finally:
            process.kill()


def test_the_own_user_namespace(box: Box) -> None:
    found = refused(box, {"type": "user", "path": "/proc/self/ns/user"})
    assert "/proc/self/ns/user is the caller's own user namespace" in found.why


@requires("root")
def test_a_pid_namespace_above(root_box: Box) -> None:
    path = f"/proc/{os.getpid()}/ns/pid"
    box = root_box.as_(wrapper=("unshare", "--pid", "--fork", "--"))
    found = refused(box, {"type": "pid", "path": path})
    assert f"{path} is not below the caller's pid namespace" in found.why, found.text


@requires("root")
def test_a_namespace_of_an_outer_user_namespace(root_box: Box) -> None:
    with sleeping("unshare", "--user", "--map-root-user") as pid:
        found = refused(
            root_box,
            {"type": "user", "path": f"/proc/{pid}/ns/user"},
            {"type": "network", "path": f"/proc/{os.getpid()}/ns/net"},
        )
    assert "EPERM" in found.text
    assert "belongs to the caller's user namespace, over which one further in has no" in found.why


@requires("root")
def test_a_process_of_another_user(user_box: Box) -> None:
    path = f"/proc/{os.getpid()}/ns/uts"
    found = refused(user_box, "user", {"type": "uts", "path": path})
    uid = user_box.runner.user.uid
    assert f"process {os.getpid()} belongs to uid 0, and uid {uid} may not" in found.why


# --- maps --------------------------------------------------------------------------------------


@requires("root")
def test_uid_0_is_mapped_by_who_may_set_file_capabilities(root_box: Box) -> None:
    box = root_box.as_(wrapper=("setpriv", "--bounding-set=-setfcap", "--inh-caps=-setfcap", "--"))
    found = refused(box, "user", idmap={"uid": ["0:0:1"], "gid": ["0:0:1"]})
    assert "mapping uid 0 of the host needs CAP_SETFCAP" in found.why
    assert "CAP_SETFCAP" in found.tips


def test_maps_that_the_caller_may_not_write(user_box: Box) -> None:
    # The planner refuses them by its facts; a plan may be replayed elsewhere.
    code = """
from nsrun.host.hint import HintContext
from nsrun.host.hints import explain
before = (("openat", (-100, "/proc/%child/uid_map", 1), "%uidmap"),)
for text in ("0 4711 2\\n", "0 {own} 1\\n"):
    for errno in ("EPERM", "EINVAL"):
        print(*explain("write", errno, ("%uidmap", text, 9), HintContext(before=before))[0])
"""
    runner, own = user_box.runner, user_box.runner.user.uid
    python = runner.argv()[runner.argv().index("-P") - 1]
    outside = runner.run_program(python, "-P", "-c", code.replace("{own}", str(own))).ok()
    alone = f"without CAP_SETUID the caller may map its own uid {own} alone"
    assert outside.splitlines() == [alone, alone, "", ""]
    around = IN_USER_NAMESPACE[:-2]
    inside = runner.run_program(*around, python, "-P", "-c", code.replace("{own}", "0")).ok()
    own_only = "host uids 4711 to 4712 are not all mapped in the caller's own user namespace"
    assert inside.splitlines() == [own_only, own_only, "", ""]


@requires("newuidmap")
def test_helpers_get_no_privilege(user_box: Box) -> None:
    box = user_box.as_(wrapper=("setpriv", "--no-new-privs", "--"))
    found = refused(box, "user", idmap="auto")
    assert "no_new_privs is set for nsrun, so that " in found.why
    assert "newuidmap gets no right of its own" in found.why
    assert "idmap: root" in found.tips


@requires("root", "newuidmap")
def test_a_helper_without_its_bit(user_box: Box, user: User, area: Path) -> None:
    helper = shutil.which("newuidmap")
    assert helper is not None
    plain = area / "newuidmap"
    shutil.copyfile(helper, plain)
    plain.chmod(0o755)
    bound = dataclasses.replace(user, binds=(*user.binds, (plain, Path(helper))))
    found = refused(user_box.as_(user=bound), "user", idmap="auto")
    assert f"{helper} is not set-uid root (mode 0755, owner 0)" in found.why
    assert f"chmod u+s {helper}" in found.tips


@requires("root", "newuidmap")
def test_a_range_that_no_line_gives() -> None:
    # The planner refuses such a map; the file may have changed since a plan was kept.
    helper = shutil.which("newuidmap") or ""
    why, tips = explain("spawn", "", (helper, "%child", "0", "0", "1", "1", "4000000000", "7"))
    assert why == ("/etc/subuid has no line of root that holds 4000000000 to 4000000006",)
    assert tips == ("usermod --add-subuids 4000000000-4000000006 root, as root",)
    assert explain("spawn", "", (helper, "%child", "0", "0", "1")) == ((), ())
