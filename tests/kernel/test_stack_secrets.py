"""Secrets are inside a stack's containers, and nowhere that is printed or kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.box import Box, give
from tests.support.lab import Lab
from tests.support.requires import requires
from tests.support.runner import Runner
from tests.support.stacks import (
    Stacks,
    executor,  # noqa: F401 -- a fixture
    member,
)

pytestmark = requires("root", "busybox")

FILE, VARIABLE = "sesame-of-a-file", "sesame-of-a-variable"


def prepared(runner: Runner, folder: Path) -> Stacks:
    (folder / "pw").write_text(FILE)
    (folder / "pw").chmod(0o600)
    give(folder / "pw", runner)
    return Stacks(runner.with_(env={"NSRUN_TEST_TOKEN": VARIABLE}), folder)


@pytest.fixture
def stacks(root: Runner, lab: Lab, area: Path) -> Iterator[Stacks]:
    made = prepared(root, area)
    with lab.unchanged():
        yield made
        made.down()


@pytest.fixture
def own_stacks(user_box: Box) -> Iterator[Stacks]:
    made = prepared(user_box.runner, user_box.folder)
    yield made
    made.down()


def inside(stacks: Stacks, *words: str) -> str:
    return stacks.runner.run("exec", "shop-a", "--", *words).ok()


KEYS = {
    "secrets": {"pw": {"file": "./pw"}, "token": {"environment": "NSRUN_TEST_TOKEN"}},
    "configs": {"motd": {"content": "hello"}},
}


def test_they_are_inside_and_nowhere_else(stacks: Stacks) -> None:
    uses = ["pw", {"source": "token", "target": "/run/token", "mode": "0400", "uid": 7, "gid": 8}]
    configs = [{"source": "motd", "target": "/run/motd", "uid": 5, "mode": "0640"}]
    mounts = [{"type": "proc", "target": "/proc"}, {"type": "tmpfs", "target": "/run"}]
    keys = {**KEYS, "containers": {"a": member(mounts=mounts, secrets=uses, configs=configs)}}
    up = stacks.up(**keys)
    assert up.status == 0, str(up)
    files = ("/run/secrets/pw", "/run/token", "/run/motd")
    assert inside(stacks, "stat", "-c", "%a %u %g", *files).split("\n")[:3] == [
        "444 0 0",
        "400 7 8",
        "640 5 0",
    ]
    assert inside(stacks, "cat", *files) == f"{FILE}{VARIABLE}hello"
    for name in files[:2]:
        written = stacks.runner.run("exec", "shop-a", "--", "sh", "-c", f"echo x >{name}")
        assert written.status != 0 and "ead-only" in written.stderr, str(written)

    spec = stacks.folder / "shop.yaml"
    shown = [
        stacks.runner.run("plan", spec).ok(),
        stacks.runner.run("plan", "--json", spec).ok(),
        stacks.runner.run("inspect", "shop-a").ok(),
        stacks.runner.run("explain", spec, "--value", "secrets").ok(),
        stacks.runner.run("up", "--dry-run", spec).ok(),
        up.stdout + up.stderr,
    ]
    assert all(FILE not in text and VARIABLE not in text for text in shown)
    state = Path("/run/nsrun")
    kept = [p for p in state.rglob("*") if p.is_file() and FILE.encode() in p.read_bytes()]
    assert kept == [state / "stacks/shop/secrets/a/0"]
    assert (state / "stacks/shop/secrets").stat().st_mode & 0o777 == 0o700
    assert "keep shop-a" in shown[4]

    # What changes is seen by who runs, which stays.
    (stacks.folder / "pw").write_text("another")
    before = stacks.ps()["shop-a"]["id"]
    assert stacks.up(**keys).status == 0
    assert inside(stacks, "cat", "/run/secrets/pw") == "another"
    assert stacks.ps()["shop-a"]["id"] == before
    assert stacks.down().status == 0
    assert not (state / "stacks/shop").exists()


MAPPED = {
    "namespaces": ["user", "mount", "pid"],
    "mounts": [{"type": "proc", "target": "/proc"}, {"type": "tmpfs", "target": "/run"}],
}


def given_away(stacks: Stacks) -> None:
    """With a user namespace, ids are those inside; what changes is seen by who runs."""
    uses = [
        "pw",
        {"source": "token", "target": "/run/token", "mode": "0400", "uid": 7, "gid": 8},
        {"source": "pw", "target": "/run/own", "mode": "0400"},
    ]
    keys = {**KEYS, "containers": {"a": member(**MAPPED, secrets=uses)}}
    up = stacks.up(**keys)
    assert up.status == 0, str(up)
    files = ("/run/secrets/pw", "/run/token", "/run/own")
    owners = ["444 0 0", "400 7 8", "400 0 0"]
    assert inside(stacks, "stat", "-c", "%a %u %g", *files).split("\n")[:3] == owners
    assert inside(stacks, "cat", *files) == FILE + VARIABLE + FILE
    cat = ("exec", "-u", "7:8", "shop-a", "--", "cat")
    assert stacks.runner.run(*cat, files[1]).ok() == VARIABLE
    assert stacks.runner.run(*cat, files[2]).status != 0

    before = stacks.ps()["shop-a"]["id"]
    stacks.runner = stacks.runner.with_(env={"NSRUN_TEST_TOKEN": "changed"})
    assert stacks.up(**keys).status == 0
    assert stacks.ps()["shop-a"]["id"] == before
    assert inside(stacks, "cat", "/run/token") == "changed"
    assert inside(stacks, "stat", "-c", "%a %u %g", *files).split("\n")[:3] == owners
    # Once more by the same plan, and by another one.
    assert stacks.runner.run("restart", "-t", "0", "shop-a").status == 0
    uses[1] = {"source": "token", "target": "/run/token", "mode": "0440", "uid": 9}
    other = {**KEYS, "containers": {"a": member(**MAPPED, secrets=uses)}}
    assert stacks.up(**other).status == 0
    assert inside(stacks, "stat", "-c", "%a %u %g", "/run/token").strip() == "440 9 0"
    assert inside(stacks, "cat", "/run/token") == "changed"
    assert stacks.down().status == 0


def test_ids_are_those_of_the_user_namespace(stacks: Stacks) -> None:
    given_away(stacks)


def test_ids_are_those_of_an_ordinary_user_s_namespace(own_stacks: Stacks) -> None:
    given_away(own_stacks)
