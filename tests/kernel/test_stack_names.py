"""Two stacks cannot have one name."""

from __future__ import annotations

import shutil

from tests.support.requires import requires
from tests.support.stacks import (
    Stacks,
    executor,  # noqa: F401 -- a fixture
    member,
)

pytestmark = requires("root", "busybox")


def test_another_file_does_not_take_a_stack_over(stacks: Stacks) -> None:
    assert stacks.up(containers={"a": member()}).status == 0
    before = stacks.ps()["shop-a"]["id"]
    other = stacks.folder / "other.yaml"
    other.write_text("name: shop\ncontainers: {b: {command: x}}\n")
    refused = stacks.runner.run("up", "-d", other)
    first = stacks.folder / "shop.yaml"
    assert refused.status == 1
    assert f"error[NS606]: a stack shop of {first} is there already" in refused.stderr
    assert f"{other}:1:7" in refused.stderr
    assert {n: one["id"] for n, one in stacks.ps().items()} == {"shop-a": before}

    # A file that was renamed is still the stack's.
    moved = shutil.move(first, stacks.folder / "moved.yaml")
    stacks.runner.run("up", "-d", moved).ok()
    assert stacks.ps()["shop-a"]["id"] == before
