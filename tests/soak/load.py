"""The loads of the soak: containers that are started and end, thousands of times."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.host import children
from tests.support.paths import ROOT

# Of this soak alone: control groups have their names from containers, for the whole machine.
NAME = f"soak{os.getpid()}"
NSRUN = str(ROOT / ".venv" / "bin" / "nsrun")

# Read-only, without a capability, filtered and limited: everything that a start can set up.
HARDENED: dict[str, Any] = {
    "namespaces": ["mount", "pid", "ipc", "uts", "network", "cgroup"],
    "rootfs": {"path": "/tmp/soak/skeleton", "overlay": "ephemeral", "readonly": True},
    "hostname": "soak",
    "mounts": [
        *(f"/{name}:/{name}:ro" for name in ("usr", "bin", "lib")),
        {"type": "bind", "source": "/lib64", "target": "/lib64", "options": ["ro"],
         "optional": True},
        {"type": "tmpfs", "target": "/run", "options": ["noexec", "mode=0755", "size=1m"]},
    ],
    "files": {"/etc/motd": {"content": "soak\n"}},
    "user": {"uid": 65534, "gid": 65534},
    "capabilities": "none",
    "profile": "strict",
    "landlock": {"read": ["/"], "write": ["/run"]},
    "rlimits": {"nofile": 256, "core": 0},
    "resources": {"pids": 64},
    "command": ["/bin/true"],
}  # fmt: skip
USER: dict[str, Any] = {
    "namespaces": ["user", "mount", "pid", "ipc", "uts", "network"],
    "mounts": [{"type": "proc", "target": "/proc"}],
    "profile": "strict",
    "command": ["/bin/true"],
}
NETWORK: dict[str, Any] = {
    "namespaces": ["mount", "pid", "ipc", "uts", "network"],
    "mounts": [{"type": "proc", "target": "/proc"}],
    "network": {
        "interfaces": [
            {"name": "eth0", "type": "veth", "addresses": ["10.30.0.2/30"],
             "peer": {"addresses": ["10.30.0.1/30"]}},
        ],
        "routes": [{"to": "default", "via": "10.30.0.1"}],
        "ports": ["127.0.0.1:8080:80"],
    },
    "command": ["/bin/true"],
}  # fmt: skip


@dataclass(slots=True, kw_only=True)
class Soak:
    """``folder``: of its own, with its specs, its plan cache and its output."""

    folder: Path
    failures: list[str] = field(default_factory=list)

    def spec(self, name: str, content: Mapping[str, Any]) -> Path:
        path = self.folder / f"{name}.yaml"
        # JSON is YAML.
        path.write_text(json.dumps({"name": f"{NAME}-{name}", **content}))
        return path

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    def environ(self, executor: str) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "NSRUN_CACHE_DIR": str(self.cache),
            "NSRUN_EXECUTOR": executor,
            "PYTHONDONTWRITEBYTECODE": "1",
            "LANG": "C.UTF-8",
            # A copy of the tree, where the soak was started in one.
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        }

    def begin(self, *words: str | Path, executor: str = "native") -> int:
        """Start ``nsrun WORDS...``; its pid. What it says goes into a file."""
        log = str(self.folder / "said")
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        actions: list[tuple[Any, ...]] = [
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, log, flags, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ]
        argv = [NSRUN, *map(str, words)]
        return os.posix_spawn(NSRUN, argv, self.environ(executor), file_actions=actions)

    def finish(self, pids: Sequence[int], words: str) -> None:
        for pid in pids:
            _, status = os.waitpid(pid, 0)
            code = os.waitstatus_to_exitcode(status)
            if code and len(self.failures) < 20:
                said = (self.folder / "said").read_text(errors="replace")[-600:]
                self.failures.append(f"{words}: exit status {code}: {said}")

    def one_by_one(self, count: int, *words: str | Path, executor: str = "native") -> None:
        for _ in range(count):
            self.finish([self.begin(*words, executor=executor)], f"{words[-1]}")

    def storm(self, wide: int, spec: Path) -> None:
        """``wide`` starts at a time of one spec by as many names."""
        pids = [self.begin("run", "--name", f"{NAME}-{n}", spec) for n in range(wide)]
        self.finish(pids, f"{wide} at a time")

    def forget_plans(self) -> None:
        subprocess.run(
            [NSRUN, "cache", "clear"], env=self.environ("native"), check=True,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip

    def command(self, *words: str | Path, executor: str = "native") -> str:
        done = subprocess.run(
            [NSRUN, *map(str, words)], env=self.environ(executor), check=False, text=True,
            capture_output=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        if done.returncode:
            self.failures.append(f"{words[0]}: exit status {done.returncode}: {done.stderr[-600:]}")
        return done.stdout


# --- what is kept running ----------------------------------------------------------------------


def restarted(soak: Soak, count: int, sample: Callable[[], None], executor: str) -> None:
    """A stack that is kept up, of which one container is started again ``count`` times, and one
    dies at once each time. ``sample`` is called between, with its keeper there."""
    dying = {**USER, "command": ["/bin/false"], "restart": "always"}
    kept = {**USER, "command": ["sleep", "1000"], "init": True, "stop_timeout": "1s",
            "restart": "always"}  # fmt: skip
    stack = soak.folder / "stack.yaml"
    stack.write_text(json.dumps({"name": NAME, "containers": {"dying": dying, "kept": kept}}))
    soak.command("up", "-d", stack, executor=executor)
    try:
        name = _name_of(soak, "kept")
        left = count
        while left > 0:
            several = min(left, max(1, count // 30))
            soak.command("restart", "-t", "1", *[name] * several, executor=executor)
            left -= several
            # Monitors that have ended are ours to collect: we adopt orphans.
            children()
            sample()
    finally:
        soak.command("down", stack, executor=executor)


def _name_of(soak: Soak, service: str) -> str:
    listed = json.loads(soak.command("ps", "-a", "--format", "json") or "[]")
    names = [one["name"] for one in listed if service in one["name"]]
    return str(names[0]) if names else service


def kept_gauges(state: Path) -> dict[str, float]:
    """Of what stays between two starts of a container: descriptors and memory of every process
    of nsrun's that keeps something, and the size of the state folder."""
    fds = rss = files = 0
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if _is_keeper(entry):
                fds += len(os.listdir(entry / "fd"))
                rss += int((entry / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except OSError:  # it has ended
            continue
    size = 0
    for path in state.rglob("*"):
        try:
            size += path.lstat().st_size
            files += 1
        except OSError:
            continue
    return {"descriptors": fds, "memory": rss, "state files": files, "state bytes": size}


def _is_keeper(process: Path) -> bool:
    """In our own mount namespace, and one of nsrun's."""
    if os.readlink(process / "ns/mnt") != os.readlink("/proc/self/ns/mnt"):
        return False
    words = (process / "cmdline").read_bytes().split(b"\0")
    return b"@keep" in words or words[0] == b"nsrun-monitor" or b"nsrun.runtime.monitor" in words


def until(condition: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True
