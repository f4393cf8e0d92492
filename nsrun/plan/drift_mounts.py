"""The mounts of a container that are no longer as planned."""

from __future__ import annotations

from collections.abc import Iterator

from nsrun.kernel.observed import Observed, SeenMount
from nsrun.plan.covers import below
from nsrun.plan.difference import NOTHING, Difference, differ
from nsrun.plan.drift_options import different
from nsrun.plan.expected import Expected
from nsrun.plan.expected_mounts import Mount


def mounts(wanted: Expected, seen: Observed) -> Iterator[Difference]:
    lines = {line.ident: line for line in seen.mounts}
    known: set[int] = set()
    last = {mount.target: mount for mount in wanted.mounts}
    for target, mount in last.items():
        if target not in seen.places:
            continue
        place = seen.places[target]
        line = lines.get(place or 0)
        if line is None:
            if not mount.sure and (place is None or _source_is_gone(mount, seen)):
                continue
            yield from differ(f"mount {target}", _kind(mount), NOTHING, mount.action)
            continue
        known.add(line.ident)
        found = _other(mount, line, seen)
        if found is not None:
            yield from differ(f"mount {target}", *found, mount.action)
            continue
        yield from _flags(mount, line)
        options = different(mount, line)
        if options is not None:
            yield from differ(f"mount {target}", *options, mount.action)
    if wanted.has_root and seen.mounts:
        yield from _extra(wanted, seen, known)


def _source_is_gone(mount: Mount, seen: Observed) -> bool:
    return bool(mount.bound) and mount.bound not in seen.sources


def _kind(mount: Mount) -> str:
    if mount.fstype:
        return mount.fstype
    return f"bind of {mount.bound}" if mount.bound else "bind"


def _other(mount: Mount, line: SeenMount, seen: Observed) -> tuple[str, str] | None:
    """What is expected and found where something else is mounted there."""
    if mount.fstype:
        if mount.fstype != line.fstype:
            return mount.fstype, line.fstype
        return None
    source = seen.sources.get(mount.bound)
    root = line.root.removesuffix("//deleted")
    if source is not None and (source.fstype, source.root) != (line.fstype, root):
        return _kind(mount), f"{line.fstype} {line.root}"
    return None


def _flags(mount: Mount, line: SeenMount) -> Iterator[Difference]:
    what, why = f"mount {mount.target}", mount.changed or mount.action
    words = {word: word in line.options for word in mount.flags}
    yield from differ(what, _words(mount.flags), _words(words), why)
    if mount.atime:
        yield from differ(what, mount.atime, _atime(line), why)
    if mount.propagation:
        yield from differ(what, mount.propagation, _propagation(line), why)


def _words(flags: dict[str, bool]) -> str:
    """``ro,nosuid``: those that are set, and ``rw`` where it may be written."""
    first = ["rw"] if flags.get("ro") is False else []
    return ",".join(first + [word for word, is_set in flags.items() if is_set]) or NOTHING


def _atime(line: SeenMount) -> str:
    """mountinfo has no word for strictatime."""
    known = (word for word in ("relatime", "noatime") if word in line.options)
    return next(known, "strictatime")


def _propagation(line: SeenMount) -> str:
    for field, word in (("shared:", "shared"), ("master:", "slave"), ("unbindable", "unbindable")):
        if any(one.startswith(field) for one in line.propagation):
            return word
    return "private"


def _extra(wanted: Expected, seen: Observed, known: set[int]) -> Iterator[Difference]:
    """Mounts that no step has made. What lies below a whole tree that was bound came with it, and
    what a tree gets from its peers was asked for."""
    whole = [m.target for m in wanted.mounts if m.whole and m.target != "/"]
    targets = {m.target for m in wanted.mounts}
    for line in seen.mounts:
        came = any(below(line.target, target) for target in whole)
        received = any(word.startswith("master:") for word in line.propagation)
        if line.ident in known or line.target in targets or came or received:
            continue
        if line.ident in seen.places.values():
            continue
        yield from differ(f"mount {line.target}", NOTHING, line.fstype, None)
