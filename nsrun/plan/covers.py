"""What lies over each place of the new root while it is furnished.

Mounts stack: a later one on a folder hides what was mounted below it, and shows it again once
it is unmounted. A place costs as many look-ups as its path has names.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Cover(StrEnum):
    """What lies over a target: the rootfs as the facts saw it, or a mount of this plan."""

    ROOT = "root"
    FRESH = "fresh"  # an empty tmpfs of this plan
    BIND = "bind"  # a host folder
    FILE = "file"  # a host file
    CALLERS = "callers"  # the caller's /proc or /sys, or what lay below one that was unmounted
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mounted:
    """A mount of this plan; ``source`` is the host folder behind a bind or the root."""

    target: str
    cover: Cover
    source: str = ""


@dataclass(slots=True)
class _Layer:
    """What one mount shows; ``mounted`` is None where no mount of this plan lies on the place."""

    mounted: Mounted | None = None
    places: dict[str, _Place] = field(default_factory=dict)


@dataclass(slots=True)
class _Place:
    layers: list[_Layer] = field(default_factory=lambda: [_Layer()])
    made: bool = False


class Covers:
    """The mounts of a plan over a root whose host folder is ``base`` ("": none)."""

    def __init__(self, base: str) -> None:
        self._base = Mounted(target="/", cover=Cover.ROOT, source=base)
        self._root = _Place()

    def mounted(self, mounted: Mounted) -> None:
        """Note a mount on its target, over everything that stands there."""
        self._at(mounted.target).layers.append(_Layer(mounted))

    def unmounted(self, target: str) -> None:
        """Note that the topmost mount on ``target`` is gone.

        Where that was none of this plan, what it hid is not known, only that the plan did not
        make it.
        """
        place = self._at(target)
        if len(place.layers) > 1:
            place.layers.pop()
        else:
            place.layers.append(_Layer(Mounted(target=target, cover=Cover.CALLERS)))

    def over(self, target: str) -> Mounted:
        """The mount of this plan that ``target`` lies in, or the root."""
        place: _Place | None = self._root
        found = self._base
        for name in (None, *components(target)):
            if name is not None:
                place = place.layers[-1].places.get(name) if place is not None else None
            if place is None:
                break
            found = place.layers[-1].mounted or found
        return found

    def make(self, target: str) -> None:
        """Note that this plan has made ``target``."""
        self._at(target).made = True

    def is_made(self, target: str) -> bool:
        """Whether this plan has made ``target``, where it can still be seen."""
        place: _Place | None = self._root
        for name in components(target):
            place = place.layers[-1].places.get(name) if place is not None else None
        return place is not None and place.made

    def _at(self, target: str) -> _Place:
        place = self._root
        for name in components(target):
            place = place.layers[-1].places.setdefault(name, _Place())
        return place


def components(path: str) -> list[str]:
    """The names of a path: ``/a//b/`` is a, b."""
    return [part for part in path.split("/") if part not in ("", ".")]


def ancestors(path: str) -> list[str]:
    """``path`` and every folder above it, the root first: ``/``, ``/a``, ``/a/b``."""
    parts = components(path)
    return ["/" + "/".join(parts[:count]) for count in range(len(parts) + 1)]


def below(path: str, top: str) -> bool:
    """Whether ``path`` is ``top`` or lies below it."""
    parts, tops = components(path), components(top)
    return parts[: len(tops)] == tops
