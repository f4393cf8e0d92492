"""Units of systemd for stacks and containers (systemd.service(5))."""

from __future__ import annotations

import os
import shutil
import sys

from nsrun.host import native
from nsrun.runtime import stack_store, store

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
_STACK_TIMEOUT = 300


def unit(name: str) -> str:
    """The unit of a stack, or of a container that was left running. Raises NsrunError (NS605)."""
    program = native.find() or shutil.which("nsrun") or os.path.abspath(sys.argv[0])
    known = stack_store.record(name)
    words: tuple[str, ...]
    if known is not None:
        what, folder, timeout = "stack", known["cwd"], _STACK_TIMEOUT
        words = ("up", known["file"])
    else:
        record = store.find(name).record
        what, folder, name = "container", record.cwd, record.name
        timeout = record.stop_timeout // 10**9 + 10
        words = ("run", "--name", name, record.spec)
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
    return f'"{_escaped(escaped)}"'
