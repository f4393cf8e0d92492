"""Units of systemd for stacks and containers (systemd.service(5))."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence

from nsrun.host import native

_UNIT = """\
# Written by `nsrun generate systemd {name}`.
[Unit]
Description=nsrun {what} {name}
Wants=network-online.target
After=network-online.target local-fs.target

[Service]
# In the foreground: what it writes goes to the journal, SIGTERM takes it down in good order.
Type=exec
WorkingDirectory={folder}
ExecStart={start}
KillMode=mixed
TimeoutStopSec={timeout}
Restart=on-failure

[Install]
WantedBy={target}
"""
# To stop one container after the other, each with its own stop_timeout.
STACK_TIMEOUT = 300


def unit(name: str, what: str, *, words: Sequence[str], folder: str, timeout: int) -> str:
    """The unit of a stack or container (``what``), which ``words`` start in ``folder``; ``timeout``
    in seconds is what its end may take."""
    program = native.find() or shutil.which("nsrun") or os.path.abspath(sys.argv[0])
    return _UNIT.format(
        name=name,
        what=what,
        folder=_escaped(folder),
        start=" ".join(map(_quoted, (program, *words))),
        timeout=timeout,
        target="multi-user.target" if os.getuid() == 0 else "default.target",
    )


def _escaped(text: str) -> str:
    return text.replace("%", "%%")


def _quoted(word: str) -> str:
    """A word of a command line: systemd knows `%` and `$` and quotes as C does."""
    plain = all(c.isalnum() or c in "/._-+@:=," for c in word)
    if plain and word:
        return word
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$")
    escaped = escaped.replace("\n", "\\n")
    return f'"{_escaped(escaped)}"'
