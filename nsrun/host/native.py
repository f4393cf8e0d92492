"""The native executor of this installation: where its program is, and whether a run uses it."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Mapping
from typing import Literal

from nsrun.diag import Diagnostic, NsrunError

Executor = Literal["native", "python"]

# The variable that chooses, with the same two values.
VARIABLE = "NSRUN_EXECUTOR"
# Python's program in a bin folder; the launcher beside it is the native program.
_SCRIPT = "nsrun-python"
_LAUNCHER = "nsrun"


def find() -> str | None:
    """The path of the installed native program; None where Python's stands in its place."""
    return next((path for path in _places() if _is_program(path)), None)


def chosen(environ: Mapping[str, str]) -> str | None:
    """The path of the program that replays, None for the Python executor. Raises as
    :func:`choice` does."""
    return find() if choice(environ)[0] == "native" else None


def choice(environ: Mapping[str, str]) -> tuple[Executor, str]:
    """Which executor replays a plan, and why.

    Raises NsrunError where NSRUN_EXECUTOR asks for one that there is not.
    """
    wanted = environ.get(VARIABLE, "")
    if wanted not in ("", "native", "python"):
        raise NsrunError(
            Diagnostic(
                code="NS002",
                summary=f"{VARIABLE} is `{wanted}`, which is no executor",
                help=(f"{VARIABLE}=native or {VARIABLE}=python; without it, native where it is",),
            )
        )
    if wanted == "python":
        return "python", f"{VARIABLE}=python"
    found = find()
    if found is not None:
        return "native", found
    nowhere = f"no native program at {' or '.join(_places())}"
    if wanted == "native":
        raise NsrunError(
            Diagnostic(
                code="NS408",
                summary="the native executor is not installed",
                why=(nowhere,),
                help=(
                    "install nsrun where a C compiler is, or unset NSRUN_EXECUTOR: "
                    "then Python replays the plan",
                ),
            )
        )
    return "python", nowhere


def _places() -> tuple[str, ...]:
    """Where the program may be: beside the script that runs, else in the interpreter's prefix."""
    beside = os.path.realpath(sys.argv[0])
    folders = [os.path.join(sys.prefix, "bin")]
    # `python -c` and `python -m` have other words there: what they lie beside is no installation.
    if os.path.basename(beside) == _SCRIPT and os.path.isfile(beside):
        folders.insert(0, os.path.dirname(beside))
    return tuple(dict.fromkeys(os.path.join(folder, _LAUNCHER) for folder in folders))


def _is_program(path: str) -> bool:
    """Whether it is an executable ELF file (elf(5)), and not a script in its place."""
    try:
        # A FIFO would keep open(2) waiting.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode) or os.pread(fd, 4, 0) != b"\x7fELF":
            return False
    except OSError:
        return False
    finally:
        os.close(fd)
    return os.access(path, os.X_OK)
