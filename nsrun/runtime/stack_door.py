"""The socket in a stack's folder on which others ask the process that keeps it.

One JSON object a line: a question, then its answers (see :func:`nsrun.runtime.stack_store.ask`).
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from nsrun.runtime import stack_store

# Seconds for who has knocked to ask.
_PATIENCE = 5.0


class Answer(Protocol):
    """Sends one answer; to who has gone away, nothing."""

    def __call__(self, **words: Any) -> None: ...


class Door:
    """Open as long as it is not closed; only its owner can knock."""

    def __init__(self, stack: str) -> None:
        place = stack_store.folder(stack)
        path = os.path.join(place, "socket")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # By descriptor: sun_path holds 107 bytes (unix(7)), the folder's path may have more.
        folder = os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._socket.bind(f"/proc/self/fd/{folder}/socket")
        os.close(folder)
        os.chmod(path, 0o600)
        self._socket.listen(8)

    def fileno(self) -> int:
        return self._socket.fileno()

    def welcome(self, hear: Callable[[Mapping[str, Any], Answer], None]) -> None:
        """Let in who has knocked, and pass on what is asked."""
        client, _ = self._socket.accept()
        client.settimeout(_PATIENCE)
        with client, client.makefile("rb") as lines:
            try:
                question = json.loads(lines.readline() or b"{}")
            except (ValueError, OSError):
                return

            def answer(**words: Any) -> None:
                with contextlib.suppress(OSError):
                    client.sendall(json.dumps(words).encode() + b"\n")

            hear(question if isinstance(question, dict) else {}, answer)

    def close(self) -> None:
        self._socket.close()
