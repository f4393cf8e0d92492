"""What nsrun itself is started under is named where it is the cause, and not elsewhere."""

from __future__ import annotations

import pytest

from nsrun.host import hints_confined, procfs, trial
from nsrun.host.hints import explain
from tests.support.box import Box
from tests.support.hints import said
from tests.support.paths import PYTHON
from tests.support.requires import requires

_FILTER = """
import os, sys, pyseccomp as s
f = s.SyscallFilter(s.ALLOW)
f.add_rule(s.ERRNO(int(sys.argv[2])), sys.argv[1])
f.load()
os.execv(sys.argv[3], sys.argv[3:])
"""
# A ruleset that handles LANDLOCK_ACCESS_FS_MAKE_SOCK alone: nothing else is hindered by it but
# changes of mounts.
_RULES = """
import ctypes, os, struct, sys
call = ctypes.CDLL(None, use_errno=True).syscall
attr = struct.pack("=Q", 1 << 9)
fd = call(444, attr, 8, 0)
assert call(157, 38, 1, 0, 0, 0) == 0
for _ in range(int(sys.argv[1])):
    assert call(446, fd, 0) == 0
os.execv(sys.argv[2], sys.argv[2:])
"""
# newuidmap gets no rights under no_new_privs.
KEYS = {
    "namespaces": ["user", "mount", "uts"],
    "idmap": "root",
    "mounts": [{"type": "tmpfs", "target": "/tmp"}],
}


@pytest.mark.parametrize(
    ("call", "errno", "named"),
    [
        ("clone3", 38, "ENOSYS"),
        ("keyctl", 1, "EPERM"),
        ("fsopen", 1, "EPERM"),
        ("mount", 1, "EPERM"),
    ],
)
def test_a_filter(box: Box, executor: str, call: str, errno: int, named: str) -> None:
    wrapper = (str(PYTHON), "-c", _FILTER, call, str(errno))
    runner = box.runner.with_(wrapper=wrapper, env={"NSRUN_EXECUTOR": executor})
    found = said(runner.run(box.spec(command="true", **KEYS)))
    assert f"under a seccomp filter, which answers {call} with {named}" in found.why, found.text
    assert "seccomp: unconfined" in found.tips


@requires("landlock")
def test_landlock(box: Box, executor: str) -> None:
    wrapper = (str(PYTHON), "-c", _RULES, "2")
    runner = box.runner.with_(wrapper=wrapper, env={"NSRUN_EXECUTOR": executor})
    found = said(runner.run(box.spec(command="true", **KEYS)))
    assert "under 2 Landlock rulesets, under which no mount" in found.why, found.text


def test_nothing_is_said_without_them() -> None:
    if procfs.status()["Seccomp"] == "0":
        for call in hints_confined.CALLS:
            assert "seccomp" not in str(explain(call, "EPERM", ()))
    assert hints_confined.layers() == 0
    assert "Landlock" not in str(explain("mount", "EPERM", ("none", "/", "", 0, "")))


def test_another_call_than_the_filters(box: Box) -> None:
    """The filter is there, and not the cause."""
    wrapper = (str(PYTHON), "-c", _FILTER, "swapoff", "1")
    runner = box.runner.with_(wrapper=wrapper)
    found = said(runner.run(box.spec(command=["/nowhere"], **KEYS)))
    assert "/nowhere does not exist" in found.why, found.text
    assert "seccomp" not in found.text


@pytest.mark.parametrize(("answer", "told"), [(13, True), (1, True), (0, False), (None, False)])
def test_a_label(monkeypatch: pytest.MonkeyPatch, answer: int | None, told: bool) -> None:
    """Where the machine has such a module or not: what it shows is made up."""
    files = {"/proc/self/attr/current": "docker-default (enforce)\n"}
    files["/sys/kernel/security/lsm"] = "capability,landlock,apparmor"
    monkeypatch.setattr(procfs, "read", files.get)
    monkeypatch.setattr(procfs, "status", lambda: {"Seccomp": "0"})
    monkeypatch.setattr(hints_confined, "layers", lambda: 0)
    monkeypatch.setattr(trial, "errno_of", lambda *_: answer)
    why, _ = explain("mount", "EACCES", ("none", "/", "", 0, ""))
    assert ("confined by AppArmor as docker-default (enforce)" in str(why)) is told
