"""The same container by other tools: namespaces, id map, mounts, masks and capabilities alike,
as far as each of them goes.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.area import HERE, Area
from bench.hyper import Contestant
from nsrun.kernel.calls import seccomp_programs
from nsrun.kernel.values import Call
from nsrun.runtime.launch import plan_for
from nsrun.spec.load import load

UNSHARE, BWRAP, CRUN, RUNC = "unshare", "bubblewrap", "crun", "runc"
CRUN_PLAIN = "crun, no cgroup"
LXC, NSPAWN, HANDWRITTEN = "lxc-execute", "systemd-nspawn", "hand-written C"
_CAPS = (
    *("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE"),
    *("SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"),
)
_HIDDEN = (
    *("/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys"),
    *("/proc/latency_stats", "/proc/sched_debug", "/proc/scsi", "/proc/timer_list"),
    *("/proc/timer_stats", "/sys/firmware", "/sys/devices/virtual/powercap", "/sys/fs/selinux"),
)
_READONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
_ENV = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "TERM": "linux", "LANG": "C.UTF-8"}
_NAMESPACES = ("user", "mount", "pid", "network", "ipc", "uts", "cgroup")
# crun 1.8 refuses a hybrid layout of cgroups: it runs where version 2 is not mounted beside the
# others. `sh` ends in the command that follows, so the time has no part of it.
WITHOUT_UNIFIED = (
    "unshare",
    "--mount",
    "--propagation=private",
    "sh",
    "-c",
    'umount /sys/fs/cgroup/unified && exec "$@"',
    "sh",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Peers:
    """Command lines for one payload. ``ids``: container, host and size of the id map."""

    area: Area
    ids: tuple[int, int, int]
    command: tuple[str, ...]

    def all(self) -> list[Contestant]:
        return [
            self.handwritten(),
            self.unshare(),
            self.bwrap(),
            *self.crun(),
            self.runc(),
            self.lxc(),
            self.nspawn(),
        ]

    def unshare(self) -> Contestant:
        namespaces = "--user --map-root-user --mount --pid --net --ipc --uts --cgroup"
        argv = ["unshare", *namespaces.split(), "--fork", "--kill-child", "--mount-proc"]
        return _contestant(UNSHARE, argv, self.command)

    def bwrap(self, extra: tuple[str, ...] = ()) -> Contestant:
        flags = (
            "--unshare-all --unshare-user --uid 0 --gid 0 --hostname hardened --new-session "
            "--die-with-parent --clearenv --cap-drop ALL"
        )
        mounts = f"--bind {self.area.rootfs} / --proc /proc --dev /dev --tmpfs /tmp"
        argv = ["bwrap", *flags.split(), *mounts.split(), *extra]
        return _contestant(BWRAP, argv, self.command)

    def crun(self) -> list[Contestant]:
        bundle = self._bundle()
        wrapper = WITHOUT_UNIFIED if os.path.ismount("/sys/fs/cgroup/unified") else ()
        root = str(self.area.sub("crun"))
        tail = ("run", "--bundle", str(bundle), self.area.container)
        return [
            _contestant(CRUN, ["crun", "--root", root], tail, wrapper),
            _contestant(
                CRUN_PLAIN,
                ["crun", "--root", root, "--cgroup-manager=disabled"],
                tail,
                wrapper,
            ),
        ]

    def runc(self) -> Contestant:
        tail = ("run", "--bundle", str(self._bundle()), self.area.container)
        return _contestant(RUNC, ["runc", "--root", str(self.area.sub("runc"))], tail)

    def lxc(self) -> Contestant:
        """Where lxc finds newuidmap it asks that for root too, and with it /etc/subuid; where
        it does not it writes the map as we do."""
        _, host, size = self.ids
        config = self.area.folder / "lxc.conf"
        config.write_text(
            f"lxc.uts.name = hardened\n"
            f"lxc.rootfs.path = dir:{self.area.rootfs}\n"
            f"lxc.rootfs.options = idmap=container\n"
            f"lxc.net.0.type = empty\n"
            f"lxc.idmap = u 0 {host} {size}\n"
            f"lxc.idmap = g 0 {host} {size}\n"
            f"lxc.mount.auto = proc:mixed sys:ro\n"
            f"lxc.autodev = 1\n"
            f"lxc.no_new_privs = 1\n"
            f"lxc.cap.keep = {' '.join(name.lower() for name in _CAPS)} sys_admin\n"
        )
        path = str(self.area.sub("lxc"))
        argv = ["lxc-execute", "-P", path, "-n", self.area.container, "-f", str(config), "--"]
        return _contestant(LXC, argv, self.command, env={"PATH": "/usr/sbin:/sbin:/usr/local/bin"})

    def nspawn(self) -> Contestant:
        _, host, size = self.ids
        argv = (
            "systemd-nspawn --quiet --register=no --keep-unit --private-network "
            f"--hostname=hardened --machine={self.area.container} --no-new-privileges=yes "
            f"--private-users={host}:{size} --private-users-ownership=map "
            f"--console=pipe --directory={self.area.rootfs}"
        )
        return _contestant(NSPAWN, argv.split(), self.command)

    def handwritten(self) -> Contestant:
        program = self.area.folder / "handwritten"
        missing = "" if program.exists() else build_handwritten(program, self.area.spec)
        argv = (str(program), str(self.area.rootfs), "{} {} {}".format(*self.ids), *self.command)
        return Contestant(name=HANDWRITTEN, argv=argv, missing=missing)

    def _bundle(self) -> Path:
        bundle = self.area.sub("bundle-" + self.command[0].rpartition("/")[2])
        config = oci_config(self.area.rootfs, self.command, self.ids)
        (bundle / "config.json").write_text(json.dumps(config, indent=1))
        return bundle


def _contestant(
    name: str,
    argv: list[str],
    tail: tuple[str, ...],
    wrapper: tuple[str, ...] = (),
    env: dict[str, str] | None = None,
) -> Contestant:
    found = shutil.which(argv[0], path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    return Contestant(
        name=name,
        argv=(found or argv[0], *argv[1:], *tail),
        wrapper=wrapper,
        env=env or {},
        missing="" if found else f"no {argv[0]} here",
    )


def build_handwritten(program: Path, spec: Path) -> str:
    """Compile handwritten.c with the filter that the plan of ``spec`` sets; "" or why not."""
    found = _filter(spec)
    if found is None:
        return "it cannot be built: the plan has no filter"
    header = program.with_suffix(".inc")
    header.write_text(",".join(map(str, found)))
    cpus = os.cpu_count() or 1
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    argv = ["gcc", "-O2", "-static", f"-DCPUS={cpus}", f"-DLAST_CAP={last}"]
    argv.append(f'-DFILTER="{header}"')
    try:
        done = subprocess.run(
            [*argv, "-o", str(program), str(HERE / "handwritten.c")],
            capture_output=True,
            text=True,
        )
    except OSError as error:
        return f"it cannot be built: {error}"
    return "" if done.returncode == 0 else f"it cannot be built: {done.stderr.splitlines()[-1]}"


def _filter(spec: Path) -> bytes | None:
    """The filter of system calls in the plan of a spec, as seccomp(2) takes it."""
    made, _ = load(str(spec))
    for placed in plan_for(made).steps():
        if isinstance(placed.op, Call):
            for program, _flags in seccomp_programs(placed.op):
                return program
    return None


def oci_config(rootfs: Path, command: tuple[str, ...], ids: tuple[int, int, int]) -> dict[str, Any]:
    """A config.json with what nsrun's defaults give (hardening: capabilities, mounts, masks)."""
    caps = [f"CAP_{name}" for name in _CAPS]
    container, host, size = ids
    ranges = [{"containerID": container, "hostID": host, "size": size}]
    no = ["nosuid", "noexec", "nodev"]
    dev = ["nosuid", "strictatime", "mode=755", "size=64m"]
    pts = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]

    def mount(target: str, kind: str, options: list[str]) -> dict[str, Any]:
        return {"destination": target, "type": kind, "source": kind, "options": options}

    return {
        "ociVersion": "1.0.2",
        "hostname": "hardened",
        "root": {"path": str(rootfs), "readonly": False},
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0},
            "args": list(command),
            "env": [f"{name}={value}" for name, value in _ENV.items()],
            "cwd": "/",
            "noNewPrivileges": True,
            "capabilities": {"bounding": caps, "effective": caps, "permitted": caps},
        },
        "mounts": [
            mount("/proc", "proc", no),
            mount("/sys", "sysfs", ["ro", *no]),
            mount("/dev", "tmpfs", dev),
            mount("/dev/pts", "devpts", pts),
            mount("/dev/shm", "tmpfs", [*no, "mode=1777", "size=64m"]),
            mount("/dev/mqueue", "mqueue", no),
        ],
        "linux": {
            "uidMappings": ranges,
            "gidMappings": ranges,
            "namespaces": [{"type": kind} for kind in _NAMESPACES],
            "maskedPaths": list(_HIDDEN),
            "readonlyPaths": list(_READONLY),
        },
    }
