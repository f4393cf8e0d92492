"""What the process of a container holds otherwise than planned."""

from __future__ import annotations

from collections.abc import Iterator

from nsrun.kernel.observed import Observed
from nsrun.plan.difference import NOTHING, Difference, differ
from nsrun.plan.expected import Expected


def process(wanted: Expected, seen: Observed) -> Iterator[Difference]:
    for number, (most, action) in wanted.limits.items():
        if number in seen.limits:
            shown = _limit(seen.limits[number])
            yield from differ(_limit_name(number), _limit(most), shown, action)
    if wanted.oom is not None and seen.oom_score_adj is not None:
        yield from differ(
            "oom_score_adj", wanted.oom.text.strip(), seen.oom_score_adj, wanted.oom.action
        )
    if not seen.status:
        return
    if wanted.no_new_privs is not None:
        found = seen.status.get("NoNewPrivs", NOTHING)
        yield from differ("no_new_privileges", "1", found, wanted.no_new_privs)
    if wanted.filtered is not None:
        found = seen.status.get("Seccomp", NOTHING)
        yield from differ("seccomp", "mode 2", f"mode {found}", wanted.filtered)
    bounding = int(seen.status.get("CapBnd", "0"), 16)
    for number, action in wanted.dropped.items():
        if bounding >> number & 1:
            yield from differ("capability", NOTHING, _capability(number), action)


def _limit(value: int | None) -> str:
    return "unlimited" if value is None else str(value)


def _limit_name(number: int) -> str:
    from nsrun.kernel.abi import RlimitResource

    known = {int(r): r.name.removeprefix("RLIMIT_").lower() for r in RlimitResource}
    return f"rlimit {known.get(number, str(number))}"


def _capability(number: int) -> str:
    from nsrun.kernel.abi import Capability

    return {int(c): c.name for c in Capability}.get(number, str(number))
