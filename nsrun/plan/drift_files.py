"""Texts of kernel parameters and control groups that are no longer as planned."""

from __future__ import annotations

from collections.abc import Iterator

from nsrun.kernel.observed import Observed
from nsrun.plan.difference import Difference, differ, short
from nsrun.plan.expected import Expected, Text

_PAGE = 4096


def texts(wanted: Expected, seen: Observed) -> Iterator[Difference]:
    for entry in wanted.sysctls.values():
        name = entry.path.removeprefix("/proc/sys/").replace("/", ".")
        yield from _text(f"sysctl {name}", entry, seen.sysctls.get(entry.path))
    for entry in wanted.files.values():
        name = entry.path
        if name.startswith("/proc/sys/"):
            name = f"host: sysctl {name.removeprefix('/proc/sys/').replace('/', '.')}"
        yield from _text(name, entry, seen.files.get(entry.path))


def _text(what: str, entry: Text, found: str | None) -> Iterator[Difference]:
    if not entry.sure or found is None or is_text(entry, found):
        return
    yield from differ(what, short(entry.text), short(found), entry.action)


def is_text(entry: Text, found: str) -> bool:
    """As far as the kernel gives a text back in other words than it was written."""
    wanted, is_found = entry.text.split(), found.split()
    if wanted == is_found:
        return True
    file = entry.path.rpartition("/")[2]
    if file.startswith("cpuset."):
        return _numbers(entry.text) == _numbers(found)
    if len(wanted) == 1 and wanted[0].isdigit() and found.strip().isdigit():
        # Memory is counted in pages (page_counter_memparse).
        return file.startswith("memory.") and int(wanted[0]) // _PAGE == int(found) // _PAGE
    if len(wanted) > 1 and ":" in wanted[0]:
        # A line for each device.
        lines = (line.split() for line in found.splitlines())
        return any(line[:1] == wanted[:1] and set(wanted) <= set(line) for line in lines)
    return False


def _numbers(text: str) -> set[int]:
    """``0-2,4``"""
    found: set[int] = set()
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        if first.isdigit():
            found |= set(range(int(first), int(last if last.isdigit() else first) + 1))
    return found
