"""The command does not run before everything else has succeeded."""

from __future__ import annotations

from pathlib import Path

import pytest

from nsrun.kernel.values import Call
from nsrun.plan.model import Track
from nsrun.plan.ops import EXEC, Clone, SendFd, Signal, Wait
from tests.golden.reference import plan_of, shown_path, spec_files


@pytest.mark.parametrize("file", list(spec_files()), ids=shown_path)
def test_the_launcher_has_nothing_left_to_fail_when_it_lets_the_child_go(file: Path) -> None:
    steps = [placed.op for placed in plan_of(file).track(Track.PARENT)]
    executed = next(n for n, op in enumerate(steps) if isinstance(op, Wait) and op.sync == EXEC)
    before = steps[:executed]
    said = max(n for n, op in enumerate(before) if isinstance(op, Signal | SendFd | Clone))
    after = before[said + 1 :]
    assert [op for op in after if not isinstance(op, Call) or op.name != "close"] == []
