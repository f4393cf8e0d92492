"""``nsrun stats``: what is told of a container whose network is the caller's."""

from __future__ import annotations

import os

from nsrun.runtime import stats


def test_what_the_callers_network_has_moved_is_not_the_containers() -> None:
    assert stats._moved(os.getpid()) == (None, None)
    # Of a process that has ended nothing is known, and nothing is asked of a namespace.
    assert stats._moved(2**22) == (0, 0)
    use = stats.Use(
        name="web", share=0.5, cpu=1, memory=2048, processes=1, received=None, sent=None, read=3
    )
    assert use.cells() == ("web", "50.0 %", "1.00 s", "2.0 KiB", "1", "-", "-", "3 B", "-")
