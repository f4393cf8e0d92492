"""What commands print: diagnostics to standard error, colour only where it is wanted."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import TextIO

from nsrun.diag import Diagnostic


def wants_color(when: str, stream: TextIO) -> bool:
    """``always``, ``never``, or ``auto``: a terminal that can, and a user that has not said
    no (NO_COLOR, https://no-color.org)."""
    if when != "auto":
        return when == "always"
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return stream.isatty()


def wants_ascii(asked: bool, stream: TextIO) -> bool:
    """Whether lanes and carets are drawn in ASCII: asked for, or nothing else can be encoded."""
    if asked:
        return True
    try:
        "●─▶…".encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return True
    return False


def report(diagnostics: Iterable[Diagnostic]) -> None:
    """Print diagnostics on standard error, with the lines of the files they speak of."""
    from nsrun.render.diagnostic import render

    if text := render(diagnostics, color=wants_color("auto", sys.stderr)):
        say(text)


def say(text: str) -> None:
    """Print to standard error; that it is closed or full is no reason to fail."""
    try:
        sys.stderr.write(text if text.endswith("\n") else text + "\n")
        sys.stderr.flush()
    except OSError:
        pass
