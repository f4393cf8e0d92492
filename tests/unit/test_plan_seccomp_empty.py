"""A seccomp profile that comes to no rule on this machine."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.planning import ROOT, has, planned

NAMED = {"names": ["read"], "action": "SCMP_ACT_ALLOW"}


@pytest.mark.parametrize(
    "rules",
    [
        [],
        [{**NAMED, "includes": {"caps": ["CAP_SYS_MODULE"]}}],
        [{**NAMED, "includes": {"minKernel": "99.0"}}],
    ],
    ids=["none", "another capability", "a newer kernel"],
)
@pytest.mark.parametrize("action", ["SCMP_ACT_ERRNO", "SCMP_ACT_LOG"])
def test_no_rule_is_left(rules: list[dict[str, Any]], action: str) -> None:
    profile = {
        "defaultAction": action,
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": rules,
    }
    plan = planned(ROOT, namespaces=["user"], seccomp=profile)
    assert has(plan, "run ")
