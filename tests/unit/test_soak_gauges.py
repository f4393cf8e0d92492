"""The soak's judgement: what grows with the starts is found, what merely differs is not."""

from __future__ import annotations

import random

from tests.soak.gauges import GAUGES, growths, read


def series(per_start: dict[str, float], starts: int, noise: float) -> list[dict[str, float]]:
    """Thirty looks at gauges that grow so for each start, and differ by ``noise`` floors."""
    chance = random.Random(7)
    return [
        {
            name: 1000
            + per_start.get(name, 0.0) * starts * part / 30
            + noise * gauge.floor * (chance.random() - 0.5)
            for name, gauge in GAUGES.items()
        }
        for part in range(30)
    ]


def test_what_differs_is_no_finding() -> None:
    assert not [g for g in growths(series({}, 10_000, 1.5), 10_000) if g.is_finding]


def test_what_a_leak_costs_is_found() -> None:
    # A mount in mnt_cache; its own kernel memory and a process's; a descriptor.
    leaks = {"mnt_cache": 1.0, "kernel memory of ours": 1500.0, "KernelStack": 16384.0,
             "open files": 1.0, "SUnreclaim": 2048.0}  # fmt: skip
    found = {g.name for g in growths(series(leaks, 10_000, 0.5), 10_000) if g.is_finding}
    assert found == set(leaks)


def test_what_is_made_once_is_no_growth() -> None:
    samples = series({}, 300, 0.0)
    samples[0]["open files"] += 1e6
    assert not [g for g in growths(samples, 300) if g.is_finding]


def test_this_kernel_has_most_of_them() -> None:
    assert {"SUnreclaim", "KernelStack", "PageTables", "open files"} <= read().keys()
