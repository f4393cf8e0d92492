"""What the process of a container holds otherwise than planned."""

from __future__ import annotations

from collections.abc import Iterator

from nsrun.kernel.abi import Capability, RlimitResource
from nsrun.kernel.observed import Observed
from nsrun.plan.difference import NOTHING, Difference, differ, short
from nsrun.plan.expected import Expected
from nsrun.plan.expected_process import Running
from nsrun.plan.identity import from_host
from nsrun.spec.model import IdRange

_SETGID = Capability.CAP_SETGID


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
    yield from _filters(wanted.running, seen)
    yield from _identity(wanted, seen)
    yield from _permitted(wanted, seen)
    bounding = int(seen.status.get("CapBnd", "0"), 16)
    for number, action in wanted.dropped.items():
        if bounding >> number & 1:
            yield from differ("capability", NOTHING, _capability(number), action)


def _filters(running: Running, seen: Observed) -> Iterator[Difference]:
    """The command may have set more of its own."""
    if not running.filters:
        return
    action = running.filters[-1]
    yield from differ("seccomp", "mode 2", f"mode {seen.status.get('Seccomp', NOTHING)}", action)
    # Linux 5.9
    count = seen.status.get("Seccomp_filters", "")
    if count.isdecimal() and int(count) < len(running.filters):
        yield from differ("seccomp filters", str(len(running.filters)), count, action)


def _permitted(wanted: Expected, seen: Observed) -> Iterator[Difference]:
    """What it holds beyond what it was started with; it may give up by itself what it likes.

    Kernel: with no_new_privs execve(2) gives nothing. Without, the bounding set is all there is.
    """
    if wanted.running.permitted is None or wanted.no_new_privs is None:
        return
    most, action = wanted.running.permitted
    for word in ("CapPrm", "CapEff", "CapAmb"):
        more = int(seen.status.get(word, "0"), 16) & ~most
        for number in range(more.bit_length()):
            if more >> number & 1:
                yield from differ(f"capability in {word}", NOTHING, _capability(number), action)


def _identity(wanted: Expected, seen: Observed) -> Iterator[Difference]:
    """The ids in the container, where the process cannot change them by itself."""
    running = wanted.running
    if running.permitted is None or wanted.no_new_privs is None:
        return
    for what, entry, word, right in (
        ("uid", running.uid, "Uid", Capability.CAP_SETUID),
        ("gid", running.gid, "Gid", Capability.CAP_SETGID),
    ):
        ranges = _ranges(seen.once.get(f"{what}_map", ""))
        if entry is None or running.permitted[0] >> right & 1 or not ranges:
            continue
        found = {_inside(ranges, int(one)) for one in seen.status.get(word, "").split()}
        if found and found != {str(entry[0])}:
            yield from differ(what, str(entry[0]), ",".join(sorted(found)), entry[1])
    ranges = _ranges(seen.once.get("gid_map", ""))
    if running.groups is not None and ranges and not running.permitted[0] >> _SETGID & 1:
        there = {_inside(ranges, int(one)) for one in seen.status.get("Groups", "").split()}
        planned = {str(one) for one in running.groups[0]}
        yield from differ("groups", _list(planned), _list(there), running.groups[1])


def _list(words: set[str]) -> str:
    return ",".join(sorted(words)) or NOTHING


def _ranges(text: str) -> tuple[IdRange, ...]:
    """Of uid_map or what newuidmap is told, in the order of the container's ids."""
    numbers = [int(word) for word in text.split() if word.isdecimal()]
    lines = sorted(zip(numbers[::3], numbers[1::3], numbers[2::3], strict=False))
    return tuple(IdRange(container=c, host=h, size=s) for c, h, s in lines)


def _inside(ranges: tuple[IdRange, ...], outside: int) -> str:
    """The container's number of an id, or that it has none."""
    found = from_host(ranges, outside)
    return f"unmapped {outside}" if found is None else str(found)


def once(wanted: Expected, seen: Observed) -> Iterator[Difference]:
    """Maps of ids and offsets of clocks: nobody can write them again, but a process that has been
    put into other namespaces has others."""
    for name, (text, action) in wanted.running.once.items():
        found = seen.once.get(name)
        if found is None:
            continue
        if name.endswith("_map"):
            same = _ranges(text) == _ranges(found)
        elif name == "timens_offsets":
            there = [line.split() for line in found.splitlines()]
            same = all(line.split() in there for line in text.splitlines())
        else:
            same = text.strip() == found.strip()
        if not same:
            yield from differ(name, short(text), short(found), action)


def labels(wanted: Expected, seen: Observed) -> Iterator[Difference]:
    """AppArmor shows the mode behind a profile's name: ``web (enforce)``."""
    for module, (name, action) in wanted.running.labels.items():
        found = seen.labels.get(module)
        if found is not None:
            plain = found.rpartition(" (")[0] or found if module == "apparmor" else found
            yield from differ(module, name, plain, action)


def _limit(value: int | None) -> str:
    return "unlimited" if value is None else str(value)


def _limit_name(number: int) -> str:
    known = {int(r): r.name.removeprefix("RLIMIT_").lower() for r in RlimitResource}
    return f"rlimit {known.get(number, str(number))}"


def _capability(number: int) -> str:
    return {int(c): c.name for c in Capability}.get(number, str(number))
