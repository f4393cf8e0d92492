"""``profile: strict`` from inside: each thing fails that succeeds without it."""

from __future__ import annotations

from tests.support.box import Box
from tests.support.requires import requires

pytestmark = requires("landlock")

SPEC = {
    "namespaces": ["user", "mount", "pid", "ipc", "uts", "network"],
    "mounts": [{"type": "proc", "target": "/proc"}],
}
TRIES = {
    "write to the root": "touch /var/tmp/nsrun-test && rm /var/tmp/nsrun-test",
    "chown": "touch /tmp/a && chown 5 /tmp/a",
    "many files": "ulimit -n 5000",
}


def test_strict_holds_back_what_default_does_not(box: Box) -> None:
    script = "; ".join(f"({line}) 2>/dev/null && echo {name}" for name, line in TRIES.items())
    keys = {**SPEC, "mounts": [*SPEC["mounts"], {"type": "tmpfs", "target": "/tmp"}]}
    control = box.run(f"ulimit -Hn; {script}; true", rlimits={"nofile": "1024:9000"}, **keys).ok()
    allowed = control.splitlines()[1:]
    assert {"write to the root", "many files"} <= set(allowed)
    assert "chown" in allowed or box.runner.user.uid != 0
    strict = box.run(f"ulimit -Hn; {script}; true", profile="strict", **SPEC).ok()
    assert strict == "4096\n"


def test_what_is_left_works(box: Box) -> None:
    shown = box.run(
        "echo a >/tmp/a && echo b >/run/b && cat /tmp/a /run/b && grep Cap /proc/self/status",
        profile="strict", **SPEC,
    ).ok()  # fmt: skip
    lines = shown.splitlines()
    assert lines[:2] == ["a", "b"]
    assert {line.split()[1] for line in lines[2:]} == {"0" * 16}
    assert box.run("test ! -e /run/b", profile="strict", **SPEC).status == 0
