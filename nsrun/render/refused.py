"""The table of the system calls that were refused to a traced command."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from nsrun.render.text import visible
from nsrun.spec.model import Spec

# What nsrun.host.tracer has looked at.
_LOOKED = (
    "EPERM, EACCES, EROFS, EAGAIN of new processes, ids that are not mapped, answers of filters"
)


class Row(Protocol):
    """One kind of refused call, as nsrun.runtime.why reads it."""

    @property
    def call(self) -> str: ...
    @property
    def errno(self) -> str: ...
    @property
    def command(self) -> str: ...
    @property
    def count(self) -> int: ...
    @property
    def wall(self) -> str: ...
    @property
    def why(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def target(self) -> str: ...
    @property
    def help(self) -> str: ...


def table(spec: Spec, rows: Sequence[Row], more: int = 0, *, complete: bool = True) -> str:
    """What was refused, a call a paragraph: the wall, how it was told, and what would allow it.

    ``complete``: whether the tracer has seen the command's end.
    """
    end = "" if complete else "  the tracer has ended before the command: there may be others\n"
    if not rows:
        return f"refused: no system call of the command, as far as --why looks ({_LOOKED})\n{end}"
    return "".join(_lines(spec, rows, more)) + end


def _lines(spec: Spec, rows: Sequence[Row], more: int) -> Iterator[str]:
    yield "refused system calls of the command:\n"
    for row in rows:
        times = f" ({row.count} times)" if row.count > 1 else ""
        yield f"  {visible(row.command)}: {visible(row.call)} = {row.errno}{times}\n"
        yield f"    wall: {row.wall or 'not told'}: {visible(row.why)}\n"
        place = _place(spec, row)
        if row.help:
            yield f"    try:  {visible(row.help)}{f' ({place})' if place else ''}\n"
        elif place:
            yield f"    at:   {place}\n"
    if more:
        yield f"  and {more} more\n"


def _place(spec: Spec, row: Row) -> str:
    """``web.yaml:12`` where the spec has a line about it."""
    path = row.path
    if not path:
        return ""
    if path == "mounts":
        path = _of_mount(spec, row.target)
    span = spec.spans.get(path)
    return f"{span.file}:{span.line}" if span is not None else ""


def _of_mount(spec: Spec, target: str) -> str:
    if target == "/" and spec.rootfs is not None:
        return "rootfs"
    for number, mount in enumerate(spec.mounts):
        if mount.target.rstrip("/") == target:
            return f"mounts[{number}]"
    if isinstance(spec.readonly_paths, tuple) and target in spec.readonly_paths:
        return "readonly_paths"
    return ""
