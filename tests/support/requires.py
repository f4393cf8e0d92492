"""What a test needs of the machine and of its caller.

``@requires("root", "busybox")`` skips where the machine lacks one of them, and says which.
With NSRUN_MUST_WORK=1 (``make test``) what the machine has must work, and what ``make setup``
installs must be there: then nothing is skipped, the test fails.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from tests.support.paths import BUSYBOX, PYTHON

MUST_WORK = os.environ.get("NSRUN_MUST_WORK") == "1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """``lacks`` says why the machine cannot have it ("" where it can); ``broken`` why it does
    not work although the machine has it. ``installed``: ``make setup`` puts it there for root."""

    lacks: Callable[[], str]
    broken: Callable[[], str] = lambda: ""
    installed: bool = False


def requires(*names: str) -> pytest.MarkDecorator:
    """Mark a test, a class or a module (``pytestmark``) with what it needs."""
    unknown = [name for name in names if name not in FEATURES]
    if unknown:
        raise ValueError(f"no feature is called {unknown[0]}")
    return pytest.mark.requires(*names)


def check(names: tuple[str, ...]) -> None:
    """Skip or fail the test that is about to run, where one of ``names`` is not there."""
    for name in names:
        feature = FEATURES[name]
        if reason := feature.lacks():
            if MUST_WORK and feature.installed and os.geteuid() == 0:
                pytest.fail(f"needs {name}: {reason}, which `make setup` installs", pytrace=False)
            pytest.skip(f"needs {name}: {reason}")
        if reason := feature.broken():
            if MUST_WORK:
                pytest.fail(f"{name} does not work here: {reason}", pytrace=False)
            pytest.skip(f"needs {name}: {reason}")


def _program(name: str) -> Feature:
    return Feature(
        lacks=lambda: "" if shutil.which(name) else f"no {name} on PATH",
        installed=True,
    )


def _optional(name: str) -> Feature:
    return Feature(lacks=lambda: "" if shutil.which(name) else f"no {name} on PATH")


def _kernel(major: int, minor: int) -> Feature:
    def lacks() -> str:
        release = os.uname().release
        version = tuple(int(word) for word in release.replace("-", ".").split(".")[:2])
        return "" if version >= (major, minor) else f"Linux {release} is older than {major}.{minor}"

    return Feature(lacks=lacks)


def _succeeds(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else f"{' '.join(command)}: {done.stderr.strip()}"


def _sysctl(name: str) -> str | None:
    try:
        return Path("/proc/sys", name).read_text().strip()
    except OSError:
        return None


def _lacks_userns() -> str:
    if not Path("/proc/self/ns/user").exists():
        return "this kernel has no user namespaces"
    if _sysctl("user/max_user_namespaces") == "0":
        return "user.max_user_namespaces is 0"
    if os.geteuid() != 0 and _sysctl("kernel/unprivileged_userns_clone") == "0":
        return "kernel.unprivileged_userns_clone is 0"
    if _sysctl("kernel/apparmor_restrict_unprivileged_userns") == "1":
        return "AppArmor restricts user namespaces of ordinary users"
    return ""


@cache
def _broken_userns() -> str:
    as_user = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--")
    return _succeeds(
        *(as_user if os.geteuid() == 0 else ()), "unshare", "--user", "--map-root-user", "true"
    )


def _lacks_newuidmap() -> str:
    missing = [name for name in ("newuidmap", "newgidmap") if not shutil.which(name)]
    missing += [name for name in ("/etc/subuid", "/etc/subgid") if not os.path.exists(name)]
    return f"no {missing[0]}" if missing else ""


@cache
def _broken_overlay() -> str:
    if "overlay" in Path("/proc/filesystems").read_text():
        return ""
    return _succeeds("modprobe", "overlay")


def _namespace(name: str) -> Feature:
    present = Path(f"/proc/self/ns/{name}").exists()
    return Feature(lacks=lambda: "" if present else f"this kernel has no {name} namespaces")


def _lacks_sys_resource() -> str:
    status = Path("/proc/self/status").read_text()
    held = int(status.partition("CapEff:")[2].split()[0], 16)
    return "" if held >> 24 & 1 else "the caller does not have CAP_SYS_RESOURCE"


def _lacks_native_build() -> str:
    machine = os.uname().machine
    if machine not in ("x86_64", "aarch64"):
        return f"the native program knows no {machine}"
    return "" if shutil.which("gcc") else "no gcc on PATH"


def _broken_native() -> str:
    with (Path(PYTHON).parent / "nsrun").open("rb") as file:
        return "" if file.read(4) == b"\x7fELF" else f"{file.name} is not the native program"


def _lacks_landlock() -> str:
    from nsrun.host.probe import landlock_abi

    found = landlock_abi()
    return "" if found >= 6 else f"Landlock's ABI is {found}, and signals are in it since 6"


FEATURES: dict[str, Feature] = {
    "sys_resource": Feature(lacks=_lacks_sys_resource),
    "root": Feature(lacks=lambda: "" if os.geteuid() == 0 else "the tests run as another user"),
    "busybox": Feature(lacks=lambda: "" if BUSYBOX else "no static busybox", installed=True),
    "landlock": Feature(lacks=_lacks_landlock),
    "strace": _program("strace"),
    "ip": _program("ip"),
    "ping": _program("ping"),
    "nft": _program("nft"),
    "pasta": _program("pasta"),
    "dot": _program("dot"),
    "slirp4netns": _program("slirp4netns"),
    "newuidmap": Feature(lacks=_lacks_newuidmap, installed=True),
    "native_build": Feature(lacks=_lacks_native_build, installed=True),
    "native": Feature(lacks=_lacks_native_build, broken=_broken_native, installed=True),
    "bash": _optional("bash"),
    "zsh": _optional("zsh"),
    "fish": _optional("fish"),
    "man": _optional("man"),
    "script": _optional("script"),
    "userns": Feature(lacks=_lacks_userns, broken=_broken_userns),
    "overlay": Feature(lacks=_broken_overlay),
    "timens": _namespace("time"),
    "cgroupns": _namespace("cgroup"),
    "idmapped_mounts": _kernel(5, 12),
    "overlay_userns": _kernel(5, 11),
    "mount_setattr": _kernel(5, 12),
    "linux_5_15": _kernel(5, 15),
}
