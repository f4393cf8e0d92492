"""Control groups that a container has left, and devices it may use otherwise than planned."""

from __future__ import annotations

from collections.abc import Iterator

from nsrun.kernel.observed import Observed
from nsrun.plan.difference import NOTHING, Difference, differ
from nsrun.plan.expected import Expected

DEVICES = "devices.list"


def groups(wanted: Expected, seen: Observed) -> Iterator[Difference]:
    for folder, action in wanted.groups.entered.items():
        if seen.groups and not any(f"{one}/".startswith(f"{folder}/") for one in seen.groups):
            yield from differ("control group", folder, NOTHING, action)
    for folder, rules in wanted.groups.devices.items():
        found = seen.files.get(f"{folder}/{DEVICES}")
        if found is None:
            continue
        lines = [" ".join(line.split()) for line in found.splitlines()]
        for rule, action in rules.items():
            yield from differ("device", rule, rule if rule in lines else NOTHING, action)
        for line in lines:
            if line not in rules:
                yield from differ("device", NOTHING, line, None)
    for folder, actions in wanted.groups.programs.items():
        count = seen.programs.get(folder)
        if count is not None:
            yield from differ("device programs", str(len(actions)), str(count), actions[-1])
