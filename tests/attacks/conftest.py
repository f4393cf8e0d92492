"""Fixtures of the attacks: those of the tests against the kernel, and the machine as it was."""

from __future__ import annotations

import os
import subprocess
import time
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.kernel.conftest import (  # noqa: F401 - fixtures are found by their names
    _own_mounts,
    _params,
    both_executors,
    box,
    boxed,
    c,
    deselect,
    executor,
    lab,
    leave_out,
    own_root,
    root_box,
    root_c,
    user_box,
)

# What the kernel counts or draws itself (proc_sys(5)), and what cannot be read without an effect.
_MOVING = (
    "/fs/aio-nr", "/fs/dentry-state", "/fs/file-nr", "/fs/inode-nr", "/fs/inode-state",
    "/fs/quota/", "/kernel/ns_last_pid", "/kernel/pty/nr", "/kernel/random/", "/net/netfilter/nf_",
    "/vm/stat_refresh", "/vm/drop_caches", "/kernel/tainted",
)  # fmt: skip
# Seconds that other tests beside these may take to remove what is theirs.
_PATIENCE = 20.0


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In pairs of user and executor, as the tests of tests/kernel are; those of one user with one
    executor, the test's name says which."""
    here = Path(__file__).parent
    leave_out(config, items, here)
    if os.environ.get("NSRUN_MATRIX") == "1":
        return
    alone = [item for item in items if here in item.path.parents and _only(item)]
    both = {_test(item) for item in alone if _only(item) == "python"}
    deselect(
        config,
        items,
        {item for item in alone if _test(item) in both and _only(item) != _turn(item)},
    )


def _only(item: pytest.Item) -> str:
    """The executor of a test that has no other parameters."""
    params = _params(item)
    return str(params["executor"]) if set(params) == {"executor"} else ""


def _test(item: pytest.Item) -> str:
    return item.nodeid.partition("[")[0]


def _turn(item: pytest.Item) -> str:
    return ("native", "python")[zlib.crc32(_test(item).encode()) & 1]


@pytest.fixture(scope="module", autouse=True)
def machine(_own_mounts: None) -> Iterator[None]:  # noqa: F811
    """Sysctls, mounts, links, tables of nftables and control groups are those of before."""
    before = _look()
    yield
    deadline = time.monotonic() + _PATIENCE
    while found := _differences(before, _look()):
        assert time.monotonic() < deadline, "the attacks have changed:\n" + "\n".join(found)
        time.sleep(0.2)


def _look() -> dict[str, str]:
    seen = dict(_sysctls())
    seen["/proc/self/mountinfo"] = Path("/proc/self/mountinfo").read_text()
    seen["links"] = " ".join(sorted(os.listdir("/sys/class/net")))
    if os.geteuid() == 0:
        done = subprocess.run(
            ["nft", "list", "ruleset"], capture_output=True, text=True, check=False
        )
        seen["nft"] = done.stdout
    for name in _left_groups():
        seen[name] = "an empty control group"
    return seen


def _left_groups() -> Iterator[str]:
    """Those of nsrun's that hold no process: one that is left, or is just being made."""
    for folder, _, _ in os.walk("/sys/fs/cgroup"):
        if os.path.basename(folder).startswith("nsrun"):
            try:
                if not Path(folder, "cgroup.procs").read_text():
                    yield folder
            except OSError:
                continue


def _sysctls() -> Iterator[tuple[str, str]]:
    for folder, _, names in os.walk("/proc/sys"):
        for name in names:
            path = f"{folder}/{name}"
            if any(word in path for word in _MOVING):
                continue
            try:
                # A file that can be written alone is none to compare.
                yield path, Path(path).read_bytes().decode("utf-8", "replace")
            except OSError:
                continue


def _differences(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    return [
        f"{key}: {before.get(key, 'missing')!r} became {after.get(key, 'missing')!r}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]
