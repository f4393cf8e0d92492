"""What an explainer is told, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass

Args = tuple[str | int, ...]
Replayed = tuple[str, Args, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class HintContext:
    """What the reporter knows of the run, which is called ``name``.

    ``rootfs``: the host folder that the command's paths lie in, None for the caller's root.
    ``pid_namespace``: the file of a joined pid namespace. ``before``: the steps that stand
    before the failed one, each (call, arguments, the register of its result or "").
    ``limits``: (folder above, file, value) of the amounts that its groups are held to.
    ``filters``: the seccomp programs that the run sets, in order. ``errno``: the name of the
    errno that is to be explained. ``inside``: the failed step's absolute paths are the container's.
    """

    name: str = ""
    rootfs: str | None = None
    pid_namespace: str | None = None
    before: tuple[Replayed, ...] = ()
    limits: tuple[tuple[str, str, int], ...] = ()
    filters: tuple[bytes, ...] = ()
    errno: str = ""
    inside: bool = False


@dataclass(frozen=True, slots=True)
class Hint:
    """Causes that were seen on the live system, and what helps."""

    why: tuple[str, ...]
    help: tuple[str, ...] = ()


def text(args: tuple[str | int, ...], index: int) -> str:
    """The argument at ``index`` where it is a string, else ""."""
    value = args[index] if index < len(args) else ""
    return value if isinstance(value, str) else ""


def number(args: tuple[str | int, ...], index: int) -> int | None:
    """The argument at ``index`` where it is a number."""
    value = args[index] if index < len(args) else None
    return value if isinstance(value, int) else None
