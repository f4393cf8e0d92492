"""A fault at the steps that confine a command: it is never executed without one of its walls.

No spec of specs/ has all of them, control groups, Landlock, the strict profile and device rules.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nsrun.host import cgroups
from tests.oracle.test_oracle import ERRORS, check_sweep
from tests.oracle.traced import Driver, driver
from tests.support.box import copy_specs
from tests.support.groups import groups_of
from tests.support.host import Snapshot, snapshot
from tests.support.requires import requires
from tests.support.runner import Runner

pytestmark = [requires("strace", "root", "landlock"), pytest.mark.usefixtures("cgroups_alone")]

# What the command says is heard: then it has been executed.
SPEC = """
name: confined
namespaces: [user, mount, pid, ipc, uts, network, cgroup]
mounts: [{type: proc, target: /proc}]
profile: strict
resources: {pids: 9}
landlock: {read: [/], write: [/tmp], scoped: true}
devices: [{path: /dev/zero, permissions: r}]
command: [/bin/echo, it ran]
"""
# Without the last of these the command is not confined; each is called once or twice.
WALLS = ("seccomp", "capset", "landlock_restrict_self")


def look() -> Snapshot:
    return snapshot(network=groups_of("confined"))


@contextmanager
def confined(root: Runner, area: Path) -> Iterator[Driver]:
    for controller in ("pids", "devices"):
        found = cgroups.look().v1
        if controller not in found or not found[controller].writable:
            pytest.skip(f"no hierarchy of version 1 for {controller}")
    spec = copy_specs(area, root) / "confined.yaml"
    spec.write_text(SPEC)
    with driver(root, spec, root.user.home) as made:
        yield made


def test_a_fault_at_the_walls(root: Runner, area: Path) -> None:
    with confined(root, area) as made:
        check_sweep(made, "EPERM", at_least=3, only=WALLS, look=look)


@pytest.mark.sweep
@pytest.mark.parametrize("error", ERRORS)
def test_a_fault_at_every_step_of_a_confined_command(root: Runner, area: Path, error: str) -> None:
    with confined(root, area) as made:
        check_sweep(made, error, at_least=100, look=look)
